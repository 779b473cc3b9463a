"""Edit the named values in the user's database that programs use through ``/api/v1/settings``.

The page of a value carries the version it showed, so that saving or deleting never overwrites a change that the user
has not seen.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from repositories.errors import ConflictError, StaleVersionError
from repositories.repository_factory import RepositoryFactory
from tenancy.errors import ConfigurationError, TenancyError
from tenancy.models import READABLE
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display.template_filters import sentence
from web.http import cursors
from web.pages.account.database import database_status
from web.pages.account.layout import PAGE, Rows, blueprint, show
from web.pages.common import rows as row_pages
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.parts import current_parts
from web.schemas import SETTING_KEY_MAX, SettingPut

VALUE = Field("value", "Value", "textarea", wide=True, raw=True)
NEW_VALUE = (
    Field(
        "key",
        "Key",
        required=True,
        max_length=SETTING_KEY_MAX,
        hint="A lowercase letter, followed by a-z, 0-9, dots, dashes and underscores.",
    ),
    VALUE,
)


@blueprint.get("/values")
@page_login_required
def values() -> ResponseReturnValue:
    """List the stored values, oldest first."""
    return _page(Form.blank("value", NEW_VALUE))


@blueprint.post("")
@page_login_required
def add_value() -> ResponseReturnValue:
    """Add a value under a new key; an existing value is changed on its own page."""
    form = Form.posted("value", NEW_VALUE, request.form)
    body = _value(form)
    if body is not None:
        try:
            _create_value(form.values.get("key", "").strip(), body.value)
        except (ConflictError, ConfigurationError) as error:
            form.refuse(error.field, sentence(error.message))
    if form.errors:
        return _page(form), 422
    say("The value has been saved.")
    return redirect(url_for("settings.values"), 303)


@blueprint.get("/values/<key>")
@page_login_required
def value(key: str) -> ResponseReturnValue:
    """Show the form of one value."""
    with current_parts().manager.session() as session:
        row = _values(session).get(key)
    return show("values", "value", key=key, form=Form.stored("value", (VALUE,), row, version=str(row["version"])))


@blueprint.post("/values/<key>")
@page_login_required
def change_value(key: str) -> ResponseReturnValue:
    """Change one value if it is still as its page showed it."""
    form = Form.posted("value", (VALUE,), request.form, "version")
    body = _value(form)
    if body is not None and row_pages.changing(form, "value", partial(_change_value, key, body.value)):
        say("The value has been saved.")
        return redirect(url_for("settings.values"), 303)
    with current_parts().manager.session() as session:
        _values(session).get(key)
    return show("values", "value", key=key, form=form), 422


@blueprint.post("/values/<key>/delete")
@page_login_required
def delete_value(key: str) -> ResponseReturnValue:
    """Delete one value if it is still as its page showed it; values do not go to the bin."""
    try:
        with current_parts().manager.session(write=True) as session:
            _values(session).delete(key, if_version=row_pages.seen_version(request.form.get("version", "")))
    except StaleVersionError:
        say("This value was changed elsewhere, so it was not deleted: check it first.", "bad")
        return redirect(url_for("settings.value", key=key), 303)
    say("The value has been deleted.")
    return redirect(url_for("settings.values"), 303)


def _page(form: Form) -> str:
    database = database_status(signed_in())
    rows, next_url = _stored_values(database)
    first_url = url_for("settings.values") if request.args.get("cursor") else None
    return show("values", form=form, database=database, rows=rows, next_url=next_url, first_url=first_url)


def _stored_values(database: dict[str, Any]) -> tuple[Rows | None, str | None]:
    """Return a page of stored values and the URL of the next; (None, None) if the database does not answer."""
    principal = signed_in()
    if principal.tenant is None or principal.tenant.state not in READABLE:
        return None, None
    bound: dict[str, Any] = {"user_id": principal.user.id, "scope": ("page", "settings")}
    cursor = request.args.get("cursor")
    after = _after(cursors.read(cursor, **bound)) if cursor else None
    try:
        with current_parts().manager.session() as session:
            rows = _values(session).list(limit=PAGE + 1, after=after)
    except TenancyError as error:
        database["problem"] = database["problem"] or error.message
        return None, None
    if len(rows) <= PAGE:
        return rows, None
    more = cursors.write(cursors.row_place(rows[PAGE - 1] | {"id": rows[PAGE - 1]["key"]}), **bound)
    return rows[:PAGE], url_for("settings.values", cursor=more)


def _after(place: list[Any]) -> tuple[datetime, str]:
    """Return the position in a cursor; a key stays text even if it looks like a UUID."""
    return cursors.EPOCH + place[0] * cursors.MICROSECOND, place[1]


def _value(form: Form) -> SettingPut | None:
    """Validate the value alone; the repository validates its key."""
    return Form(form.name, (VALUE,), form.values, form.errors).validate(SettingPut)


def _create_value(key: str, text: str) -> None:
    with current_parts().manager.session(write=True) as session:
        values = _values(session)
        try:
            values.create({"key": key, "value": text})
        except ConflictError:
            # The same form may have been sent twice; the second finds the value already there.
            if values.get(key)["value"] != text:
                raise


def _change_value(key: str, text: str, session: Session, seen: int) -> None:
    _values(session).update(key, {"value": text}, if_version=seen)


def _values(session: Session) -> Any:
    return RepositoryFactory.get_repository("settings", session, signed_in().user.id)
