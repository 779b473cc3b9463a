"""Parse how a fleet run is rolled out, from a command line or a form: numbers and percentages of tenants."""

from __future__ import annotations

import re
from itertools import pairwise

from tenancy.errors import ConfigurationError

_SHARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(%?)")
_PERCENTAGE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3})?%")
_SHOWN = 64


def share(text: str, field: str = "halt_after") -> tuple[float, bool]:
    """Return the number, and whether it is a percentage: 5 is (5, False), 2% is (2, True)."""
    found = _SHARE.fullmatch(text.strip())
    percent = bool(found and found[2])
    number = float(found[1]) if found else 0.0
    if not found or number <= 0 or (percent and number > 100) or (not percent and number != int(number)):
        message = f"{text[:_SHOWN]!r} is neither a number of tenants, such as 5, nor a percentage, such as 2%."
        raise ConfigurationError(message, field=field)
    return number, percent


def waves(text: str, field: str = "waves") -> tuple[float, ...]:
    """Return increasing percentages such as 1%,10%,100%; 100 is appended if missing."""
    typed = [part.strip() for part in text.split(",")]
    numbers = tuple(float(part[:-1]) for part in typed if _PERCENTAGE.fullmatch(part))
    grows = all(one < other for one, other in pairwise(numbers))
    if len(numbers) != len(typed) or not grows or numbers[0] <= 0 or numbers[-1] > 100:
        message = f"{text[:_SHOWN]!r} is not a list of increasing percentages such as 1%,10%,100%."
        raise ConfigurationError(message, field=field)
    return numbers if numbers[-1] == 100 else (*numbers, 100.0)
