"""Help to test jobs: have workers take them while a block runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tenancy.jobs.schedules import Schedules
from tenancy.jobs.worker import Worker
from tests.support.applications import PATIENCE_S


def worker_of(holder: Any, threads: int = 2, **how: Any) -> Worker:
    """Make a worker that looks often; ``holder`` is a manager, or the jobs alone."""
    jobs = getattr(holder, "jobs", holder)
    return Worker(jobs, Schedules(jobs), threads, look_s=0.02, **how)


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
