"""Put a user's database back to a backup, and undo that: each asks first and says what happens to newer rows.

Both are jobs (``tenancy/jobs/backup_jobs.py``). Where this server has no secret key the page shows the command for
the machine that has it, and no button.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from flask import redirect, request
from flask.typing import ResponseReturnValue
from pydantic import StringConstraints

from tenancy.errors import TenancyError
from tenancy.lifecycle.restore import Kept, Written
from tenancy.models import User
from web.auth.guards import admin_required
from web.http.errors import NOT_THERE, Problem
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.pages.console.backups import added, find_backup, restoring, workers
from web.pages.console.layout import blueprint, find_user, show, to_tenant
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


@blueprint.get("/users/<int:user_id>/undo-restore")
@admin_required
def ask_undo_restore(user_id: int) -> ResponseReturnValue:
    """Say what undoing the last restore would do; the rows of both databases are compared."""
    user = find_user(user_id)
    kept = current_parts().manager.restores.kept(user.id)
    return _nothing_to_undo(user) if kept is None else _undo_page(user, kept, written_since(kept))


@blueprint.post("/users/<int:user_id>/undo-restore")
@admin_required
def undo_restore(user_id: int) -> ResponseReturnValue:
    """Add the job that undoes the last restore; rows written since are given up only if the form says so."""
    user, discard = find_user(user_id), bool(request.form.get("discard_newer"))
    kept = current_parts().manager.restores.kept(user.id)
    if kept is None:
        return _nothing_to_undo(user)
    if not discard and (written := written_since(kept)) != Written():
        return _undo_page(user, kept, written, "Tick this to confirm."), 422
    try:
        job = current_parts().manager.backup_jobs.undo(user.id, discard_newer=discard)
    except TenancyError as error:
        say(f"Nothing was changed for {user.email}: {error.message}", "bad")
        return to_tenant(user.id)
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


def written_since(kept: Kept) -> Written | None:
    """Return what was written since a restore; None if the database that is in use now cannot be read."""
    try:
        return kept.since
    except TenancyError:
        return None


def _undo_page(user: User, kept: Kept, written: Written | None, error: str = "") -> str:
    return show("users", "undo_restore", user=user, kept=kept, written=written, error=error, workers=workers())


def _nothing_to_undo(user: User) -> ResponseReturnValue:
    say(f"No restore of {user.email} is there to undo.", "warn")
    return to_tenant(user.id)


def _to_job(done: tuple[str, str]) -> ResponseReturnValue:
    message, address = done
    say(message)
    return redirect(address, 303)
