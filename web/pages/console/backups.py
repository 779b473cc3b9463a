"""List the stored backups and show each; add the jobs that make and verify backups; delete one.

``restores.py`` puts a backup back, ``prune.py`` deletes old ones. These pages read the catalog, which knows every
backup; only deleting one opens the storage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.catalog.backups import CATALOG, TENANT, Backup, BackupState, Place
from tenancy.catalog.job_workers import JobWorker
from tenancy.catalog.jobs import Job
from tenancy.errors import BackupNotFoundError, ConfigurationError, TenancyError, UserNotFoundError
from web.auth.guards import admin_required
from web.auth.sessions import signed_in
from web.http import cursors
from web.http.errors import NOT_THERE, Problem
from web.pages.common import paging
from web.pages.common.flash import say
from web.pages.console.layout import account, blueprint, choice, show, text
from web.parts import current_parts

PAGE = 50
STATES = {str(state): str(state) for state in BackupState}
KINDS = {TENANT: "of users", CATALOG: "of the catalog"}
UNKNOWN = "No account has this id or address."


@dataclass(frozen=True)
class Action:
    """One action on a stored backup; ``does`` performs it and returns the message and where to go next."""

    name: str
    label: str
    question: str
    command: str
    does: Callable[[Backup], tuple[str, str]]
    takes_away: bool = False


def _verify(found: Backup, *, by_restoring: bool = False) -> tuple[str, str]:
    return added(current_parts().manager.backup_jobs.verify(found.id, by_restoring=by_restoring))


def _delete(found: Backup) -> tuple[str, str]:
    current_parts().manager.backups.delete(found.id)
    return "The backup has been deleted.", url_for("admin.backups")


ACTIONS = (
    Action(
        "verify",
        "Verify",
        "A job reads the backup from its first byte to its last and compares sizes and checksums. If this server has "
        "the secret key, the job also decrypts it. Nothing is changed.",
        "unify backup verify {id}",
        _verify,
    ),
    Action(
        "try",
        "Verify by restoring",
        "A job loads the backup into a new database, compares every table with the counts and checksums of the backup, "
        "and removes that database again. The user's database is not touched. This needs the secret key.",
        "unify backup verify {id} --by-restoring",
        partial(_verify, by_restoring=True),
    ),
    Action(
        "delete",
        "Delete",
        "The backup is deleted from the storage for good, and nothing can be restored from it any more. The database "
        "is not touched. The last good backup of a database is only deleted by the command, with --force.",
        "unify backup delete {id}",
        _delete,
        takes_away=True,
    ),
)


@blueprint.get("/backups")
@admin_required
def backups() -> ResponseReturnValue:
    """Show one page of the list, newest first."""
    return _page()


@blueprint.post("/backups")
@admin_required
def start_backup() -> ResponseReturnValue:
    """Add the job that backs up one user, all users or the catalog."""
    typed = request.form.get("user", "").replace("\x00", "").strip()[:254]
    try:
        message, address = added(_start(request.form.get("what", ""), typed))
    except UserNotFoundError:
        return _page(typed, UNKNOWN), 422
    except TenancyError as error:
        return _page(typed, error.message), 422 if isinstance(error, ConfigurationError) else 409
    say(message)
    return redirect(address, 303)


@blueprint.get("/backups/<uuid:backup_id>")
@admin_required
def stored_backup(backup_id: UUID) -> ResponseReturnValue:
    """Show everything the catalog knows about one backup, and what can be done with it."""
    found = find_backup(backup_id)
    return show("backups", "backup", backup=found, restore=restoring(found), actions=ACTIONS)


def _ask(action: Action) -> Callable[[UUID], ResponseReturnValue]:
    @admin_required
    def ask(backup_id: UUID) -> ResponseReturnValue:
        return show("backups", "backup_action", backup=find_backup(backup_id), action=action, workers=workers())

    return ask


def _act(action: Action) -> Callable[[UUID], ResponseReturnValue]:
    @admin_required
    def act(backup_id: UUID) -> ResponseReturnValue:
        found = _stored(backup_id)
        try:
            message, address = action.does(found)
        except TenancyError as error:
            say(f"Nothing was changed: {error.message}", "bad")
            return redirect(url_for("admin.stored_backup", backup_id=backup_id), 303)
        say(message)
        return redirect(address, 303)

    return act


for _action in ACTIONS:
    _rule = f"/backups/<uuid:backup_id>/{_action.name}"
    blueprint.add_url_rule(_rule, f"ask_{_action.name}_backup", _ask(_action), methods=["GET"])
    blueprint.add_url_rule(_rule, f"{_action.name}_backup", _act(_action), methods=["POST"])


def added(job: Job) -> tuple[str, str]:
    """Return the message about a job that was added, and the address of its page."""
    return f"Job {job.id} does this as soon as a worker is free.", url_for("admin.job", job_id=job.id)


def workers() -> list[JobWorker]:
    """Return who takes jobs, so that a page that adds one can say if nobody does."""
    return current_parts().manager.jobs.workers()


def find_backup(backup_id: UUID) -> dict[str, Any]:
    """Return a backup as a row of the list; 404 if the catalog does not know it."""
    return current_parts().manager.reports.backups.described([_stored(backup_id)])[0]


def restoring(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return the command that restores a backup, and the page if this server has the key; None where none can."""
    if found["kind"] != TENANT or found["state"] != BackupState.GOOD or not found["user_id"]:
        return None
    user_id, backup_id = found["user_id"], found["id"]
    here = current_parts().manager.options.backups.opens
    url = url_for("admin.ask_restore", user_id=user_id, backup_id=backup_id) if here else None
    return {"url": url, "command": f"unify restore {user_id} {backup_id}"}


def _stored(backup_id: UUID) -> Backup:
    try:
        return current_parts().manager.reports.backups.get(backup_id)
    except BackupNotFoundError:
        raise Problem(404, "not_found", NOT_THERE) from None


def _start(what: str, typed: str) -> Job:
    jobs = current_parts().manager.backup_jobs
    if what == "all":
        return jobs.backup_all()
    if what == "catalog":
        return jobs.backup_catalog()
    return jobs.backup(current_parts().accounts.find(typed).id)


def _page(typed: str = "", refused: str = "") -> str:
    manager = current_parts().manager
    asked: dict[str, Any] = _asked()
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": f"backups&{sorted(asked.items())}"}
    cursor = request.args.get("after") if request.method == "GET" else None
    after = _after(cursors.read(cursor, **bound)) if cursor else None
    found = manager.reports.backups.page(limit=PAGE + 1, after=after, **_wanted(asked))
    rows, more = found[:PAGE], len(found) > PAGE
    following = cursors.write(_place(rows[-1]), **bound) if more else None
    return show(
        "backups",
        rows=rows,
        asked=asked,
        states=STATES,
        kinds=KINDS,
        typed=typed,
        refused=refused,
        standing=manager.reports.backups.standing(),
        keys=manager.options.backups,
        workers=workers(),
        **paging.links(partial(url_for, "admin.backups", **asked), cursor, after=following),
    )


def _asked() -> dict[str, str]:
    """Return the filters in the URL by their parameter names, without those that are not set."""
    found = {"user": text("user"), "kind": choice("kind", KINDS), "state": choice("state", STATES)}
    return {name: value for name, value in found.items() if value}


def _wanted(asked: dict[str, str]) -> dict[str, Any]:
    """Return the filters as arguments of the query; an account that does not exist has no backups."""
    wanted: dict[str, Any] = {name: asked[name] for name in ("kind", "state") if name in asked}
    return wanted | ({"user_id": account(asked["user"])} if "user" in asked else {})


def _after(place: list[Any]) -> Place:
    at, backup_id = cursors.after_row(place)
    return Place(at, UUID(str(backup_id)))


def _place(row: dict[str, Any]) -> list[Any]:
    return cursors.row_place({"created_at": row["started_at"], "id": row["id"]})
