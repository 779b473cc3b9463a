"""Run jobs: take what is due, keep its claims by heartbeats, and record how it ended.

One thread, the caller's, does all that concerns the catalog; each job runs in a thread of its own, which writes nothing
there itself (``run.py``). Any number of workers on any number of hosts may run at once. One that is killed leaves its
jobs to the expiry of their claims.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa

from tenancy import context
from tenancy.catalog import job_claims, job_workers
from tenancy.catalog.job_claims import Ending, Free
from tenancy.catalog.jobs import Job, JobState
from tenancy.errors import ClaimLostError, JobCancelledError, JobStoppedError, TenancyError
from tenancy.jobs.kinds import Kind
from tenancy.jobs.queue import Jobs
from tenancy.jobs.run import JobRun, Stop
from tenancy.jobs.schedules import Schedules
from tenancy.types import new_id

log = logging.getLogger(__name__)

THREADS = 2
LOOK_S = 1.0
"""How often a worker looks for jobs that are due, and for running ones that are to be cancelled."""
FINISH_S = 20.0
"""How long the jobs of a worker that ends may go on, before they are asked to stop."""
STOP_S = 5.0
"""How long they may take to stop; those that do not are left to the expiry of their claims."""
BACK_OFF_S, LONGEST_BACK_OFF_S = 10.0, 3600.0
KEPT_S = 90 * 86_400.0
"""How long jobs that ended are kept."""
TIDY_S = 60.0

UNEXPECTED = "job_failed"


class Worker:
    """Take jobs and run up to ``threads`` of them at a time."""

    def __init__(
        self,
        jobs: Jobs,
        schedules: Schedules,
        threads: int = THREADS,
        *,
        ttl_s: float = job_claims.TTL_S,
        heartbeat_s: float = job_workers.HEARTBEAT_S,
        look_s: float = LOOK_S,
    ) -> None:
        self.id = new_id()
        self.threads = threads
        self._jobs, self._schedules, self._catalog = jobs, schedules, jobs.catalog
        self._ttl_s = ttl_s
        self._look_s = look_s
        self._beat_s = min(heartbeat_s, ttl_s / 4)
        self._next_beat = self._next_tidy = 0.0
        self._runs: dict[int, JobRun] = {}
        """The attempts that are not recorded yet, by job."""

        self._wake = threading.Event()

    def run(self, stop: threading.Event, *, finish_s: float = FINISH_S, stop_s: float = STOP_S) -> bool:
        """Take jobs until ``stop`` is set, then let those that run end; return whether all of them did."""
        log.info("worker %s takes jobs, %d at a time", _runner(), self.threads)
        while not stop.is_set():
            self._round(take=True)
        self._finish(finish_s)
        for run in self._runs.values():
            run.stop(Stop.STOPPED)
        self._finish(stop_s)
        self._attempt(self._leave)
        log.info("worker %s ends, %d jobs are left to others", _runner(), len(self._runs))
        return not self._runs

    def _finish(self, most_s: float) -> None:
        until = time.monotonic() + most_s
        while self._runs and time.monotonic() < until:
            self._round(take=False)

    def _round(self, *, take: bool) -> None:
        """Look once; wait until the next look is due or a job has ended, unless there may be more to take."""
        self._wake.clear()
        found = self._attempt(partial(self._look, take=take))
        if not found:
            self._wake.wait(self._look_s)

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """Do one piece of the worker's own work; log its error, and do it again with the next look."""
        try:
            return work()
        except TenancyError as error:
            log.warning("the worker cannot go on: %s", error.message)
        except Exception:  # logged with its traceback; the next look may succeed
            log.exception("the worker cannot go on")
        return None

    def _look(self, *, take: bool) -> bool:
        """Do what is due; return whether a job was taken."""
        self._record()
        if time.monotonic() >= self._next_beat:
            self._beat()
        self._stop_cancelled()
        if not take:
            return False
        if time.monotonic() >= self._next_tidy:
            self._attempt(self._tidy)
        self._attempt(self._schedules.start_due)
        return self._take()

    # --- taking -----------------------------------------------------------------------------------------

    def _take(self) -> bool:
        number = self.threads - len(self._runs)
        if number < 1:
            return False
        with self._catalog.reading() as connection:
            free = job_claims.free(connection, self._jobs.kinds.names(), number + self.threads)
        taken = 0
        for seen in free:
            if taken < number and seen.id not in self._runs:
                since = time.monotonic()
                job = self._catalog.repeating(partial(self._claim, seen=seen))
                taken += job is not None
                if job is not None:
                    self._begin(job, since)
        return taken > 0

    def _claim(self, connection: sa.Connection, seen: Free) -> Job | None:
        return job_claims.take(connection, seen, _runner(), self._ttl_s)

    def _begin(self, job: Job, since: float) -> None:
        run = JobRun(job, self._ttl_s, self._jobs.secrets_of)
        run.kept(since)
        self._runs[job.id] = run
        log.info("job %d (%s) begins, attempt %d", job.id, job.kind, job.attempt)
        threading.Thread(target=self._work, args=(run,), name=f"unify-job-{job.id}", daemon=True).start()

    # --- working, in the job's own thread ---------------------------------------------------------------

    def _work(self, run: JobRun) -> None:
        job = run.job
        context.bind(context.Context(actor_id=job.actor_id, actor=context.JOB, request_id=f"job-{job.id}"))
        try:
            run.ending = self._worked(run, self._jobs.kinds.get(job.kind))
        except BaseException:
            run.ending = Ending(JobState.FAILED, error="unexpected: see the log.", error_code=UNEXPECTED, failed=True)
            raise
        finally:
            self._wake.set()

    def _worked(self, run: JobRun, kind: Kind) -> Ending:
        try:
            return Ending(JobState.DONE, result=dict(kind.handler(run, dict(run.job.arguments)) or {}))
        except JobCancelledError:
            return Ending(JobState.CANCELLED)
        except JobStoppedError:
            return Ending(JobState.DUE)
        except ClaimLostError as error:  # its own, or that of a tenant which another operation took
            return self._failed(run, kind, error)
        except TenancyError as error:
            return self._failed(run, kind, error)
        except Exception as error:
            log.exception("job %d (%s) met an unexpected error", run.job_id, kind.name)
            return self._failed(run, kind, TenancyError(f"unexpected {type(error).__name__}: see the log."))

    def _failed(self, run: JobRun, kind: Kind, error: TenancyError) -> Ending:
        """Have a job tried again later; at the end of its attempts, or where that is no use, it has failed for good."""
        code = UNEXPECTED if type(error) is TenancyError else error.code
        failures = run.job.failures + 1
        run.log(f"attempt {run.attempt} failed: {error.message}")
        if run.cancelled:
            return Ending(JobState.CANCELLED, error=error.message, error_code=code, failed=True)
        if failures >= run.job.most_attempts or isinstance(error, kind.final):
            return Ending(JobState.FAILED, error=error.message, error_code=code, failed=True)
        wait_s = min(BACK_OFF_S * 2 ** (failures - 1), LONGEST_BACK_OFF_S)
        return Ending(JobState.DUE, error=error.message, error_code=code, wait_s=wait_s, failed=True)

    # --- recording --------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Write how attempts ended; one that cannot be written stays for the next look."""
        for run in [run for run in self._runs.values() if run.ending is not None]:
            ending = run.ending
            assert ending is not None  # noqa: S101 - chosen by it
            written = self._catalog.repeating(partial(self._end, run=run, ending=ending))
            del self._runs[run.job_id]
            state = str(ending.state) if written else "lost to another worker"
            log.info("job %d (%s) ends, attempt %d: %s", run.job_id, run.job.kind, run.attempt, state)

    def _end(self, connection: sa.Connection, run: JobRun, ending: Ending) -> bool:
        return job_claims.end(connection, run.job, ending, *run.said())

    def _beat(self) -> None:
        """Put off the expiry of all claims, and say that this worker lives."""
        since = time.monotonic()
        kept = self._catalog.repeating(self._keep)
        self._next_beat = since + self._beat_s
        for run in list(self._runs.values()):
            if run.job_id in kept:
                run.kept(since)
            elif run.ending is None:
                run.stop(Stop.LOST)

    def _keep(self, connection: sa.Connection) -> set[int]:
        about = {"host": socket.gethostname()[:255], "pid": os.getpid(), "threads": self.threads}
        job_workers.beat(connection, self.id, about | {"running": len(self._runs)})
        runs = sorted(self._runs.items())
        return {job_id for job_id, run in runs if job_claims.keep(connection, run.job, self._ttl_s, *run.said())}

    def _stop_cancelled(self) -> None:
        if self._runs:
            with self._catalog.reading() as connection:
                cancelled = job_claims.cancelled(connection, list(self._runs))
            for job_id in cancelled:
                self._runs[job_id].stop(Stop.CANCELLED)

    def _tidy(self) -> None:
        self._next_tidy = time.monotonic() + TIDY_S
        self._schedules.correct()
        self._jobs.purge(KEPT_S)
        with self._catalog.writing() as connection:
            job_workers.forget_silent(connection)

    def _leave(self) -> None:
        self._record()
        with self._catalog.writing() as connection:
            job_workers.remove(connection, self.id)


def _runner() -> str:
    """Return this process's host and id, for people to read."""
    return f"{socket.gethostname()}:{os.getpid()}"
