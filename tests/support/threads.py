"""Start threads at the same moment, and gather what became of each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(0)`` to ``work(count - 1)`` at once; give each one's result, or the error it raised."""
    ready = threading.Barrier(count)

    def run(number: int) -> Any:
        ready.wait(30)
        try:
            return work(number)
        except Exception as error:  # noqa: BLE001 - the test looks at every error
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
