"""Show moments, days and sizes to people, in the viewer's own time zone (``web/display/clock.py``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from flask import Flask
from markupsafe import Markup, escape

from web.display import clock
from web.display.calendar_names import MONTHS, WEEKDAYS

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_AGES = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
_OLD_DAYS = 30
_CODE = re.compile(r"`([^`]+)(?:`|(?=…$))")
"""Text in backticks; a message that was shortened may have lost the closing one."""

FIELD_WORDS = {
    "db_host": "the host",
    "db_port": "the port",
    "db_name": "the database name",
    "db_user": "the user",
    "db_password": "the password",
    "db_type": "the type",
    "db_path": "the file",
    "db_options": "the options",
}
"""What pages call the columns that messages of the layers below name."""
_COLUMN = re.compile(rf"(?<![\w.@-])({'|'.join(FIELD_WORDS)})(?![\w@-]|\.\w|\s*=)")
"""A column's name as a word of its own, and not in an address such as ``db_user@example.org``."""


def register(app: Flask) -> None:
    """Register the filters for templates."""
    for show in (iso, moment, wall, span, when, day, short_day, weekday, ago, size, prose):
        app.add_template_filter(show)


def iso(value: datetime) -> str:
    """Format a time for programs: ISO 8601 in UTC, whole seconds."""
    return clock.local(value, clock.zone_of("UTC")).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def moment(value: datetime) -> str:
    """Format a time for people: ``3 Mar 2026, 09:05``."""
    return f"{day(clock.local(value))}, {wall(value)}"


def wall(value: datetime) -> str:
    """Format the time of day alone: ``09:05``, or ``02:30 CET`` if that local time occurs twice."""
    there = clock.local(value)
    return f"{there:%H:%M} {there.tzname()}" if clock.is_twice(there) else f"{there:%H:%M}"


def span(start: datetime, end: datetime | None) -> str:
    """Format a beginning and an end; if both are on the same day, it is named once."""
    if end is None:
        return moment(start)
    if clock.local(start).date() != clock.local(end).date():
        return f"{moment(start)} to {moment(end)}"
    return f"{moment(start)} to {wall(end)}"


def when(event: Mapping[str, Any]) -> str:
    """Format the time of an event: ``Mon 2 Mar 2026, 09:05 to 10:00``, or its days if it lasts all day."""
    starts_at, ends_at = event["starts_at"], event["ends_at"]
    if starts_at is None:
        return "No date"
    if not event["all_day"]:
        return f"{weekday(clock.local(starts_at))} {span(starts_at, ends_at)}"
    first, last = (each.astimezone(UTC).date() for each in (starts_at, ends_at or starts_at))
    until = f" to {weekday(last)} {day(last)}" if last != first else ""
    return f"{weekday(first)} {day(first)}{until}, all day"


def day(value: date) -> str:
    """Format a day for people: ``3 Mar 2026``, whatever the server's locale."""
    return f"{value.day} {MONTHS[value.month - 1][:3]} {value.year}"


def short_day(value: date, today: date) -> str:
    """Return a day for people: ``Tue 3 Mar``, with its year (``Sat 3 Apr 2027``) unless that is this year."""
    shown = f"{weekday(value)} {day(value)}"
    return shown.removesuffix(f" {value.year}") if value.year == today.year else shown


def weekday(value: date) -> str:
    """Return the short name of a day of the week: ``Tue``."""
    return WEEKDAYS[value.weekday()][:3]


def ago(value: datetime) -> str:
    """Say how long ago a time was: ``5 minutes ago``; beyond a month, or in the future, return the day."""
    seconds = (datetime.now(UTC) - value).total_seconds()
    if not -60 < seconds < _OLD_DAYS * 86_400:
        return day(clock.local(value))
    for length, unit in _AGES:
        count = int(seconds // length)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def size(value: int | None) -> str:
    """Format a number of bytes for people: ``116 KiB``."""
    if value is None:
        return "unknown"
    amount, unit = float(value), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit < 2 else f"{amount:.1f} {_UNITS[unit]}"


def sentence(text: str) -> str:
    """Turn a message of the layers below into a sentence of a page: no column names, a capital letter first."""
    plain = _COLUMN.sub(lambda found: FIELD_WORDS[found[0]], text)
    return plain[:1].upper() + plain[1:]


def prose(text: str) -> Markup:
    """Return a message of the layers below as HTML: a sentence, with what is in backticks set as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(sentence(text)))))  # noqa: S704 - escaped before
