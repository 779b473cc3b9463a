"""Trying a configuration that is not stored: what is wrong is named, and nothing is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose import Parts
from tenancy.backends.base import DatabaseFields
from tenancy.errors import UserNotFoundError
from tests.support.applications import add_tenants, add_users, change_config

NOTHING = DatabaseFields()


def files(parts: Parts) -> set[Path]:
    folder = parts.settings.tenant_data_dir
    return {path for path in folder.parent.rglob("*") if not path.name.startswith("admin.db")}


def place(parts: Parts, user_id: int) -> Path:
    folder = parts.settings.tenant_data_dir
    folder.mkdir(exist_ok=True)
    return folder / f"user_{user_id}.db"


def test_a_place_that_is_free_is_told_step_by_step_and_stays_free(parts):
    (user_id,) = add_users(parts, 1)
    before = files(parts)
    found = parts.manager.probe_database(user_id, NOTHING)
    assert (found["ok"], found["code"], found["message"]) == (True, "ok", "a database can be created here.")
    assert [step["name"] for step in found["steps"]] == ["fields", "account", "folder", "space", "file", "database"]
    assert all(step["ok"] and step["text"] for step in found["steps"])
    assert found["latency_ms"] > 0
    assert files(parts) == before
    assert parts.manager.provision(user_id).created


def test_the_users_own_database_passes(parts):
    (user_id,) = add_tenants(parts, 1)
    found = parts.manager.probe_database(user_id, DatabaseFields(db_type="sqlite"))
    assert (found["ok"], found["message"]) == (True, "the database exists and belongs to this user.")


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        (DatabaseFields(db_path="/etc/passwd"), "configuration_invalid", "outside TENANT_DATA_DIR"),
        (DatabaseFields(db_path="../admin.db"), "configuration_invalid", "outside TENANT_DATA_DIR"),
        (DatabaseFields(db_path="mine.db"), "configuration_invalid", "Unify names SQLite's files itself"),
        (DatabaseFields(db_host="db.example.org"), "configuration_invalid", "db_host"),
        (DatabaseFields(db_type="oracle"), "configuration_invalid", "db_type"),
        (DatabaseFields(db_type="postgresql", db_name="x"), "configuration_invalid", "db_host"),
    ],
    ids=["a file of the system's", "the catalog's path", "a name of one's own", "a host", "unknown", "no host"],
)
def test_fields_that_cannot_be_are_named(parts, fields, code, words):
    (user_id,) = add_users(parts, 1)
    found = parts.manager.probe_database(user_id, fields)
    assert (found["ok"], found["code"]) == (False, code)
    assert words in found["message"]
    assert [step["name"] for step in found["steps"]] == ["fields"]


def test_a_file_that_is_no_database_is_named_and_left_alone(parts):
    (user_id,) = add_users(parts, 1)
    place(parts, user_id).write_bytes(b"a letter to grandmother, and no database at all. " * 100)
    found = parts.manager.probe_database(user_id, NOTHING)
    assert (found["ok"], found["code"]) == (False, "database_exists")
    assert "exists and is not a database: move it away" in found["message"]
    assert place(parts, user_id).read_bytes().startswith(b"a letter")


def test_a_wal_that_was_left_behind_is_named(parts):
    (user_id,) = add_users(parts, 1)
    place(parts, user_id).with_name(f"user_{user_id}.db-wal").write_bytes(b"left")
    assert "left of another database" in parts.manager.probe_database(user_id, NOTHING)["message"]


def test_another_tenants_database_is_named_as_such(parts):
    (first,), (second,) = add_tenants(parts, 1), add_users(parts, 1)
    place(parts, first).rename(place(parts, second))
    found = parts.manager.probe_database(second, NOTHING)
    assert (found["ok"], found["code"]) == (False, "database_exists")
    assert "belongs to another tenant" in found["message"]


def test_the_catalog_in_a_tenants_place_is_named_as_such(parts):
    (user_id,) = add_users(parts, 1)
    place(parts, user_id).symlink_to(parts.catalog.engine.url.database)
    found = parts.manager.probe_database(user_id, NOTHING)
    assert (found["ok"], found["message"]) == (False, "this database is the catalog.")


def test_a_folder_that_cannot_be_made_is_named(make_parts, tmp_path):
    (tmp_path / "taken").write_text("a file")
    parts = make_parts(tenant_data_dir=tmp_path / "taken" / "users")
    (user_id,) = add_users(parts, 1)
    found = parts.manager.probe_database(user_id, NOTHING)
    assert (found["ok"], found["code"]) == (False, "access_denied")
    assert "TENANT_DATA_DIR cannot be made" in found["message"]


def test_a_second_database_of_one_user_is_refused(parts):
    (user_id,) = add_tenants(parts, 1)
    change_config(parts.manager, user_id, db_path="user_99.db")
    found = parts.manager.probe_database(user_id, DatabaseFields(db_type="sqlite"))
    assert (found["ok"], found["code"]) == (False, "tenant_exists")
    assert found["steps"][-1]["name"] == "account"


def test_a_database_that_is_gone_is_told(parts):
    (user_id,) = add_tenants(parts, 1)
    place(parts, user_id).unlink()
    found = parts.manager.probe_database(user_id, NOTHING)
    assert (found["ok"], found["code"]) == (False, "database_missing")


def test_where_all_share_one_database_none_is_tried(shared_parts):
    (user_id,) = add_users(shared_parts, 1)
    found = shared_parts.manager.probe_database(user_id, NOTHING)
    assert (found["ok"], found["code"]) == (False, "configuration_invalid")


def test_an_account_that_is_not_there_is_not_found(any_parts):
    with pytest.raises(UserNotFoundError):
        any_parts.manager.probe_database(4711, NOTHING)


def test_a_password_is_in_no_answer(parts):
    (user_id,) = add_users(parts, 1)
    assert "hunter2" not in str(parts.manager.probe_database(user_id, DatabaseFields(db_password="hunter2")))


def test_sqlite_asks_for_nothing(any_parts):
    types = {each["name"]: each for each in any_parts.manager.reports.database_types()}
    assert types["sqlite"] == {"name": "sqlite", "label": "SQLite", "fields": []}
    asked = [field["name"] for field in types["postgresql"]["fields"]]
    assert asked == ["db_host", "db_port", "db_name", "db_user", "db_password"]


def test_a_type_without_a_registered_server_says_what_to_do(parts):
    (user_id,) = add_users(parts, 1)
    found = parts.manager.probe_database(user_id, DatabaseFields(db_type="postgresql"))
    assert (found["ok"], found["code"]) == (False, "no_server")
    assert "unify servers add" in found["message"]
