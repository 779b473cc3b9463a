"""How events are laid out on days: which days they cover, in which line, and what does not fit."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from web.display import clock, preferences
from web.display.preferences import Preferences
from web.pages.calendar import layout

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setattr(preferences, "current", lambda: Preferences(time_zone="Europe/Berlin"))


def event(starts_at, ends_at=None, *, all_day=False, title="x"):
    """Make a row of moments in UTC."""
    start, end = (each and datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (starts_at, ends_at))
    return {"title": title, "starts_at": start, "ends_at": end, "all_day": all_day}


@pytest.mark.parametrize(
    ("row", "days"),
    [
        (event("2026-03-02T08:00", "2026-03-02T09:00"), ("2026-03-02", "2026-03-02")),
        (event("2026-03-02T08:00"), ("2026-03-02", "2026-03-02")),
        (event("2026-03-02T23:30"), ("2026-03-03", "2026-03-03")),
        (event("2026-03-02T20:00", "2026-03-02T23:00"), ("2026-03-02", "2026-03-02")),
        (event("2026-03-02T20:00", "2026-03-02T23:01"), ("2026-03-02", "2026-03-03")),
        (event("2026-03-02", "2026-03-04", all_day=True), ("2026-03-02", "2026-03-04")),
        (event("2026-03-02", all_day=True), ("2026-03-02", "2026-03-02")),
        (event("2026-03-28T23:30", "2026-03-29T21:30"), ("2026-03-29", "2026-03-29")),
    ],
    ids=["hours", "instant", "after-midnight", "to-midnight", "over-midnight", "days", "day", "clock-change"],
)
def test_an_event_covers_the_days_of_the_viewer_and_a_whole_day_its_own(row, days):
    assert layout.days_of(row, BERLIN) == tuple(map(date.fromisoformat, days))


def test_a_row_without_a_start_is_on_no_day():
    assert layout.days_of(event(None), BERLIN) is None


@given(st.dates(), st.integers(0, 6))
def test_a_month_is_whole_weeks_that_hold_each_of_its_days_once(day, first):
    weeks = layout.weeks_of(day, first)
    assert all(len(week) == 7 for week in weeks)
    days = [each for week in weeks for each in week if each]
    assert days == sorted(set(days))
    inside = [each for each in days if (each.year, each.month) == (day.year, day.month)]
    assert len(inside) >= 28
    assert inside[0].day == 1
    after = layout.next_month(day)
    assert after is None or inside[-1] + clock.DAY == after
    assert all(
        each is None or each.weekday() == (first + index) % 7 for week in weeks for index, each in enumerate(week)
    )
    assert day in layout.week_of(day, first)


def test_the_first_and_last_month_have_nothing_beyond_them():
    assert layout.next_month(date.min, -1) is None
    assert layout.next_month(date.max) is None
    assert layout.next_month(date(2026, 12, 31)) == date(2027, 1, 1)
    assert layout.next_month(date(2026, 1, 31), -1) == date(2025, 12, 1)
    assert None in layout.weeks_of(date.min, 6)[0]
    assert None in layout.weeks_of(date.max, 0)[-1]
    for edge in (date.min, date.max):
        rows = [event("0001-01-01", "9999-12-31", all_day=True)]
        assert layout.lay_out(layout.weeks_of(edge, 6), rows, edge, edge)


def test_a_longer_event_keeps_its_line_and_names_itself_once_a_week():
    rows = [
        event("2026-03-03T08:00", title="early"),
        event("2026-03-01", "2026-03-10", all_day=True, title="trip"),
        event("2026-03-02T08:00", title="one"),
    ]
    weeks = layout.lay_out(layout.weeks_of(date(2026, 3, 1), 0), rows, date(2026, 3, 3), date(2026, 3, 1))
    lines = {day.date.day: [chip and chip.row["title"] for chip in day.lines] for day in weeks[1]}
    assert lines[2] == ["trip", "one"]
    assert lines[3] == ["trip", "early"]
    assert lines[4] == ["trip"]
    labels = [day.lines[0].label for day in weeks[1]]
    assert labels == [True] + [False] * 6
    assert weeks[2][0].lines[0].label, "the next week names it again"
    assert [day.date.day for day in weeks[1] if day.today] == [3]
    assert not weeks[0][0].inside


def test_a_gap_keeps_the_line_of_an_event_that_began_under_another():
    rows = [event("2026-03-02", "2026-03-03", all_day=True), event("2026-03-03", "2026-03-05", all_day=True)]
    [week] = layout.lay_out([layout.week_of(date(2026, 3, 2), 0)], rows, date(2026, 3, 1))
    assert [[chip is not None for chip in day.lines] for day in week[:4]] == [
        [True],
        [True, True],
        [False, True],
        [False, True],
    ]


@pytest.mark.parametrize(("count", "shown", "more"), [(1, 1, 0), (4, 4, 0), (5, 3, 2), (30, 3, 27)])
def test_what_does_not_fit_is_counted(count, shown, more):
    rows = [event(f"2026-03-02T{8 + number // 4:02}:{number % 4 * 15:02}") for number in range(count)]
    [week] = layout.lay_out([layout.week_of(date(2026, 3, 2), 0)], rows, date(2026, 3, 1))
    assert (len(week[0].lines), week[0].more, len(week[0].chips)) == (shown, more, count)
    assert not week[1].chips


times = st.integers(0, 20 * 24 * 60).map(lambda minutes: datetime(2026, 3, 20, tzinfo=UTC) + timedelta(minutes=minutes))


@given(st.lists(st.tuples(times, st.integers(0, 10_000), st.booleans()), max_size=40))
def test_every_event_is_shown_or_counted_on_each_of_its_days(made):
    rows = [
        {"title": "x", "starts_at": start, "ends_at": start + timedelta(minutes=minutes), "all_day": all_day}
        for start, minutes, all_day in made
    ]
    weeks = layout.lay_out(layout.weeks_of(date(2026, 3, 1), 0), rows, date(2026, 3, 1), date(2026, 3, 1))
    for day in (day for week in weeks for day in week):
        covering = [row for row in rows if (days := layout.days_of(row, BERLIN)) and days[0] <= day.date <= days[1]]
        visible = [chip for chip in day.lines if chip]
        assert len(day.chips) == len(covering) == len(visible) + day.more
        assert len(day.lines) <= layout.LANES
        assert day.more != 1, "one more takes the line that says so"


@given(st.lists(st.tuples(times, st.integers(0, 10_000), st.booleans()), max_size=40))
def test_a_week_with_room_for_all_names_each_longer_event_on_one_line(made):
    rows = [
        {"title": number, "starts_at": start, "ends_at": start + timedelta(minutes=minutes), "all_day": all_day}
        for number, (start, minutes, all_day) in enumerate(made)
    ]
    [week] = layout.lay_out([layout.week_of(date(2026, 3, 25), 0)], rows, date(2026, 3, 1), lanes=len(rows))
    lines: dict[int, set[int]] = {}
    named: list[int] = []
    for day in week:
        assert day.more == 0
        chips = [chip for chip in day.whole if chip]
        assert len(chips) == len([chip for chip in day.chips if chip.whole])
        assert not day.whole or day.whole[-1], "no gap below the last"
        named += [chip.row["title"] for chip in chips if chip.label]
        for line, chip in enumerate(day.whole):
            if chip:
                lines.setdefault(chip.row["title"], set()).add(line)
    assert sorted(named) == sorted(lines)
    assert all(len(found) == 1 for found in lines.values())
