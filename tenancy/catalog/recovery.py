"""Keep that this catalog was recovered, and take from a recovered one what would harm a world that is newer than it.

A catalog that comes back from a backup knows nothing of what happened since: keys were revoked, databases deleted,
jobs done. All of this file works on a catalog that nobody uses yet.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import api_keys, leftovers, tenant_errors, tenant_sizes, tenants
from tenancy.catalog.jobs import UNFINISHED, JobState, open_key
from tenancy.catalog.leftovers import Reason
from tenancy.catalog.runs import RunState
from tenancy.catalog.tables import (
    claims,
    fleet_runs,
    job_workers,
    jobs,
    leftover_databases,
    login_failures,
    pending_databases,
    recovery,
    sessions,
    user_database_configs,
    users,
)
from tenancy.models import State, Tenant
from tenancy.types import utc_now

CLAIM = uuid.uuid5(uuid.NAMESPACE_OID, "unify recovery")
"""What a recovery claims, so that no second one runs beside it; no tenant has this id."""

UNSEEN = "the catalog was recovered, and nobody has looked yet whether this database was finished."
CANCELLED = "the catalog was recovered from a backup: this may have been done since."
_ROW = 1
_UNMADE = (State.PROVISIONING, State.FAILED)


@dataclass(frozen=True)
class Outlived:
    """Hold what is known, beside the catalog's backup, of the world that it comes back to."""

    epochs: Mapping[uuid.UUID, int] = field(default_factory=dict)
    """The highest epoch of each tenant that a backup names."""

    user_epochs: Mapping[int, int] = field(default_factory=dict)
    """The highest epoch of each user's databases."""

    deleted: frozenset[uuid.UUID] = frozenset()
    """Tenants that were deleted on purpose."""


@dataclass(frozen=True)
class Recovered:
    """Say from which backup a catalog was recovered, and how far its tenants are; ``ended_at`` is None until all are.

    ``made_at`` is the time of the backup: what happened since is not in this catalog.
    """

    backup_id: uuid.UUID
    made_at: datetime
    begun_at: datetime
    ended_at: datetime | None
    report: dict[str, Any]


def find(connection: sa.Connection) -> Recovered | None:
    """Return what is known of this catalog's recovery; None if it was never lost."""
    row = connection.execute(sa.select(recovery).where(recovery.c.id == _ROW)).first()
    if row is None:
        return None
    return Recovered(row.backup_id, row.made_at, row.begun_at, row.ended_at, json.loads(row.report))


def begin(connection: sa.Connection, backup_id: uuid.UUID, made_at: datetime, report: Mapping[str, Any]) -> None:
    """Write that a catalog was recovered from a backup and that its tenants are still to be looked at."""
    connection.execute(recovery.delete())
    moment = datetime.now(UTC)
    row = {"id": _ROW, "backup_id": backup_id, "made_at": made_at, "begun_at": moment, "report": _text(report)}
    connection.execute(recovery.insert(), row)


def keep(connection: sa.Connection, report: Mapping[str, Any], *, ended: bool) -> None:
    """Keep the report on the tenants, and whether all of them have what they need."""
    ended_at = datetime.now(UTC) if ended else None
    changes = {"report": _text(report), "ended_at": ended_at}
    connection.execute(recovery.update().where(recovery.c.id == _ROW), changes)


def lapse(connection: sa.Connection, tenant_id: uuid.UUID) -> None:
    """Have a tenant's last operation count as cut off, so that housekeeping settles it."""
    ended = (claims.c.tenant_id == tenant_id, claims.c.expires_at.is_(None))
    connection.execute(claims.update().where(*ended).values(expires_at=utc_now()))


def disarm(connection: sa.Connection, known: Outlived) -> dict[str, Any]:
    """Take from a catalog what would harm a newer world; return by name what was ended, held, cancelled and forgotten.

    Sessions end, and API keys give no access until they are confirmed. Nobody holds a claim any more, and every claim
    to come has a higher number than any epoch that is known. Jobs that were due or running are cancelled, since they
    may have been done; fleet runs are paused. Databases that were kept ready may be somebody's by now, and those left
    behind may be in use again: both are forgotten, so that nobody drops them. Tenants that were deleted since are
    deleted here, and those whose database was not finished are closed until somebody has looked.
    """
    done = {
        "sessions": connection.execute(sessions.delete()).rowcount,
        "sign_ins": connection.execute(login_failures.delete()).rowcount,
        "keys": api_keys.hold_all(connection),
        "claims": _clear_claims(connection),
        "jobs": _cancel_jobs(connection),
        "runs": _pause_runs(connection),
        "forgotten": [*_forget(connection, pending_databases), *_forget(connection, leftover_databases)],
        "deleted": _delete(connection, known),
    }
    connection.execute(job_workers.delete())
    _raise_epochs(connection, known)
    _set_unmade_aside(connection)
    return done


def _clear_claims(connection: sa.Connection) -> list[dict[str, Any]]:
    """End all claims; none counts as cut off, or housekeeping would open databases that nobody has looked at."""
    held = sa.select(claims.c.tenant_id, claims.c.operation).where(claims.c.expires_at.is_not(None))
    found = [{"tenant_id": str(row.tenant_id), "operation": row.operation} for row in connection.execute(held)]
    connection.execute(claims.update().values(expires_at=None))
    return found


def _cancel_jobs(connection: sa.Connection) -> list[dict[str, Any]]:
    open_ones = jobs.c.state.in_([str(state) for state in UNFINISHED])
    query = sa.select(jobs.c.id, jobs.c.kind, jobs.c.due_at).where(open_ones).order_by(jobs.c.id)
    found = [{"id": row.id, "kind": row.kind, "due_at": row.due_at.isoformat()} for row in connection.execute(query)]
    ended = {
        "state": str(JobState.CANCELLED),
        "ended_at": datetime.now(UTC),
        "error": CANCELLED,
        "expires_at": None,
        "secrets": None,
    }
    for each in found:
        mine = jobs.c.id == each["id"]
        connection.execute(jobs.update().where(mine), ended | {"open_key": open_key(None)})
    return found


def _pause_runs(connection: sa.Connection) -> list[int]:
    running = fleet_runs.c.state == str(RunState.RUNNING)
    found = list(connection.execute(sa.select(fleet_runs.c.id).where(running)).scalars())
    connection.execute(fleet_runs.update().where(running).values(state=str(RunState.PAUSED)))
    return found


def _forget(connection: sa.Connection, table: sa.Table) -> list[str]:
    query = sa.select(table.c.db_path, table.c.db_name, table.c.db_host).order_by(table.c.id)
    found = [row.db_path or f"{row.db_name} on {row.db_host}" for row in connection.execute(query)]
    connection.execute(table.delete())
    return found


def _delete(connection: sa.Connection, known: Outlived) -> list[dict[str, Any]]:
    """Apply the deletion records; what is left of the databases goes to the list of leftovers, whose rows are gone."""
    gone = [tenant for tenant in tenants.every(connection) if tenant.tenant_id in known.deleted]
    for tenant in gone:
        tenants.remove(connection, tenant)
        tenant_sizes.forget(connection, tenant.user_id or 0)
        tenant_errors.forget(connection, tenant.user_id or 0)
        _raise_user_epoch(connection, {tenant.user_id or 0: tenant.epoch})
        if tenant.owned:
            leftovers.add(connection, tenant, Reason.FORGOTTEN)
    return [_named(tenant) for tenant in gone]


def _raise_epochs(connection: sa.Connection, known: Outlived) -> None:
    """Have every claim to come begin above the epochs that backups name, and every database get a new name."""
    there = set(connection.execute(sa.select(user_database_configs.c.tenant_id)).scalars())
    rows = connection.execute(sa.select(claims.c.tenant_id, claims.c.attempt))
    numbered = {row.tenant_id: row.attempt for row in rows}
    for tenant_id, epoch in known.epochs.items():
        if tenant_id in numbered and numbered[tenant_id] < epoch:
            connection.execute(claims.update().where(claims.c.tenant_id == tenant_id), {"attempt": epoch})
        elif tenant_id in there and tenant_id not in numbered:
            fresh = {"tenant_id": tenant_id, "operation": "recover", "attempt": epoch}
            connection.execute(claims.insert(), fresh)
    _raise_user_epoch(connection, known.user_epochs)


def _raise_user_epoch(connection: sa.Connection, epochs: Mapping[int, int]) -> None:
    before = sa.func.coalesce(users.c.database_epoch, 0)
    for user_id, epoch in epochs.items():
        connection.execute(users.update().where(users.c.id == user_id, before < epoch), {"database_epoch": epoch})


def _set_unmade_aside(connection: sa.Connection) -> None:
    """Close tenants whose database was not finished: making another one would leave behind the one that was.

    No operation begins on a tenant that is ``read_only``, but to delete it or to restore it.
    """
    table = user_database_configs
    unmade = (table.c.revision.is_(None), table.c.state.in_([str(state) for state in _UNMADE]))
    connection.execute(table.update().where(*unmade).values(state=str(State.READ_ONLY), last_error=UNSEEN))


def _named(tenant: Tenant) -> dict[str, Any]:
    return {"user_id": tenant.user_id, "tenant_id": str(tenant.tenant_id), "type": tenant.db_type}


def _text(report: Mapping[str, Any]) -> str:
    return json.dumps(report, sort_keys=True)
