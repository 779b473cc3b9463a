"""A value is refused everywhere, or comes back equal everywhere."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy.orm import Session

from repositories.base.values import TEXT_MAX
from repositories.events import EventRepository
from repositories.notes import NoteRepository
from repositories.tasks import TaskRepository
from tenancy.errors import ConfigurationError
from tenancy.names import is_visible
from tests.repositories.conftest import ADA, listed, statements_sent
from tests.support.engines import on_sqlite

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
on_each_engine = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_text = st.text(st.characters(codec=None, categories=None), max_size=60)
zones = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)


@on_each_engine
@given(title=any_text, body=any_text)
def test_texts_come_back_equal_or_are_refused(engine: sa.Engine, title: str, body: str) -> None:
    with Session(engine) as session:
        notes = NoteRepository(session, ADA)
        if any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in title + body) or not is_visible(title):
            with pytest.raises(ConfigurationError) as refusal:
                notes.create({"title": title, "body": body})
            assert refusal.value.field in ("title", "body")
            return
        made = notes.create({"title": title, "body": body})
        found = notes.get(made["id"])
        assert (found["title"], found["body"]) == (title, body)
        assert made == found


@on_each_engine
@given(day=st.none() | st.dates())
def test_days_come_back_equal(engine: sa.Engine, day: date | None) -> None:
    with Session(engine) as session:
        tasks = TaskRepository(session, ADA)
        made = tasks.create({"title": "x", "due_date": day})
        assert tasks.get(made["id"])["due_date"] == made["due_date"] == day
        assert tasks.list(due_after=day) == [listed(made)]


@on_each_engine
@given(moment=st.datetimes(timezones=zones))
def test_moments_come_back_equal_or_are_refused(engine: sa.Engine, moment: datetime) -> None:
    with Session(engine) as session:
        events = EventRepository(session, ADA)
        if not EARLIEST <= moment <= LATEST:
            with pytest.raises(ConfigurationError) as refusal:
                events.create({"title": "x", "starts_at": moment})
            assert refusal.value.field == "starts_at"
            return
        made = events.create({"title": "x", "starts_at": moment})
        found = events.get(made["id"])
        assert found["starts_at"] == made["starts_at"] == moment
        assert found["starts_at"].tzinfo is UTC
        assert events.list(starts_after=moment) == [made]


WRONG: dict[str, list[Any]] = {
    "title": ["", "  \n", None, 7, True, [], "a\x00b", "\ud83d", "x" * 201],
    "description": [7, {}, "\x00", "\udfff", "x" * (TEXT_MAX + 1)],
    "status": [None, "", "TODO", "later", 0, ["todo"]],
    "priority": [None, -1, 4, 2**63, -(2**63) - 1, 1.0, True, "1"],
    "due_date": ["2024-02-29", NOON, 0],
    "category_id": ["", "x", 1, b"x" * 16, [], "0" * 31],
    "id": ["", "x", 1, [], "0" * 33],
}


@on_sqlite
@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{number}")
        for field, values in WRONG.items()
        for number, value in enumerate(values)
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name_before_it_is_sent(ada: Any, field: str, value: Any) -> None:
    with statements_sent(ada.session.get_bind()) as sent:
        with pytest.raises(ConfigurationError) as refusal:
            ada.tasks.create({"title": "x", field: value})
        assert refusal.value.field == field
        if field != "id":
            with pytest.raises(ConfigurationError) as refusal:
                ada.tasks.update("0" * 32, {field: value})
            assert refusal.value.field == field
    assert not sent


@on_sqlite
@pytest.mark.parametrize("value", [None, NOON.replace(tzinfo=None), "2024-05-06T12:00:00Z", NOON.date(), 0])
def test_a_moment_without_a_zone_is_none(ada: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.events.create({"title": "x", "starts_at": value})
    assert refusal.value.field == "starts_at"


@on_sqlite
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_flag_is_true_or_false_and_nothing_else(ada: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ada.notes.create({"title": "x", "pinned": value})
    assert refusal.value.field == "pinned"


def test_a_flag_comes_back_and_is_filtered_by(ada: Any) -> None:
    assert ada.notes.create({"title": "x", "pinned": True})["pinned"] is True
    assert [row["pinned"] for row in ada.notes.list(pinned=True)] == [True]
    assert ada.notes.list(pinned=False) == []


def test_long_texts_and_wide_characters_fit_where_they_are_allowed(ada: Any) -> None:
    body = "€" * 300_000
    note = ada.notes.create({"title": "🐎" * 200, "body": body})
    assert ada.notes.get(note["id"]) == note
