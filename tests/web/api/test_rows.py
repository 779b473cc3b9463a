"""Hold lists to their order, filters, pages and search, for every resource alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from flask import Flask

from repositories.schema import tasks
from repositories.tasks import TaskRepository
from tests.repositories.conftest import statements_sent
from tests.support.products import parts_on_sqlite
from tests.web.conftest import Caller, caller
from web.schemas import TaskCreate

if TYPE_CHECKING:
    from compose import Parts

URL = "/api/v1/tasks"


@pytest.fixture
def parts(parts_on_each: Parts) -> Parts:
    """Run this on each database product, but where a test says otherwise."""
    return parts_on_each


def titles(asker: Caller, query: str = "") -> list[str]:
    return [row["title"] for row in asker.get(URL + query).json["items"]]


def test_pages_follow_one_another_to_the_end(ada: Caller) -> None:
    for number in range(7):
        ada.post(URL, json={"title": str(number), "status": "done" if number % 2 else "todo"})
    seen, cursor = [], ""
    while cursor is not None:
        page = ada.get(f"{URL}?limit=3" + (f"&cursor={cursor}" if cursor else "")).json
        seen.append([row["title"] for row in page["items"]])
        cursor = page["next_cursor"]
    assert seen == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_the_default_page_holds_50_and_the_largest_200(ada: Caller) -> None:
    for number in range(51):
        ada.post(URL, json={"title": str(number)})
    page = ada.get(URL).json
    assert len(page["items"]) == 50
    assert page["next_cursor"]
    page = ada.get(f"{URL}?limit=200").json
    assert len(page["items"]) == 51
    assert page["next_cursor"] is None


@parts_on_sqlite
@pytest.mark.parametrize("moment", ["0", "1700000000", "-5", "20260101", "1700000000.5"])
def test_seconds_since_1970_are_no_moment_and_no_day(ada: Caller, moment: str) -> None:
    for refused in (
        ada.post("/api/v1/events", json={"title": "e", "starts_at": moment}),
        ada.get(f"/api/v1/events?starts_after={moment}"),
        ada.get(f"{URL}?due_before={moment}"),
    ):
        assert refused.status_code == 422
        assert refused.json["errors"][0]["field"] in ("starts_at", "starts_after", "due_before")


def test_filters_narrow_the_list(ada: Caller) -> None:
    category = ada.post("/api/v1/categories", json={"name": "Home", "color": "#00ff00"}).json["id"]
    ada.post(URL, json={"title": "a", "status": "done", "priority": 2, "due_date": "2026-01-01"})
    ada.post(URL, json={"title": "b", "category_id": category, "due_date": "2026-01-02"})
    assert titles(ada, "?status=done") == ["a"]
    assert titles(ada, "?priority=2&status=done") == ["a"]
    assert titles(ada, f"?category_id={category}") == ["b"]
    assert titles(ada, "?due_before=2026-01-02") == ["a"]
    assert titles(ada, "?due_after=2026-01-02") == ["b"]
    assert titles(ada, f"?category_id={uuid4()}") == []
    ada.post("/api/v1/notes", json={"title": "n", "pinned": True})
    assert len(ada.get("/api/v1/notes?pinned=true").json["items"]) == 1
    assert len(ada.get("/api/v1/notes?pinned=false").json["items"]) == 0
    ada.post("/api/v1/events", json={"title": "e", "starts_at": "2026-01-01T10:00:00Z"})
    assert len(ada.get("/api/v1/events?starts_after=2026-01-01T10:00:00Z").json["items"]) == 1
    assert len(ada.get("/api/v1/events?starts_before=2026-01-01T10:00:00Z").json["items"]) == 0


def test_search_finds_text_in_any_case_and_stands_alone(ada: Caller, bob: Caller) -> None:
    ada.post(URL, json={"title": "Buy MILK"})
    ada.post(URL, json={"title": "100% wool"})
    assert titles(ada, "?q=milk") == ["Buy MILK"]
    assert titles(ada, "?q=0%25+w") == ["100% wool"]
    assert titles(ada, "?q=b%25milk") == []
    assert titles(ada, "?q=_") == []
    assert titles(bob, "?q=milk") == []
    answer = ada.get(f"{URL}?q=milk&status=done")
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "status")


@parts_on_sqlite
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=9223372036854775808", "limit"),
        ("limit=1%00", "limit"),
        ("limit=1&limit=2", "limit"),
        ("color=red", "color"),
        ("user_id=2", "user_id"),
        ("status=open", "status"),
        ("priority=9", "priority"),
        ("category_id=1;drop", "category_id"),
        ("due_before=2023-02-29", "due_before"),
        ("q=", "q"),
        ("q=a%00b", "q"),
        ("%00=1", "\x00"),
    ],
)
def test_a_query_that_is_wrong_is_422_and_named(ada: Caller, query: str, field: str) -> None:
    answer = ada.get(f"{URL}?{query}")
    assert answer.status_code == 422, answer.json
    assert field in [error["field"] for error in answer.json["errors"]]


@parts_on_sqlite
def test_a_query_where_none_means_anything_is_refused(ada: Caller) -> None:
    answer = ada.post(f"{URL}?force=1", json={"title": "x"})
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "force")
    assert titles(ada) == []


@parts_on_sqlite
@pytest.mark.parametrize(
    "key", ["0", "-1", "1;drop", "x", "%00", "..%2F..%2Fadmin.db", "{id}", "urn:uuid:{id}", "{id}0"]
)
def test_an_id_that_is_none_is_404_like_an_unknown_one(ada: Caller, key: str) -> None:
    key = key.replace("{id}", ada.post(URL, json={"title": "x"}).json["id"].replace("-", ""))
    for verb, body in (("get", None), ("patch", {"title": "y"}), ("delete", None)):
        answer = getattr(ada, verb)(f"{URL}/{key}", json=body)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert titles(ada) == ["x"]


def test_deleting_a_category_moves_its_rows_and_uncategorized_stays(ada: Caller) -> None:
    (uncategorized,) = ada.get("/api/v1/categories").json["items"]
    assert uncategorized["name"] == "Uncategorized"
    home = ada.post("/api/v1/categories", json={"name": "Home"}).json["id"]
    task = ada.post(URL, json={"title": "x", "category_id": home}).headers["Location"]
    assert ada.post("/api/v1/categories", json={"name": "hOME "}).status_code == 409
    assert ada.delete(f"/api/v1/categories/{home}").status_code == 204
    assert ada.get(task).json["category_id"] == uncategorized["id"]
    assert ada.delete(f"/api/v1/categories/{uncategorized['id']}").status_code == 409
    assert ada.patch(f"/api/v1/categories/{uncategorized['id']}", json={"name": "x"}).status_code == 409


def test_a_user_without_a_database_is_told_503_and_when_to_come_back(app: Flask, parts: Parts) -> None:
    asker = caller(app, parts.accounts.create("new@example.org"))
    answer = asker.get(URL)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert asker.get("/api/v1/me").json["database"] is None


def test_what_the_pages_alone_know_of_is_neither_shown_nor_taken(ada: Caller) -> None:
    made = ada.post(URL, json={"title": "x", "due_date": "2026-01-01"})
    place = made.headers["Location"]
    shown = {*TaskCreate.model_fields, "created_at", "updated_at"}
    assert shown.isdisjoint({"position", "due_time"})
    for row in (
        made.json,
        ada.get(place).json,
        ada.patch(place, json={"title": "y"}).json,
        ada.get(URL).json["items"][0],
        ada.get(f"{URL}?q=y").json["items"][0],
    ):
        assert list(row) == [name for name in tasks.c.keys() if name in shown]  # noqa: SIM118 - not a dict
    for name, value in (("position", "2026-01-01T00:00:00Z"), ("due_time", "09:30")):
        for refused in (ada.patch(place, json={name: value}), ada.post(URL, json={"title": "x", name: value})):
            assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, name)
        assert ada.get(f"{URL}?{name}=1").status_code == 422
    for name in ("open", "no_due", "priority_min", "ids", "ends_after", "sort", "text"):
        assert ada.get(f"{URL}?{name}=1").json["errors"][0]["field"] == name


def test_a_list_reads_no_more_than_it_shows(app: Flask, ada: Caller) -> None:
    ada.post(URL, json={"title": "x"})
    engine = app.extensions["unify"].manager.engine_for(ada.user.id)
    with statements_sent(engine) as sent:
        assert len(ada.get(URL).json["items"]) == 1
    rows = [statement for statement, _ in sent if "FROM tasks" in statement]
    assert len(rows) == 1
    assert not re.search(r"position|due_time", rows[0])


def test_a_date_that_is_taken_away_takes_its_time_along(app: Flask, ada: Caller) -> None:
    """Give a task a time as the pages do, then change it as a program does that knows of none."""
    place = ada.post(URL, json={"title": "x", "due_date": "2026-01-01"}).headers["Location"]
    manager = app.extensions["unify"].manager
    with manager.session(ada.user.id, write=True) as session:
        TaskRepository(session, ada.user.id).update(place.rpartition("/")[2], {"due_time": "09:30"})
    assert ada.patch(place, json={"due_date": None}).status_code == 200
    with manager.session(ada.user.id) as session:
        assert TaskRepository(session, ada.user.id).get(place.rpartition("/")[2])["due_time"] is None
