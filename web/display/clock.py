"""Turn moments into the viewer's wall clock and back; what is stored is UTC, what people read and type is not.

A wall clock skips an hour when it is put forward and has one twice when it is put back. A time that was skipped is
refused (``NoSuchTime``), of two the first is meant. Nothing here fails at the ends of the calendar: a moment that
has no wall-clock time there is shown as the first or last one there is.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from web.display import preferences

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
DAY = timedelta(days=1)
_WEEK_STARTS = {"monday": 0, "saturday": 5, "sunday": 6}
_NO_PLACES = ("Etc/", "SystemV/")


class NoSuchTime(ValueError):  # noqa: N818 - it says what it is
    """Refuse a wall-clock time that no clock ever shows; the text is for whoever typed it."""


def zone() -> ZoneInfo:
    """Give the viewer's time zone; UTC for visitors, and where the name is no longer known here."""
    return zone_of(preferences.current().time_zone)


def zone_of(name: str) -> ZoneInfo:
    """Give the zone of a name, or UTC."""
    try:
        return ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def now() -> datetime:
    return datetime.now(zone())


def today() -> date:
    return now().date()


def local(moment: datetime, there: ZoneInfo | None = None) -> datetime:
    """Give a moment as the clock in the viewer's zone (or another) shows it."""
    where = there or zone()
    try:
        return moment.astimezone(where)
    except OverflowError:
        return (FIRST if moment.year == 1 else LAST).replace(tzinfo=where)


def utc(shown: datetime, there: ZoneInfo | None = None) -> datetime:
    """Give the moment at which the clock in the viewer's zone (or another) shows this; NoSuchTime if it never does."""
    where = there or zone()
    try:
        moment = shown.replace(tzinfo=where, fold=0).astimezone(UTC)
        exists = moment.astimezone(where).replace(tzinfo=None) == shown.replace(tzinfo=None, fold=0)
    except OverflowError:
        raise NoSuchTime("This lies outside the calendar.") from None
    if not exists:
        raise NoSuchTime(f"There is no such time in {where.key}: the clocks are put forward over it.")
    return moment


def is_twice(shown: datetime) -> bool:
    """Tell whether the clock shows this time twice, because it is put back over it."""
    # Of a time that is skipped the two offsets differ as well, but the other way round.
    first, second = (shown.replace(fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


def day_bounds(day: date, there: ZoneInfo | None = None) -> tuple[datetime, datetime]:
    """Give the first moment of a day in the viewer's zone, and of the next; both are one for a day that was skipped."""
    where = there or zone()
    return _midnight(day, where), (LAST if day == date.max else _midnight(day + DAY, where))


def _midnight(day: date, where: ZoneInfo) -> datetime:
    # Where midnight is skipped, the offset before the change makes it the moment of the change.
    try:
        return datetime.combine(day, time(), where).astimezone(UTC)
    except OverflowError:
        return FIRST if day.year == 1 else LAST


def first_weekday() -> int:
    """Say on which day the viewer's weeks begin: 0 for Monday to 6 for Sunday."""
    return _WEEK_STARTS.get(preferences.current().week_start, 0)


@cache
def zone_names() -> tuple[str, ...]:
    """Give the zones to choose from, UTC first; abbreviations and technical ones are left out."""
    names = (name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith(_NO_PLACES))
    return ("UTC", *sorted(names))
