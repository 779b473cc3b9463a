"""Read the five fields of cron, and say when they are due next in a time zone.

Where clocks change: a time that does not exist is due at the first moment after the gap, and a time that comes twice is
due once, at its first coming. Where the hour is ``*`` the schedule goes by elapsed time instead: it leaves out the hour
that does not exist, and runs in both hours that have the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from tenancy.errors import ConfigurationError

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
_PART = re.compile(r"(?:(\*)|([a-z]{3}|\d{1,2})(?:-([a-z]{3}|\d{1,2}))?)(?:/(\d{1,2}))?", re.ASCII)
_MOST_DAYS = 366 * 9
"""The 29th of February comes again after eight years at the latest."""
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Cron:
    """Hold the minutes, hours, days and months of a schedule, and its time zone."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Whether one of the two fields of days suffices: so it is where neither begins with ``*``."""

    every_hour: bool
    zone: ZoneInfo

    @classmethod
    def read(cls, text: str, zone: str) -> Cron:
        """Read five fields and the name of a zone, or raise ConfigurationError with what is wrong."""
        words = text.lower().split()
        if len(words) != len(_FIELDS):
            raise _wrong(f'a schedule has five fields, such as "0 3 * * *": {text[:60]!r} has {len(words)}')
        minutes, hours, days, months, weekdays = (
            _values(word, *known) for word, known in zip(words, _FIELDS, strict=True)
        )
        either = not (words[2].startswith("*") or words[4].startswith("*"))
        week = frozenset(day % 7 for day in weekdays)
        cron = cls(
            tuple(minutes), tuple(hours), frozenset(days), frozenset(months), week, either, words[1] == "*", _zone(zone)
        )
        if next(cron._days_after(date(2000, 1, 1)), None) is None:
            raise _wrong(f"{text[:60]!r} never comes: there is no such day")
        return cron

    def after(self, moment: datetime) -> datetime:
        """Return the first time after a moment, both in UTC."""
        for day in self._days_after(moment.astimezone(self.zone).date() - timedelta(days=1)):
            found = [time for time in self._times_of(day) if time > moment]
            if found:
                return min(found)
        raise _wrong("this schedule does not come again")  # not reached: ``read`` has found a day

    def _days_after(self, first: date) -> Iterator[date]:
        for number in range(_MOST_DAYS):
            day = first + timedelta(days=number)
            by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
            if day.month in self.months and (by_month or by_week if self.either_day else by_month and by_week):
                yield day

    def _times_of(self, day: date) -> Iterator[datetime]:
        for hour in self.hours:
            for minute in self.minutes:
                yield from self._moments(datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone))

    def _moments(self, local: datetime) -> Iterator[datetime]:
        """Yield when the zone's clocks show this time: once, twice, or (then the moment after the gap) never."""
        if not _exists(local):
            while not self.every_hour and not _exists(local):
                local += _MINUTE
            if not self.every_hour:
                yield local.astimezone(UTC)
            return
        yield local.astimezone(UTC)
        if self.every_hour and local.replace(fold=1).utcoffset() != local.utcoffset():
            yield local.replace(fold=1).astimezone(UTC)


def _exists(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)


def _values(word: str, name: str, least: int, most: int) -> list[int]:
    """Read one field: ``*``, numbers, names, ranges and steps, separated by commas."""
    found: set[int] = set()
    for part in word.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _wrong(f"the {name} cannot be {part[:40]!r}")
        star, first, last, step = match.groups()
        low = least if star else _number(first, name, least, most)
        high = most if star or (step and not last) else _number(last or first, name, least, most)
        if low > high or step in ("0", "00"):
            raise _wrong(f"the {name} cannot be {part[:40]!r}")
        found |= set(range(low, high + 1, int(step or 1)))
    return sorted(found)


def _number(text: str, name: str, least: int, most: int) -> int:
    names = {"month": ["", *_MONTHS], "day of the week": _DAYS}.get(name, [])
    number = names.index(text) if text in names else int(text) if text.isdigit() else -1
    if not least <= number <= most:
        raise _wrong(f"the {name} is a number from {least} to {most}, not {text[:40]!r}")
    return number


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, a path, the name of a folder
        raise ConfigurationError(
            f"there is no time zone {name[:60]!r}: give one such as Europe/Berlin, or UTC.", field="zone"
        ) from None


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}. The fields are minute, hour, day of the month, month, day of the week.", field="cron"
    )
