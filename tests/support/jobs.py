"""Help to test jobs: have workers take them while a block runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tenancy.catalog import job_claims
from tenancy.catalog.job_claims import Ending
from tenancy.catalog.jobs import JobState, Reached
from tenancy.jobs.kinds import Argument, Kind
from tenancy.jobs.schedules import Schedules
from tenancy.jobs.worker import Worker
from tests.support.applications import PATIENCE_S


def worker_of(holder: Any, threads: int = 2, **how: Any) -> Worker:
    """Make a worker that looks often; ``holder`` is a manager, or the jobs alone."""
    jobs = getattr(holder, "jobs", holder)
    return Worker(jobs, Schedules(jobs), threads, look_s=0.02, **how)


def keep_jobs(manager: Any) -> dict[str, str]:
    """Leave a job that waits, one that failed with much to say, and a schedule; give their ids by their lists."""
    manager.jobs.kinds.register(
        Kind("idle", "Do nothing.", lambda run, arguments: None, (Argument("all", "", "switch"),))
    )
    schedule = manager.schedules.add("0 3 * * *", "idle", {"all": True}, "Europe/Berlin")
    manager.jobs.add("idle")
    failed = manager.jobs.add("idle", {"all": True})
    with manager.catalog.writing() as connection:
        (*_, seen) = job_claims.free(connection, ["idle"], 10)
        job = job_claims.take(connection, seen, "host:1", 60.0)
        assert job is not None
        ending = Ending(JobState.FAILED, error="it cannot be. " * 20, error_code="job_failed", failed=True)
        job_claims.end(connection, job, ending, Reached(3, 10, "reading"), "a line of the log\n" * 9)
    return {"/admin/jobs": str(failed.id), "/admin/schedules": str(schedule.id)}


@contextmanager
def working(holder: Any, *workers: Worker) -> Iterator[None]:
    """Have workers, or one, take jobs inside the block, each in a thread."""
    stop = threading.Event()
    how = {"finish_s": 1.0, "stop_s": 1.0}
    each = workers or [worker_of(holder)]
    threads = [threading.Thread(target=worker.run, args=(stop,), kwargs=how) for worker in each]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in threads)


def until(met: Callable[[], object]) -> None:
    """Wait until something is so, or say that it does not come."""
    end = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)
