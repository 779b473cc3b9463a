"""Read the times of a form in the time zone that the form names, or as the days of an all-day event.

Forms are read in the viewer's time zone (``forms.py``). If a form names another zone, its times are converted to the
viewer's here, and the exact moments are kept beside them, as forms do for stored values (``<name>.was``). For all-day
events only the dates are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from web.display import clock

WAS = ".was"
ZONE = "zone"
_WHOLE_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[Tt ].*)?", re.ASCII | re.DOTALL)


def convert(values: dict[str, str], was: dict[str, str], times: Sequence[str]) -> dict[str, str]:
    """Convert the named times and forget the zone; where one is wrong, convert none and return the errors."""
    if values.get("all_day"):
        values.update({name: _whole_day(values[name]) for name in times if name in values})
    elif values.get(ZONE):
        errors = _convert_from(values, was, times)
        if errors:  # the form stays in the zone it was filled in
            return errors
    values.pop(ZONE, None)
    return {}


def _whole_day(text: str) -> str:
    found = _WHOLE_DAY.fullmatch(text.strip())
    return f"{found[1]}T00:00" if found else text


def _convert_from(values: dict[str, str], was: dict[str, str], times: Sequence[str]) -> dict[str, str]:
    if values[ZONE] not in clock.zone_names():
        return {ZONE: "Choose one from the list."}
    there = ZoneInfo(values[ZONE])
    errors, moments = {}, {}
    for name in times:
        try:
            moments[name] = _moment(values.get(name, ""), there)
        except clock.NoSuchTime as error:
            errors[name] = str(error)
    if not errors:
        for name, moment in moments.items():
            if moment:
                values[name] = clock.local(moment).replace(tzinfo=None).isoformat(timespec="minutes")
                was[name + WAS] = moment.isoformat()
    return errors


def _moment(text: str, there: ZoneInfo) -> datetime | None:
    """Return the moment that a text means, or None if the form's model is to judge the text."""
    try:
        shown = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return None if shown.tzinfo else clock.utc(shown, there).astimezone(UTC)
