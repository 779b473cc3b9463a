"""Events start, mostly end, and never the other way round."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

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


# At each moment, in a zone far from UTC or beside a change of its clocks: what is over there, and what is not.
MOMENTS = [
    # Kiritimati is a day ahead: its 4 March has begun when UTC's 3 March is half over.
    ("Pacific/Kiritimati", "2024-03-03T10:00", {"all day 3rd"}, {"all day 4th", "all day 3rd to 4th"}),
    ("Pacific/Kiritimati", "2024-03-03T09:59", set(), {"all day 3rd", "all day 4th", "all day 3rd to 4th"}),
    # In Honolulu the 3rd goes on until ten in the morning of UTC's 4th.
    ("Pacific/Honolulu", "2024-03-04T09:59", set(), {"all day 3rd", "all day 4th", "all day 3rd to 4th"}),
    ("Pacific/Honolulu", "2024-03-04T10:00", {"all day 3rd"}, {"all day 4th", "all day 3rd to 4th"}),
    # Clocks put forward (New York, 10 March) and back (Berlin, 27 October): a day of 23 hours and one of 25.
    ("America/New_York", "2024-03-11T03:59", set(), {"all day 10th"}),
    ("America/New_York", "2024-03-11T04:00", {"all day 10th"}, set()),
    ("Europe/Berlin", "2024-10-27T22:59", set(), {"all day 27 Oct"}),
    ("Europe/Berlin", "2024-10-27T23:00", {"all day 27 Oct"}, set()),
    ("Europe/Berlin", "2024-10-27T01:15", {"ends with the first 2:59"}, {"ends in the second 2:30"}),
    # A timed event is over when it ends, not a moment earlier, whatever the day is.
    ("Pacific/Kiritimati", "2024-03-03T10:59", set(), {"until 11:00 UTC"}),
    ("Pacific/Kiritimati", "2024-03-03T11:00", {"until 11:00 UTC"}, set()),
    ("Pacific/Honolulu", "2024-03-03T09:00", set(), {"at 9:00 UTC", "until 11:00 UTC"}),
    ("Pacific/Honolulu", "2024-03-03T09:01", {"at 9:00 UTC"}, {"until 11:00 UTC", "three days, under way"}),
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("zone", "moment", "over", "not_over"), MOMENTS)
def test_an_event_is_over_or_not_and_in_one_list_alone(
    ada: Any, zone: str, moment: str, over: set[str], not_over: set[str]
) -> None:
    for title, starts, ends, all_day in (
        ("all day 3rd", "2024-03-03", None, True),
        ("all day 3rd, with hours", "2024-03-03T09:00", "2024-03-03T23:30", True),
        ("all day 4th", "2024-03-04", "2024-03-04", True),
        ("all day 3rd to 4th", "2024-03-03", "2024-03-04", True),
        ("all day 10th", "2024-03-10", None, True),
        ("all day 27 Oct", "2024-10-27", None, True),
        ("ends with the first 2:59", "2024-10-27T00:00", "2024-10-27T00:59", False),
        ("ends in the second 2:30", "2024-10-27T00:00", "2024-10-27T01:30", False),
        ("until 11:00 UTC", "2024-03-03T08:00", "2024-03-03T11:00", False),
        ("at 9:00 UTC", "2024-03-03T09:00", None, False),
        ("three days, under way", "2024-03-02T00:00", "2024-03-05T00:00", False),
    ):
        row = {"title": title, "starts_at": at(starts), "ends_at": ends and at(ends), "all_day": all_day}
        ada.events.create(row)
    now = at(moment).astimezone(ZoneInfo(zone))
    past = titles(ada.events.agenda(now, today=now.date(), past=True).rows)
    ahead = titles(ada.events.agenda(now, today=now.date()).rows)
    assert sorted(past + ahead) == sorted(titles(ada.events.list()))
    assert over <= set(past)
    assert not_over <= set(ahead)
    assert ("all day 3rd" in past) == ("all day 3rd, with hours" in past), "its hours mean nothing"
    assert titles(ada.events.upcoming(now, today=now.date(), limit=50)) == ahead


def test_an_event_that_raw_sql_gave_no_start_is_over_once_it_was_made(ada: Any) -> None:
    made = ada.events.create({"title": "x", "starts_at": NOON})
    ada.session.execute(sa.text("UPDATE events SET starts_at = NULL"))
    now = made["created_at"] + HOUR
    assert titles(ada.events.agenda(now, past=True).rows) == ["x"]
    assert titles(ada.events.agenda(now).rows) == []
