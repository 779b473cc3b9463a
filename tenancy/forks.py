"""Run callbacks in forked children, so that no connection is shared with the parent."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable

_listeners: set[weakref.WeakMethod[Callable[[], None]]] = set()
atexit.register(_listeners.clear)  # else WeakMethods that outlive this module's globals print errors at exit


def after_fork(method: Callable[[], None]) -> None:
    """Register a bound method to be called in every forked child while its object lives (a weak reference)."""
    _listeners.add(weakref.WeakMethod(method, _listeners.discard))


def _run_in_child() -> None:
    for reference in list(_listeners):
        method = reference()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_run_in_child)
