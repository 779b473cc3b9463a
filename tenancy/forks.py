"""Tell living objects that the process was forked, so that no connection is shared with the parent."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable

_listeners: set[weakref.WeakMethod[Callable[[], None]]] = set()
atexit.register(_listeners.clear)  # a WeakMethod that outlives its module's globals ends in an error on standard error


def after_fork(method: Callable[[], None]) -> None:
    """Call a bound method in every forked child, for as long as its object lives."""
    _listeners.add(weakref.WeakMethod(method, _listeners.discard))


def _run_in_child() -> None:
    for reference in list(_listeners):
        method = reference()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_run_in_child)
