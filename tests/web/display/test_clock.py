"""Hold the wall clock to its changes: hours skipped or repeated, a day that never was, the ends of the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, strategies as st

from web.display import clock, preferences
from web.display.preferences import Preferences

NAMES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
    "America/Havana",
)
CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Berlin forward
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # Berlin back
    datetime(2026, 3, 8, 7, tzinfo=UTC),  # New York forward
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # New York back
    datetime(2026, 4, 4, 15, tzinfo=UTC),  # Lord Howe back, by half an hour
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),  # Lord Howe forward
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia goes over the date line
    datetime(2026, 2, 15, 2, tzinfo=UTC),  # Casablanca, for Ramadan
    datetime(2026, 3, 22, 2, tzinfo=UTC),
    datetime(2010, 3, 14, 3, 31, tzinfo=UTC),  # St John's, a minute after midnight
    datetime(2026, 11, 1, 5, tzinfo=UTC),  # Havana, midnight twice
)
START = datetime(1970, 1, 1, tzinfo=UTC)
zones = st.sampled_from(NAMES).map(ZoneInfo)
near_changes = st.builds(
    lambda at, minutes: at + timedelta(minutes=minutes), st.sampled_from(CHANGES), st.integers(-2000, 2000)
)
moments = near_changes | st.integers(-20 * 365 * 86_400, 130 * 365 * 86_400).map(
    lambda seconds: START + timedelta(seconds=seconds)
)
days = moments.map(datetime.date) | st.dates(date(1950, 1, 1), date(2100, 1, 1))


@pytest.fixture
def viewer(monkeypatch):
    """Give a function that sets what the viewer prefers."""

    def prefer(**chosen):
        monkeypatch.setattr(preferences, "current", lambda: Preferences(**chosen))

    return prefer


@given(moments, zones)
def test_what_a_clock_shows_can_be_typed_and_means_that_moment_or_the_first_of_two(moment, zone):
    shown = clock.local(moment, zone)
    back = clock.utc(shown.replace(tzinfo=None), zone)
    assert back <= moment
    assert clock.local(back, zone).replace(tzinfo=None) == shown.replace(tzinfo=None)
    assert back == moment or shown.fold == 1


@given(near_changes, zones)
def test_a_typed_time_comes_back_as_it_was_typed_or_is_refused(moment, zone):
    typed = moment.replace(tzinfo=None)
    try:
        read = clock.utc(typed, zone)
    except clock.NoSuchTime:
        hours = (timedelta(hours=hours) for hours in (-25, 25))
        before, after = (typed + each for each in hours)
        apart = clock.utc(after, zone) - clock.utc(before, zone)
        assert apart < timedelta(hours=50), "only where clocks are put forward is a time refused"
    else:
        assert clock.local(read, zone).replace(tzinfo=None) == typed


@given(days, zones)
@example(date(2011, 12, 30), ZoneInfo("Pacific/Apia"))
@example(date(2026, 11, 1), ZoneInfo("America/Havana"))
def test_days_follow_each_other_without_a_gap_and_hold_their_noon(day, zone):
    start, end = clock.day_bounds(day, zone)
    assert end == clock.day_bounds(day + clock.DAY, zone)[0]
    if start == end:
        assert (zone.key, day) == ("Pacific/Apia", date(2011, 12, 30))
        return
    assert timedelta(hours=22) < end - start < timedelta(hours=26)
    middle = clock.local(start + (end - start) / 2, zone)
    assert middle.date() == day


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("2026-03-29T02:30", "Europe/Berlin"),
        ("2026-03-08T02:00", "America/New_York"),
        ("2026-10-04T02:15", "Australia/Lord_Howe"),
        ("2011-12-30T12:00", "Pacific/Apia"),
        ("2026-03-22T02:30", "Africa/Casablanca"),
    ],
)
def test_a_time_that_no_clock_shows_is_refused_with_its_zone(typed, name):
    with pytest.raises(clock.NoSuchTime, match=name):
        clock.utc(datetime.fromisoformat(typed), ZoneInfo(name))


@pytest.mark.parametrize(
    ("typed", "name", "moment"),
    [
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30Z"),
        ("2026-11-01T01:30", "America/New_York", "2026-11-01T05:30Z"),
        ("2026-04-05T01:45", "Australia/Lord_Howe", "2026-04-04T14:45Z"),
        ("2026-03-02T05:45", "Asia/Kathmandu", "2026-03-02T00:00Z"),
    ],
)
def test_of_a_time_that_comes_twice_the_first_is_meant(typed, name, moment):
    assert clock.utc(datetime.fromisoformat(typed), ZoneInfo(name)) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    ("moment", "name", "twice"),
    [
        ("2026-10-25T00:30Z", "Europe/Berlin", True),
        ("2026-10-25T01:30Z", "Europe/Berlin", True),
        ("2026-10-25T02:30Z", "Europe/Berlin", False),
        ("2026-03-29T01:30Z", "Europe/Berlin", False),
        ("2011-12-30T10:00Z", "Pacific/Apia", False),
        ("2026-10-25T00:30Z", "UTC", False),
    ],
)
def test_a_time_that_comes_twice_is_known_both_times(moment, name, twice):
    assert clock.is_twice(clock.local(datetime.fromisoformat(moment), ZoneInfo(name))) is twice


def test_a_day_of_a_change_has_its_own_length():
    def hours(day, name):
        start, end = clock.day_bounds(date.fromisoformat(day), ZoneInfo(name))
        return (end - start) / timedelta(hours=1)

    assert hours("2026-03-29", "Europe/Berlin") == 23
    assert hours("2026-10-25", "Europe/Berlin") == 25
    assert hours("2026-04-05", "Australia/Lord_Howe") == 24.5
    assert hours("2011-12-30", "Pacific/Apia") == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_of_the_calendar_are_shown_and_never_fail(name):
    zone = ZoneInfo(name)
    for moment in (clock.FIRST, clock.FIRST + timedelta(hours=20), clock.LAST, clock.LAST - timedelta(hours=20)):
        assert clock.local(moment, zone).year in (1, 9999)
    for day in (date.min, date.min + clock.DAY, date.max - clock.DAY, date.max):
        start, end = clock.day_bounds(day, zone)
        assert clock.FIRST <= start <= end <= clock.LAST
    for edge in (clock.FIRST, clock.LAST):
        typed = edge.replace(tzinfo=None)
        try:
            read = clock.utc(typed, zone)
        except clock.NoSuchTime:
            continue
        assert clock.local(read, zone).replace(tzinfo=None) == typed


def test_the_viewers_zone_and_week_are_those_of_the_preferences(viewer):
    viewer(time_zone="Asia/Kathmandu", week_start="sunday")
    assert clock.zone().key == "Asia/Kathmandu"
    assert clock.local(datetime(2026, 3, 2, tzinfo=UTC)).isoformat() == "2026-03-02T05:45:00+05:45"
    assert clock.utc(datetime.fromisoformat("2026-03-02T05:45")) == datetime(2026, 3, 2, tzinfo=UTC)
    assert clock.first_weekday() == 6
    assert clock.now().tzinfo == clock.zone()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "", "/etc", "Europe", "a\x00b"])
def test_a_zone_that_is_unknown_here_is_utc(viewer, name):
    viewer(time_zone=name)
    assert clock.zone().key == "UTC"


def test_the_zones_to_choose_from_are_places():
    names = clock.zone_names()
    assert names[0] == "UTC"
    assert {"Europe/Berlin", "America/Argentina/Buenos_Aires", "Pacific/Apia"} <= set(names)
    assert not [name for name in names if name.startswith(("Etc/", "posix"))]
    assert len(names) == len(set(names)) < 700
