"""Show moments, days and sizes to people. Times are UTC everywhere, and say so."""

from __future__ import annotations

from datetime import UTC, date, datetime

from flask import Flask

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def register(app: Flask) -> None:
    """Give the templates their filters."""
    for show in (iso, moment, span, day, size, sentence):
        app.add_template_filter(show)


def iso(value: datetime) -> str:
    """Give a moment for programs: ISO 8601 in UTC, whole seconds."""
    return value.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def moment(value: datetime) -> str:
    """Give a moment for people: ``3 Mar 2026, 09:05 UTC``."""
    there = value.astimezone(UTC)
    return f"{day(there)}, {there:%H:%M} UTC"


def span(start: datetime, end: datetime | None) -> str:
    """Give when something begins and ends; a day both share is named once."""
    if end is None:
        return moment(start)
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    if first.date() != last.date():
        return f"{day(first)}, {first:%H:%M} to {moment(last)}"
    return f"{day(first)}, {first:%H:%M} to {last:%H:%M} UTC"


def day(value: date) -> str:
    """Give a day for people: ``3 Mar 2026``. The names do not hang on the server's locale."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def size(value: int | None) -> str:
    """Give a number of bytes for people: ``116 KiB``."""
    if value is None:
        return "unknown"
    amount, unit = float(value), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit < 2 else f"{amount:.1f} {_UNITS[unit]}"


def sentence(text: str) -> str:
    """Begin a message with a capital letter; those of the layers below begin small."""
    return text[:1].upper() + text[1:]
