"""Add jobs, look at them, cancel and retry them: ``manager.jobs``.

The catalog's rows are the truth. Workers look at them once a second (``worker.py``), so nothing has to be told to them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tenancy import context
from tenancy.catalog import Catalog, job_claims, job_workers, jobs, now
from tenancy.catalog.job_workers import JobWorker
from tenancy.catalog.jobs import Job, JobState, NewJob
from tenancy.credentials.keyring import Keyring
from tenancy.errors import ConfigurationError, JobStateError
from tenancy.jobs.kinds import Kinds

ARGUMENTS_MAX = 65_536
_LOOK_S = 0.05
_ATTEMPTS = 3


class Jobs:
    """Hold the jobs of an installation."""

    def __init__(self, catalog: Catalog, keyring: Keyring, kinds: Kinds | None = None) -> None:
        self.catalog = catalog
        self.kinds = kinds or Kinds()
        """The kinds that this process knows; it takes no jobs of others."""

        self._keyring = keyring

    def add(
        self,
        kind: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        due_at: datetime | None = None,
        secrets: Mapping[str, str] | None = None,
        actor_id: int | None = None,
        key: str | None = None,
    ) -> Job:
        """Add a job and return it; with the key of an unfinished one, return that one.

        ``secrets`` are sealed, given to the handler alone, and erased when the job ends. Without ``actor_id`` the job
        is the context's.
        """
        new = self.described(
            kind, arguments or {}, due_at=due_at, actor_id=actor_id, key=key, has_secrets=bool(secrets)
        )

        def work(connection: sa.Connection) -> Job:
            return self.put(connection, new, secrets)

        return self.catalog.repeating(work)

    def described(self, kind: str, arguments: Mapping[str, Any], **more: Any) -> NewJob:
        """Check what a job is to do, and describe it."""
        known = self.kinds.get(kind)
        checked = known.checked(arguments)
        key = more.get("key")
        if len(json.dumps(checked)) > ARGUMENTS_MAX or (key is not None and not 0 < len(key) <= jobs.KEY_MAX):
            raise ConfigurationError("the arguments or the key of this job are too long.", field="arguments")
        actor_id = more.pop("actor_id", None)
        actor_id = actor_id if actor_id is not None else context.current().actor_id
        return NewJob(kind, checked, known.most_attempts, actor_id=actor_id, **more)

    def put(self, connection: sa.Connection, new: NewJob, secrets: Mapping[str, str] | None = None) -> Job:
        """Insert a job in the caller's write transaction, or find the unfinished one with its key."""
        job, inserted = jobs.add(connection, new)
        if not (inserted and secrets):
            return job
        jobs.seal(connection, job.id, self._keyring.seal(json.dumps(dict(secrets)), jobs.binding(job.id)))
        return jobs.get(connection, job.id)

    def get(self, job_id: int) -> Job:
        with self.catalog.reading() as connection:
            return jobs.get(connection, job_id)

    def page(
        self,
        limit: int = 50,
        before: int | None = None,
        *,
        states: Collection[str] = (),
        kind: str | None = None,
    ) -> list[Job]:
        """List jobs, newest first; ``before`` is the id of the last one of the page before."""
        with self.catalog.reading() as connection:
            return jobs.page(connection, limit, before, states=states, kind=kind)

    def cancel(self, job_id: int) -> Job:
        """Cancel a job: at once where nobody works on it, else as soon as its handler can stop."""

        def work(connection: sa.Connection) -> Job | None:
            job = jobs.get(connection, job_id)
            if not job.unfinished:
                raise JobStateError(f"job {job_id} is {job.state}: it cannot be cancelled any more.", job_id=job_id)
            idle = job.state is JobState.DUE or job_claims.expired(connection, job)
            if not (jobs.cancel_due(connection, job) if idle else jobs.ask_to_cancel(connection, job)):
                return None
            self.catalog.audit.append(connection, "job.cancel", detail={"job": job.id, "kind": job.kind})
            return jobs.get(connection, job_id)

        for _ in range(_ATTEMPTS):
            cancelled = self.catalog.repeating(work)
            if cancelled is not None:
                return cancelled
        raise JobStateError(f"job {job_id} changes at this moment: try again.", job_id=job_id)

    def retry(self, job_id: int) -> Job:
        """Make a job due now that failed, was cancelled, or waits for its next attempt."""

        def work(connection: sa.Connection) -> Job:
            job = jobs.get(connection, job_id)
            jobs.retry(connection, job)
            self.catalog.audit.append(connection, "job.retry", detail={"job": job.id, "kind": job.kind})
            return jobs.get(connection, job_id)

        return self.catalog.repeating(work)

    def wait(self, job_id: int, timeout_s: float = 60.0) -> Job:
        """Wait until a job has ended, and return it; raise JobStateError where it takes longer."""
        until = time.monotonic() + timeout_s
        while (job := self.get(job_id)).unfinished:
            if time.monotonic() > until:
                raise JobStateError(f"job {job_id} is still {job.state} after {timeout_s:g} s.", job_id=job_id)
            time.sleep(_LOOK_S)
        return job

    def workers(self) -> list[JobWorker]:
        """List the processes that take jobs and have said so lately."""
        with self.catalog.reading() as connection:
            return job_workers.alive(connection)

    def status(self) -> dict[str, Any]:
        """Report workers that beat lately, the number of jobs due, running and failed, and how long one has waited."""
        with self.catalog.reading() as connection:
            return job_workers.status(connection)

    def secrets_of(self, job: Job) -> dict[str, str]:
        """Return the secrets of a job that has not ended; empty where it has none."""
        if job.sealed is None:
            return {}
        found: dict[str, str] = json.loads(self._keyring.open(job.sealed, jobs.binding(job.id)))
        return found

    def purge(self, older_s: float, limit: int = 500) -> int:
        """Delete jobs that ended long ago; return how many."""

        def work(connection: sa.Connection) -> int:
            return jobs.purge(connection, now(connection) - timedelta(seconds=older_s), limit)

        return self.catalog.repeating(work)
