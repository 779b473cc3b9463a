"""Hold the administrators' calls about backups to the interface: lists, and the jobs they add."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from tenancy.catalog.backups import BackupState
from tenancy.models import User
from tests.support.backups import keep_backup, key_pair
from tests.web.conftest import Caller, account, browser_of, caller, make_admin

if TYPE_CHECKING:
    from compose import Parts

UNKNOWN = "0123abcd-0000-7000-8000-000000000000"


@pytest.fixture
def parts(make_parts: Callable[..., Parts], tmp_path: Any) -> Parts:
    """Give the joined parts with keys for backups; jobs are added and nobody works on them."""
    return make_parts(**key_pair(tmp_path))


def test_all_backups_are_listed_newest_first_with_how_well_databases_are_backed_up(
    admin: Caller, parts: Parts, first: User
) -> None:
    kept = keep_backup(parts.manager, first.id, hours=5)
    keep_backup(parts.manager, None, hours=1)
    answer = admin.get("/admin/databases/backups")
    assert answer.status_code == 200
    assert [item["kind"] for item in answer.json["items"]] == ["catalog", "tenant"]
    item = answer.json["items"][1]
    assert (item["id"], item["user_id"], item["email"]) == (str(kept.id), first.id, first.email)
    assert (item["size_bytes"], item["row_count"], item["key_ids"]) == (5_000_000, 1234, ["12345678", "abcdef01"])
    assert item["started_at"].endswith("Z")
    standing = answer.json["standing"]
    assert (standing["databases"], standing["late"], standing["warn_hours"]) == (1, 0, 48)


def test_the_lists_are_paged_and_filtered(admin: Caller, parts: Parts, first: User) -> None:
    bob = account(parts, "bob@example.org")
    for hours in range(3):
        keep_backup(parts.manager, first.id, hours=hours)
    keep_backup(parts.manager, bob.id, state=BackupState.FAILED, error="no.", error_code="x")
    for path, number in (("/admin/databases/backups", 4), (f"/admin/user/{first.id}/database/backups", 3)):
        seen, cursor = [], ""
        while cursor is not None:
            page = admin.get(f"{path}?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
        assert len(set(seen)) == number
    for query, number in ((f"user_id={bob.id}", 1), ("state=failed", 1), ("kind=catalog", 0), ("kind=tenant", 4)):
        assert len(admin.get(f"/admin/databases/backups?{query}").json["items"]) == number, query


@pytest.mark.parametrize(
    "query", ["user_id=0", "user_id=x", "user_id=99999999999", "state=x", "kind=x", "limit=0", "limit=201", "x=1"]
)
def test_a_wrong_filter_is_422_named(admin: Caller, query: str) -> None:
    answer = admin.get(f"/admin/databases/backups?{query}")
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, query.partition("=")[0])


def test_a_cursor_of_another_list_is_refused(admin: Caller, parts: Parts, first: User) -> None:
    for hours in range(3):
        keep_backup(parts.manager, first.id, hours=hours)
    cursor = admin.get("/admin/databases/backups?limit=1").json["next_cursor"]
    for path in (f"/admin/user/{first.id}/database/backups", "/admin/databases/backups?kind=tenant"):
        answer = admin.get(path + ("&" if "?" in path else "?") + f"cursor={cursor}")
        assert (answer.status_code, answer.json["code"]) == (400, "cursor_invalid")


def test_backing_up_is_a_job_that_is_found_again(admin: Caller, parts: Parts, first: User) -> None:
    url = f"/admin/user/{first.id}/database/backup"
    answer, again = admin.post(url), admin.post(url)
    assert (answer.status_code, again.status_code) == (202, 202)
    job = answer.json["job"]
    assert (job["kind"], job["state"], job["arguments"]) == ("backup", "due", {"user": str(first.id)})
    assert job["actor_id"] == admin.user.id
    assert again.json["job"]["id"] == job["id"]
    assert "sealed" not in job


def test_restoring_is_a_job(admin: Caller, parts: Parts, first: User) -> None:
    url, kept = f"/admin/user/{first.id}/database/restore", keep_backup(parts.manager, first.id)
    answer = admin.post(url, json={"backup_id": str(kept.id), "only_tables": ["tasks", "notes"]})
    assert answer.status_code == 202, answer.json
    asked = {"user": str(first.id), "backup": str(kept.id), "only_tables": "tasks,notes"}
    assert answer.json["job"]["arguments"] == asked
    other = admin.post(url, json={"backup_id": str(kept.id)})
    assert (other.status_code, other.json["code"]) == (409, "job_state")


def test_anothers_backup_is_404_like_one_that_is_not_there(admin: Caller, parts: Parts, first: User) -> None:
    foreign = keep_backup(parts.manager, account(parts, "bob@example.org").id)
    catalog = keep_backup(parts.manager, None)
    for key in (foreign.id, catalog.id, UNKNOWN):
        answer = admin.post(f"/admin/user/{first.id}/database/restore", json={"backup_id": str(key)})
        assert (answer.status_code, answer.json["code"]) == (404, "not_found"), key


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "backup_id"),
        ({"backup_id": "x"}, "backup_id"),
        ({"backup_id": UNKNOWN, "only_tables": "tasks"}, "only_tables"),
        ({"backup_id": UNKNOWN, "only_tables": [""]}, "only_tables.0"),
        ({"backup_id": UNKNOWN, "as_new_user": ""}, "as_new_user"),
        ({"backup_id": UNKNOWN, "discard": True}, "discard"),
    ],
)
def test_a_wrong_field_is_422_named(admin: Caller, first: User, body: dict[str, Any], field: str) -> None:
    answer = admin.post(f"/admin/user/{first.id}/database/restore", json=body)
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, field), answer.json


@pytest.mark.parametrize("user_id", ["0", "-1", "99", "9" * 30, "one"])
def test_ids_of_nobody_are_404(admin: Caller, user_id: str) -> None:
    calls = [
        admin.get(f"/admin/user/{user_id}/database/backups"),
        admin.post(f"/admin/user/{user_id}/database/backup"),
        admin.post(f"/admin/user/{user_id}/database/restore", json={"backup_id": UNKNOWN}),
    ]
    assert [(answer.status_code, answer.json["code"]) for answer in calls] == [(404, "not_found")] * 3


def test_where_there_is_no_database_there_is_nothing_to_back_up(admin: Caller, parts: Parts) -> None:
    new = parts.accounts.create("new@example.org")
    assert admin.post(f"/admin/user/{new.id}/database/backup").status_code == 404
    assert admin.get(f"/admin/user/{new.id}/database/backups").json == {"items": [], "next_cursor": None}


def test_without_keys_both_are_refused_with_what_is_missing(make_parts: Callable[..., Parts]) -> None:
    import web

    parts = make_parts()
    user, admin = account(parts, "ada@example.org"), caller(web.create(parts), make_admin(parts))
    kept = keep_backup(parts.manager, user.id)
    calls = [
        admin.post(f"/admin/user/{user.id}/database/backup"),
        admin.post(f"/admin/user/{user.id}/database/restore", json={"backup_id": str(kept.id)}),
    ]
    assert [(answer.status_code, answer.json["code"]) for answer in calls] == [(409, "archive_key")] * 2
    assert "unify credentials generate-identity" in calls[0].json["detail"]
    assert parts.manager.jobs.page() == []


def test_a_read_only_key_and_a_session_without_its_token_add_nothing(app: Flask, parts: Parts, first: User) -> None:
    root = make_admin(parts)
    url = f"/admin/user/{first.id}/database/backup"
    reader, browser = caller(app, root, read_only=True), browser_of(app, root)
    assert reader.get("/admin/databases/backups").status_code == 200
    assert reader.post(url).status_code == 403
    assert browser.client.post(url).status_code == 400
    assert browser.post(url).status_code == 202
    assert len(parts.manager.jobs.page()) == 1
