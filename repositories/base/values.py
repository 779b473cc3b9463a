"""Check values before they are written: each check returns the value as every product stores it, or refuses it.

A check takes a value and the name of its field, and raises ConfigurationError(field=...). What any product would refuse
or change (NUL, lone surrogates, too long a text, a number out of range, a time without a zone) is refused for all.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Container
from datetime import UTC, date, datetime
from typing import Any

from tenancy.errors import ConfigurationError
from tenancy.names import is_visible, storable

TEXT_MAX = 1_000_000
"""The longest text in characters: below MySQL's default limit of a packet."""

Check = Callable[[object, str], Any]
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_COLOR = re.compile(r"#[0-9a-f]{6}")


def refuse(field: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{field} {why}", field=field)


def text(maximum: int = TEXT_MAX) -> Check:
    """Accept text of up to ``maximum`` characters."""

    def check(value: object, field: str) -> str:
        if not isinstance(value, str):
            raise refuse(field, "must be text.")
        if len(value) > maximum:
            raise refuse(field, f"must have at most {maximum} characters.")
        return storable(value, field)

    return check


def line(maximum: int) -> Check:
    """Accept text that has a visible character."""
    plain = text(maximum)

    def check(value: object, field: str) -> str:
        checked: str = plain(value, field)
        if not is_visible(checked):
            raise refuse(field, "must not be empty.")
        return checked

    return check


def optional(check: Check) -> Check:
    def checked(value: object, field: str) -> Any:
        return None if value is None else check(value, field)

    return checked


def one_of(words: Container[str], shown: str) -> Check:
    def check(value: object, field: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise refuse(field, f"must be one of {shown}.")
        return value

    return check


def whole(least: int, most: int) -> Check:
    def check(value: object, field: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise refuse(field, f"must be a whole number from {least} to {most}.")
        return value

    return check


def flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise refuse(field, "must be true or false.")
    return value


def flag_as_number(value: object, field: str) -> int:
    """Accept a flag, as the number that CASE expressions return on every product."""
    return int(flag(value, field))


def day(value: object, field: str) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise refuse(field, "must be a date.")
    return value


def clock(value: object, field: str) -> str:
    """Accept a time of day in the form HH:MM."""
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise refuse(field, "must be a time like 09:30.")
    return value


def moment(value: object, field: str) -> datetime:
    """Accept a time with a time zone, and return it in UTC."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise refuse(field, "must be a moment with a time zone.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise refuse(field, "lies outside the years 1 to 9999.") from None


def row_id(value: object, field: str) -> uuid.UUID:
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)  # type: ignore[arg-type]  # other types fail in the except clause
    except (AttributeError, TypeError, ValueError):
        raise refuse(field, "must be a UUID.") from None


def color(value: object, field: str) -> str:
    if not isinstance(value, str) or not _COLOR.fullmatch(value.lower()):
        raise refuse(field, "must be a color like #1a2b3c.")
    return value.lower()
