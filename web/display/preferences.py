"""Read the viewer's preferences: time zone, start of the week, date order, theme, keyboard shortcuts.

Preferences are short texts of the account and are read along with it, so they take no query of their own. A stored
value that is not valid (any more) counts as not chosen.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, Self

from tenancy.errors import TenancyError
from web.auth.sessions import current_principal

WeekStart = Literal["monday", "sunday", "saturday"]
Theme = Literal["system", "light", "dark"]
DayOrder = Literal["day", "month"]

WEEK_STARTS: tuple[WeekStart, ...] = ("monday", "sunday", "saturday")
DAY_ORDERS: tuple[DayOrder, ...] = ("day", "month")
"""Which comes first in a numeric date such as 12/05."""

THEMES: tuple[Theme, ...] = ("system", "light", "dark")
_NO_PLACES = frozenset({"Factory", "localtime"})
"""Entries of the zone database that are not places; "localtime" depends on the server."""


@dataclass(frozen=True)
class Preferences:
    """One viewer's preferences; visitors have the defaults. ``chosen_zone`` says that the user chose the time zone."""

    time_zone: str = "UTC"
    week_start: WeekStart = "monday"
    theme: Theme = "system"
    shortcuts: bool = True
    chosen_zone: bool = False
    day_order: DayOrder = "day"

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> Self:
        """Read an account's stored texts; one that is missing or invalid leaves the default."""
        zone, week, theme = (stored.get(key, "") for key in ("time_zone", "week_start", "theme"))
        order = stored.get("day_order", "")
        chosen = is_zone(zone)
        return cls(
            time_zone=zone if chosen else "UTC",
            week_start=week if week in WEEK_STARTS else "monday",
            theme=theme if theme in THEMES else "system",
            shortcuts=stored.get("shortcuts") != "off",
            chosen_zone=chosen,
            day_order=order if order in DAY_ORDERS else "day",
        )


def current() -> Preferences:
    """Return the viewer's preferences; the defaults if the catalog is down."""
    try:
        principal = current_principal()
    except TenancyError:
        return Preferences()
    return Preferences.of(principal.user.preferences) if principal else Preferences()


def is_zone(name: str) -> bool:
    """Tell whether this is the name of a time zone, without a lookup by an untrusted name."""
    return name in _zones()


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NO_PLACES
