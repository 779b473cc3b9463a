"""Say how the viewer wishes to be shown things: time zone, start of the week, theme, keyboard shortcuts.

The wishes are short texts of the account, which arrive with whoever asks: reading them is no statement. What was
stored and means nothing here (any more) counts as not chosen.
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
"""Say which comes first where a date is written in figures, as 12/05."""

THEMES: tuple[Theme, ...] = ("system", "light", "dark")
_NO_PLACES = frozenset({"Factory", "localtime"})
"""Name what the zone database holds beside zones; what is "local" hangs on the server."""


@dataclass(frozen=True)
class Preferences:
    """Hold one viewer's wishes; the defaults are those of visitors. ``chosen_zone`` says that the zone is a choice."""

    time_zone: str = "UTC"
    week_start: WeekStart = "monday"
    theme: Theme = "system"
    shortcuts: bool = True
    chosen_zone: bool = False
    day_order: DayOrder = "day"

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> Self:
        """Read an account's stored texts; each that is missing or broken leaves its default."""
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
    """Give the viewer's wishes; the page that says that the catalog is down is shown as to a visitor."""
    try:
        principal = current_principal()
    except TenancyError:
        return Preferences()
    return Preferences.of(principal.user.preferences) if principal else Preferences()


def is_zone(name: str) -> bool:
    """Tell whether this is the name of a time zone; nothing is looked up by a name that is not."""
    return name in _zones()


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - _NO_PLACES
