"""Hold the administrators' calls to the interface: who may, what they see, what they may not break."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from tenancy.models import User
from tests.support.applications import set_back
from tests.web.conftest import Caller, account, browser_of, caller, make_admin

if TYPE_CHECKING:
    from compose import Parts

INFO = {
    "user_id",
    "tenant_id",
    "db_type",
    "db_host",
    "db_port",
    "db_name",
    "db_user",
    "db_path",
    "password_set",
    "is_active",
    "status",
    "revision",
    "head_revision",
    "size_bytes",
    "last_used_at",
    "created_at",
}


def test_info_is_the_configuration_without_secrets(admin: Caller, first: User) -> None:
    answer = admin.get(f"/admin/user/{first.id}/database/info")
    assert answer.status_code == 200
    assert answer.json.keys() >= INFO
    assert (answer.json["user_id"], answer.json["db_type"], answer.json["status"]) == (first.id, "sqlite", "ready")
    assert answer.json["db_path"].endswith(f"user_{first.id}.db")
    assert answer.json["password_set"] is False
    assert answer.json["size_bytes"] > 0


@pytest.mark.parametrize("user_id", ["0", "-1", "1;drop", "99", "9999999999", "9" * 30, "1.0", "%00", "one", "1%0a"])
def test_ids_of_nobody_are_404(admin: Caller, first: User, user_id: str) -> None:
    for verb, call in (("get", "info"), ("post", "initialize")):
        answer = getattr(admin, verb)(f"/admin/user/{user_id}/database/{call}")
        assert (answer.status_code, answer.json["code"]) == (404, "not_found"), (user_id, call)
        assert answer.content_type == "application/problem+json"


def test_initialize_makes_a_database_once(admin: Caller, parts: Parts, tmp_path: Path) -> None:
    new = parts.accounts.create("new@example.org")
    url = f"/admin/user/{new.id}/database/initialize"
    assert admin.get(f"/admin/user/{new.id}/database/info").status_code == 404
    made = admin.post(url, json={"db_type": "sqlite"})
    assert made.status_code == 201, made.json
    assert made.json["success"] is True
    assert made.json["config"]["db_path"] == str(tmp_path / "users" / f"user_{new.id}.db")
    assert "password" not in {name for name in made.json["config"] if name != "password_set"}
    again = admin.post(url)
    assert (again.status_code, again.json["config"]["tenant_id"]) == (200, made.json["config"]["tenant_id"])
    assert caller(admin.client.application, new).get("/api/v1/tasks").status_code == 200


def test_initializing_a_database_that_is_locked_says_so(
    admin: Caller, parts: Parts, first: User, short_locks: None, tmp_path: Path
) -> None:
    set_back(parts.manager, [first.id])
    url = f"/admin/user/{first.id}/database/initialize"
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{first.id}.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = admin.post(url)
        assert (answer.status_code, answer.json["code"]) == (503, "database_busy")
    assert admin.post(url).status_code == 200


def test_initialize_works_with_the_administrators_session(app: Flask, parts: Parts) -> None:
    new, browser = parts.accounts.create("new@example.org"), browser_of(app, make_admin(parts))
    assert browser.post(f"/admin/user/{new.id}/database/initialize", json={}).status_code == 201


def test_in_shared_mode_initialize_joins_the_shared_database(any_app: Flask) -> None:
    parts = any_app.extensions["unify"]
    admin, new = caller(any_app, make_admin(parts)), parts.accounts.create("new@example.org")
    url = f"/admin/user/{new.id}/database"
    assert [admin.post(f"{url}/initialize").status_code for _ in range(2)] == [201, 200]
    assert admin.get(f"{url}/info").json["status"] == "ready"
    assert admin.get("/admin/databases").status_code == 200
    assert admin.get("/admin/databases/stats").json["total_databases"] == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"db_type": "oracle"}, "db_type"),
        ({"db_type": "SQLITE"}, "db_type"),
        ({"db_type": "sqlite", "db_path": "../../admin.db"}, "db_path"),
        ({"db_path": "/etc/passwd"}, "db_path"),
        ({"db_path": "file:x?mode=memory"}, "db_path"),
        ({"db_path": ":memory:"}, "db_path"),
        ({"db_path": "a\x00b"}, "db_path"),
        ({"db_host": "localhost"}, "db_host"),
        ({"db_name": "x"}, "db_name"),
        ({"db_user": "x"}, "db_user"),
        ({"db_password": "x"}, "db_password"),
        ({"db_port": 0}, "db_port"),
        ({"db_port": 2**63}, "db_port"),
        ({"db_port": "5432"}, "db_port"),
        ({"db_options": "?host=evil"}, "db_options"),
        ({"user_id": 1}, "user_id"),
    ],
)
def test_a_wrong_field_is_422_named_and_makes_no_file(
    admin: Caller, parts: Parts, tmp_path: Path, fields: dict[str, Any], field: str
) -> None:
    new = parts.accounts.create("new@example.org")
    before = {path for path in tmp_path.rglob("*") if path.suffix != ".db-wal" and path.suffix != ".db-shm"}
    answer = admin.post(f"/admin/user/{new.id}/database/initialize", json=fields)
    assert answer.status_code == 422, answer.json
    assert answer.json["errors"][0]["field"] == field
    assert {path for path in tmp_path.rglob("*") if path.suffix not in (".db-wal", ".db-shm")} == before
    assert admin.get(f"/admin/user/{new.id}/database/info").status_code == 404


def test_a_body_that_is_no_object_is_400_and_another_type_415(admin: Caller, first: User) -> None:
    url = f"/admin/user/{first.id}/database/initialize"
    assert admin.post(url, data=b"[]", content_type="application/json").status_code == 400
    assert admin.post(url, data=b"db_type=sqlite").status_code == 415


def test_a_read_only_key_of_an_administrator_initializes_nothing(app: Flask, parts: Parts) -> None:
    new, reader = parts.accounts.create("new@example.org"), caller(app, make_admin(parts), read_only=True)
    assert reader.post(f"/admin/user/{new.id}/database/initialize").status_code == 403
    assert reader.get("/admin/databases").status_code == 200


def test_the_list_is_paged_by_key_and_filtered(admin: Caller, parts: Parts) -> None:
    users = [account(parts, f"u{number}@example.org") for number in range(3)]
    parts.manager.suspend(users[1].id)
    seen, cursor = [], ""
    while cursor is not None:
        page = admin.get("/admin/databases?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
        seen += [row["user_id"] for row in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [user.id for user in users]

    def ids(query: str) -> list[int]:
        return [row["user_id"] for row in admin.get(f"/admin/databases?{query}").json["items"]]

    assert ids("status=suspended") == [users[1].id]
    assert ids("db_type=sqlite&status=ready") == [users[0].id, users[2].id]
    assert ids("db_type=mysql") == []
    assert ids("behind=true") == []
    assert ids("inactive_since=2001-01-01T00:00:00Z") == []
    assert len(ids("inactive_since=2999-01-01T00:00:00Z")) == 3
    assert ids("q=U2%40") == [users[2].id]
    for query, field in (
        ("status=lost", "status"),
        ("behind=maybe", "behind"),
        ("name=x", "name"),
        ("limit=0", "limit"),
    ):
        answer = admin.get(f"/admin/databases?{query}")
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, field)


def test_the_lists_cursor_is_bound_to_who_asks_and_to_the_filter(app: Flask, admin: Caller, parts: Parts) -> None:
    for number in range(3):
        account(parts, f"u{number}@example.org")
    cursor = admin.get("/admin/databases?limit=1").json["next_cursor"]
    second = caller(app, parts.accounts.create("second@example.org", is_admin=True))
    assert second.get(f"/admin/databases?cursor={cursor}").status_code == 400
    assert admin.get(f"/admin/databases?status=ready&cursor={cursor}").status_code == 400
    assert admin.get(f"/admin/databases?q=u&cursor={cursor}").status_code == 400


def test_stats_count_and_measure(admin: Caller, first: User, other: User) -> None:
    shown = admin.get("/admin/databases/stats").json
    assert shown["total_databases"] == 2
    assert shown["total_size_mb"] > 0
    assert [entry["user_id"] for entry in shown["databases"]] == [first.id, other.id]
    assert {"user_id", "name", "size_mb", "modified"} <= shown["databases"][0].keys()
    assert shown["databases"][0]["name"] == f"user_{first.id}.db"


def test_a_suspended_database_is_503_to_its_owner_and_409_to_initialize(app: Flask, admin: Caller, first: User) -> None:
    app.extensions["unify"].manager.suspend(first.id)
    answer = caller(app, first).get("/api/v1/tasks")
    assert (answer.status_code, answer.json["code"]) == (503, "tenant_not_ready")
    assert "Retry-After" in answer.headers
    assert admin.post(f"/admin/user/{first.id}/database/initialize").status_code == 409


def test_a_lost_file_is_503_and_stays_lost(app: Flask, ada: Caller, parts: Parts, tmp_path: Path) -> None:
    ada.post("/api/v1/tasks", json={"title": "x"})
    parts.manager.close()
    lost = tmp_path / "users" / f"user_{ada.user.id}.db"
    for path in lost.parent.glob(lost.name + "*"):
        path.unlink()
    answer = ada.get("/api/v1/tasks")
    assert (answer.status_code, answer.json["code"]) == (503, "database_missing")
    assert not lost.exists()


def test_answers_hold_no_secret(app: Flask, admin: Caller, first: User, parts: Parts) -> None:
    secrets = [*parts.settings.tenant_credential_keys, parts.settings.secret_key, parts.settings.audit_key, admin.key]
    for path in (f"/admin/user/{first.id}/database/info", "/admin/databases", "/admin/databases/stats"):
        text = json.dumps(admin.get(path).json)
        assert not [secret for secret in secrets if secret in text]
