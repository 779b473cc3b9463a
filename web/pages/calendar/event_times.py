"""Convert the times of a posted event form to the viewer's time zone, before ``common/rows.py`` reads the form.

Forms are read in the viewer's time zone. If an event form names another zone, its times are converted here, and the
exact moments are added in hidden fields, as forms do for stored values (``<name>.was``). For all-day events only the
dates are kept.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import request
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from werkzeug.datastructures import ImmutableMultiDict

from web.auth.guards import page_login_required
from web.auth.sessions import current_principal
from web.display import clock
from web.pages.common import rows
from web.pages.common.forms import WAS, Form
from web.pages.common.resources import EVENTS
from web.parts import current_parts

TIMES = ("starts_at", "ends_at")
WRITES = ("pages.events_create", "pages.events_update")
_WHOLE_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[Tt ].*)?", re.ASCII | re.DOTALL)


@rows.blueprint.app_template_global("own_zone")
def own_zone() -> str:
    return clock.zone().key


@rows.blueprint.app_template_global("zone_options")
@cache
def options() -> Markup:
    """Render the time zones as options of a select; they are the same on every page, so this is cached."""
    return Markup("\n").join(Markup("<option>{}</option>").format(name) for name in clock.zone_names())


@rows.blueprint.before_request
def to_utc() -> ResponseReturnValue | None:
    """Convert a posted event's times to the viewer's time zone; show the form again if a time does not exist."""
    # Somebody whose session has ended gets the form back as it was typed, once signed in.
    if request.method != "POST" or request.endpoint not in WRITES or current_principal() is None:
        return None
    form, errors = request.form.to_dict(), {}
    if form.get("all_day"):
        form |= {name: _whole_day(form[name]) for name in TIMES if name in form}
    elif form.get("zone"):
        errors = _turn(form, form["zone"])
    if errors:
        return _refused(form, errors)
    request.form = ImmutableMultiDict(form)
    return None


def _whole_day(text: str) -> str:
    found = _WHOLE_DAY.fullmatch(text.strip())
    return f"{found[1]}T00:00" if found else text


def _turn(form: dict[str, str], name: str) -> dict[str, str]:
    """Convert the times of a form from ``zone`` to the viewer's time zone; return errors by field."""
    if name not in clock.zone_names():
        return {"zone": "Choose one from the list."}
    there = ZoneInfo(name)
    errors: dict[str, str] = {}
    turned: dict[str, str] = {}
    for field in TIMES:
        try:
            moment = _moment(form.get(field, ""), there)
        except clock.NoSuchTime as error:
            errors[field] = str(error)
            continue
        if moment:
            shown = clock.local(moment).replace(tzinfo=None)
            turned |= {field: shown.isoformat(timespec="minutes"), field + WAS: moment.isoformat()}
    # A form with an error stays by the clock it was filled in by.
    form.update({} if errors else turned)
    return errors


def _moment(text: str, there: ZoneInfo) -> datetime | None:
    """Convert a text to a moment; None for text that the form's model has to refuse."""
    try:
        shown = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return None if shown.tzinfo else clock.utc(shown, there).astimezone(UTC)


@page_login_required
def _refused(form: dict[str, str], errors: dict[str, str]) -> ResponseReturnValue:
    """Show the form again on the page it was on."""
    row_id: UUID | None = (request.view_args or {}).get("row_id")
    shown = Form.posted("events", EVENTS.fields, form, "id", "version", "zone")
    shown.errors.update(errors)
    if row_id is None:
        return rows.LISTS["events"](EVENTS, shown), 422  # type: ignore[return-value]  # a page is text
    with current_parts().manager.session() as session:
        rows.of("events", session).get(row_id)
    return rows.edit_page(EVENTS, row_id, shown), 422
