"""Change the password, and list and end sessions."""

from __future__ import annotations

from typing import Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.errors import BadCredentialsError, PasswordTooWeakError
from web.auth.guards import page_login_required
from web.auth.sessions import session_token, signed_in
from web.display.template_filters import sentence
from web.http.errors import NOT_THERE, Problem
from web.pages.account.layout import Rows, blueprint, part, show
from web.pages.account.user_agents import device
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.parts import current_parts

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
        hint="At least 10 characters.",
    ),
)


@blueprint.get("/security")
@page_login_required
def security() -> ResponseReturnValue:
    """Show the sessions and the form for a new password."""
    return _page(Form.blank("password", PASSWORD))


@blueprint.post("/password")
@page_login_required
def password() -> ResponseReturnValue:
    """Change the password; every other session ends."""
    form = Form.posted("password", PASSWORD, request.form)
    for spec in PASSWORD:
        if not form.values.get(spec.name):
            form.refuse(spec.name, "This field is required.")
    if not form.errors:
        _change_password(form)
    if form.errors:
        return _page(form), 422
    say("Your password has been changed. All other sessions have ended.")
    return redirect(url_for("settings.security"), 303)


@blueprint.post("/sessions/end")
@page_login_required
def end_sessions() -> ResponseReturnValue:
    """End the session that the form names; without a name, end all except this one."""
    named, user_id = request.form.get("session"), signed_in().user.id
    if named is not None:
        _end(user_id, named)
        say("That session has ended.")
    else:
        ended = current_parts().accounts.end_sessions(user_id, keep_token=session_token())
        say(f"{ended} other session{'' if ended == 1 else 's'} ended.")
    return redirect(url_for("settings.security", _anchor="sessions"), 303)


def _page(form: Form) -> str:
    found = _sessions()
    return show("security", form=form, others=len(found) > 1, sessions=part(found, "security"))


def _sessions() -> Rows:
    """Return the user's sessions with a readable device name, the current one first."""
    principal = signed_in()
    rows = [
        row | {"device": device(row["user_agent"]), "current": row["token_hash"] == principal.session_hash}
        for row in current_parts().accounts.sessions(principal.user.id)
    ]
    return sorted(rows, key=lambda row: not row["current"])


def _end(user_id: int, named: str) -> None:
    """End one of the user's own sessions by the id shown on the page."""
    accounts = current_parts().accounts
    row: dict[str, Any] | None = next((row for row in accounts.sessions(user_id) if row["id"] == named), None)
    if row is None:
        raise Problem(404, "not_found", NOT_THERE)
    accounts.end_session(user_id, row["token_hash"])


def _change_password(form: Form) -> None:
    values = form.values
    try:
        current_parts().accounts.change_password(
            signed_in().user.id, values["current_password"], values["password"], keep_token=session_token()
        )
    except (BadCredentialsError, PasswordTooWeakError) as error:
        form.refuse(error.field, sentence(error.message))
