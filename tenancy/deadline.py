"""Bound how long one request may wait for name services, servers and databases: one deadline for all of it together.

Drivers ask ``left`` before each wait. A limit for each wait alone would not do: a server that answers every statement
just in time, or sends a byte a second, would hold a thread as long as it likes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_S = 4.5
"""What a request or a probe may wait in all; answering takes the rest of the five seconds that people are promised."""

LEAST_S = 0.1
"""What a healthy server may take even after the deadline, so that slow work of our own is not blamed on it."""

UNHURRIED_S = 30.0
"""What somebody may wait who asked for a database: its server may be far away, or say nothing."""

_until: ContextVar[float | None] = ContextVar("until", default=None)
_at_last: ContextVar[float | None] = ContextVar("at_last", default=None)


def _sooner(mine: float, around: float | None) -> float:
    return mine if around is None else min(mine, around)


@contextmanager
def within(seconds: float, *, at_last: bool = False) -> Iterator[None]:
    """Let all waits inside take ``seconds`` together; an earlier deadline around it stands.

    ``at_last`` holds for what lifts its deadline too.
    """
    mine = time.monotonic() + seconds
    tokens = [(each, each.set(_sooner(mine, each.get()))) for each in (_until, *([_at_last] if at_last else []))]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def unhurried() -> AbstractContextManager[None]:
    """Bound work that a person asked for and waits for, which lifts its deadline: a thread is held no longer."""
    return within(UNHURRIED_S, at_last=True)


@contextmanager
def lifted() -> Iterator[None]:
    """Let work inside take as long as it needs (provisioning, migrations); the deadline around it moves as much."""
    around, began = _until.get(), time.monotonic()
    _until.set(_at_last.get())
    try:
        yield
    finally:
        _until.set(None if around is None else around + time.monotonic() - began)


def left(limit_s: float) -> float:
    """Give how many seconds a wait may take: ``limit_s``, or less where the deadline is nearer."""
    around = _until.get()
    return limit_s if around is None else min(limit_s, max(LEAST_S, around - time.monotonic()))


@dataclass(frozen=True)
class Patience:
    """Say how long an answer may take: the whole of it, or with ``each_silence`` every wait for its next bytes."""

    seconds: float
    each_silence: bool = False

    def until(self) -> float:
        """Give the moment at which a wait that begins now is given up."""
        return time.monotonic() + left(self.seconds)

    def again(self, until: float) -> float:
        """Give the moment at which the wait for more of an answer is given up, whose last wait ended at ``until``.

        A server that sends a byte now and then gains nothing by it once the deadline is over.
        """
        around, begins = _until.get(), time.monotonic()
        return begins + self.seconds if around is None else max(until, min(begins + self.seconds, around))
