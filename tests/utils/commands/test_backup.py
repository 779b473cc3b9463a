"""``unify backup`` and ``unify restore``: what they do, what they print, and what they say of wrong words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.applications import add_task, add_tenants, tenant_of, titles
from tests.support.recovery import backup_keys


@pytest.fixture
def parts(make_parts, tmp_path):
    return make_parts(**backup_keys(tmp_path))


@pytest.fixture
def manager(parts):
    return parts.manager


@pytest.fixture
def unify(call, parts):
    """Run a command with the settings of ``parts``, or some of them changed."""

    def run(*words, stdin=None, **changed):
        return call(*words, stdin=stdin, settings=replace(parts.settings, **changed))

    return run


@pytest.fixture
def ada(parts, manager):
    [user_id] = add_tenants(parts, 1)
    add_task(manager, user_id, "before")
    return user_id


def answer(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_backup_is_made_listed_shown_verified_and_deleted(unify, manager, ada):
    made = answer(unify("backup", "create", str(ada), "--json"))
    assert answer(unify("backup", "list", "--json"))["items"][0]["id"] == made["id"]
    assert answer(unify("backup", "show", made["id"][:13], "--json"))["tables"]["tasks"] == 1
    assert answer(unify("backup", "verify", "--json"))["items"][0]["how"] == "reading"
    assert "restore" in unify("backup", "verify", made["id"], "--by-restoring").stdout
    refused = unify("backup", "delete", made["id"], "--yes")
    assert (refused.exit_code, "last good backup" in refused.stderr) == (1, True)
    assert unify("backup", "delete", made["id"], "--yes", "--force").exit_code == 0
    assert answer(unify("backup", "list", "--json"))["items"] == []


def test_all_and_the_catalog_are_backed_up_and_found_again(unify, manager, ada):
    assert answer(unify("backup", "create", "--all", "--json"))["created"] == 1
    assert answer(unify("backup", "create", "--catalog", "--json"))["kind"] == "catalog"
    assert answer(unify("backup", "learn", "--json")) == {"new": 0, "gone": 0, "unreadable": []}
    assert answer(unify("backup", "prune", "--keep", "daily=1", "--json"))["backups"] == []


def test_one_that_fails_is_named_and_the_command_fails(unify, manager, ada):
    manager.engines.retire(tenant_of(manager, ada).tenant_id)
    (manager.backends.get("sqlite").data_dir / tenant_of(manager, ada).db_path).unlink()
    result = unify("backup", "create", "--all")
    assert result.exit_code == 1
    assert f"User {ada}" in result.stderr


def test_a_restore_and_its_undoing(unify, manager, ada):
    unify("backup", "create", str(ada))
    add_task(manager, ada, "after")
    assert "is kept" in unify("restore", str(ada), "latest", "--yes").stdout
    assert titles(manager, ada) == ["before"]
    add_task(manager, ada, "newer")
    refused = unify("restore", str(ada), "--undo", "--yes")
    assert (refused.exit_code, "--discard-newer" in refused.stderr) == (1, True)
    assert answer(unify("restore", str(ada), "--undo", "--discard-newer", "--yes", "--json"))["newer_rows"] == 1
    assert titles(manager, ada) == ["after", "before"]
    assert "undoing that needs it" in unify("db", "leftovers").stdout
    assert unify("db", "leftovers", "--remove").exit_code == 0
    assert len(answer(unify("db", "leftovers", "--json"))["items"]) == 1
    assert answer(unify("db", "leftovers", "--remove", "--kept", "--json"))["items"] == []


def test_a_backup_becomes_a_new_account(unify, parts, manager, ada):
    unify("backup", "create", str(ada))
    made = answer(unify("restore", str(ada), "latest", "--as-new-user", "eve@example.org", "--json"))
    assert titles(manager, made["user_id"]) == ["before"]
    assert parts.accounts.find("eve@example.org").is_active
    again = unify("restore", str(ada), "latest", "--as-new-user", "eve@example.org")
    assert (again.exit_code, "has an account already" in again.stderr) == (1, True)
    assert manager.restores.kept(made["user_id"]) is None


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "create"),
        ("backup", "create", "1", "--all"),
        ("backup", "list", "--state", "wrong"),
        ("backup", "prune"),
        ("restore", "1"),
        ("restore", "1", "latest", "--undo"),
        ("restore", "1", "latest", "--discard-newer"),
        ("restore", "1", "latest", "--as-new-user", "a@b.c", "--only-tables", "tasks"),
        ("restore", "1", "--undo"),
        ("backup", "delete", "latest"),
        ("db", "leftovers", "--kept"),
    ],
)
def test_wrong_words_end_with_2_and_one_line(unify, manager, ada, words):
    manager.backups.create(ada)
    result = unify(*words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "create", "99"),
        ("backup", "show", "12345678"),
        ("backup", "show", "x"),
        ("backup", "verify", "latest"),
        ("backup", "prune", "--keep", "hourly=1"),
        ("restore", "1", "latest", "--yes"),
        ("restore", "1", "--undo", "--yes"),
    ],
)
def test_what_does_not_exist_ends_with_1_and_one_line(unify, manager, ada, words):
    result = unify(*words)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_without_keys_the_command_that_makes_them_is_named(unify, ada):
    result = unify("backup", "create", str(ada), backup_recipients=())
    assert (result.exit_code, "generate-identity" in result.stderr) == (1, True)


def test_a_passphrase_opens_what_it_encrypted(unify, manager, ada):
    alone = {"backup_recipients": (), "backup_identity_file": None}
    unify("backup", "create", str(ada), **alone, backup_passphrase="correct horse battery staple")
    add_task(manager, ada, "after")
    words = ("restore", str(ada), "latest", "--yes", "--passphrase-stdin")
    wrong = unify(*words, stdin="wrong horse battery staple\n", **alone)
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
    assert unify(*words, stdin="correct horse battery staple\n", **alone).exit_code == 0
    assert titles(manager, ada) == ["before"]
