"""Bound how many of a process's threads one user may hold, so that a database that hangs leaves the others theirs.

A user may hold half of the threads that the other users leave free: so however many databases hang, the next user
finds some. Those whose databases were seen to hang hold no more than half of all together.

Whoever serves says how many threads there are (``share``); elsewhere, in commands and tests, nothing is bounded.
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
"""Where no place comes free for so long, nobody waits for one; a burst to a database that is well waits its turn."""

STALL_S = 2.0
"""A quarter of the threads may wait for so long for one user, so that a short pause of a server refuses nobody."""

HANGS_S = 2.0
"""Behind a database that took so long nobody waits at all, until it has answered again."""

AGAIN_S = 5
"""After so many seconds the work that hangs now was given up."""


class Bulkhead:
    """Give the users places, one a thread; ``refused`` counts who found none."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._reset()
        after_fork(self._reset)

    def share(self, threads: int) -> None:
        """Say how many threads the users have between them."""
        self._threads = threads

    @contextmanager
    def place(self, owner: int) -> Iterator[None]:
        """Hold a place for this thread, or raise TenantCrowdedError; within a place the same thread has it already."""
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
        """Wait for a place to come free, or refuse where none of the user's has moved for too long."""
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
        """Say whether a user may hold one more."""
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
                return  # forked meanwhile: the place is the parent's
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
        """When a place of a user was last taken or given back."""
        self._waiting: Counter[int] = Counter()
        self._hung: set[int] = set()
