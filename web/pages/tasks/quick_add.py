"""Parse a task typed in one line: "call mum tomorrow 5pm #home !2".

Words of certain forms, in any order, give the due date and time (``quick_days``, ``quick_times``), the category and the
priority; all other words are the title. Nothing is guessed: what is ambiguous (3/4, "at 5"), impossible (30 Feb, 25:00)
or contradictory stays in the title, with a note if the words look like a day or a time. Words in quotes or after a
backslash always stay in the title, without a note.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime

from tenancy.names import fold, is_visible
from web.pages.tasks import quick_days, quick_times
from web.pages.tasks.quick_days import NO_DAY, NO_MONTH, NO_SUCH_DAY, Day, Here
from web.schemas import NAME_MAX

_FOLD_MAX = 300
_TOKEN = re.compile(r'\S*?#"[^"]+"\S*|"[^"]*"\S*|“[^”]*”\S*|\S+')
_PRIORITY = re.compile(r"!([0-3])", re.ASCII)
_RANK = re.compile(r"(?:!!|[pP])([1-4])", re.ASCII)
"""Priorities as other programs count them: 1 is the highest."""

_CATEGORY = re.compile(r'#(?:"([^"]+)"|([^\s"#]+))')
_DAYLIKE = re.compile(rf"(?<![a-z])({'|'.join(quick_days.WEEKDAYS)}|today|tomorrow|tonight|yesterday|weekend)")
_CLOSE, _CLOSE_MAX = 0.85, 12
_STOPS = ".,;:!?"
_AHEAD = 6
"""Words to look ahead; the longest day ("due by the day after tomorrow evening") takes seven words."""

_NAMES = {"time": "times", "category": "categories", "priority": "priorities"}


@dataclass(frozen=True)
class Piece:
    """Some words of the line as typed, with the ``kind`` of their meaning and its value.

    ``daylike`` text looks like a day but is not one; a ``bare`` time is a time only in certain places of the line.
    """

    text: str
    kind: str = "text"
    value: object = None
    daylike: bool = False
    bare: bool = False


@dataclass(frozen=True)
class Parsed:
    """What was understood of a line, and notes about what was not; the pieces make up the whole line."""

    pieces: tuple[Piece, ...]
    due_date: date | None = None
    due_time: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return " ".join(piece.text for piece in self.pieces if piece.kind == "text")

    @property
    def category(self) -> str | None:
        return _said(self.pieces, "category")  # type: ignore[return-value]  # a name

    @property
    def priority(self) -> int | None:
        return _said(self.pieces, "priority")  # type: ignore[return-value]  # 0 to 3


def parse(text: str, now: date, first_weekday: int = 0, *, month_first: bool = False) -> Parsed:
    """Parse a line at the viewer's local time ``now``, with weeks that begin on ``first_weekday`` (0 is Monday).

    If ``now`` is a date without a time, "in 2h" is not understood. ``month_first`` reads 12/05 as 5 December.
    """
    here, notes = Here(now, first_weekday, month_first), list[str]()
    pieces = _placed(list(_pieces(_TOKEN.findall(text), here, notes)), notes)
    for kind in _NAMES:
        pieces = _in_one_way(pieces, kind, notes)
    pieces, day = _one_day(pieces, notes)
    time = _said(pieces, "time")
    if time and day is None:
        if any(piece.daylike for piece in pieces):
            notes += [f"“{piece.text}” stays in the title: it has no day." for piece in pieces if piece.kind == "time"]
            return Parsed(_as_text(pieces, "time"), notes=tuple(notes))
        day = Day(here.today)
    if day is None:
        return Parsed(tuple(pieces), notes=tuple(notes))
    at = str(time) if time else day.time
    notes += _past(day.date, at, here)
    return Parsed(tuple(pieces), day.date, at, tuple(notes))


def _past(day: date, time: str | None, here: Here) -> list[str]:
    """Return a note if the due time has passed: "5pm" means today even in the evening."""
    if day < here.today:
        return ["This day has already passed."]
    if day == here.today and time and isinstance(here.now, datetime) and time < f"{here.now:%H:%M}":
        return [f"{time} has already passed today: add “tomorrow” for the next one."]
    return []


def _pieces(words: list[str], here: Here, notes: list[str]) -> Iterator[Piece]:
    index = 0
    while index < len(words):
        rest = words[index : index + _AHEAD + 1]
        found = _understood(rest, _bare(words[index - 1]) if index else "", here)
        if found is None:
            plain = _unescaped(rest, here)
            yield Piece(plain, daylike=plain is rest[0] and _is_daylike(plain))
            index += 1
            continue
        piece, count, why = found
        if why:
            notes.append(f"“{piece.text}” stays in the title: {why}.")
        yield piece
        index += count


def _understood(words: list[str], before: str, here: Here) -> tuple[Piece, int, str] | None:
    """Return what the next words mean (the piece, its number of words, why it is not valid); None for plain text."""
    bare = [_bare(word) for word in words]
    time = quick_times.read(bare)
    if time:
        text, kind = " ".join(words[: time.words]), "text" if time.why else "time"
        return Piece(text, kind, time.time or None, bare=time.bare), time.words, time.why
    day = quick_days.read(bare, before, here)
    if day:
        text = " ".join(words[: day.words])
        return Piece(text, "date" if day.day else "text", day.day or day.why, daylike=not day.day), day.words, day.why
    mark = _mark(words[0])
    return (mark, 1, "") if mark else None


def _mark(word: str) -> Piece | None:
    """Parse a category or a priority."""
    bare = word.rstrip(_STOPS)
    priority, rank, category = _PRIORITY.fullmatch(bare), _RANK.fullmatch(bare), _CATEGORY.fullmatch(bare)
    if priority or rank:
        return Piece(word, "priority", int(priority[1]) if priority else 4 - int(rank[1]) if rank else None)
    if not category:
        return None
    name = " ".join((category[1] or category[2]).split())
    # "#12" is an issue or a house number, and a category needs a visible name.
    known = len(name) <= NAME_MAX and is_visible(name) and not name.isdecimal() and 0 < len(fold(name)) <= _FOLD_MAX
    return Piece(word, "category", name) if known else None


def _placed(pieces: list[Piece], notes: list[str]) -> list[Piece]:
    """Accept a bare 3:16 as a time only at the beginning of the line, or next to a day or another time."""
    told = [at for at, piece in enumerate(pieces) if piece.kind not in ("category", "priority")]
    said = [pieces[at].kind == "date" or (pieces[at].kind == "time" and not pieces[at].bare) for at in told]
    placed = list(pieces)
    for place, at in enumerate(told):
        if pieces[at].bare and place > 0 and not any(said[place - 1 : place + 2]):
            placed[at] = Piece(pieces[at].text)
            if quick_times.is_round(_bare(pieces[at].text)):
                notes.append(f"“{pieces[at].text}” stays in the title: {quick_times.NO_PLACE}.")
    return placed


def _in_one_way(pieces: list[Piece], kind: str, notes: list[str]) -> list[Piece]:
    """Turn contradictory pieces of one kind back into text."""
    found = [piece for piece in pieces if piece.kind == kind]
    if len({_same(piece) for piece in found}) < 2:
        return pieces
    notes.append(f"{_listed(found)} stay in the title: these are different {_NAMES[kind]}.")
    return list(_as_text(pieces, kind))


def _one_day(pieces: list[Piece], notes: list[str]) -> tuple[list[Piece], Day | None]:
    """Find the day on which all day words agree; if they disagree, turn them back into text."""
    found = [piece for piece in pieces if piece.kind == "date"]
    days = [piece.value for piece in found if isinstance(piece.value, Day)]
    if not days:
        return pieces, None
    meant = quick_days.agreed(days)
    if all(day.weekday is not None for day in days) and _is_beside_no_day(pieces):
        notes.append(f"{_listed(found)} stays in the title: the words next to it are not a day.")
        return _no_day(pieces), None
    if isinstance(meant, Day):
        return [replace(piece, value=meant.date) if piece.kind == "date" else piece for piece in pieces], meant
    notes.append(f"{_listed(found)} stay in the title: {meant}.")
    return _no_day(pieces), None


def _is_beside_no_day(pieces: list[Piece]) -> bool:
    """Tell whether an impossible date is next to a weekday, as in "Fri 30 Feb", which is then not a Friday either."""
    told = [piece for piece in pieces if piece.kind not in ("category", "priority")]
    unclear = [piece.daylike and piece.value in (NO_SUCH_DAY, NO_MONTH, NO_DAY) for piece in told]
    return any(piece.kind == "date" and any(unclear[max(0, at - 1) : at + 2]) for at, piece in enumerate(told))


def _no_day(pieces: list[Piece]) -> list[Piece]:
    return [Piece(piece.text, daylike=True) if piece.kind == "date" else piece for piece in pieces]


def _as_text(pieces: list[Piece], kind: str) -> tuple[Piece, ...]:
    return tuple(Piece(piece.text) if piece.kind == kind else piece for piece in pieces)


def _said(pieces: tuple[Piece, ...] | list[Piece], kind: str) -> object:
    return next((piece.value for piece in pieces if piece.kind == kind), None)


def _same(piece: Piece) -> object:
    return fold(str(piece.value)) if piece.kind == "category" else piece.value


def _listed(pieces: list[Piece]) -> str:
    quoted = [f"“{piece.text}”" for piece in pieces]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def _is_daylike(word: str) -> bool:
    """Tell whether a word of the title looks like a day ("Friday's", "wensday") and is not in quotes."""
    small = word.lower()
    if word[0] in '"“' or _DAYLIKE.search(small):
        return word[0] not in '"“'
    return bool(difflib.get_close_matches(small[:_CLOSE_MAX], quick_days.WEEKDAYS, n=1, cutoff=_CLOSE))


def _bare(word: str) -> str:
    """Return a word in lower case without the punctuation after it; "3.3." keeps its last dot."""
    small = word.lower()
    bare = small.rstrip(_STOPS)
    return f"{bare}." if small[len(bare) :].startswith(".") and re.fullmatch(r"\d{1,2}\.\d{1,2}", bare) else bare


def _unescaped(words: list[str], here: Here) -> str:
    """Remove the backslash from a word that would have a meaning without it."""
    word = words[0]
    if not word.startswith("\\") or len(word) < 2:
        return word
    plain = word[1:]
    escaped = plain[0] in '#!"“' or _understood([plain, *words[1:]], "", here) or _is_daylike(plain)
    return plain if escaped else word
