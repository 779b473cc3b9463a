"""Take turns, take medians, and say what was measured on which machine.

A machine is noisy: two programs are only compared when they ran in turns, in the same process and minute.
"""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import psutil

AT_LEAST, AT_MOST = ">=", "<="


@dataclass(frozen=True)
class Figure:
    """Hold one line of the table: ours, the baseline's, and what the ratio ours / baseline should be."""

    name: str
    what: str
    unit: str
    ours: float
    baseline: float | None
    baseline_is: str
    goal: tuple[str, float] | None = None
    of_ratio: bool = True
    """Whether the goal speaks of the ratio, or of our figure itself."""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.ours / self.baseline if self.baseline else None

    @property
    def met(self) -> bool | None:
        """Say whether the goal was met in this run; None where there is none."""
        value = self.ratio if self.of_ratio else self.ours
        if self.goal is None or value is None:
            return None
        sign, wanted = self.goal
        return value >= wanted if sign == AT_LEAST else value <= wanted

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def timed(work: Callable[[], object]) -> float:
    """Run once; give seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(rounds: int, *works: Callable[[], object]) -> list[list[float]]:
    """Run all once unmeasured, then in turns (A B, B A, A B ...); give the seconds of each, round by round."""
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(rounds):
        order = range(len(works)) if turn % 2 == 0 else reversed(range(len(works)))
        for index in order:
            taken[index].append(timed(works[index]))
    return taken


class Laps:
    """Hear the name of each step before it is taken (``Services.step``), and keep how long each took."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}
        self._under_way: tuple[str, float] | None = None

    def step(self, name: str | None) -> None:
        """Begin a step, which ends the one before; None only ends it."""
        at = time.perf_counter()
        if self._under_way is not None:
            self._taken.setdefault(self._under_way[0], []).append(at - self._under_way[1])
        self._under_way = None if name is None else (name, at)

    def heard(self, work: Callable[[], object]) -> Callable[[], None]:
        """Give the same work, whose last step ends with it."""

        def run() -> None:
            work()
            self.step(None)

        return run

    def medians_ms(self) -> dict[str, float]:
        return {name: round(statistics.median(taken) * 1000, 3) for name, taken in self._taken.items()}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def same_work(ours: object, theirs: object) -> None:
    """Stop the benchmark where the two did not do the same work."""
    if ours != theirs:
        raise AssertionError(f"the two did not do the same work:\nours:     {ours!r:.400}\nbaseline: {theirs!r:.400}")


def peak_bytes() -> int:
    """Give the most memory that this process ever had; ``ru_maxrss`` may be that of the process that started it."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:  # only Linux has it
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine() -> dict[str, Any]:
    """Describe the machine by what it can do; no name and no path of it."""
    memory_gib = psutil.virtual_memory().total / 2**30
    packages = ("flask", "werkzeug", "flask-login", "sqlalchemy", "alembic", "gunicorn")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib, 1),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version(name) for name in packages},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:  # only Linux has it
        names = []
    return names[0] if names else platform.processor() or "unknown"
