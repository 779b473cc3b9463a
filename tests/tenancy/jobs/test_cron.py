"""Schedules are due by the clocks of their zone, and what happens where clocks change is decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from tenancy.errors import ConfigurationError
from tenancy.jobs.cron import Cron

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def times(text: str, zone: str, after: datetime, number: int) -> list[str]:
    """Give the next times, as the zone's clocks show them with their offset."""
    cron, found = Cron.read(text, zone), []
    for _ in range(number):
        after = cron.after(after)
        found.append(f"{after.astimezone(ZoneInfo(zone)):%a %d %H:%M%z}")
    return found


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 3 * * *", "2026-05-05T03:00", "2026-05-06T03:00"),
        ("0 3 * * *", "2026-05-05T02:59:59.9", "2026-05-05T03:00"),
        ("*/15 * * * *", "2026-05-05T03:46", "2026-05-05T04:00"),
        ("5/20 8 * * *", "2026-05-05T08:25", "2026-05-05T08:45"),
        ("0 9-17/4 * * mon-fri", "2026-05-08T17:30", "2026-05-11T09:00"),
        ("30 6 1,15 * *", "2026-05-01T06:30", "2026-05-15T06:30"),
        ("0 0 29 feb *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("0 0 31 * *", "2026-03-31T00:00", "2026-05-31T00:00"),
        ("0 9 13 * fri", "2026-05-08T09:00", "2026-05-13T09:00"),
        ("0 9 */2 * fri", "2026-05-01T09:00", "2026-05-15T09:00"),
        ("0 0 * * 7", "2026-05-05T00:00", "2026-05-10T00:00"),
        ("0 0 * JAN sun", "2026-05-05T00:00", "2027-01-03T00:00"),
        ("0 12 31 dec *", "2026-12-31T12:00", "2027-12-31T12:00"),
    ],
)
def test_the_next_time_is_that_of_cron(text, after, expected):
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert Cron.read(text, "UTC").after(moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_time_that_the_clocks_pass_over_is_due_at_the_first_moment_after_it():
    assert times("30 2 * * *", BERLIN, datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == [
        "Sun 29 03:00+0200",
        "Mon 30 02:30+0200",
    ]
    assert times("30 2 * * *", NEW_YORK, datetime(2026, 3, 7, 12, tzinfo=UTC), 2) == [
        "Sun 08 03:00-0400",
        "Mon 09 02:30-0400",
    ]


def test_several_times_in_the_gap_are_one():
    assert times("*/20 2,3 * * *", BERLIN, datetime(2026, 3, 29, 0, 30, tzinfo=UTC), 4) == [
        "Sun 29 03:00+0200",
        "Sun 29 03:20+0200",
        "Sun 29 03:40+0200",
        "Mon 30 02:00+0200",
    ]


def test_a_time_that_comes_twice_is_due_once_at_its_first_coming():
    assert times("30 2 * * *", BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "Sun 25 02:30+0200",
        "Mon 26 02:30+0100",
    ]
    assert times("30 1 * * *", NEW_YORK, datetime(2026, 10, 31, 12, tzinfo=UTC), 2) == [
        "Sun 01 01:30-0400",
        "Mon 02 01:30-0500",
    ]


@pytest.mark.parametrize(
    ("zone", "after"),
    [
        (BERLIN, datetime(2026, 3, 28, 22, tzinfo=UTC)),
        (BERLIN, datetime(2026, 10, 24, 22, tzinfo=UTC)),
        (NEW_YORK, datetime(2026, 3, 8, 4, tzinfo=UTC)),
        (NEW_YORK, datetime(2026, 11, 1, 3, tzinfo=UTC)),
    ],
)
def test_with_a_star_as_its_hour_a_schedule_goes_by_elapsed_time(zone, after):
    cron = Cron.read("*/30 * * * *", zone)
    found = [after]
    for _ in range(12):
        found.append(cron.after(found[-1]))
    assert {later - earlier for earlier, later in pairwise(found[1:])} == {timedelta(minutes=30)}


def test_a_day_that_a_zone_left_out_is_due_when_the_next_one_begins():
    assert times("0 9 30 12 *", "Pacific/Apia", datetime(2011, 12, 1, tzinfo=UTC), 1) == ["Sat 31 00:00+1400"]


@given(
    st.sampled_from(["0 3 * * *", "30 2 * * *", "*/7 * * * *", "0 0 1 * *", "15 1-3 * * sun"]),
    st.sampled_from([BERLIN, NEW_YORK, "UTC", "Australia/Lord_Howe", "Africa/Cairo"]),
    st.integers(0, 2_100_000_000).map(lambda second: datetime.fromtimestamp(second, UTC)),
)
def test_the_next_time_always_comes_later_and_is_a_whole_minute(text, zone, moment):
    found = Cron.read(text, zone).after(moment)
    assert found > moment
    assert (found.second, found.microsecond, found.tzinfo) == (0, 0, UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("* * * *", "has 4"),
        ("* * * * * *", "has 6"),
        ("", "has 0"),
        ("60 * * * *", "from 0 to 59"),
        ("* 24 * * *", "from 0 to 23"),
        ("* * 0 * *", "from 1 to 31"),
        ("* * * 13 *", "from 1 to 12"),
        ("* * * * 8", "from 0 to 7"),
        ("*/0 * * * *", "cannot be '*/0'"),
        ("5-1 * * * *", "cannot be '5-1'"),
        ("1,,2 * * * *", "cannot be ''"),
        ("x * * * *", "cannot be 'x'"),
        ("* * * mon *", "not 'mon'"),
        ("٣ * * * *", "cannot be"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 2,4,6 *", "never comes"),
        ("x" * 500, "has 1"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_is_wrong(text, said):
    with pytest.raises(ConfigurationError, match=r"five fields|minute") as refused:
        Cron.read(text, "UTC")
    assert said in refused.value.message
    assert refused.value.field == "cron"
    assert len(refused.value.message) < 250


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../../etc/passwd", "/etc/localtime", "Europe", "a\x00b", "x" * 300])
def test_what_is_no_zone_is_refused(zone):
    with pytest.raises(ConfigurationError, match="there is no time zone") as refused:
        Cron.read("0 3 * * *", zone)
    assert refused.value.field == "zone"
