"""Store which processes take jobs, and when each of them last said so.

A worker inserts its row when it begins and deletes it when it ends. The row of one that was killed stays until it is
old; what counts is the last heartbeat.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage, jobs, now
from tenancy.catalog.tables import job_workers as table
from tenancy.types import utc_now

HEARTBEAT_S = 5.0
SILENT_S = 3 * HEARTBEAT_S
"""A worker that has not said anything for so long counts as gone."""
_FORGOTTEN_S = 3600.0

_one = table.update().where(table.c.id == sa.bindparam("of"))


@dataclass(frozen=True)
class JobWorker:
    """Describe a process that takes jobs: ``threads`` at most at a time, ``running`` of them now."""

    id: uuid.UUID
    host: str
    pid: int
    threads: int
    running: int
    started_at: datetime
    beaten_at: datetime

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "id"}


def beat(connection: sa.Connection, worker_id: uuid.UUID, values: dict[str, Any]) -> None:
    """Write a worker's heartbeat; its row is inserted where it is missing, by ``values``."""
    moment = now(connection)
    fresh = {"of": worker_id, "beaten_at": moment, "running": values["running"]}
    if connection.execute(_one, fresh).rowcount == 0:
        connection.execute(table.insert(), values | {"id": worker_id, "started_at": moment, "beaten_at": moment})


def remove(connection: sa.Connection, worker_id: uuid.UUID) -> None:
    """Delete the row of a worker that ends."""
    connection.execute(table.delete().where(table.c.id == worker_id))


def forget_silent(connection: sa.Connection) -> None:
    """Delete the rows of workers that were killed long ago."""
    old = now(connection) - timedelta(seconds=_FORGOTTEN_S)
    connection.execute(table.delete().where(table.c.beaten_at < old))


def alive(connection: sa.Connection) -> list[JobWorker]:
    """List the workers that beat lately; a heartbeat in the future was written by a clock that was ahead."""
    query = sa.select(table, utc_now().label("now")).order_by(table.c.started_at, table.c.id)
    found = damage.dicts(connection, query)
    return [JobWorker(**row) for row in found if _lately(row["beaten_at"], row.pop("now"))]


def status(connection: sa.Connection) -> dict[str, Any]:
    """Report the workers that beat lately, the jobs due, running and failed, and how long one has waited at most."""
    found = [worker.to_dict() for worker in alive(connection)]
    counts, waiting_s = jobs.counts(connection)
    return {"workers": found, "jobs": counts, "waiting_s": waiting_s}


def _lately(beaten_at: datetime | None, moment: datetime) -> bool:
    return beaten_at is not None and abs((moment - beaten_at).total_seconds()) <= SILENT_S
