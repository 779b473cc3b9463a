"""Lay events out on the days of a calendar: the days that an event covers, and its line in a week.

Nothing here uses a database or HTTP; ``page.py`` does both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from functools import reduce
from operator import or_
from typing import Any
from zoneinfo import ZoneInfo

from web.display import clock

Row = dict[str, Any]

LANES = 4
MOMENT = timedelta(microseconds=1)


@dataclass
class Chip:
    """One event on one day; ``label`` says whether its title is shown here, which is once a week."""

    row: Row
    day: date
    first: date
    last: date
    label: bool = False

    @property
    def begins(self) -> bool:
        return self.day == self.first

    @property
    def ends(self) -> bool:
        return self.day == self.last

    @property
    def whole(self) -> bool:
        """Tell whether the event lasts all day or several days."""
        return bool(self.row["all_day"]) or self.first != self.last


@dataclass
class Day:
    """One day of the calendar; ``lines`` has a gap (None) where a longer event occupies the line on other days."""

    date: date
    today: bool
    inside: bool
    chips: list[Chip] = field(default_factory=list)
    lines: list[Chip | None] = field(default_factory=list)
    more: int = 0

    @property
    def whole(self) -> list[Chip | None]:
        """Return the lines with all-day and longer events, gaps included, for the week view."""
        lines = [chip if chip and chip.whole else None for chip in self.lines]
        while lines and lines[-1] is None:
            lines.pop()
        return lines


Week = list[Day | None]
"""Seven days; None beyond the first and last possible date."""


def days_of(row: Row, zone: ZoneInfo) -> tuple[date, date] | None:
    """Return the first and last day of an event: UTC days if it lasts all day, otherwise days of ``zone``.

    An event that ends at midnight does not include the day that begins then. None for a row without a start.
    """
    starts_at, ends_at = row["starts_at"], row["ends_at"] or row["starts_at"]
    if starts_at is None:
        return None
    if row["all_day"]:
        return starts_at.astimezone(UTC).date(), ends_at.astimezone(UTC).date()
    last = ends_at - MOMENT if ends_at > starts_at else ends_at
    return clock.local(starts_at, zone).date(), clock.local(last, zone).date()


def week_of(day: date, first_weekday: int) -> list[date | None]:
    """Return the seven days of the week that contains a day; None beyond the calendar's ends."""
    start = day.toordinal() - (day.weekday() - first_weekday) % 7
    return [day_at(start + offset) for offset in range(7)]


def weeks_of(month: date, first_weekday: int) -> list[list[date | None]]:
    """Return the weeks that contain the days of a month."""
    first = month.replace(day=1)
    after = next_month(first)
    end = after.toordinal() if after else date.max.toordinal() + 1
    start = first.toordinal() - (first.weekday() - first_weekday) % 7
    return [[day_at(monday + offset) for offset in range(7)] for monday in range(start, end, 7)]


def next_month(day: date, step: int = 1) -> date | None:
    """Return the first day of the next month (with -1, of the previous one); None beyond the calendar's ends."""
    count = day.year * 12 + day.month - 1 + step
    return date(count // 12, count % 12 + 1, 1) if 12 <= count < 12 * 10_000 else None


def lay_out(
    weeks: Iterable[Sequence[date | None]],
    rows: Iterable[Row],
    today: date,
    month: date | None = None,
    *,
    lanes: int = LANES,
) -> list[Week]:
    """Place events on the days of weeks, each on the same line of all the days that it covers in a week.

    If none of the ``lanes`` lines of a day is free for an event, the day only counts it.
    """
    zone = clock.zone()
    placed = [(row, days) for row in rows if (days := days_of(row, zone))]
    placed.sort(key=_order)
    return [_week(week, placed, today, month, lanes) for week in weeks]


def _order(placed: tuple[Row, tuple[date, date]]) -> tuple[Any, ...]:
    """Sort by day, longer events first, all-day events before timed ones, then by time."""
    row, (first, last) = placed
    return first, first == last, first.toordinal() - last.toordinal(), not row["all_day"], row["starts_at"]


def _week(
    dates: Sequence[date | None],
    placed: list[tuple[Row, tuple[date, date]]],
    today: date,
    month: date | None,
    lanes: int,
) -> Week:
    days = [Day(each, each == today, month is None or _same_month(each, month)) if each else None for each in dates]
    known = [day for day in days if day]
    start, end = known[0].date, known[-1].date
    taken = [0] * len(known)  # a bit for each line
    for row, (first, last) in placed:
        if first > end or last < start:
            continue
        covered = range(max(0, (first - start).days), min(len(known) - 1, (last - start).days) + 1)
        lane = _free((taken[index] for index in covered), lanes)
        for index in covered:
            # If no line is free on all days of an event, it takes a free line of each single day.
            own = _free([taken[index]], lanes) if lane is None else lane
            _put(known[index], Chip(row, known[index].date, first, last), own)
            if own is not None:
                taken[index] |= 1 << own
    _fold(known, lanes)
    return days


def _free(days: Iterable[int], lanes: int) -> int | None:
    """Return the first line that is free on all of these days."""
    taken = reduce(or_, days)
    lane = (~taken & (taken + 1)).bit_length() - 1
    return lane if lane < lanes else None


def _put(day: Day, chip: Chip, lane: int | None) -> None:
    day.chips.append(chip)
    if lane is None:
        day.more += 1
        return
    day.lines += [None] * (lane + 1 - len(day.lines))
    day.lines[lane] = chip


def _fold(days: list[Day], lanes: int) -> None:
    """If not everything fits on a day, use the last line for the count; then label each event once a week."""
    named: set[int] = set()
    for day in days:
        if day.more and len(day.lines) == lanes:
            day.more += day.lines.pop() is not None
        for chip in filter(None, day.lines):
            chip.label = id(chip.row) not in named
            named.add(id(chip.row))


def _same_month(day: date, month: date) -> bool:
    return (day.year, day.month) == (month.year, month.month)


def day_at(ordinal: int) -> date | None:
    return date.fromordinal(ordinal) if 1 <= ordinal <= date.max.toordinal() else None
