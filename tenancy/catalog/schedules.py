"""Store schedules: what is to be done again and again, by which clock, and when it is due next.

When a schedule is due, its job is inserted and its next time is written in one transaction, which only one of several
workers commits (``jobs/schedules.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage, now
from tenancy.catalog.jobs import written
from tenancy.catalog.tables import schedules as table
from tenancy.errors import ScheduleNotFoundError
from tenancy.types import utc_now

_all = sa.select(table).order_by(table.c.id)


@dataclass(frozen=True)
class Schedule:
    """Describe a schedule: five fields of cron in a time zone, and the kind and arguments of its jobs."""

    id: int
    cron: str
    zone: str
    kind: str
    arguments: dict[str, Any]
    next_due_at: datetime
    last_job_id: int | None = None
    actor_id: int | None = None
    created_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def add(connection: sa.Connection, values: dict[str, Any]) -> Schedule:
    """Insert and return a schedule; ``values`` are the columns that describe it."""
    row = values | {"arguments": written(values["arguments"]), "created_at": now(connection)}
    key = connection.execute(table.insert(), row).inserted_primary_key
    return get(connection, int((key or [0])[0]))


def get(connection: sa.Connection, schedule_id: int) -> Schedule:
    """Return a schedule, or raise ScheduleNotFoundError."""
    found = _listed(connection, _all.where(table.c.id == schedule_id))
    if not found:
        raise ScheduleNotFoundError(
            f"there is no schedule {schedule_id}: `unify schedule list` or `manager.schedules.listed()` lists them.",
            schedule_id=schedule_id,
        )
    return found[0]


def every(connection: sa.Connection) -> list[Schedule]:
    """List all schedules, oldest first."""
    return _listed(connection, _all)


def due(connection: sa.Connection) -> list[Schedule]:
    """List the schedules whose next time has come."""
    return _listed(connection, _all.where(table.c.next_due_at <= utc_now()))


def advance(connection: sa.Connection, seen: Schedule, next_due_at: datetime) -> bool:
    """Write a schedule's next time; return whether nobody else had written it since it was seen."""
    mine = (table.c.id == seen.id, table.c.next_due_at == seen.next_due_at)
    return connection.execute(table.update().where(*mine), {"next_due_at": next_due_at}).rowcount == 1


def started(connection: sa.Connection, schedule_id: int, job_id: int) -> None:
    """Remember which job a schedule started last."""
    connection.execute(table.update().where(table.c.id == schedule_id), {"last_job_id": job_id})


def remove(connection: sa.Connection, schedule_id: int) -> Schedule:
    """Delete and return a schedule, or raise ScheduleNotFoundError."""
    found = get(connection, schedule_id)
    connection.execute(table.delete().where(table.c.id == schedule_id))
    return found


def _listed(connection: sa.Connection, query: sa.Select[Any]) -> list[Schedule]:
    return [Schedule(**row | {"arguments": _read(row["arguments"])}) for row in damage.dicts(connection, query)]


def _read(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
