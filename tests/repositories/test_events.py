"""Events start, mostly end, and never the other way round."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from repositories import events
from repositories.errors import NotFoundError, StaleVersionError
from tenancy.errors import ConfigurationError
from tests.repositories.conftest import statements_sent

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "changes", [{"starts_at": NOON + 2 * HOUR}, {"ends_at": NOON - HOUR}, {"starts_at": NOON, "ends_at": NOON - HOUR}]
)
def test_an_event_never_ends_before_it_starts(ada: Any, changes: dict[str, Any]) -> None:
    event = ada.events.create({"title": "x", "starts_at": NOON, "ends_at": NOON + HOUR})
    for act in (
        lambda: ada.events.create({"title": "y", "starts_at": NOON, "ends_at": NOON + HOUR} | changes),
        lambda: ada.events.update(event["id"], changes),
        lambda: ada.events.update(event["id"], changes, if_version=1),
    ):
        with pytest.raises(ConfigurationError) as refusal:
            act()
        assert refusal.value.field == "ends_at"
    with pytest.raises((StaleVersionError, ConfigurationError)):
        ada.events.update(event["id"], changes, if_version=2)
    assert ada.events.get(event["id"]) == event


def test_each_end_moves_alone_where_the_other_allows_it(ada: Any, bob: Any) -> None:
    id = ada.events.create({"title": "x", "starts_at": NOON, "ends_at": NOON + HOUR})["id"]
    ada.events.update(id, {"starts_at": NOON + HOUR})
    ada.events.update(id, {"ends_at": NOON + 2 * HOUR})
    ada.events.update(id, {"ends_at": None})
    moved = ada.events.update(id, {"starts_at": NOON + 9 * HOUR})
    assert (moved["starts_at"], moved["ends_at"], moved["version"]) == (NOON + 9 * HOUR, None, 5)
    with pytest.raises(NotFoundError):
        bob.events.update(id, {"starts_at": NOON})


def test_zones_are_compared_as_moments(ada: Any) -> None:
    berlin = timezone(2 * HOUR)
    event = ada.events.create({"title": "x", "starts_at": NOON, "ends_at": datetime(2024, 5, 6, 15, 0, tzinfo=berlin)})
    assert event["ends_at"] == NOON + HOUR


def test_ranges_meet_without_sharing_an_event(ada: Any) -> None:
    for hours in range(4):
        ada.events.create({"title": str(hours), "starts_at": NOON + hours * HOUR})
    early = ada.events.list(starts_before=NOON + 2 * HOUR)
    late = ada.events.list(starts_after=NOON + 2 * HOUR)
    assert [row["title"] for row in early + late] == ["0", "1", "2", "3"]
    assert len(early) == len(late) == 2


def titles(rows: list[dict[str, Any]]) -> list[str]:
    return [row["title"] for row in rows]


def test_upcoming_events_come_soonest_first_and_those_under_way_count(ada: Any, bob: Any) -> None:
    for hours in (3, 1, 2, 0):
        ada.events.create({"title": str(hours), "starts_at": NOON + hours * HOUR})
    ada.events.create({"title": "under way", "starts_at": NOON - HOUR, "ends_at": NOON + 2 * HOUR})
    bob.events.create({"title": "his", "starts_at": NOON + HOUR})
    assert titles(ada.events.upcoming(NOON + HOUR, limit=2)) == ["under way", "1"]
    assert titles(ada.events.upcoming(NOON + 3 * HOUR)) == ["3"]
    assert ada.events.upcoming(NOON)[0]["category_name"] == "Uncategorized"


def test_a_day_that_is_not_over_is_upcoming_on_the_viewers_calendar(ada: Any) -> None:
    ada.events.create({"title": "fair", "starts_at": DAY, "ends_at": DAY + 2 * 24 * HOUR, "all_day": True})
    for now, today, seen in (
        (datetime(2024, 3, 3, 23, tzinfo=UTC), None, ["fair"]),
        (datetime(2024, 3, 4, 9, tzinfo=UTC), date(2024, 3, 3), ["fair"]),
        (datetime(2024, 3, 3, 14, tzinfo=UTC), date(2024, 3, 4), []),
        (datetime(2024, 3, 4, 0, tzinfo=UTC), None, []),
    ):
        assert titles(ada.events.upcoming(now, today=today)) == seen


@pytest.mark.parametrize(
    ("starts", "ends", "seen"),
    [
        (0, None, True),
        (-1, None, False),
        (24, None, False),
        (23, 48, True),
        (-2, 0, False),
        (-2, 1, True),
        (-48, 72, True),
        (24, 25, False),
        (0, 0, True),
    ],
)
def test_timed_events_touch_a_span_that_ends_before_its_end(
    ada: Any, starts: int, ends: int | None, seen: bool
) -> None:
    ends_at = None if ends is None else DAY + ends * HOUR
    ada.events.create({"title": "x", "starts_at": DAY + starts * HOUR, "ends_at": ends_at})
    shown = ada.events.between(DAY, DAY + 24 * HOUR, first_day=date(2024, 1, 1), last_day=date(2024, 12, 31))
    assert bool(shown) is seen


@pytest.mark.parametrize(
    ("first", "last", "seen"),
    [
        (date(2024, 3, 3), date(2024, 3, 3), True),
        (date(2024, 3, 1), date(2024, 3, 1), True),
        (date(2024, 3, 2), date(2024, 3, 2), True),
        (date(2024, 2, 1), date(2024, 2, 29), False),
        (date(2024, 3, 4), date(2024, 3, 31), False),
        (date(1, 1, 1), date.max, True),
    ],
)
def test_all_day_events_cover_their_last_day_in_any_zone(ada: Any, first: date, last: date, seen: bool) -> None:
    """Ask for days as a viewer far from UTC would: the moments never count for what lasts whole days."""
    ada.events.create({"title": "fair", "starts_at": DAY, "ends_at": DAY + 2 * 24 * HOUR, "all_day": True})
    for start in (datetime(2000, 1, 1, tzinfo=UTC), DAY, datetime(2090, 1, 1, tzinfo=UTC)):
        assert bool(ada.events.between(start, start + HOUR, first_day=first, last_day=last)) is seen


def test_an_all_day_event_without_an_end_is_its_one_day(ada: Any) -> None:
    ada.events.create({"title": "x", "starts_at": DAY + 15 * HOUR, "all_day": True})
    for day, seen in ((date(2024, 2, 29), False), (date(2024, 3, 1), True), (date(2024, 3, 2), False)):
        assert bool(ada.events.between(DAY, DAY, first_day=day, last_day=day)) is seen


def test_a_span_shows_events_in_order_and_up_to_a_limit(ada: Any, bob: Any) -> None:
    for hours in (2, 0, 1):
        ada.events.create({"title": str(hours), "starts_at": DAY + hours * HOUR})
    ada.events.create({"title": "day", "starts_at": DAY, "all_day": True})
    bob.events.create({"title": "his", "starts_at": DAY})
    span: dict[str, Any] = {"first_day": DAY.date(), "last_day": DAY.date()}
    with statements_sent(ada.session.get_bind()) as sent:
        assert titles(ada.events.between(DAY, DAY + 24 * HOUR, **span)) == ["0", "day", "1", "2"]
    assert len(sent) == 1
    assert titles(ada.events.between(DAY, DAY + 24 * HOUR, **span, limit=1)) == ["0"]
    for wrong in ({"start": DAY.date()}, {"first_day": DAY}, {"limit": 0}):
        with pytest.raises(ConfigurationError):
            ada.events.between(**{"start": DAY, "end": DAY, **span, **wrong})


def test_a_feed_yields_every_event_that_is_not_long_over(ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "CHUNK", 3)
    for hours in range(10):
        ada.events.create({"title": str(hours), "starts_at": DAY + hours * HOUR})
    ada.events.create({"title": "long", "starts_at": DAY, "ends_at": DAY + 24 * HOUR})
    with statements_sent(ada.session.get_bind()) as sent:
        assert titles([*ada.events.feed(DAY + 2 * HOUR)]) == ["long", *"23456789"]
    assert len(sent) == 3
