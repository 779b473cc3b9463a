"""Keep one ``unify worker`` beside the web workers: started by gunicorn's master, and not by each of them.

Gunicorn has no hook for each turn of its master's loop, nor for the moment at which it begins to stop. So two of the
master's own methods are extended here: ``murder_workers``, which runs once a second, and ``stop``.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from typing import Any

from settings import PROJECT

log = logging.getLogger("gunicorn.error")

SHORT_LIFE_S = 60.0
"""A worker that ends sooner is started again after a pause, which grows each time."""
LONGEST_PAUSE_S = 60.0
QUICK_S = 2.0
_LOOK_S = 0.05


class JobProcess:
    """Start the worker process, start it again when it ends, and end it with the master.

    ``graceful_s`` is how long it may take to end. If the master is killed, the kernel kills the worker.
    """

    def __init__(self, graceful_s: float) -> None:
        self._graceful_s = graceful_s
        self._process: subprocess.Popen[bytes] | None = None
        self._master = 0
        self._began = self._not_before = 0.0
        self._short_lives = 0
        self._wanted_to_end = False

    def attach(self, arbiter: Any) -> None:
        """Keep the worker from now on, in the turns of this master's loop."""
        self._master = os.getpid()
        murder_workers, stop = arbiter.murder_workers, arbiter.stop

        def turn() -> None:
            murder_workers()
            # A master that was started beside an old one (SIGUSR2) waits until that one, and its worker, are gone.
            if arbiter.master_pid == 0:
                self.look()

        def stop_both(graceful: bool = True) -> None:
            self.ask_to_end()
            stop(graceful)
            self.end(self._graceful_s if graceful else QUICK_S)

        arbiter.murder_workers, arbiter.stop = turn, stop_both

    def look(self) -> None:
        """Start the worker if it does not run and no pause is due."""
        if os.getpid() != self._master:
            return
        now = time.monotonic()
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._ended(now)
        if now >= self._not_before:
            self._start(now)

    def replace(self) -> None:
        """Have the worker end, as a new one is to read the settings again; ``look`` starts that one afterwards."""
        self.ask_to_end()

    def ask_to_end(self) -> None:
        """Tell the worker to take no more jobs, and to end with those that it has."""
        self._wanted_to_end = True
        if self._runs():
            self._signal(signal.SIGTERM)

    def end(self, most_s: float) -> None:
        """Wait until the worker has ended; kill it where it takes too long."""
        until = time.monotonic() + most_s
        while self._runs() and time.monotonic() < until:
            time.sleep(_LOOK_S)
        if self._runs():
            self._signal(signal.SIGKILL)

    def _start(self, now: float) -> None:
        words = [sys.executable, "-m", "utils.cli", "worker", "--beside", str(self._master)]
        try:
            self._process = subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.DEVNULL)
        except OSError as error:
            log.error("the worker of jobs cannot be started: %s", error.strerror)
            self._not_before = now + LONGEST_PAUSE_S
            return
        self._began, self._wanted_to_end = now, False
        log.info("Booting worker of jobs with pid: %s", self._process.pid)

    def _ended(self, now: float) -> None:
        self._process = None
        if self._wanted_to_end:
            return
        self._short_lives = self._short_lives + 1 if now - self._began < SHORT_LIFE_S else 0
        pause_s = min(2.0**self._short_lives, LONGEST_PAUSE_S) if self._short_lives else 0.0
        self._not_before = now + pause_s
        log.error("The worker of jobs has ended by itself: it is started again in %.0f s.", pause_s)

    def _runs(self) -> bool:
        # The master's own waitpid(-1) may have reaped it: ``poll`` then finds no such child, and says that it ended.
        return os.getpid() == self._master and self._process is not None and self._process.poll() is None

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
