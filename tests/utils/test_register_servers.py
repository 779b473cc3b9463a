"""The one-shot step of ``docker-compose.yml`` that tells the application of a database server."""

from __future__ import annotations

import sys

import pytest
import sqlalchemy as sa

from utils.register_servers import SERVERS, main

STAND_IN = """
import json, pathlib, sys
said, state = sys.argv[1:], pathlib.Path(sys.argv[0]).with_suffix(".json")
names = json.loads(state.read_text()) if state.exists() else []
if said == ["list", "--json"]:
    print(json.dumps({"items": [{"name": name} for name in names]}))
    sys.exit(0)
url = sys.stdin.readline().rstrip("\\n")
pathlib.Path(sys.argv[0]).with_suffix(".url").write_text(url)
if said[1] in names or "wrong" in url:
    sys.exit("Error: the name is taken." if said[1] in names else "Error: the login is refused.")
state.write_text(json.dumps([*names, said[1]]))
print(f"Server {said[1]} is registered.")
"""
"""Keeps what ``unify servers add`` and ``list --json`` promise, without a server."""


@pytest.fixture
def stand_in(tmp_path):
    script = tmp_path / "servers.py"
    script.write_text(STAND_IN)
    return script


@pytest.fixture
def register(stand_in):
    def run(*names, **given):
        return main(names, given, [sys.executable, str(stand_in)])

    return run


def test_a_server_is_registered_once_however_often_it_is_told(register, capsys):
    assert register("postgresql", POSTGRES_PASSWORD="first") == 0
    assert register("postgresql", POSTGRES_PASSWORD="first") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Server postgresql is registered.",
        "Server postgresql is already registered.",
    ]


@pytest.mark.parametrize("name", SERVERS)
def test_whatever_a_password_holds_reaches_the_command_as_it_is(register, stand_in, name):
    password = "p@ss/w:rd?#%40 'ü'"
    assert register(name, **{SERVERS[name][1]: password}) == 0
    url = sa.make_url(stand_in.with_suffix(".url").read_text())
    assert (url.password, url.host) == (password, name)


def test_a_server_that_refuses_is_told_with_its_reason_and_without_the_password(register, capsys):
    assert register("mysql", MYSQL_ROOT_PASSWORD="wrong-secret") == 1
    said = capsys.readouterr()
    assert said.err == "Error: the login is refused.\n"
    assert "wrong-secret" not in said.out + said.err


def test_one_that_fails_does_not_keep_the_next_from_being_registered(register, capsys):
    assert register("mysql", "postgresql", MYSQL_ROOT_PASSWORD="wrong", POSTGRES_PASSWORD="right") == 1
    assert "Server postgresql is registered." in capsys.readouterr().out


def test_a_missing_password_is_named(register, capsys):
    assert register("sqlserver") == 1
    assert "MSSQL_SA_PASSWORD is not set" in capsys.readouterr().err


@pytest.mark.parametrize("names", [(), ("oracle",)])
def test_only_the_servers_of_the_file_are_known(register, names):
    assert register(*names) == 2
