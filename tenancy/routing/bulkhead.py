"""Limit how many of a process's threads one user may occupy, so that a hanging database cannot block the others.

A user may occupy half of the threads that the other users leave free, so however many databases hang, the next user
finds a thread. All users whose databases were seen to hang may occupy half of the threads together.

The server sets the number of threads (``share``); elsewhere, in commands and tests, there is no limit.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tenancy.errors import TenantCrowdedError
from tenancy.forks import after_fork

PATIENCE_S = 0.4
"""How recently a place of the user must have been released for a request to wait: a burst waits, a hang does not."""

STALL_S = 2.0
"""The same while few (a quarter of the threads) wait for the user, so that a server's short pause refuses nobody."""

HANGS_S = 2.0
"""A database that took this long hangs: nobody waits for it until it answers again."""

AGAIN_S = 5
"""The ``retry_after_s`` of refused requests; by then those that hang have reached their deadline."""


class Bulkhead:
    """Give users places, one for each thread; ``refused`` counts requests that got none."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._reset()
        after_fork(self._reset)

    def share(self, threads: int) -> None:
        """Set the number of threads that all users share."""
        self._threads = threads

    @contextmanager
    def place(self, owner: int) -> Iterator[None]:
        """Hold a place for this thread, or raise TenantCrowdedError; nested calls of the same thread share one."""
        thread = threading.get_ident()
        if self._threads is None or thread in self._held.get(owner, ()):
            yield
            return
        self._take(owner, thread, self._threads)
        try:
            yield
        finally:
            self._give_back(owner, thread)

    def _take(self, owner: int, thread: int, threads: int) -> None:
        with self._left:
            patience_s = STALL_S if self._waiting[owner] < threads // 4 else PATIENCE_S
            self._waiting[owner] += 1
            try:
                while not self._may(owner, threads):
                    self._wait(owner, patience_s)
            finally:
                self._waiting[owner] -= 1
                if not self._waiting[owner]:
                    del self._waiting[owner]
            self._held.setdefault(owner, {})[thread] = self._moved[owner] = time.monotonic()

    def _wait(self, owner: int, patience_s: float) -> None:
        """Wait for a place, or refuse if none of the user's was taken or released for ``patience_s``."""
        wait_s = self._moved.get(owner, 0.0) + patience_s - time.monotonic()
        if owner in self._hung or wait_s <= 0:
            self.refused += 1
            held = len(self._held.get(owner, ()))
            raise TenantCrowdedError(
                f"{held} requests of user {owner} are waiting for their database: try again when it answers.",
                user_id=owner,
                retry_after_s=AGAIN_S,
            )
        self._left.wait(wait_s)

    def _may(self, owner: int, threads: int) -> bool:
        """Return whether a user may occupy one more thread."""
        held = {each: len(places) for each, places in self._held.items()}
        hanging = sum(number for each, number in held.items() if each in self._hung)
        if owner in self._hung and hanging >= max(1, threads // 2):
            return False
        mine = held.pop(owner, 0)
        return mine < max(1, (threads - sum(held.values())) // 2)

    def _give_back(self, owner: int, thread: int) -> None:
        with self._left:
            held, now = self._held.get(owner, {}), time.monotonic()
            if thread not in held:
                return  # the process was forked meanwhile: the place is the parent's
            if now - held.pop(thread) > HANGS_S:
                self._hung.add(owner)
            else:
                self._hung.discard(owner)
            self._moved[owner] = now
            if not held:
                del self._held[owner], self._moved[owner]
            self._left.notify_all()

    def _reset(self) -> None:
        self.refused = 0
        self._left = threading.Condition()
        self._held: dict[int, dict[int, float]] = {}
        self._moved: dict[int, float] = {}
        """When a user last took or released a place."""
        self._waiting: Counter[int] = Counter()
        self._hung: set[int] = set()
