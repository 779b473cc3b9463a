"""Serve administrators' JSON calls about backups: list them, and add the jobs that back up and restore a database.

A restore needs a backup of the same user: another's is answered 404, like one that does not exist. The views are added
to the blueprint of ``admin.py``.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response

from tenancy.catalog.backups import Place
from tenancy.catalog.jobs import Job
from tenancy.monitoring.backups import BackupReports
from web.api.admin import blueprint, known_id
from web.api.queries import filters, read_query, refuse_query, scope
from web.auth.guards import api_admin_required
from web.auth.sessions import signed_in
from web.http import cursors
from web.http.errors import NOT_THERE, Problem
from web.http.json_io import answer, body, require_json_accepted
from web.parts import current_parts
from web.schemas import BackupsQuery, ListQuery, RestoreDatabase

__all__ = ["blueprint"]


@blueprint.get("/databases/backups")
@api_admin_required
def all_backups() -> Response:
    """Return a page of all backups, newest first, and how well the databases are backed up."""
    require_json_accepted()
    query = read_query(BackupsQuery)
    return answer(_page("backups", query, filters(query)) | {"standing": _reports().standing()})


@blueprint.get("/user/<user_id>/database/backups")
@api_admin_required
def backups(user_id: str) -> Response:
    """Return a page of the backups of one user, newest first."""
    require_json_accepted()
    owner, query = current_parts().accounts.get(known_id(user_id)).id, read_query(ListQuery)
    return answer(_page(f"backups of {owner}", query, {"user_id": owner}))


@blueprint.post("/user/<user_id>/database/backup")
@api_admin_required
def back_up(user_id: str) -> Response:
    """Add the job that backs up a user's database."""
    require_json_accepted()
    refuse_query()
    owner = known_id(user_id)
    current_parts().manager.tenant_of(owner)
    return _accepted(current_parts().manager.backup_jobs.backup(owner))


@blueprint.post("/user/<user_id>/database/restore")
@api_admin_required
def restore(user_id: str) -> Response:
    """Add the job that restores a user's database from one of their backups."""
    require_json_accepted()
    refuse_query()
    owner, asked = known_id(user_id), body(RestoreDatabase)
    found = _reports().get(asked.backup_id)
    if found.user_id != owner:
        raise Problem(404, "not_found", NOT_THERE)
    jobs = current_parts().manager.backup_jobs
    return _accepted(jobs.restore(owner, found.id, only_tables=asked.only_tables, as_new_user=asked.as_new_user))


def _page(name: str, query: ListQuery, wanted: dict[str, Any]) -> dict[str, Any]:
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": scope(name, query)}
    after = _after(cursors.read(query.cursor, **bound)) if query.cursor else None
    found = _reports().page(limit=query.limit + 1, after=after, **wanted)
    page, more = found[: query.limit], len(found) > query.limit
    return {"items": page, "next_cursor": cursors.write(_place(page[-1]), **bound) if more else None}


def _accepted(job: Job) -> Response:
    """Return the job that does what was asked; its address tells how far it is."""
    return answer({"job": job.to_dict()}, 202)


def _after(place: list[Any]) -> Place:
    at, backup_id = cursors.after_row(place)
    return Place(at, UUID(str(backup_id)))


def _place(row: dict[str, Any]) -> list[Any]:
    return cursors.row_place({"created_at": row["started_at"], "id": row["id"]})


def _reports() -> BackupReports:
    return current_parts().manager.reports.backups
