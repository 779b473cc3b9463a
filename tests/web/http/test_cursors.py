"""Hold cursors to their user, their list and their filter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings as bounds, strategies as st

import web
from tests.web.conftest import Caller, caller
from web.http import cursors

URL = "/api/v1/tasks"


@pytest.fixture
def cursor(ada: Caller, bob: Caller) -> str:
    for asker in (ada, bob):
        for title in ("1", "2"):
            asker.post(URL, json={"title": title, "status": "done"})
            asker.post("/api/v1/notes", json={"title": title})
    return str(ada.get(f"{URL}?limit=1&status=done").json["next_cursor"])


def test_a_cursor_goes_on_where_its_page_ended(ada: Caller, cursor: str) -> None:
    assert [row["title"] for row in ada.get(f"{URL}?status=done&cursor={cursor}").json["items"]] == ["2"]


def test_a_cursor_is_refused_elsewhere(ada: Caller, bob: Caller, cursor: str) -> None:
    for asker, url in (
        (bob, f"{URL}?status=done&cursor={cursor}"),
        (ada, f"{URL}?cursor={cursor}"),
        (ada, f"{URL}?status=todo&cursor={cursor}"),
        (ada, f"/api/v1/notes?cursor={cursor}"),
        (ada, f"{URL}?status=done&cursor={cursor[:-1]}"),
        (ada, f"{URL}?status=done&cursor=x{cursor}"),
    ):
        answer = asker.get(url)
        assert (answer.status_code, answer.json["code"]) == (400, "cursor_invalid"), url


@given(st.text(min_size=1, max_size=60))
@bounds(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_a_cursor(ada: Caller, text: str) -> None:
    assert ada.get(f"{URL}?cursor={quote(text.encode('utf-8', 'replace'))}").status_code == 400


@given(
    st.datetimes(timezones=st.just(UTC)).filter(lambda at: at.year >= 1000),
    st.uuids() | st.text(st.characters(codec="utf-8"), max_size=36),
)
@bounds(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_place_comes_back_as_it_was(app: Flask, at: datetime, key: Any) -> None:
    with app.app_context():
        written = cursors.write(cursors.row_place({"created_at": at, "id": key}), user_id=1, scope="tasks?")
        place = cursors.after_row(cursors.read(written, user_id=1, scope="tasks?"))
    assert place[0] == at
    assert place[1] == key or str(UUID(str(key))) == str(place[1])


def test_a_cursor_outlives_a_change_of_the_secret_key(make_parts: Any) -> None:
    old = "old-secret-" + "k3Jq" * 10
    first = make_parts(secret_key=old)
    with web.create(first).app_context():
        written = cursors.write([1, "x"], user_id=1, scope="tasks?")
    second = make_parts(secret_key_fallbacks=old)
    with web.create(second).app_context():
        assert cursors.read(written, user_id=1, scope="tasks?") == [1, "x"]


def test_rows_of_one_moment_are_all_seen(app: Flask, ada: Caller) -> None:
    parts = app.extensions["unify"]
    for _ in range(5):
        ada.post(URL, json={"title": "x"})
    at = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S.000000")
    parts.manager.execute_update("UPDATE tasks SET created_at = ?", (at,), user_id=ada.user.id)
    asker, seen, cursor = caller(app, ada.user), [], ""
    while cursor is not None:
        page = asker.get(f"{URL}?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
        seen += [row["id"] for row in page["items"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 5
