"""Parse a time of day: "17:00", "at 9:30", "5pm", "5 pm", "17h", "noon"."""

from __future__ import annotations

import re
from typing import NamedTuple

_LEADS = frozenset({"at", "by", "before", "until"})
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
_HOUR = re.compile(r"(1[3-9]|2\d)h|(\d{1,2})h(\d{2})", re.ASCII)
"""17h and 8h30; a small number of hours alone may be a duration."""

_ROUND = re.compile(r"\d{1,2}:[03]0", re.ASCII)
_HALF = re.compile(r"(\d{1,2})(?:[:.](\d{2}))?(am|pm)", re.ASCII)


NO_SUCH_TIME = "there is no such time"
NO_PLACE = "write “at” before it to make it the time"


class Reading(NamedTuple):
    """The number of words read, and the time; a ``bare`` h:mm is only a time in certain places of the line.

    Words that look like a time but are not have an empty time, and ``why`` says the reason.
    """

    words: int
    time: str
    bare: bool = False
    why: str = ""


def read(words: list[str]) -> Reading | None:
    """Parse a time at the beginning of some words."""
    if words[0] in _LEADS and len(words) > 1:
        led = _plain(words[1:])
        return led and led._replace(words=led.words + 1, bare=False)
    found = _plain(words)
    return None if found and found.why and not is_round(words[0]) else found


def is_round(word: str) -> bool:
    """Tell whether a bare h:mm is a likely time ("17:00") rather than a verse ("John 3:16")."""
    return bool(_ROUND.fullmatch(word))


def _plain(words: list[str]) -> Reading | None:
    if words[0] == "noon":
        return Reading(1, "12:00")
    for count in (1, 2):
        half = _HALF.fullmatch("".join(words[:count]))
        if half and len(words) >= count and 1 <= int(half[1]) <= 12:
            return _checked(int(half[1]) % 12 + (12 if half[3] == "pm" else 0), int(half[2] or 0), count)
    hour = _HOUR.fullmatch(words[0])
    if hour:
        return _checked(int(hour[1] or hour[2]), int(hour[3] or 0), 1)
    clock = _CLOCK.fullmatch(words[0])
    if not clock:
        return None
    found = _checked(int(clock[1]), int(clock[2]), 1)
    return found._replace(bare=True) if found else Reading(1, "", why=NO_SUCH_TIME)


def _checked(hour: int, minute: int, count: int) -> Reading | None:
    return Reading(count, f"{hour:02}:{minute:02}") if hour < 24 and minute < 60 else None
