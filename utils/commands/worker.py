"""Hold ``unify worker``: a process that runs jobs, on this host or any other that has the same settings."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from utils.commands.serve import check_catalog
from utils.parameters import WholeNumber
from utils.toolbox import Toolbox, pass_toolbox

if TYPE_CHECKING:
    from settings import Settings


@click.command()
@click.option("--threads", type=WholeNumber(1, 64), metavar="N", help="Jobs at a time; JOB_THREADS by default.")
@click.option("--beside", type=WholeNumber(1), hidden=True, help="End with this process, which started the worker.")
@pass_toolbox
def worker(toolbox: Toolbox, threads: int | None, beside: int | None) -> None:
    """Run jobs and start those of schedules, until SIGTERM or Ctrl-C.

    `unify serve` keeps one such process beside its own, unless JOB_WORKER=false. Any number may run, on any number of
    hosts with the same settings. One that ends lets its jobs finish for 20 seconds; those that do not, and those of a
    worker that is killed, run again elsewhere.
    """
    check_catalog(toolbox)
    _log(toolbox.settings)
    if beside is not None:
        _end_with(beside)
    stop = _stop_on_signal()

    from tenancy.jobs.worker import Worker

    manager = toolbox.parts.manager
    ended = Worker(manager.jobs, manager.schedules, threads or toolbox.settings.job_threads).run(stop)
    toolbox.close()
    if not ended:
        # Jobs that do not stop hold threads, and processes of their own, for which Python would wait without an end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _log(settings: Settings) -> None:
    """Write lines as the server writes them: a worker runs for long, and its log is what tells of it."""
    import logs

    logs.configure(settings.log_level, settings.log_format)


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()

    def asked(*_: Any) -> None:
        # In a thread: the signal may have come while this one holds the event's lock.
        threading.Thread(target=stop.set, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    return stop


def _end_with(pid: int) -> None:
    """Have the kernel kill this process once the server that started it is gone."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != pid:
        raise click.exceptions.Exit(1)
