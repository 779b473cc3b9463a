"""Edit a user's display name and preferences (``web/display/preferences.py`` applies them)."""

from __future__ import annotations

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.errors import ConfigurationError
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display import clock, preferences
from web.display.preferences import Preferences
from web.display.template_filters import moment, sentence
from web.pages.account.database import database_status
from web.pages.account.layout import blueprint, show
from web.pages.common.flash import say
from web.pages.common.forms import Choices, Field, Form
from web.parts import current_parts

NAME_MAX = 100
CHOSEN = ("time_zone", "week_start", "day_order", "theme")
WEEK_STARTS = tuple((day, day.capitalize()) for day in preferences.WEEK_STARTS)
DAY_ORDERS = (("day", "12/05 is 12 May"), ("month", "12/05 is 5 December"))
THEMES = (("system", "System"), ("light", "Light"), ("dark", "Dark"))


@blueprint.get("")
@page_login_required
def index() -> ResponseReturnValue:
    """Show the preferences, and what is wrong with the database, if anything is."""
    return _page(_blank())


@blueprint.post("/you")
@page_login_required
def change() -> ResponseReturnValue:
    """Save the preferences; if one is invalid, nothing changes."""
    form = Form.posted("you", _fields(), request.form)
    _check(form)
    if not form.errors:
        _store(form)
    if form.errors:
        return _page(form), 422
    say("Your settings are saved.")
    return redirect(url_for("settings.index"), 303)


def _page(form: Form) -> str:
    principal = signed_in()
    return show("index", form=form, chosen=preferences.current(), database=database_status(principal))


def _fields() -> tuple[Field, ...]:
    return (
        Field(
            "display_name",
            "Display name",
            max_length=NAME_MAX,
            autocomplete="name",
            hint="Shown on every page.",
        ),
        Field(
            "time_zone", "Time zone", "select", choices=_zones(), hint=f"Your local time is now {moment(clock.now())}."
        ),
        Field("week_start", "Weeks begin on", "select", choices=WEEK_STARTS),
        Field(
            "day_order", "Numeric dates", "select", choices=DAY_ORDERS, hint="How quick add reads dates such as 12/05."
        ),
        Field("theme", "Colours", "select", choices=THEMES),
        Field("shortcuts", "Keyboard shortcuts", "checkbox", hint="Press ? on any page to see them."),
    )


def _zones() -> Choices:
    """Return the time zones to choose from, always including the user's own, which may be an older name."""
    names, own = clock.zone_names(), preferences.current()
    listed = names if own.time_zone in names else (own.time_zone, *names)
    none = [] if own.chosen_zone else [("", "Not chosen yet")]
    return none + [(name, name.replace("_", " ")) for name in listed]


def _blank() -> Form:
    return Form.blank("you", _fields(), display_name=signed_in().user.display_name, **_texts(preferences.current()))


def _texts(chosen: Preferences) -> dict[str, str]:
    """Return the preferences as form values."""
    zone = chosen.time_zone if chosen.chosen_zone else ""
    texts = {"time_zone": zone, "week_start": chosen.week_start, "day_order": chosen.day_order, "theme": chosen.theme}
    return texts | ({"shortcuts": "1"} if chosen.shortcuts else {})


def _check(form: Form) -> None:
    """Refuse a value that is not offered, and show the present one in its place."""
    before = _texts(preferences.current())
    for spec in form.fields:
        offered = {key for key, _ in spec.choices}
        if offered and form.values.get(spec.name) not in offered:
            form.refuse(spec.name, "Choose one from the list.")
            form.values[spec.name] = before[spec.name]


def _store(form: Form) -> None:
    """Save the name, then the preferences; if the name is refused, neither changes."""
    accounts, user = current_parts().accounts, signed_in().user
    name = form.values.get("display_name", "")
    try:
        if name != user.display_name:
            accounts.rename(user.id, name)
    except ConfigurationError as error:
        form.refuse("display_name", sentence(error.message))
        return
    chosen = {key: form.values[key] or None for key in CHOSEN}
    accounts.set_preferences(user.id, chosen | {"shortcuts": "on" if form.values.get("shortcuts") else "off"})
