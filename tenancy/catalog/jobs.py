"""Store jobs: what is to be done, when it is due, and what became of it.

``job_claims.py`` holds what a worker does with these rows. Here they are added, read, cancelled and retried. A job that
is unfinished may have a key, which no other unfinished job has: adding it again finds the one that is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from tenancy.catalog import damage, now
from tenancy.catalog.tables import jobs as table
from tenancy.errors import JobNotFoundError, JobStateError
from tenancy.types import new_id, utc_now

KEY_MAX = 200


class JobState(StrEnum):
    """List the states of a job; ``failed`` is the end of one that is not tried again by itself."""

    DUE = "due"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (JobState.DUE, JobState.RUNNING)
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Reached(NamedTuple):
    """Say how far a job is: ``done`` of ``total``, and with what it is busy; None where its handler did not say."""

    done: int | None = None
    total: int | None = None
    text: str | None = None


@dataclass(frozen=True)
class Job:
    """Describe a job; ``log`` holds the last lines that its handler wrote."""

    id: int
    kind: str
    arguments: dict[str, Any]
    state: JobState
    due_at: datetime
    attempt: int
    most_attempts: int
    failures: int
    interruptions: int
    cancelling: bool
    key: str | None
    runner: str | None
    expires_at: datetime | None
    progress: Reached
    result: dict[str, Any] | None
    error: str | None
    error_code: str | None
    log: str
    actor_id: int | None
    schedule_id: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    had_secrets: bool = False
    sealed: str | None = field(default=None, repr=False)
    """The sealed secrets; None once the job has ended."""

    @property
    def unfinished(self) -> bool:
        return self.state in UNFINISHED

    def to_dict(self) -> dict[str, Any]:
        """Return the job for programs and pages, without its secrets."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("sealed", "progress")}
        return shown | {"state": str(self.state), "progress": self.progress._asdict()}


@dataclass(frozen=True)
class NewJob:
    """Describe a job to add; without ``due_at`` it is due now."""

    kind: str
    arguments: Mapping[str, Any]
    most_attempts: int = 1
    due_at: datetime | None = None
    key: str | None = None
    actor_id: int | None = None
    schedule_id: int | None = None
    has_secrets: bool = False


def open_key(key: str | None) -> str:
    """Return what is unique while a job is unfinished: a digest of its key, or something that comes only once."""
    return hashlib.sha256(key.encode()).hexdigest() if key is not None else f"-{new_id().hex}"


def add(connection: sa.Connection, new: NewJob) -> tuple[Job, bool]:
    """Insert a job, or find the unfinished one with its key; return it, and whether it was inserted.

    If two add the same key at once, the second's transaction fails, and ``Catalog.repeating`` repeats it.
    """
    unique = open_key(new.key)
    if new.key is not None:
        there = connection.execute(sa.select(table.c.id).where(table.c.open_key == unique)).scalar()
        if there is not None:
            return get(connection, int(there)), False
    moment = now(connection)
    row = {name: getattr(new, name) for name in ("kind", "most_attempts", "key", "actor_id", "schedule_id")}
    row |= {"arguments": written(new.arguments), "open_key": unique, "had_secrets": new.has_secrets}
    row |= {"state": str(JobState.DUE), "due_at": new.due_at or moment, "created_at": moment}
    key = connection.execute(table.insert(), row).inserted_primary_key
    return get(connection, int((key or [0])[0])), True


def seal(connection: sa.Connection, job_id: int, sealed: str) -> None:
    """Store a job's sealed secrets, which are bound to its id."""
    connection.execute(table.update().where(table.c.id == job_id), {"secrets": sealed})


def get(connection: sa.Connection, job_id: int) -> Job:
    """Return a job, or raise JobNotFoundError."""
    found = _listed(connection, sa.select(table).where(table.c.id == job_id))
    if not found:
        raise JobNotFoundError(
            f"there is no job {job_id}: `unify jobs list` or `manager.jobs.page()` lists them.", job_id=job_id
        )
    return found[0]


def page(
    connection: sa.Connection,
    limit: int,
    before: int | None = None,
    *,
    states: Collection[str] = (),
    kind: str | None = None,
) -> list[Job]:
    """List up to ``limit`` jobs before the id ``before``, newest first."""
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    if states:
        query = query.where(table.c.state.in_([str(state) for state in states]))
    if kind is not None:
        query = query.where(table.c.kind == kind)
    return _listed(connection, query)


def unfinished(connection: sa.Connection, keys: Collection[str]) -> list[Job]:
    """List the unfinished jobs that have one of these keys, oldest first."""
    mine = table.c.open_key.in_([open_key(key) for key in keys])
    return _listed(connection, sa.select(table).where(mine).order_by(table.c.id))


def counts(connection: sa.Connection) -> tuple[dict[str, int], float | None]:
    """Count the jobs that are due, running or failed; return also for how many seconds one has waited, if one does."""
    shown = [str(state) for state in (JobState.DUE, JobState.RUNNING, JobState.FAILED)]
    columns = (table.c.state, sa.func.count(), sa.func.min(table.c.due_at), utc_now())
    rows = connection.execute(sa.select(*columns).where(table.c.state.in_(shown)).group_by(table.c.state)).all()
    waited = [(moment - first).total_seconds() for state, _, first, moment in rows if state == JobState.DUE]
    numbers = dict.fromkeys(shown, 0) | {state: int(number) for state, number, *_ in rows}
    return numbers, waited[0] if waited and waited[0] >= 0 else None


def cancel_due(connection: sa.Connection, job: Job) -> bool:
    """Cancel a job that nobody has begun; return whether it was still so."""
    mine = (table.c.id == job.id, table.c.attempt == job.attempt, table.c.state == str(job.state))
    return connection.execute(table.update().where(*mine), ended(JobState.CANCELLED, now(connection))).rowcount == 1


def ask_to_cancel(connection: sa.Connection, job: Job) -> bool:
    """Have the runner of a job stop it; return whether the job was still running."""
    mine = (table.c.id == job.id, table.c.attempt == job.attempt, table.c.state == str(JobState.RUNNING))
    return connection.execute(table.update().where(*mine), {"cancelling": True}).rowcount == 1


def retry(connection: sa.Connection, job: Job) -> None:
    """Make a job due now that failed, was cancelled, or waits for its next attempt."""
    _check_retryable(connection, job)
    fresh = {"state": str(JobState.DUE), "due_at": now(connection), "open_key": open_key(job.key)}
    fresh |= {"failures": 0, "interruptions": 0, "cancelling": False, "ended_at": None, "runner": None}
    mine = (table.c.id == job.id, table.c.attempt == job.attempt, table.c.state == str(job.state))
    if connection.execute(table.update().where(*mine), fresh).rowcount != 1:
        raise JobStateError(f"job {job.id} was changed meanwhile: look at it again.", job_id=job.id)


def _check_retryable(connection: sa.Connection, job: Job) -> None:
    if job.state in (JobState.RUNNING, JobState.DONE):
        raise JobStateError(f"job {job.id} is {job.state}: only one that failed, was cancelled or waits is retried.")
    if job.had_secrets and not job.unfinished:
        raise JobStateError(f"the secrets of job {job.id} were erased when it ended: start the same work anew.")
    if job.key is None or job.unfinished:
        return
    other = connection.execute(sa.select(table.c.id).where(table.c.open_key == open_key(job.key))).scalar()
    if other is not None:
        raise JobStateError(f"job {other} does the same work already: wait until it ends.", job_id=int(other))


def ended(state: JobState, moment: datetime) -> dict[str, Any]:
    """Return the values of a job that has ended: its secrets are erased, and its key is free again."""
    return {
        "state": str(state),
        "ended_at": moment,
        "expires_at": None,
        "cancelling": False,
        "secrets": None,
        "open_key": open_key(None),
    }


def purge(connection: sa.Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` jobs that ended before a moment; return how many."""
    old = sa.select(table.c.id).where(table.c.state.in_([str(state) for state in ENDED]), table.c.ended_at < before)
    ids = list(connection.execute(old.order_by(table.c.id).limit(limit)).scalars())
    return connection.execute(table.delete().where(table.c.id.in_(ids))).rowcount if ids else 0


def binding(job_id: int) -> dict[str, object]:
    """Return what a job's sealed secrets belong to."""
    return {"job_id": job_id}


def sealed(connection: sa.Connection) -> list[tuple[int, str]]:
    """List the ids of jobs with secrets, and the sealed secrets."""
    query = sa.select(table.c.id, table.c.secrets).where(table.c.secrets.is_not(None)).order_by(table.c.id)
    return [(int(row["id"]), str(row["secrets"])) for row in damage.dicts(connection, query)]


def replace_sealed(connection: sa.Connection, job_id: int, old: str, new: str) -> bool:
    """Replace a job's sealed secrets if they are still the old ones."""
    mine = (table.c.id == job_id, table.c.secrets == old)
    return connection.execute(table.update().where(*mine), {"secrets": new}).rowcount == 1


def storable(text: str) -> str:
    """Return a text without what databases cannot store: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def written(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else json.dumps(dict(values), ensure_ascii=False, default=str)


def _listed(connection: sa.Connection, query: sa.Select[Any]) -> list[Job]:
    return [_job(row) for row in damage.dicts(connection, query)]


def _job(row: dict[str, Any]) -> Job:
    """Return a row as a job; one whose state cannot be read counts as failed, so that nobody runs it."""
    values = {f.name: row[f.name] for f in fields(Job) if f.name in row}
    state = row["state"] if row["state"] in list(JobState) else JobState.FAILED
    return Job(
        **values
        | {
            "state": JobState(state),
            "arguments": _read(row["arguments"]) or {},
            "result": _read(row["result"]),
            "progress": Reached(row["progress_done"], row["progress_total"], row["progress_text"]),
            "log": row["log"] or "",
            "due_at": row["due_at"] or datetime.min.replace(tzinfo=UTC),
            "sealed": row["secrets"],
        }
    )


def _read(text: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(text) if text is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
