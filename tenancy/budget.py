"""Bound how many database connections a process holds, whatever number of engines they belong to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from tenancy.errors import DatabaseBusyError

_DESCRIPTORS_A_CONNECTION = 4
_DESCRIPTORS_KEPT = 128


def connection_limit() -> int:
    """Derive how many connections this process may open from its limit on open files."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(4096, (soft - _DESCRIPTORS_KEPT) // _DESCRIPTORS_A_CONNECTION))


class ConnectionBudget:
    """Bound open connections of all engines together; those who wait are served in order."""

    def __init__(self, limit: int, patience_s: float = 5.0) -> None:
        self.limit = limit
        self.open = 0
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._line: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """Count those in line: while there are any, a connection that comes free is closed, not kept."""
        return len(self._line)

    def take(self, make_room: Callable[[], None], may_wait: bool) -> None:
        """Take a place; make room, then wait for one, or raise DatabaseBusyError."""
        turn = threading.Event()
        with self._lock:
            if self.open < self.limit:
                self.open += 1
                return
            self._line.append(turn)
        make_room()  # once in line: what comes free from here on is ours when our turn comes
        if turn.wait(self._patience_s if may_wait else 0):
            return
        with self._lock:
            if turn.is_set():
                return
            self._line.remove(turn)
        raise DatabaseBusyError("all database connections of this process are in use: try again.")

    def give_back(self) -> None:
        """Free a place, or pass it on to the first in line."""
        with self._lock:
            if self._line:
                self._line.popleft().set()
            else:
                self.open -= 1
