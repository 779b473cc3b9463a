"""Convert between UTC, in which times are stored, and local time in the viewer's time zone, which people read and type.

At daylight saving changes, local time skips an hour or repeats one. A skipped time is refused (``NoSuchTime``); of a
repeated time the first is meant. Nothing here fails at the ends of the calendar: a time outside of it is shown as the
first or last possible one.
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
    """Refuse a local time that is skipped at a daylight saving change; the message is for the user."""


def zone() -> ZoneInfo:
    """Return the viewer's time zone; UTC for visitors, and if the stored name is no longer known."""
    return zone_of(preferences.current().time_zone)


def zone_of(name: str) -> ZoneInfo:
    """Return the zone of this name, or UTC."""
    try:
        return ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def now() -> datetime:
    return datetime.now(zone())


def today() -> date:
    return now().date()


def local(moment: datetime, there: ZoneInfo | None = None) -> datetime:
    """Convert a moment to local time in the viewer's zone (or another)."""
    where = there or zone()
    try:
        return moment.astimezone(where)
    except OverflowError:
        return (FIRST if moment.year == 1 else LAST).replace(tzinfo=where)


def utc(shown: datetime, there: ZoneInfo | None = None) -> datetime:
    """Convert local time in the viewer's zone (or another) to UTC; NoSuchTime if the time is skipped."""
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
    """Tell whether this local time occurs twice, because clocks are put back."""
    # For a skipped time the two offsets differ as well, but in the other direction.
    first, second = (shown.replace(fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


def day_bounds(day: date, there: ZoneInfo | None = None) -> tuple[datetime, datetime]:
    """Return the first moment of a day in the viewer's zone and of the next day; equal for a day that is skipped."""
    where = there or zone()
    return _midnight(day, where), (LAST if day == date.max else _midnight(day + DAY, where))


def _midnight(day: date, where: ZoneInfo) -> datetime:
    # Where midnight is skipped, the offset before the change makes it the moment of the change.
    try:
        return datetime.combine(day, time(), where).astimezone(UTC)
    except OverflowError:
        return FIRST if day.year == 1 else LAST


def first_weekday() -> int:
    """Return the day on which the viewer's weeks begin: 0 for Monday to 6 for Sunday."""
    return _WEEK_STARTS.get(preferences.current().week_start, 0)


@cache
def zone_names() -> tuple[str, ...]:
    """Return the time zones to choose from, UTC first, without abbreviations and technical names."""
    names = (name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith(_NO_PLACES))
    return ("UTC", *sorted(names))
