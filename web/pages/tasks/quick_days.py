"""Parse a day: "tomorrow", "Wed", "9 Dec", "12/05", "in 3 days", "tonight".

``quick_add`` calls ``read`` at each word of a line, with words in lower case and without punctuation after them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from web.display import calendar_names, template_filters

WEEKDAYS = tuple(map(str.lower, calendar_names.WEEKDAYS))
MONTHS = tuple(map(str.lower, calendar_names.MONTHS))
PARTS = {"morning": "09:00", "afternoon": "15:00", "evening": "20:00", "night": "20:00"}
TONIGHT = PARTS["night"]

_DAY_NAMES = {name[:3]: at for at, name in enumerate(WEEKDAYS)} | {name: at for at, name in enumerate(WEEKDAYS)}
_DAY_NAMES |= {"tues": 1, "weds": 2, "thur": 3, "thurs": 3}
_MONTH_NAMES = {name[:3]: at for at, name in enumerate(MONTHS, 1)} | {name: at for at, name in enumerate(MONTHS, 1)}
_MONTH_NAMES |= {"sept": 9}
_LEADS = frozenset({"on", "by", "due", "until", "before"})
_TOMORROW = frozenset({"tomorrow", "tmrw", "tmr", "tmw", "tomorow", "tommorow", "tommorrow"})
_SPANS = frozenset({"week", "month", "year", "weekend"})
_NOT_AFTER = frozenset({"the", "a", "in", "of", "i", "we", "you", "he", "she", "they"})
"""Words after which "sun" and "sat" are not days: "in the sun", "where we sat"."""

_NOT_BEFORE = frozenset(
    {"cream", "screen", "lotion", "block", "hat", "glasses", "dress", "shade", "bed", "dried", "nav"}
)
"""Words before which they are not days: "sun cream"."""

NO_SUCH_DAY = "there is no such day"
NO_MONTH = "a day needs its month"
NO_DAY = "a month is not a day"
PAST = "it has passed"
NO_ONE_DAY = "it is more than one day"
TOO_FAR = "999 is the most that can be counted"
NOT_COUNTED = "months and years cannot be counted"
COUNTED = "days can only be counted from today, as in “in 3 days”"

_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4}|\d{2})?", re.ASCII)
_SLASHED = re.compile(r"(\d{2})/(\d{2})|(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})", re.ASCII)
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th|\.)?", re.ASCII)
_NTH = re.compile(r"\d{1,2}(st|nd|rd|th)", re.ASCII)
_YEAR = re.compile(r"20\d{2}", re.ASCII)
_LENGTH = re.compile(r"(\d+|an?)(h|hrs?|hours?|mins?|minutes?|d|days?|w|weeks?|months?|years?)", re.ASCII)
_REPEATED = re.compile(
    r"(\d{1,3}(st|nd|rd|th)?|other|second|third|first|last|single|day|weekday|week|weekend|month|quarter|year|hour"
    r"|morning|afternoon|evening|night|days|weeks|months|years|hours)"
)
_FARTHEST = 999
_LEAP_YEARS = 9
"""A span of years that contains every date: leap years are at most eight years apart, as 1896 and 1904."""


@dataclass(frozen=True)
class Here:
    """The context of a line: the viewer's local time (or date), first weekday, and order of day and month."""

    now: date
    first_weekday: int = 0
    month_first: bool = False

    @property
    def today(self) -> date:
        return self.now.date() if isinstance(self.now, datetime) else self.now


@dataclass(frozen=True)
class Day:
    """The day that some words mean, and the time that comes with it ("tonight").

    A ``weekday`` alone means the next such day and agrees with any date on that weekday; a ``week`` begins on its date.
    """

    date: date
    weekday: int | None = None
    week: bool = False
    time: str | None = None


class Reading(NamedTuple):
    """The number of words read, and the day; None if they only look like a day, with the reason in ``why``."""

    words: int
    day: Day | None = None
    why: str = ""


def read(words: list[str], before: str, here: Here) -> Reading | None:
    """Parse a day at the beginning of some words, preceded by ``before``; None if nothing looks like a day."""
    first, rest = words[0], words[1:]
    if first in ("every", "each"):
        return _repetition(words)
    if first in ("a", "an") or first.isdecimal():
        counted = _counted_from(words, here)
        if counted:
            return counted
    if first in _LEADS and rest:
        led = read(rest, first, here)
        # "by 30 Feb" and "on every Monday" get the note of what follows; "on" in "on last Monday" is not part of it.
        return led and led._replace(words=led.words + 1)
    found = _plain(words, before, here)
    if found and found.day and found.day.time is None and words[found.words : found.words + 1]:
        part = PARTS.get(words[found.words])
        if part:
            return Reading(found.words + 1, replace(found.day, time=part))
    return found


def agreed(days: list[Day]) -> Day | str:
    """Return the one day that all of these mean, or the reason why there is none."""
    fixed = {day.date for day in days if day.weekday is None and not day.week}
    weekdays = {day.weekday for day in days if day.weekday is not None}
    weeks = {day.date for day in days if day.week}
    if max(len(fixed), len(weekdays), len(weeks)) > 1:
        return "these are different days"
    time = next((day.time for day in days if day.time), None)
    if not fixed and weeks and weekdays:
        [start], [weekday] = weeks, weekdays
        found = _shifted(start, (weekday - start.weekday()) % 7)
        return Day(found, time=time) if found else "the calendar ends before it"
    [meant] = fixed or weeks or {days[0].date}
    if fixed and weekdays and meant.weekday() not in weekdays:
        return f"{template_filters.day(meant)} is a {calendar_names.WEEKDAYS[meant.weekday()]}"
    if fixed and any(not 0 <= (meant - start).days < 7 for start in weeks):
        return "these are different weeks"
    return Day(meant, time=time)


def _plain(words: list[str], before: str, here: Here) -> Reading | None:
    return _relative(words, here) or _distance(words, here) or _named(words, before, here) or _calendar(words, here)


def _relative(words: list[str], here: Here) -> Reading | None:
    """Parse "today", "tomorrow", "tonight", "day after tomorrow", "next week", "next friday" and "this evening"."""
    first, second = words[0], (words[1:2] or [""])[0]
    if first in ("today", "tonight"):
        return Reading(1, Day(here.today, time=TONIGHT if first == "tonight" else None))
    if first in _TOMORROW:
        return _later(here, 1, 1)
    if words[:3] == ["day", "after", "tomorrow"] or words[:4] == ["the", "day", "after", "tomorrow"]:
        return _later(here, 2, 4 if first == "the" else 3)
    if first == "yesterday":
        return Reading(1, why=PAST)
    if first == "this":
        return _this(second, here)
    if first == "next" and (second == "week" or second in _DAY_NAMES):
        return _next(second, here)
    looks = first in ("next", "last", "past") and (second in _SPANS or second in _DAY_NAMES)
    month = first in ("in", "next", "last") and second in _MONTH_NAMES
    if looks:
        return Reading(2, why=NO_ONE_DAY if first == "next" else PAST)
    return Reading(2) if month else None


def _this(word: str, here: Here) -> Reading | None:
    if word in PARTS:
        return Reading(2, Day(here.today, time=PARTS[word]))
    if word in _DAY_NAMES:
        return _coming_weekday(word, 2, here)
    return Reading(2, why=NO_ONE_DAY) if word in _SPANS else None


def _next(word: str, here: Here) -> Reading:
    """Parse a day of the next week."""
    ahead = 7 - (here.today.weekday() - here.first_weekday) % 7
    start = _shifted(here.today, ahead)
    if word == "week":
        return Reading(2, Day(start, week=True) if start else None)
    day = _shifted(start, (_DAY_NAMES[word] - start.weekday()) % 7) if start else None
    return Reading(2, Day(day) if day else None)


def _distance(words: list[str], here: Here) -> Reading | None:
    """Parse "in 3 days", "in a week", "in 2h" and "in 90 minutes"."""
    if words[0] != "in" or len(words) < 2:
        return None
    for count in (2, 3):
        found = _LENGTH.fullmatch("".join(words[1:count]))
        if found and len(words) >= count:
            return _after(1 if found[1] in ("a", "an") else int(found[1]), found[2], count, here)
    return None


def _after(number: int, unit: str, count: int, here: Here) -> Reading:
    if unit.startswith("mo") or unit[0] == "y":
        return Reading(count, why=NOT_COUNTED)
    if number > _FARTHEST:
        return Reading(count, why=TOO_FAR)
    if unit[0] in "dw":
        return _later(here, number * (7 if unit[0] == "w" else 1), count)
    if not isinstance(here.now, datetime):
        return Reading(count)
    # In UTC: two hours are two hours even if the clocks change in between.
    length = timedelta(minutes=number * (60 if unit[0] == "h" else 1))
    try:
        then = (here.now.astimezone(UTC) + length).astimezone(here.now.tzinfo)
    except OverflowError:
        return Reading(count)
    return Reading(count, Day(then.date(), time=f"{then:%H:%M}"))


def _named(words: list[str], before: str, here: Here) -> Reading | None:
    """Parse the name of a weekday; "sun" and "sat" are also ordinary words."""
    first, second = words[0], (words[1:2] or [""])[0]
    is_word = first in ("sun", "sat") and (before in _NOT_AFTER or second in _NOT_BEFORE)
    return None if first not in _DAY_NAMES or is_word else _coming_weekday(first, 1, here)


def _coming_weekday(name: str, count: int, here: Here) -> Reading:
    """Return the next day of this name; today, if today is that day."""
    weekday = _DAY_NAMES[name]
    day = _shifted(here.today, (weekday - here.today.weekday()) % 7)
    return Reading(count, Day(day, weekday=weekday) if day else None)


def _calendar(words: list[str], here: Here) -> Reading | None:
    """Parse "2026-03-02", "3.3.", "12/05", "2 Mar", "Mar 2nd" and "2 March 2027"."""
    return _in_figures(words[0], here) or _with_month(words, here)


def _in_figures(word: str, here: Here) -> Reading | None:
    iso, dotted, slashed = _ISO.fullmatch(word), _DOTTED.fullmatch(word), _SLASHED.fullmatch(word)
    if iso:
        return _of(iso[3], iso[2], iso[1], 1, here)
    if dotted:
        return _of(dotted[1], dotted[2], dotted[3], 1, here)
    if slashed:
        one, other = slashed[1] or slashed[3], slashed[2] or slashed[4]
        day, month = (other, one) if here.month_first else (one, other)
        return _of(day, month, slashed[5], 1, here)
    return None


def _with_month(words: list[str], here: Here) -> Reading | None:
    if words[0] == "the" and len(words) > 1 and _NTH.fullmatch(words[1]):
        dated = _with_month(words[1:], here)
        return dated._replace(words=dated.words + 1) if dated else Reading(2, why=NO_MONTH)
    if words[1:2] == ["of"] and _DAY.fullmatch(words[0]):
        dated = _with_month([words[0], *words[2:]], here) if words[2:3] and words[2] in _MONTH_NAMES else None
        return dated and dated._replace(words=dated.words + 1)
    if len(words) < 2:
        return None
    if words[0] in _MONTH_NAMES and _YEAR.fullmatch(words[1]):
        return Reading(2, why=NO_DAY)
    day_at = 0 if words[1] in _MONTH_NAMES else 1
    day, month = _DAY.fullmatch(words[day_at]), _MONTH_NAMES.get(words[1 - day_at])
    if not day or month is None:
        return None
    year = words[2] if len(words) > 2 and _YEAR.fullmatch(words[2]) else None
    return _of(day[1], month, year, 3 if year else 2, here)


def _of(day: str, month: str | int, year: str | None, count: int, here: Here) -> Reading:
    """Return a date; without a year the next one from today on, however many years away 29 Feb may be."""
    first = here.today.year
    for each in [int(year) + 2000 * (len(year) == 2)] if year else range(first, first + _LEAP_YEARS):
        try:
            found = date(each, int(month), int(day))
        except ValueError:
            continue
        if each >= 1000 and (year or found >= here.today):
            return Reading(count, Day(found))
    return Reading(count, why=NO_SUCH_DAY)


def _counted_from(words: list[str], here: Here) -> Reading | None:
    """Recognise "a week from friday", which is not that Friday."""
    if (
        words[1:2]
        and words[1].rstrip("s") in ("day", "week", "month")
        and words[2:3] in (["from"], ["after"], ["before"])
    ):
        day = read(words[3:], words[2], here) if words[3:] else None
        return Reading(3 + day.words, why=COUNTED) if day else None
    return None


def _repetition(words: list[str]) -> Reading | None:
    """Recognise "every monday", "every 2 weeks", "each last friday" and "every mon and thu", which are unsupported."""
    count = 1
    while count < len(words) and (_REPEATED.fullmatch(words[count]) or words[count] in _DAY_NAMES):
        joined = words[count + 1 : count + 2] in (["and"], ["&"]) and words[count + 2 : count + 3]
        count += 2 if joined and joined[0] in _DAY_NAMES else 1
    return Reading(count, why="repeating tasks are not supported yet") if count > 1 else None


def _later(here: Here, days: int, count: int) -> Reading:
    day = _shifted(here.today, days)
    return Reading(count, Day(day) if day else None)


def _shifted(day: date, days: int) -> date | None:
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return None
