"""Read a task that was typed in one line: "call mum tomorrow 5pm #home !2".

Words of a few shapes, at any place, say when it is due, in which category and how important; all others are its
title. Nothing is guessed: what could mean two things (3/4, "at 5", "next friday"), cannot be (30 Feb, 25:00) or is
said twice in different ways stays text, and so does what stands in quotes or behind a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from tenancy.names import fold
from web.schemas import NAME_MAX

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_ANOTHER = frozenset({"next", "last", "every", "each", "past"})
_BEFORE_DATE = frozenset({"on", "by", "due", "until", "this"})
_BEFORE_TIME = frozenset({"at", "by", "before"})
_WORDS_THEMSELVES = frozenset({"sun", "sat"})
"""Short names of days that are also words; they are days only where "on" or the like leads them."""

_FOLD_MAX = 300
_TOKEN = re.compile(r'\S*?#"[^"]+"\S*|"[^"]*"\S*|“[^”]*”\S*|\S+')
_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})?", re.ASCII)
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th|\.)?", re.ASCII)
_YEAR = re.compile(r"20\d{2}", re.ASCII)
_NUMBER = re.compile(r"\d{1,3}", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2})[:h](\d{2})", re.ASCII)
_HOUR = re.compile(r"(1[3-9]|2\d)h", re.ASCII)
"""17h; what is smaller may be a time or a length."""

_HALF = re.compile(r"(\d{1,2})(?:[:.](\d{2}))?(am|pm)", re.ASCII)
_PRIORITY = re.compile(r"!([0-3])", re.ASCII)
_CATEGORY = re.compile(r'#(?:"([^"]+)"|([^\s"#]+))')
_STOPS = ".,;:!?"


@dataclass(frozen=True)
class Piece:
    """Hold some words of the line as they were typed, what they say (``kind``) and that as a value."""

    text: str
    kind: str = "text"
    value: object = None


@dataclass(frozen=True)
class Parsed:
    """Hold what was understood of a line; the pieces are all of it, in its order."""

    pieces: tuple[Piece, ...]

    @property
    def title(self) -> str:
        return " ".join(piece.text for piece in self.pieces if piece.kind == "text")

    @property
    def due_date(self) -> date | None:
        return self._said("date")  # type: ignore[return-value]  # a piece of this kind holds a date

    @property
    def due_time(self) -> str | None:
        return self._said("time")  # type: ignore[return-value]  # a piece of this kind holds text

    @property
    def category(self) -> str | None:
        return self._said("category")  # type: ignore[return-value]  # a name

    @property
    def priority(self) -> int | None:
        return self._said("priority")  # type: ignore[return-value]  # 0 to 3

    def _said(self, kind: str) -> object:
        return next((piece.value for piece in self.pieces if piece.kind == kind), None)


Found = tuple[str, object, int]
"""What some words say: the kind, the value, and how many words they are."""


def parse(text: str, today: date, first_weekday: int = 0) -> Parsed:
    """Understand a line on a day, in weeks that begin on a weekday (0 is Monday)."""
    words = _TOKEN.findall(text)
    pieces = _unambiguous(list(_pieces(words, today, first_weekday)))
    if any(piece.kind == "time" for piece in pieces) and not any(piece.kind == "date" for piece in pieces):
        at = next(index for index, piece in enumerate(pieces) if piece.kind == "time")
        pieces.insert(at, Piece("", "date", today))
    return Parsed(tuple(pieces))


def _pieces(words: list[str], today: date, first_weekday: int) -> Iterator[Piece]:
    index = 0
    while index < len(words):
        rest = words[index:]
        if rest[0].lower() in _ANOTHER and len(rest) > 1 and _weekday(_bare(rest[1])) is not None:
            found: Found | None = ("text", None, 2)
        else:
            found = _understood(rest, today, first_weekday)
        if found is None:
            yield Piece(_unescaped(rest, today, first_weekday))
            index += 1
            continue
        kind, value, count = found
        yield Piece(" ".join(rest[:count]), kind, value)
        index += count


def _understood(words: list[str], today: date, first_weekday: int) -> Found | None:
    """Say what the line's next words mean, the longest reading first; None for a word of the title."""
    first = _bare(words[0])
    after = [_bare(word) for word in words[1:4]]
    if first in _BEFORE_DATE and after:
        led = _date([*after, ""], today, first_weekday, led=True)
        if led:
            return "date", led[0], led[1] + 1
    if first in _BEFORE_TIME and after:
        at = _time(after)
        if at:
            return "time", at[0], at[1] + 1
    day = _date([first, *after], today, first_weekday, raw=words[0])
    if day:
        return "date", *day
    at = _time([first, *after])
    if at:
        return "time", *at
    return _mark(words[0])


def _mark(word: str) -> Found | None:
    """Read a category or a priority."""
    bare = word.rstrip(_STOPS)
    priority = _PRIORITY.fullmatch(bare)
    if priority:
        return "priority", int(priority[1]), 1
    category = _CATEGORY.fullmatch(bare)
    if not category:
        return None
    name = " ".join((category[1] or category[2]).split())
    # "#12" names an issue or a house, and a name must have something to tell it by.
    known = fold(name)
    return (
        None if name.isdecimal() or not 0 < len(known) <= _FOLD_MAX or len(name) > NAME_MAX else ("category", name, 1)
    )


def _date(
    words: list[str], today: date, first_weekday: int, *, led: bool = False, raw: str = ""
) -> tuple[date, int] | None:
    """Read a date from the beginning of some words; gives how many it took."""
    first, second = words[0], words[1] if len(words) > 1 else ""
    if first in ("today", "tomorrow"):
        return _later(today, first == "tomorrow", 1)
    if first == "next" and second == "week":
        return _later(today, 7 - (today.weekday() - first_weekday) % 7, 2)
    if first == "in":
        return _distance(words, today)
    weekday = None if first in _WORDS_THEMSELVES and not led else _weekday(first)
    if weekday is not None:
        return _later(today, (weekday - today.weekday() - 1) % 7 + 1, 1)
    return _calendar(words, today)


def _distance(words: list[str], today: date) -> tuple[date, int] | None:
    """Read "in 3 days" and "in 2 weeks"."""
    if len(words) < 3 or not _NUMBER.fullmatch(words[1]):
        return None
    length = {"day": 1, "days": 1, "week": 7, "weeks": 7}.get(words[2])
    return _later(today, int(words[1]) * length, 3) if length else None


def _calendar(words: list[str], today: date) -> tuple[date, int] | None:
    """Read "2026-03-02", "3.3.", "2 Mar" and "2 March 2027"; without a year the next such day is meant."""
    iso, dotted = _ISO.fullmatch(words[0]), _DOTTED.fullmatch(words[0])
    if iso:
        return _exact(int(iso[1]), int(iso[2]), int(iso[3]), 1)
    if dotted:
        year = int(dotted[3]) if dotted[3] else None
        return _exact(year, int(dotted[2]), int(dotted[1]), 1) if year else _coming(today, dotted[2], dotted[1], 1)
    day = _DAY.fullmatch(words[0])
    month = _month(words[1]) if len(words) > 1 else None
    if not day or month is None:
        return None
    if len(words) > 2 and _YEAR.fullmatch(words[2]):
        return _exact(int(words[2]), month, int(day[1]), 3)
    return _coming(today, month, day[1], 2)


def _exact(year: int, month: int, day: int, count: int) -> tuple[date, int] | None:
    try:
        return (date(year, month, day), count) if year >= 1000 else None
    except ValueError:
        return None


def _coming(today: date, month: int | str, day: str, count: int) -> tuple[date, int] | None:
    """Give the next day of this name, today's included, if this year or the next one has it."""
    both = (_exact(year, int(month), int(day), count) for year in (today.year, today.year + 1))
    return next((found for found in both if found and found[0] >= today), None)


def _later(today: date, days: int, count: int) -> tuple[date, int] | None:
    try:
        return today + timedelta(days=days), count
    except OverflowError:
        return None


def _time(words: list[str]) -> tuple[str, int] | None:
    """Read "17:00", "17h", "8h30", "5pm", "5 pm" and "noon" from the beginning of some words."""
    if words[0] == "noon":
        return "12:00", 1
    clock = _CLOCK.fullmatch(words[0])
    if clock:
        return _checked(int(clock[1]), int(clock[2]), 1)
    hour = _HOUR.fullmatch(words[0])
    if hour:
        return _checked(int(hour[1]), 0, 1)
    for count in (1, 2):
        half = _HALF.fullmatch("".join(words[:count]))
        if half and len(words) >= count and 1 <= int(half[1]) <= 12:
            return _checked(int(half[1]) % 12 + (12 if half[3] == "pm" else 0), int(half[2] or 0), count)
    return None


def _checked(hour: int, minute: int, count: int) -> tuple[str, int] | None:
    return (f"{hour:02}:{minute:02}", count) if hour < 24 and minute < 60 else None


def _weekday(word: str) -> int | None:
    """Give the number of a day by its name or the name's beginning: "mon", "tues", "thursday"."""
    if word in _WEEKDAYS or (word[:3] in {name[:3] for name in _WEEKDAYS} and word in {"tues", "thur", "thurs"}):
        return next(number for number, name in enumerate(_WEEKDAYS) if name.startswith(word))
    return next((number for number, name in enumerate(_WEEKDAYS) if name[:3] == word), None)


def _month(word: str) -> int | None:
    for names in (_MONTHS, _LONG_MONTHS):
        if word in names:
            return names.index(word) + 1
    return 9 if word == "sept" else None


def _bare(word: str) -> str:
    """Give a word in small letters without the stop behind it; "3.3." keeps its own."""
    small = word.lower()
    bare = small.rstrip(_STOPS)
    return f"{bare}." if small[len(bare) :].startswith(".") and re.fullmatch(r"\d{1,2}\.\d{1,2}", bare) else bare


def _unescaped(words: list[str], today: date, first_weekday: int) -> str:
    """Take the backslash off a word that would be understood without it, or that begins like one of those."""
    word = words[0]
    if not word.startswith("\\") or len(word) < 2:
        return word
    plain = word[1:]
    escaped = plain[0] in '#!"“' or _understood([plain, *words[1:4]], today, first_weekday)
    return plain if escaped else word


def _unambiguous(pieces: list[Piece]) -> list[Piece]:
    """Turn what is said in two ways back into text."""
    said: dict[str, set[object]] = {}
    for piece in pieces:
        said.setdefault(piece.kind, set()).add(_same(piece))
    return [Piece(piece.text) if len(said[piece.kind]) > 1 and piece.kind != "text" else piece for piece in pieces]


def _same(piece: Piece) -> object:
    return fold(str(piece.value)) if piece.kind == "category" else piece.value
