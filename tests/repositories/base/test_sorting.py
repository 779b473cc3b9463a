"""Every order of every resource, page by page: each row once, also where rows are equal or have no value."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from repositories.repository_factory import RESOURCES
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import ADA, statements_sent
from tests.support.engines import on_sqlite

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ORDERS = [(name, sort) for name, kind in RESOURCES.items() if hasattr(kind, "sorts") for sort in kind.sorts]
each_order = pytest.mark.parametrize(("resource", "sort"), ORDERS)
TITLES = ["b", "a", "B", "ä", "a", "ß", "Zebra", "x" * 200, "🐎", "10", "9"]


def fill(owner: Any) -> None:
    """Write rows that share much with each other, some of them by raw SQL."""
    for number, title in enumerate(TITLES):
        due = date(2024, 1, 1 + number % 3) if number % 4 else None
        timed = {"due_time": f"{number:02}:00"} if due and number % 2 else {}
        owner.tasks.create({"title": title, "priority": number % 3, "due_date": due, **timed})
        owner.notes.create({"title": title, "pinned": number % 3 == 0})
        owner.events.create({"title": title, "starts_at": NOON + (number % 4) * HOUR})
        owner.categories.create({"name": f"{title}{number}"[-100:]})
    for table in ("tasks", "notes", "events"):
        for id in (uuid4().hex, "not a uuid"):
            raw = sa.text(f"INSERT INTO {table} (id, user_id, title) VALUES (:id, :user_id, 'raw')")
            owner.session.execute(raw, {"id": id, "user_id": ADA})
    equal = "UPDATE tasks SET position = '2024-05-06 12:00:00.000000' WHERE priority = 0"
    owner.session.execute(sa.text(equal))


@each_order
def test_pages_hold_every_row_once_in_one_order(ada: Any, bob: Any, resource: str, sort: str) -> None:
    fill(ada)
    bob.tasks.create({"title": "his"})
    repository = getattr(ada, resource)
    whole = repository.page(sort=sort, limit=1000)
    assert whole.place is None
    assert len(whole.rows) == len({str(row["id"]) for row in whole.rows}) == repository.count()
    for limit in (1, 4):
        seen: list[Any] = []
        place: list[Any] | None = None
        while True:
            with statements_sent(ada.session.get_bind()) as sent:
                rows, place = repository.page(sort=sort, limit=limit, after=place)
            assert len(sent) == 1
            seen += rows
            if place is None:
                break
            assert len(rows) == limit
        assert seen == whole.rows


def titles(owner: Any, sort: str) -> list[str]:
    return [row["title"] for row in owner.tasks.page(sort=sort).rows]


def test_tasks_stand_in_the_order_that_is_asked_for(ada: Any) -> None:
    ada.tasks.create({"title": "b", "due_date": date(2024, 1, 2), "due_time": "10:00"})
    ada.tasks.create({"title": "C", "due_date": date(2024, 1, 2), "due_time": "09:00", "priority": 1})
    ada.tasks.create({"title": "a", "priority": 3})
    ada.tasks.create({"title": "D", "due_date": date(2024, 1, 2), "priority": 1})
    ada.tasks.create({"title": "e", "due_date": date(2024, 1, 1)})
    assert titles(ada, "manual") == titles(ada, "newest") == ["e", "D", "a", "C", "b"]
    assert titles(ada, "oldest") == ["b", "C", "a", "D", "e"]
    assert titles(ada, "due") == ["e", "C", "b", "D", "a"], "no time after all times, no date last"
    assert titles(ada, "priority") == ["a", "C", "D", "e", "b"]
    assert titles(ada, "title") == ["a", "b", "C", "D", "e"]


def test_pinned_notes_come_first_then_what_was_changed_last(ada: Any) -> None:
    ids = [ada.notes.create({"title": title})["id"] for title in "abcd"]
    ada.notes.update(ids[1], {"pinned": True})
    ada.notes.update(ids[0], {"body": "changed"})
    assert [row["title"] for row in ada.notes.page(sort="recent").rows] == ["b", "a", "d", "c"]


def test_a_page_goes_on_where_it_ended_though_its_last_row_is_gone(ada: Any) -> None:
    for number in range(4):
        ada.tasks.create({"title": str(number)})
    rows, place = ada.tasks.page(sort="oldest", limit=2)
    ada.tasks.delete(rows[-1]["id"])
    assert [row["title"] for row in ada.tasks.page(sort="oldest", limit=2, after=place).rows] == ["2", "3"]


WRONG_PLACES: list[Any] = ["x", [], [1], ["x", "y"], [None, None], [{}, []], [7, 7], ["2024-01-01", "a\x00", 1]]


@on_sqlite
@pytest.mark.parametrize("place", WRONG_PLACES, ids=str)
@pytest.mark.parametrize("sort", ["manual", "due", "priority"])
def test_a_place_of_another_order_is_refused(ada: Any, sort: str, place: Any) -> None:
    with statements_sent(ada.session.get_bind()) as sent, pytest.raises(ConfigurationError) as refusal:
        ada.tasks.page(sort=sort, after=place)
    assert refusal.value.field == "after"
    assert not sent


@on_sqlite
@pytest.mark.parametrize(
    ("field", "asked"),
    [("sort", {"sort": "size"}), ("limit", {"limit": 0}), ("colour", {"colour": 1}), ("text", {"text": "a\x00"})],
)
def test_what_a_page_cannot_be_asked_is_named(ada: Any, field: str, asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.tasks.page(**{"sort": "manual", **asked})
    assert refusal.value.field == field
