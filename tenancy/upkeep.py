"""Keep a background thread running: if it ends for any reason, the next call of ``ensure`` starts it again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Upkeep:
    """Run ``work`` in one named thread until ``stopped`` is set; ``restarts`` counts how often it died."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name = name
        self.stopped = threading.Event()
        self.restarts = 0
        self._work = work
        self.thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def ensure(self) -> None:
        """Start the thread unless it is running; cheap enough to call on every request."""
        thread = self.thread
        if thread is not None and thread.is_alive():
            return
        with self._starting:
            if self.stopped.is_set() or (self.thread is not None and self.thread.is_alive()):
                return
            started = threading.Thread(target=self._work, name=self.name, daemon=True)
            started.start()
            if self.thread is not None:
                self.restarts += 1
                log.error("the thread %s had ended by itself: it is started again", self.name)
            self.thread = started

    def stop(self, wait_s: float | None = None) -> None:
        """Stop the thread for good, and wait for it."""
        self.stopped.set()
        with self._starting:
            thread, self.thread = self.thread, None
        if thread is not None:
            thread.join(wait_s)
