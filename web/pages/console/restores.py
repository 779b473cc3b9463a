"""Put a user's database back to a backup: the page asks first and says what happens to newer rows.

A restore is a job (``tenancy/jobs/backup_jobs.py``). Where this server has no secret key the page shows the command for
the machine that has it, and no button.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from flask import redirect, request
from flask.typing import ResponseReturnValue
from pydantic import StringConstraints

from tenancy.errors import TenancyError
from tenancy.models import User
from web.auth.guards import admin_required
from web.http.errors import NOT_THERE, Problem
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.pages.console.backups import added, find_backup, restoring, workers
from web.pages.console.layout import blueprint, find_user, show
from web.parts import current_parts
from web.schemas import UNSTORABLE, Strict

Text = Annotated[str, StringConstraints(max_length=254, pattern=UNSTORABLE)]
Names = Annotated[str, StringConstraints(max_length=2000, pattern=UNSTORABLE)]


class RestoreCreate(Strict):
    """The form of a restore."""

    only_tables: Names = ""
    as_new_user: Text = ""
    address: Text = ""


CONTROLS = [
    Field(
        "only_tables",
        "Only these tables",
        max_length=2000,
        autocomplete="off",
        hint="Names, separated by commas. The other tables stay as they are now. Leave blank for all.",
    ),
    Field(
        "as_new_user",
        "Into a new account",
        max_length=254,
        autocomplete="off",
        hint="E-mail address of an account to create with this data. This user's database is then not touched.",
    ),
]


@blueprint.get("/users/<int:user_id>/restore/<uuid:backup_id>")
@admin_required
def ask_restore(user_id: int, backup_id: UUID) -> ResponseReturnValue:
    """Say what a restore would do, and ask for confirmation; without a secret key here, show the command."""
    user, found = find_user(user_id), _backup(user_id, backup_id)
    return _page(user, found, Form.blank("restore", CONTROLS))


@blueprint.post("/users/<int:user_id>/restore/<uuid:backup_id>")
@admin_required
def restore(user_id: int, backup_id: UUID) -> ResponseReturnValue:
    """Add the job that restores a user's database, or a part of it, from a backup of theirs."""
    user, found = find_user(user_id), _backup(user_id, backup_id)
    form = Form.posted("restore", CONTROLS, request.form)
    body, typed = form.validate(RestoreCreate), request.form.get("address", "").strip()
    if not current_parts().manager.options.backups.opens:
        return _page(user, found, form), 409
    if body is None:
        return _page(user, found, form, typed), 422
    if typed.casefold() != user.email.casefold():
        return _page(user, found, form, typed, f"Type {user.email} to confirm."), 422
    tables = tuple(name.strip() for name in body.only_tables.split(",") if name.strip())
    try:
        job = current_parts().manager.backup_jobs.restore(
            user.id, backup_id, only_tables=tables, as_new_user=body.as_new_user.strip() or None
        )
    except TenancyError as error:
        return _page(user, found, form.refuse(error.field, error.message), typed), 422 if error.field else 409
    return _to_job(added(job))


def _backup(user_id: int, backup_id: UUID) -> dict[str, Any]:
    """Return a good backup of this user; 404 for every other one."""
    found = find_backup(backup_id)
    if found["user_id"] != user_id or restoring(found) is None:
        raise Problem(404, "not_found", NOT_THERE)
    return found


def _page(user: User, found: dict[str, Any], form: Form, typed: str = "", error: str = "") -> str:
    about = {"user": user, "backup": found, "restore": restoring(found), "workers": workers()}
    return show("users", "restore", **about, form=form, typed=typed[:254], error=error)


def _to_job(done: tuple[str, str]) -> ResponseReturnValue:
    message, address = done
    say(message)
    return redirect(address, 303)
