"""Show users the backups of their own data, and let them make one, restore one and undo that.

All three are jobs, which another process works on; loading the page again shows how far they are. A user sees times,
sizes and results alone: nothing of the storage, of keys or of other users. What is not theirs is answered 404, like
what does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.catalog.backups import Backup, BackupState, Place
from tenancy.catalog.jobs import Job, JobState
from tenancy.errors import BackupNotFoundError, BadCredentialsError, JobNotFoundError, TenancyError
from tenancy.jobs.backup_jobs import BACKUP, RESTORE, UNDO, BackupJobs
from tenancy.lifecycle.restore import Kept
from tenancy.models import Tenant
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display.template_filters import sentence
from web.http import advice, cursors, rate_limits
from web.http.errors import NOT_THERE, Problem
from web.pages.account.layout import PAGE, blueprint, show
from web.pages.common import paging
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.parts import current_parts

PASSWORD = Field("current_password", "Your password", "password", required=True, autocomplete="current-password")
DISCARD = Field("discard_newer", "Undo it although I will not see afterwards what was written since", "checkbox")
NAMES = {BACKUP: "Backup", RESTORE: "Restore", UNDO: "Undo of a restore"}
UNDER_WAY = {
    BACKUP: "Your data is being backed up.",
    RESTORE: "Your data is being restored.",
    UNDO: "Your restore is being undone.",
}
WAITS = {
    BACKUP: "Your data will be backed up as soon as the server has time for it.",
    RESTORE: "Your data will be restored as soon as the server has time for it.",
    UNDO: "Your restore will be undone as soon as the server has time for it.",
}
DONE = {
    BACKUP: "Your data has been backed up.",
    RESTORE: "Your data has been restored.",
    UNDO: "Your restore has been undone.",
}
CANCELLED = "An administrator has stopped this. Your data is as it was."
AS_IT_WAS = "Your data is as it was."


@blueprint.get("/data")
@page_login_required
def data() -> ResponseReturnValue:
    """List the user's backups, newest first, and what is under way."""
    manager, place = current_parts().manager, signed_in().tenant
    mine = place if manager.multi_tenant else None
    keys = manager.options.backups
    return show(
        "data",
        **_listed(mine),
        running=[(job, _told(job)) for job in _jobs().unfinished(signed_in().user.id)] if mine else [],
        kept=_kept(),
        may_back_up=mine is not None and keys.complete,
        may_restore=keys.opens,
        set_up=keys.complete,
    )


@blueprint.post("/data")
@page_login_required
def back_up() -> ResponseReturnValue:
    """Add the job that backs up the user's database."""
    return _start(lambda user_id: _jobs().backup(user_id))


@blueprint.get("/data/work/<int:job_id>")
@page_login_required
def work(job_id: int) -> ResponseReturnValue:
    """Show how far one of the user's own jobs is, and how it ended."""
    try:
        job = _jobs().of_user(signed_in().user.id, job_id)
    except JobNotFoundError:
        raise _not_theirs() from None
    return show("data", "work", job=job, told=_told(job))


@blueprint.get("/data/<uuid:backup_id>/restore")
@page_login_required
def ask_restore(backup_id: UUID) -> ResponseReturnValue:
    """Say what restoring this backup would do, and ask for the password."""
    return _restore_page(_backup(backup_id), Form.blank("restore", [PASSWORD]))


@blueprint.post("/data/<uuid:backup_id>/restore")
@page_login_required
def restore(backup_id: UUID) -> ResponseReturnValue:
    """Add the job that restores the backup, if the password is right."""
    found, form = _backup(backup_id), Form.posted("restore", [PASSWORD], request.form)
    if not _confirmed(form):
        return _restore_page(found, form), 422
    return _start(lambda user_id: _jobs().restore(user_id, found.id))


@blueprint.get("/data/undo")
@page_login_required
def ask_undo() -> ResponseReturnValue:
    """Say what undoing the last restore would do, and ask for the password; the rows of both databases are compared."""
    kept = _kept()
    if kept is None:
        return _nothing_to_undo()
    written = _written(kept)
    return _undo_page(kept, written, Form.blank("undo", _undo_controls(written)))


@blueprint.post("/data/undo")
@page_login_required
def undo() -> ResponseReturnValue:
    """Add the job that undoes the last restore, if the password is right."""
    kept = _kept()
    if kept is None:
        return _nothing_to_undo()
    written = _written(kept)
    form = Form.posted("undo", _undo_controls(written), request.form)
    discard = bool(form.values.get("discard_newer"))
    if written != 0 and not discard:
        form.refuse("discard_newer", "Tick this to undo the restore.")
    if form.errors or not _confirmed(form):
        return _undo_page(kept, written, form), 422
    return _start(lambda user_id: _jobs().undo(user_id, discard_newer=discard))


def _start(add: Callable[[int], Job]) -> ResponseReturnValue:
    """Add a job for the user, and go to the page that shows how far it is."""
    user_id, keys = signed_in().user.id, current_parts().manager.options.backups
    if not (current_parts().manager.multi_tenant and keys.complete):
        raise _not_theirs()
    rate_limits.count_own_job(user_id)
    try:
        job = add(user_id)
    except TenancyError as error:
        means, do = advice.to_person(error, signed_in().tenant)
        say(f"This was not started. {means} {do}", "bad")
        return redirect(url_for("settings.data"), 303)
    return redirect(url_for("settings.work", job_id=job.id), 303)


def _confirmed(form: Form) -> bool:
    """Check the password in the form; beside it is said what is wrong with it."""
    typed = form.values.get("current_password", "")
    if not typed:
        form.refuse("current_password", "This field is required.")
        return False
    try:
        current_parts().accounts.confirm_password(signed_in().user.id, typed)
    except BadCredentialsError as error:
        form.refuse(error.field, sentence(error.message))
    return not form.errors


def _listed(place: Tenant | None) -> dict[str, Any]:
    """Return a page of the backups of the user's present database, and when the last good one was made."""
    if place is None:
        return {"rows": [], "last_at": None, "late": False, "next_url": None, "first_url": None}
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": ("backups", str(place.tenant_id))}
    cursor = request.args.get("cursor")
    after = _after(cursors.read(cursor, **bound)) if cursor else None
    found = current_parts().manager.reports.backups.of_tenant(place.tenant_id, limit=PAGE + 1, after=after)
    rows, more = found["rows"][:PAGE], len(found["rows"]) > PAGE
    following = cursors.write(_place(rows[-1]), **bound) if more else None
    return found | {"rows": rows} | paging.links(partial(url_for, "settings.data"), cursor, cursor=following)


def _after(place: list[Any]) -> Place:
    at, backup_id = cursors.after_row(place)
    return Place(at, UUID(str(backup_id)))


def _place(row: Backup) -> list[Any]:
    return cursors.row_place({"created_at": row.started_at, "id": row.id})


def _told(job: Job) -> dict[str, Any]:
    """Return what a user is told of a job: nothing of its log, which is written for operators."""
    done, total, _ = job.progress
    told = {"name": NAMES[job.kind], "done": done, "total": total, "progress": _progress(done, total), "tone": ""}
    if job.state is JobState.DUE:
        return told | {"text": WAITS[job.kind]}
    if job.state is JobState.RUNNING:
        return told | {"text": UNDER_WAY[job.kind]}
    if job.state is JobState.DONE:
        return told | {"text": DONE[job.kind], "tone": "good"}
    if job.state is JobState.CANCELLED:
        return told | {"text": CANCELLED, "tone": "warn"}
    means, do = advice.of_code(job.error_code or "", job.error or "")
    return told | {"text": f"This did not work. {means} {AS_IT_WAS} {do}", "tone": "bad"}


def _progress(done: int | None, total: int | None) -> str:
    if done is None:
        return ""
    return f"{done:,} of {total:,} rows." if total else f"{done:,} rows so far."


def _restore_page(found: Backup, form: Form) -> str:
    return show("data", "restore", backup=found, form=form)


def _undo_page(kept: Kept, written: int | None, form: Form) -> str:
    return show("data", "undo", kept=kept, written=written, form=form)


def _undo_controls(written: int | None) -> list[Field]:
    return [PASSWORD] if written == 0 else [DISCARD, PASSWORD]


def _kept() -> Kept | None:
    """Return what the user's last restore replaced; None if there is nothing to undo."""
    manager = current_parts().manager
    return manager.restores.kept(signed_in().user.id) if manager.multi_tenant and signed_in().tenant else None


def _written(kept: Kept) -> int | None:
    """Return how many rows were written since a restore; None if the present database cannot be read."""
    try:
        return kept.written
    except TenancyError:
        return None


def _nothing_to_undo() -> ResponseReturnValue:
    say("There is no restore to undo.", "warn")
    return redirect(url_for("settings.data"), 303)


def _backup(backup_id: UUID) -> Backup:
    """Return a good backup of the user's present database, if this server can open it; 404 for every other one."""
    manager, place = current_parts().manager, signed_in().tenant
    if place is None or not manager.multi_tenant or not manager.options.backups.opens:
        raise _not_theirs()
    try:
        found = manager.reports.backups.get(backup_id)
    except BackupNotFoundError:
        raise _not_theirs() from None
    whose = (found.tenant_id, found.user_id, found.state)
    if whose != (place.tenant_id, signed_in().user.id, BackupState.GOOD):
        raise _not_theirs()
    return found


def _jobs() -> BackupJobs:
    return current_parts().manager.backup_jobs


def _not_theirs() -> Problem:
    return Problem(404, "not_found", NOT_THERE)
