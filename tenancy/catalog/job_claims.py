"""Let one worker at a time run a job: take it, keep it, and record how it ended.

The claim of a job is as that of a tenant (``claims.py``): an attempt number, which every write of the runner carries,
and an expiry by the catalog's clock, which the runner's heartbeats put off. A job whose runner was killed stays
``running`` until its claim expires, and is then taken again under the next number. A runner that wakes after that finds
each of its writes refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import jobs, now
from tenancy.catalog.jobs import Job, JobState, Reached
from tenancy.catalog.tables import jobs as table
from tenancy.types import utc_now

TTL_S = 30.0
"""Lifetime of a claim; after a kill the job waits as long for the next worker."""
LONGEST_TTL_S = 2 * TTL_S
"""A claim that ends later was written while the catalog's clock was ahead, and is void."""
MOST_INTERRUPTIONS = 10
"""A job that was cut off more often is given up: it may be what kills its workers."""

INTERRUPTED = "job_interrupted"

_running = table.c.state == str(JobState.RUNNING)
_due = sa.and_(table.c.state == str(JobState.DUE), table.c.due_at <= utc_now())
_void = sa.or_(table.c.expires_at <= utc_now(), table.c.expires_at > sa.bindparam("beyond"))
_mine = sa.and_(table.c.id == sa.bindparam("of"), table.c.attempt == sa.bindparam("mine"), _running)
_keep = table.update().where(_mine)
_take = table.update().where(
    table.c.id == sa.bindparam("of"),
    table.c.attempt == sa.bindparam("seen"),
    table.c.state == sa.bindparam("in"),
    sa.or_(_due, sa.and_(_running, _void)),
)
_known = table.c.kind.in_(sa.bindparam("kinds", expanding=True))
_seen = sa.select(table.c.id, table.c.attempt, table.c.state, table.c.cancelling, table.c.interruptions)
_cut_off = _seen.where(_running, _void, _known).order_by(table.c.id)
_waiting = _seen.where(_due, _known).order_by(table.c.due_at, table.c.id)


@dataclass(frozen=True)
class Free:
    """Describe a job that nobody holds, as it was seen."""

    id: int
    attempt: int
    state: str
    cancelling: bool
    interruptions: int


@dataclass(frozen=True)
class Ending:
    """Describe how an attempt ended; with the state ``due`` the next one begins after ``wait_s``."""

    state: JobState
    result: Mapping[str, Any] | None = None
    error: str | None = None
    error_code: str | None = None
    wait_s: float = 0.0
    failed: bool = False


def free(connection: sa.Connection, kinds: Collection[str], limit: int) -> list[Free]:
    """List jobs that are due or whose claim has expired, of the kinds that the caller knows.

    Those that were cut off come first, then those that have been due longest. Nothing is locked: ``take`` finds out
    whether another worker was first.
    """
    asked = {"kinds": sorted(kinds), "beyond": _beyond(now(connection))}
    found = list(connection.execute(_cut_off.limit(limit), asked))
    found += list(connection.execute(_waiting.limit(limit), {"kinds": asked["kinds"]}))
    return [Free(row.id, row.attempt, row.state, bool(row.cancelling), row.interruptions) for row in found]


def take(connection: sa.Connection, seen: Free, runner: str, ttl_s: float) -> Job | None:
    """Claim a job in the caller's write transaction; None if another worker was first, or if it is over.

    A job that was cut off while it was being cancelled is cancelled; one that was cut off too often has failed.
    """
    moment = now(connection)
    again = seen.interruptions + (seen.state == JobState.RUNNING)
    values: dict[str, Any] = {"attempt": seen.attempt + 1, "interruptions": again, "runner": runner[:128]}
    if seen.cancelling:
        values |= jobs.ended(JobState.CANCELLED, moment)
    elif again > MOST_INTERRUPTIONS:
        text = f"it was cut off {again} times: its worker was killed or lost the catalog each time."
        values |= jobs.ended(JobState.FAILED, moment) | {"error": text, "error_code": INTERRUPTED}
    else:
        until = moment + timedelta(seconds=min(ttl_s, LONGEST_TTL_S))
        values |= {"state": str(JobState.RUNNING), "expires_at": until, "started_at": moment}
    asked = {"of": seen.id, "seen": seen.attempt, "in": seen.state, "beyond": _beyond(moment)}
    if connection.execute(_take, asked | values).rowcount != 1 or values["state"] != JobState.RUNNING:
        return None
    return jobs.get(connection, seen.id)


def keep(connection: sa.Connection, job: Job, ttl_s: float, reached: Reached, log: str) -> bool:
    """Put off the expiry of a claim and store how far the job is; return whether the claim is still held."""
    until = now(connection) + timedelta(seconds=min(ttl_s, LONGEST_TTL_S))
    return _written(connection, job, _progress(reached, log) | {"expires_at": until})


def end(connection: sa.Connection, job: Job, ending: Ending, reached: Reached, log: str) -> bool:
    """Record how an attempt ended; return whether the claim was still held."""
    error = jobs.storable(ending.error) if ending.error else None
    values = _progress(reached, log) | {"error": error, "error_code": ending.error_code}
    values |= {"failures": job.failures + ending.failed, "result": jobs.written(ending.result)}
    if ending.state is JobState.DUE:
        due_at = now(connection) + timedelta(seconds=ending.wait_s)
        values |= {"state": str(JobState.DUE), "due_at": due_at, "expires_at": None}
    else:
        values |= jobs.ended(ending.state, now(connection))
    return _written(connection, job, values)


def cancelled(connection: sa.Connection, job_ids: Sequence[int]) -> set[int]:
    """Return which of some running jobs are to be stopped."""
    query = sa.select(table.c.id).where(table.c.id.in_(job_ids), table.c.cancelling, _running)
    return {int(found) for found in connection.execute(query).scalars()} if job_ids else set()


def expired(connection: sa.Connection, job: Job) -> bool:
    """Return whether nobody holds a job that is running."""
    asked = {"beyond": _beyond(now(connection))}
    query = sa.select(table.c.id).where(table.c.id == job.id, table.c.attempt == job.attempt, _running, _void)
    return connection.execute(query, asked).first() is not None


def _written(connection: sa.Connection, job: Job, values: dict[str, Any]) -> bool:
    return connection.execute(_keep, {"of": job.id, "mine": job.attempt} | values).rowcount == 1


def _progress(reached: Reached, log: str) -> dict[str, Any]:
    text = jobs.storable(reached.text)[:200] if reached.text else None
    return {"progress_done": reached.done, "progress_total": reached.total, "progress_text": text, "log": log or None}


def _beyond(moment: datetime) -> datetime:
    return moment + timedelta(seconds=LONGEST_TTL_S)
