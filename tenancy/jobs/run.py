"""Give the handler of a job what it works with: its progress, its log, its secrets, and whether it should stop.

A handler writes nothing itself: what it says is kept here, and its worker stores it with the next heartbeat.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import NoReturn

from tenancy.catalog import jobs
from tenancy.catalog.job_claims import Ending
from tenancy.catalog.jobs import Job, Reached
from tenancy.errors import ClaimLostError, JobCancelledError, JobStoppedError

LOG_LINES = 200
LINE_MAX = 500


class Stop(Enum):
    """List why a handler should stop."""

    CANCELLED = "cancelled"
    STOPPED = "stopped"
    LOST = "lost"


class JobRun:
    """One attempt at a job, in the thread that works on it."""

    def __init__(self, job: Job, ttl_s: float, open_secrets: Callable[[Job], dict[str, str]]) -> None:
        self.job = job
        self.job_id = job.id
        self.attempt = job.attempt
        self.ending: Ending | None = None
        """How the attempt ended, once it has; the worker stores it."""

        self._ttl_s = ttl_s
        self._kept = time.monotonic()
        self._stop: Stop | None = None
        self._open_secrets = open_secrets
        self._reached = job.progress
        self._lines: deque[str] = deque(job.log.splitlines(), LOG_LINES)
        self._lock = threading.Lock()

    @property
    def secrets(self) -> Mapping[str, str]:
        """What was sealed with the job; empty where nothing was."""
        return self._open_secrets(self.job)

    def progress(self, done: int, total: int | None = None, text: str | None = None) -> None:
        """Say how far the work is; cheap enough to be called for each row."""
        self._reached = Reached(done, total, text)

    def log(self, text: str) -> None:
        """Add a line to the job's log, which shows the last ones; never a secret."""
        line = " ".join(jobs.storable(text).split())[:LINE_MAX]
        with self._lock:
            self._lines.append(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}")

    def check(self) -> None:
        """Raise JobCancelledError, JobStoppedError or ClaimLostError where the work is to stop; cheap.

        To be called wherever the work can be left; between two calls nothing stops a handler.
        """
        if self._stop is None and time.monotonic() - self._kept > self._ttl_s:
            self._stop = Stop.LOST  # the process stood still, or the catalog has not answered for too long
        if self._stop is not None:
            self._raise(self._stop)

    def said(self) -> tuple[Reached, str]:
        """Return the progress and the log as they are now."""
        with self._lock:
            return self._reached, "\n".join(self._lines)

    def kept(self, since: float) -> None:
        """Note that the claim was put off at a time of the monotonic clock."""
        self._kept = since

    def stop(self, why: Stop) -> None:
        """Have the next ``check`` raise; the first reason stays, but that a claim was lost outweighs the others."""
        if self._stop is None or why is Stop.LOST:
            self._stop = why

    @property
    def stopping(self) -> bool:
        """Whether ``check`` would raise, for work that asks by itself whether to go on."""
        return self._stop is not None

    @property
    def cancelled(self) -> bool:
        return self._stop is Stop.CANCELLED

    def _raise(self, why: Stop) -> NoReturn:
        if why is Stop.CANCELLED:
            raise JobCancelledError(f"job {self.job_id} was cancelled.", job_id=self.job_id)
        if why is Stop.STOPPED:
            raise JobStoppedError(f"job {self.job_id} stops, as its worker ends: it runs again.", job_id=self.job_id)
        raise ClaimLostError(f"the claim on job {self.job_id} was lost: another worker runs it.", job_id=self.job_id)
