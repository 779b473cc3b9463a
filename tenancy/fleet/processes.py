"""Work on a fleet run in several processes, because Alembic allows one migration at a time in a process.

The parent does no work itself. It replaces workers that die and kills workers that take too long over a tenant. If the
parent is killed, its workers stop after what they have begun.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.process import BaseProcess
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import runs
from tenancy.catalog.runs import Run
from tenancy.errors import RunStateError
from tenancy.fleet.fleet import Fleet
from tenancy.fleet.runner import PER_SERVER, TOO_LONG

TIME_LIMIT_S = 600.0
MOST_REPLACED = 100
EACH_AT_LEAST = 50
"""Fewer tenants than this are not worth another process."""

_LOOK_S = 0.2


@dataclass(frozen=True)
class Crew:
    """Describe the worker processes: how many in total and at each server, and how long one tenant may take.

    ``build`` is called in each worker, so it must be picklable; it returns an object with ``manager`` and ``close``.
    """

    build: Callable[[], Any]
    workers: int
    per_server: int = PER_SERVER
    time_limit_s: float = TIME_LIMIT_S


def work_in_processes(fleet: Fleet, run_id: int, crew: Crew, watch: Callable[[Run], None]) -> Run:
    """Work on a run until it ends, is paused or halts; ``watch`` is called with its progress several times a second."""
    context: Any = multiprocessing.get_context("fork" if _may_fork() else "spawn")
    watcher = _Watcher(fleet, run_id, crew)
    open_items = fleet.get(run_id)
    number = max(1, min(crew.workers, -(-(open_items.total - open_items.finished) // EACH_AT_LEAST)))

    enough = context.Event()
    """Set where ``watch`` raised: nobody waits for the outcome any more."""

    def begin() -> BaseProcess:
        process: BaseProcess = context.Process(target=_work, args=(crew.build, run_id, crew.per_server, enough))
        process.start()
        return process

    team, replaced = [begin() for _ in range(number)], 0
    try:
        while team:
            multiprocessing.connection.wait([process.sentinel for process in team], _LOOK_S)
            watch(fleet.get(run_id))
            watcher.end_late_ones(team)
            for process in [process for process in team if not process.is_alive()]:
                team.remove(process)
                if not process.exitcode:
                    continue
                replaced += 1
                if replaced > MOST_REPLACED:
                    raise RunStateError(f"run {run_id}: workers are lost again and again: see the log.", run_id=run_id)
                team.append(begin())
    except KeyboardInterrupt:
        with suppress(RunStateError):
            fleet.pause(run_id)
        raise
    except BaseException:
        enough.set()
        raise
    finally:
        for process in team:
            process.join()
    return fleet.get(run_id)


def _may_fork() -> bool:
    """Return whether fork can be used: other threads may hold locks, which would stay locked in the child."""
    return hasattr(os, "fork") and threading.active_count() == 1


def _work(build: Callable[[], Any], run_id: int, per_server: int, enough: Any) -> None:
    """Run a worker process; Ctrl-C is handled by the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    parts = build()

    def alive() -> bool:
        return (parent is None or parent.is_alive()) and not enough.is_set()

    try:
        parts.manager.fleet.work(run_id, alive=alive, per_server=per_server)
    finally:
        parts.close()


class _Watcher:
    """Kill workers that take too long over a tenant, for example in a revision that loops forever.

    The time is measured here and not by ``started_at``, because the clock that wrote that may be set meanwhile.
    """

    def __init__(self, fleet: Fleet, run_id: int, crew: Crew) -> None:
        self._fleet, self._run_id, self._limit_s = fleet, run_id, crew.time_limit_s
        self._next_look = time.monotonic()
        self._met: dict[sa.Row[int, str, datetime], float] = {}
        """When each begun row was first seen in its present form."""

    def end_late_ones(self, team: list[BaseProcess]) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + min(1.0, self._limit_s / 4)
        with self._fleet.catalog.reading() as connection:
            begun = runs.begun(connection, self._run_id)
        self._met = {row: self._met.get(row, now) for row in begun}
        late = [row for row, met in self._met.items() if now - met > self._limit_s]
        for process in team:
            mine = [row.user_id for row in late if row.runner.startswith(f"{socket.gethostname()}:{process.pid}:")]
            if mine and process.is_alive():
                process.kill()
                process.join()
                if len(mine) == 1:
                    with self._fleet.catalog.writing() as connection:
                        runs.blame(connection, self._run_id, mine[0], TOO_LONG)
