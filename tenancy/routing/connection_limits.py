"""Limit the database connections of a process, in total and at each server, over all engines."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from tenancy.deadline import left
from tenancy.errors import DatabaseBusyError

_DESCRIPTORS_A_CONNECTION = 4
_DESCRIPTORS_KEPT = 128


def connection_limit() -> int:
    """Derive the number of connections that this process may open from its limit of open files."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(4096, (soft - _DESCRIPTORS_KEPT) // _DESCRIPTORS_A_CONNECTION))


class Budgets:
    """Hold the budget of the process, and one for each server that it connects to.

    ``server_limit`` is this process's share of a server's connections; None leaves only the process's limit.
    """

    def __init__(self, process_limit: int, server_limit: int | None) -> None:
        self.process = ConnectionBudget(process_limit)
        self.server_limit = server_limit
        self._lock = threading.Lock()
        self._servers: dict[str, ConnectionBudget] = {}

    def of(self, server: str | None) -> list[ConnectionBudget]:
        """Return the budgets that a connection counts in: the server's (the scarcer one first) and the process's."""
        if server is None or self.server_limit is None:
            return [self.process]
        with self._lock:
            if server not in self._servers:
                self._servers[server] = ConnectionBudget(self.server_limit)
            return [self._servers[server], self.process]


class ConnectionBudget:
    """Limit the open connections of all engines together; waiting threads are served in order."""

    def __init__(self, limit: int, patience_s: float = 4.0) -> None:
        self.limit = limit
        self.open = 0
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._line: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """The number of waiting threads; while there are any, a returned connection is closed and not pooled."""
        return len(self._line)

    def take(self, make_room: Callable[[ConnectionBudget], None], may_wait: bool) -> None:
        """Take a place; make room, then wait for one, or raise DatabaseBusyError."""
        turn = threading.Event()
        with self._lock:
            if self.open < self.limit:
                self.open += 1
                return
            self._line.append(turn)
        make_room(self)  # after queueing, so that a place freed from here on is not missed
        if turn.wait(left(self._patience_s) if may_wait else 0):
            return
        with self._lock:
            if turn.is_set():
                return
            self._line.remove(turn)
        raise DatabaseBusyError("all database connections that this process may have are in use: try again.")

    def give_back(self) -> None:
        """Free a place, or hand it to the first waiting thread."""
        with self._lock:
            if self._line:
                self._line.popleft().set()
            else:
                self.open -= 1


def take(budgets: list[ConnectionBudget], make_room: Callable[[ConnectionBudget], None], may_wait: bool) -> None:
    """Take a place in every budget, or in none."""
    taken: list[ConnectionBudget] = []
    try:
        for budget in budgets:
            budget.take(make_room, may_wait)
            taken.append(budget)
    except BaseException:
        give_back(taken)
        raise


def give_back(budgets: list[ConnectionBudget]) -> None:
    for budget in budgets:
        budget.give_back()


def waited_for(budgets: list[ConnectionBudget]) -> bool:
    return any(budget.waiting for budget in budgets)
