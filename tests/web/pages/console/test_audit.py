"""The audit log's page, its export, and its seal."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog.tables import audit_log


def test_the_log_is_filtered_by_action_account_actor_and_day(root, parts, user, other):
    root.send(f"/admin/users/{user.id}/suspend")
    me = parts.accounts.find("root@example.org")
    of_user = root.get(f"/admin/audit?user={user.email}").html
    assert f'href="/admin/users/{user.id}"' in of_user
    assert f'href="/admin/users/{other.id}"' not in of_user
    assert of_user.count("<tr>") == root.get(f"/admin/audit?user={user.id}").html.count("<tr>") > 2
    by_me = root.get(f"/admin/audit?actor={me.id}&user={user.id}").html
    assert by_me.count("<tr>") == 2, "its head and the one thing done"
    action = parts.manager.audit.page(user_id=user.id, actor_id=me.id)[0]["action"]
    assert other.email not in root.get(f"/admin/audit?action={action}").html
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date()
    assert "No row matches" in root.get(f"/admin/audit?from={tomorrow}").html
    assert "No row matches" in root.get("/admin/audit?to=2020-01-01").html
    assert "No row matches" in root.get("/admin/audit?user=nobody@example.org").html
    assert "No row matches" in root.get("/admin/audit?action=%3Cscript%3E").html


def test_each_row_names_the_way_in_and_the_request(root, parts, user):
    answer = root.send(f"/admin/users/{user.id}/suspend")
    (signed_in, *_) = parts.manager.audit.page(action="user.sign_in")
    (suspended,) = parts.manager.audit.page(action="tenant.suspended")
    assert (signed_in["actor"], suspended["actor"]) == ("self", "console")
    assert signed_in["request_id"] not in (None, suspended["request_id"])
    assert suspended["request_id"] == answer.headers["X-Request-ID"]
    assert '<span class="quiet">console</span>' in root.get("/admin/audit?action=tenant.suspended").html


@pytest.mark.parametrize("asked", ["before=x", "before=-1", "before=²", "from=yesterday", "to=2026-1"])
def test_a_page_that_cannot_be_is_refused(root, asked):
    root.get(f"/admin/audit?{asked}", 400)


def test_the_log_is_paged_by_key(root, parts, user):
    for _ in range(30):
        parts.accounts.promote(user.id)
        parts.accounts.activate(user.id)
    first = root.get(f"/admin/audit?user={user.id}")
    assert first.html.count("<tr>") == 51
    link = next(link for link in first.links if "before=" in link)
    second = root.get(link)
    assert 10 < second.html.count("<tr>") < 51
    assert f"/admin/audit?user={user.id}" in second.links, "back to the first page"


def test_the_export_holds_what_the_filter_finds_newest_first_and_defuses_formulas(root, parts, user):
    with parts.catalog.writing() as connection:
        parts.catalog.audit.append(connection, "=cmd|calc", user_id=user.id, detail={"name": 'a,\n"b"'})
    rows = list(csv.DictReader(io.StringIO(root.client.get(f"/admin/audit.csv?user={user.id}").text)))
    assert [int(row["id"]) for row in rows] == sorted((int(row["id"]) for row in rows), reverse=True)
    assert rows[0]["action"] == "'=cmd|calc"
    assert json.loads(rows[0]["detail"]) == {"name": 'a,\n"b"'}
    assert {row["email"] for row in rows} == {user.email}
    assert rows[0]["at"].endswith("Z")
    answer = root.client.get(f"/admin/audit.jsonl?user={user.id}")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == [int(row["id"]) for row in rows]
    assert lines[0]["action"] == "=cmd|calc"


def test_an_export_is_read_some_rows_at_a_time(statements, root, parts, user):
    for _ in range(600):
        with parts.catalog.writing() as connection:
            parts.catalog.audit.append(connection, "user.noted", user_id=user.id)
    with statements() as sent:
        answer = root.client.get("/admin/audit.jsonl?action=user.noted")
        assert len(answer.text.splitlines()) == 600
    assert len([sql for _, sql in sent if "audit_log" in sql]) == 3, "500 rows, 100 rows, and the end"


def test_an_empty_export_has_its_heads(root):
    assert root.client.get("/admin/audit.csv?user=2147483647").text.startswith("id,at,action")
    assert root.client.get("/admin/audit.jsonl?user=2147483647").text == ""


def test_the_seal_is_verified_and_a_changed_row_is_told(root, parts):
    assert "The log is intact" in root.send("/admin/audit", "/admin/audit/verify").text
    with parts.catalog.writing() as connection:
        connection.execute(sa.update(audit_log).where(audit_log.c.id == 1).values(action="user.nothing"))
    assert "Audit row 1 was changed" in root.send("/admin/audit", "/admin/audit/verify").text
