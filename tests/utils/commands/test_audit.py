from __future__ import annotations

import json
import os
import pwd
import socket
import sqlite3

import pytest

from utils.toolbox import operator


@pytest.fixture
def busy(ready):
    for name in "abc":
        assert ready("users", "create", "--email", f"{name}@example.org").exit_code == 0
    return ready


def catalog(settings) -> sqlite3.Connection:
    return sqlite3.connect(settings.admin_database_url.removeprefix("sqlite:///"))


def test_an_untouched_log_holds_and_gives_its_head(busy):
    found = json.loads(busy("audit", "verify", "--json").stdout)
    assert found["rows"] >= 3
    assert busy("audit", "verify", "--expect", found["head"]).exit_code == 0


def test_a_changed_row_is_named(busy, settings):
    with catalog(settings) as db:
        db.execute("UPDATE audit_log SET action = 'nothing' WHERE id = 2")
    db.close()
    broken = busy("audit", "verify")
    assert broken.exit_code == 1
    assert "row 2" in broken.stderr
    assert broken.stderr.count("\n") == 1


def test_a_cut_tail_shows_against_a_head_noted_before(busy, settings):
    head = json.loads(busy("audit", "verify", "--json").stdout)["head"]
    with catalog(settings) as db:
        last = int(head.partition(":")[0])
        db.execute("DELETE FROM audit_log WHERE id = ?", (last,))
        seal = db.execute("SELECT seal FROM audit_log WHERE id = ?", (last - 1,)).fetchone()[0]
        db.execute("UPDATE audit_head SET last_id = ?, seal = ?", (last - 1, seal))
    db.close()
    assert busy("audit", "verify").exit_code == 0
    assert busy("audit", "verify", "--expect", head).exit_code == 1


def test_the_log_is_listed_with_who_ran_which_command(busy):
    found = json.loads(busy("audit", "list", "--json").stdout)["items"]
    newest = found[0]
    user = pwd.getpwuid(os.getuid()).pw_name
    assert newest["actor"] == f"command {user}@{socket.gethostname()}"
    made, provisioned = [row for row in found if row["email"] == "a@example.org"][::-1][:2]
    assert (made["action"], provisioned["action"]) == ("user.create", "tenant.provision")
    assert made["request_id"] == provisioned["request_id"] != newest["request_id"]
    shown = busy("audit", "list", "--action", "user.create", "--user", "b@example.org").stdout
    assert shown.count("user.create") == 1
    assert newest["actor"] in shown


def test_no_variable_decides_who_runs_a_command(busy, monkeypatch):
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert busy("users", "create", "--email", "d@example.org").exit_code == 0
    assert "somebody-else" not in busy("audit", "list").stdout


def test_a_user_without_a_name_is_named_by_its_number(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert operator() == f"uid 4000000@{socket.gethostname()}"


def test_a_head_that_is_none_is_wrong_usage(busy):
    assert busy("audit", "verify", "--expect", "yesterday").exit_code == 2
