"""Events start, mostly end, and never the other way round."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from repositories.errors import NotFoundError, StaleVersionError
from tenancy.errors import ConfigurationError

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


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


def test_upcoming_events_come_soonest_first(ada: Any) -> None:
    for hours in (3, 1, 2, 0):
        ada.events.create({"title": str(hours), "starts_at": NOON + hours * HOUR})
    assert [row["title"] for row in ada.events.upcoming(NOON + HOUR, limit=2)] == ["1", "2"]
