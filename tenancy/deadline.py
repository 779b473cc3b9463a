"""Give one request a single deadline for all its waits: name service, servers, databases.

Drivers call ``left`` before each wait to learn how long it may take. A time limit for each wait alone would not be
enough: a server that answers each statement just in time, or sends a byte a second, could occupy a thread forever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_S = 4.5
"""How long a request or a probe may wait in total; the rest of the promised five seconds is for the answer."""

LEAST_S = 0.1
"""How long each wait may take even after the deadline, so that a healthy server is not blamed for our own slow work."""

UNHURRIED_S = 30.0
"""How long somebody may wait who asked for a database to be created: its server may be far away, or silent."""

_until: ContextVar[float | None] = ContextVar("until", default=None)
_at_last: ContextVar[float | None] = ContextVar("at_last", default=None)


def _sooner(mine: float, around: float | None) -> float:
    return mine if around is None else min(mine, around)


@contextmanager
def within(seconds: float, *, at_last: bool = False) -> Iterator[None]:
    """Set a deadline for all waits inside the block together; an earlier deadline of an outer block stays.

    With ``at_last`` it also bounds blocks inside that lift their deadline (``lifted``).
    """
    mine = time.monotonic() + seconds
    tokens = [(each, each.set(_sooner(mine, each.get()))) for each in (_until, *([_at_last] if at_last else []))]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def unhurried() -> AbstractContextManager[None]:
    """Bound work that a person waits for although it lifts its deadline, such as creating a database."""
    return within(UNHURRIED_S, at_last=True)


@contextmanager
def lifted() -> Iterator[None]:
    """Lift the deadline inside the block (provisioning, migrations); afterwards it is later by the time that took."""
    around, began = _until.get(), time.monotonic()
    _until.set(_at_last.get())
    try:
        yield
    finally:
        _until.set(None if around is None else around + time.monotonic() - began)


def left(limit_s: float) -> float:
    """Return how many seconds a wait may take: ``limit_s``, or less if the deadline is nearer."""
    around = _until.get()
    return limit_s if around is None else min(limit_s, max(LEAST_S, around - time.monotonic()))


@dataclass(frozen=True)
class Patience:
    """Bound how long an answer may take in total or, with ``each_silence``, each wait for its next bytes."""

    seconds: float
    each_silence: bool = False

    def until(self) -> float:
        """Return the time (``time.monotonic``) at which a wait that begins now ends."""
        return time.monotonic() + left(self.seconds)

    def again(self, until: float) -> float:
        """Return the end of the next wait of the same answer; ``until`` was the end of the last one.

        Without a deadline each wait may take the full time. With one, bytes that trickle in extend the wait up to it.
        """
        around, begins = _until.get(), time.monotonic()
        return begins + self.seconds if around is None else max(until, min(begins + self.seconds, around))
