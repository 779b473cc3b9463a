"""Show a user's own account: their database, password, sessions, API keys and stored values.

This page answers whatever state the user's database is in: here one reads what is wrong with it and tries again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from repositories.errors import ConflictError
from repositories.repository_factory import RepositoryFactory
from tenancy.errors import BadCredentialsError, ConfigurationError, PasswordTooWeakError, TenancyError
from tenancy.models import READABLE, Principal, State
from web import cursors, metrics
from web.auth import page_login_required, session_token, signed_in
from web.pages.filters import sentence
from web.pages.forms import Field, Form
from web.parts import current_parts
from web.schemas import KEY_NAME_MAX, SETTING_KEY_MAX, KeyCreate, SettingPut

blueprint = Blueprint("settings", __name__, url_prefix="/settings")

PAGE = 50
PASSWORD = (
    Field(
        "current_password",
        "Current password",
        "password",
        required=True,
        autocomplete="current-password",
    ),
    Field(
        "password",
        "New password",
        "password",
        required=True,
        autocomplete="new-password",
        hint="10 characters or more.",
    ),
)
KEY = (
    Field("name", "Name", max_length=KEY_NAME_MAX, hint="So that you know later what uses it."),
    Field("expires_at", "Ends", "datetime-local", hint="Empty: it does not end by itself."),
    Field("read_only", "May only read", "checkbox"),
)
VALUE = Field("value", "Value", "textarea", wide=True, raw=True)
NEW_VALUE = (
    Field(
        "key",
        "Key",
        required=True,
        max_length=SETTING_KEY_MAX,
        hint="A small letter, then a-z, 0-9, dot, dash and underscore.",
    ),
    VALUE,
)
PROBLEMS = {
    State.PROVISIONING: "It is being set up. If this does not end by itself, set it up again.",
    State.MIGRATING: "It is being brought to the present revision. Your pages are back when that is done.",
    State.MOVING: "It is being moved. Your pages are back when that is done.",
    State.READ_ONLY: "It can be read and not changed at present.",
    State.SUSPENDED: "An administrator has suspended it.",
    State.ARCHIVED: "It is archived. Ask an administrator to bring it back.",
}
CAN_RETRY = frozenset({State.PROVISIONING, State.FAILED})


@blueprint.get("")
@page_login_required
def index() -> ResponseReturnValue:
    """Show everything on one page."""
    return _page()


@blueprint.post("")
@page_login_required
def add_value() -> ResponseReturnValue:
    """Keep a new value under a key; one that is there already is changed on its own page."""
    form = Form.posted("value", NEW_VALUE, request.form)
    body = _value(form)
    if body is not None:
        try:
            _create_value(form.values.get("key", "").strip(), body.value)
        except (ConflictError, ConfigurationError) as error:
            form.refuse(error.field, sentence(error.message))
    if form.errors:
        return _page(value_form=form), 422
    flash("The value is saved.", "good")
    return redirect(url_for("settings.index", _anchor="values"), 303)


@blueprint.get("/values/<key>")
@page_login_required
def value(key: str) -> ResponseReturnValue:
    """Show the form of one value."""
    with current_parts().manager.session() as session:
        row = _values(session).get(key)
    return render_template("settings/value.html", key=key, form=Form.stored("value", (VALUE,), row))


@blueprint.post("/values/<key>")
@page_login_required
def change_value(key: str) -> ResponseReturnValue:
    """Change one value."""
    form = Form.posted("value", (VALUE,), request.form)
    body = _value(form)
    with current_parts().manager.session(write=body is not None) as session:
        values = _values(session)
        if body is None:
            values.get(key)
            return render_template("settings/value.html", key=key, form=form), 422
        values.update(key, {"value": body.value})
    flash("The value is saved.", "good")
    return redirect(url_for("settings.index", _anchor="values"), 303)


@blueprint.post("/values/<key>/delete")
@page_login_required
def delete_value(key: str) -> ResponseReturnValue:
    """Forget one value."""
    with current_parts().manager.session(write=True) as session:
        _values(session).delete(key)
    flash("The value is deleted.", "good")
    return redirect(url_for("settings.index", _anchor="values"), 303)


@blueprint.post("/password")
@page_login_required
def password() -> ResponseReturnValue:
    """Change the password; every other session ends."""
    form = Form.posted("password", PASSWORD, request.form)
    for spec in PASSWORD:
        if not form.values.get(spec.name):
            form.refuse(spec.name, "This is needed.")
    if not form.errors:
        _change_password(form)
    if form.errors:
        return _page(password_form=form), 422
    flash("The password is changed. Every other session has ended.", "good")
    return redirect(url_for("settings.index"), 303)


@blueprint.post("/sessions/end")
@page_login_required
def end_sessions() -> ResponseReturnValue:
    """End every session of this account but the one that asks."""
    ended = current_parts().accounts.end_sessions(signed_in().user.id, keep_token=session_token())
    flash(f"{ended} other session{'' if ended == 1 else 's'} ended.", "good")
    return redirect(url_for("settings.index", _anchor="sessions"), 303)


@blueprint.post("/keys")
@page_login_required
def issue_key() -> ResponseReturnValue:
    """Make an API key and show it: the one write that answers with a page, for a redirect could not carry a secret."""
    form = Form.posted("key", KEY, request.form)
    body = form.validate(KeyCreate)
    if body is not None:
        try:
            key, secret = current_parts().accounts.issue_key(
                signed_in().user.id, body.name, read_only=body.read_only, expires_at=body.expires_at
            )
            return render_template("settings/key.html", key=key, secret=secret), 201
        except ConfigurationError as error:
            form.refuse(error.field, "This is in the past." if error.field == "expires_at" else error.message)
    return _page(key_form=form), 422


@blueprint.post("/keys/<uuid:key_id>/revoke")
@page_login_required
def revoke_key(key_id: UUID) -> ResponseReturnValue:
    """Revoke one of the user's own keys."""
    current_parts().accounts.revoke_key(signed_in().user.id, key_id)
    flash("The key is revoked: its next request is refused.", "good")
    return redirect(url_for("settings.index", _anchor="keys"), 303)


@blueprint.post("/database")
@page_login_required
def provision() -> ResponseReturnValue:
    """Set the user's own database up, where that failed or was never done."""
    try:
        with metrics.provisioning():
            current_parts().manager.provision(signed_in().user.id)
        flash("Your database is ready.", "good")
    except TenancyError as error:
        flash(f"Your database could not be set up: {error.message}", "bad")
    return redirect(url_for("settings.index"), 303)


def _page(password_form: Form | None = None, key_form: Form | None = None, value_form: Form | None = None) -> str:
    """Render the page; a form that was refused stands in for its empty one."""
    principal, accounts = signed_in(), current_parts().accounts
    database = _database(principal)
    values, next_url = _stored_values(principal, database)
    sessions = accounts.sessions(principal.user.id)
    return render_template(
        "settings/index.html",
        database=database,
        sessions=[row | {"current": row["token_hash"] == principal.session_hash} for row in sessions],
        keys=accounts.keys(principal.user.id),
        now=datetime.now(UTC),
        values=values,
        next_url=next_url,
        first_url=url_for("settings.index", _anchor="values") if request.args.get("cursor") else None,
        password_form=password_form or Form.blank("password", PASSWORD),
        key_form=key_form or Form.blank("key", KEY),
        value_form=value_form or Form.blank("value", NEW_VALUE),
    )


def _database(principal: Principal) -> dict[str, Any]:
    """Say how the user's database is, and whether trying again makes sense."""
    place = principal.placement
    if place is None:
        absent = "You have no database yet, so there is nowhere to keep your rows."
        return {"known": False, "status": "absent", "problem": absent, "retry": True}
    shown = {"known": False, "status": str(place.state), "retry": place.state in CAN_RETRY}
    shown["problem"] = (place.last_error or "It failed.") if place.state == State.FAILED else PROBLEMS.get(place.state)
    try:
        return current_parts().manager.database_info(principal.user.id) | shown | {"known": True}
    except TenancyError as error:
        return shown | {"problem": error.message}


def _stored_values(principal: Principal, database: dict[str, Any]) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Give a page of stored values and the address of the next; None where the database does not answer."""
    if principal.placement is None or principal.placement.state not in READABLE:
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
    return rows[:PAGE], url_for("settings.index", cursor=more, _anchor="values")


def _after(place: list[Any]) -> tuple[datetime, str]:
    """Give the position a cursor holds; a key is text even where it looks like a UUID."""
    return cursors.EPOCH + place[0] * cursors.MICROSECOND, place[1]


def _value(form: Form) -> SettingPut | None:
    """Check the value alone; its key is the repository's to judge."""
    return Form(form.name, (VALUE,), form.values, form.errors).validate(SettingPut)


def _create_value(key: str, text: str) -> None:
    with current_parts().manager.session(write=True) as session:
        values = _values(session)
        try:
            values.create({"key": key, "value": text})
        except ConflictError:
            # A form sent twice finds what it wrote.
            if values.get(key)["value"] != text:
                raise


def _change_password(form: Form) -> None:
    values = form.values
    try:
        current_parts().accounts.change_password(
            signed_in().user.id, values["current_password"], values["password"], keep_token=session_token()
        )
    except (BadCredentialsError, PasswordTooWeakError) as error:
        form.refuse(error.field, sentence(error.message))


def _values(session: Session) -> Any:
    return RepositoryFactory.get_repository("settings", session, signed_in().user.id)
