"""Kill a worker every second while jobs are done: each is done once, or again after its kill, none twice at a time.

    python -m tests.acceptance.jobs --jobs 1000 --workers 4 --every-s 1

Each handler writes into a file when it begins and when it ends, by the clock that all processes of a machine share.
What a killed process had begun ends with its kill.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenancy.catalog import Catalog
from tenancy.catalog.jobs import Job, JobState
from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.jobs.kinds import Argument, Kind
from tenancy.jobs.queue import Jobs
from tenancy.jobs.run import JobRun
from tenancy.jobs.schedules import Schedules
from tenancy.jobs.worker import Worker
from tenancy.schema.chain import Chain
from tests.support import engines

PROJECT = Path(__file__).resolve().parents[2]
AUDIT_KEY = "a key that seals the audit log of the trial"
KIND, TTL_S, THREADS = "busy", 3.0, 2
LONGEST_S = 1800.0
UNFINISHED = (JobState.DUE, JobState.RUNNING)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job: which process made it, and from when to when; ``ended`` is whether it came to its end."""

    job: int
    number: int
    pid: int
    began: float
    until: float
    ended: bool


@dataclass(frozen=True)
class Report:
    """Say what became of the jobs."""

    jobs: int
    workers: int
    kills: int
    seconds: float
    attempts: int
    cut_off: int
    done: int
    lost: int
    twice_at_a_time: int
    again_without_a_kill: int
    examples: list[str]

    @property
    def clean(self) -> bool:
        wrong = self.lost + self.twice_at_a_time + self.again_without_a_kill
        return wrong == 0 and self.done == self.jobs and self.kills > 0


class Crew:
    """Keep workers running, of which one is killed from time to time."""

    def __init__(self, folder: Path, url: str, number: int) -> None:
        self._words = [sys.executable, "-m", "tests.acceptance.jobs", "--work", str(folder), "--url", url]
        self._number = number
        self._processes: list[subprocess.Popen[bytes]] = []
        self.killed: dict[int, float] = {}
        """When each killed process was surely gone."""

    def fill(self) -> None:
        while len(self._processes) < self._number:
            self._processes.append(subprocess.Popen(self._words, cwd=PROJECT))

    def kill_one(self, chance: random.Random) -> None:
        process = chance.choice(self._processes)
        self._processes.remove(process)
        process.kill()
        process.wait()
        self.killed[process.pid] = time.monotonic()

    def stop(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait(60)


def trial(jobs: int = 1000, workers: int = 4, every_s: float = 1.0, busy_ms: int = 150, url: str = "") -> Report:
    """Add the jobs, and have them done by workers of which one is killed again and again."""
    chance, pause, began = random.Random(7), threading.Event(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        queue = queue_of(url or f"sqlite:///{folder / 'admin.db'}", folder, fresh=True)
        added = [queue.add(KIND, {"ms": busy_ms}).id for _ in range(jobs)]
        crew = Crew(folder, url or f"sqlite:///{folder / 'admin.db'}", workers)
        crew.fill()
        try:
            while _left(queue) and time.monotonic() < began + LONGEST_S:
                pause.wait(every_s)
                if _left(queue):
                    crew.kill_one(chance)
                    crew.fill()
        finally:
            crew.stop()
        ended = [queue.get(job_id) for job_id in added]
        attempts = read((folder / "attempts").read_text(), crew.killed)
        queue.catalog.close()
    return judged(ended, attempts, crew.killed, workers, time.monotonic() - began)


def judged(ended: list[Job], attempts: list[Attempt], killed: dict[int, float], workers: int, seconds: float) -> Report:
    """Compare what the catalog says with what the handlers have written."""
    by_job: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_job[attempt.job].append(attempt)
    twice, again = [], []
    for job_id, made in by_job.items():
        made.sort(key=lambda attempt: attempt.began)
        for before, after in itertools.pairwise(made):
            if after.began < before.until:
                twice.append(f"job {job_id}: attempts {before.number} and {after.number} at a time")
            if before.pid not in killed:
                again.append(f"job {job_id}: attempt {after.number} although {before.number} was not cut off")
    lost = [f"job {job.id} is {job.state}" for job in ended if job.state is not JobState.DONE or job.id not in by_job]
    return Report(
        jobs=len(ended),
        workers=workers,
        kills=len(killed),
        seconds=round(seconds, 1),
        attempts=len(attempts),
        cut_off=sum(not attempt.ended for attempt in attempts),
        done=sum(job.state is JobState.DONE for job in ended),
        lost=len(lost),
        twice_at_a_time=len(twice),
        again_without_a_kill=len(again),
        examples=[*lost[:5], *twice[:5], *again[:5]],
    )


def read(text: str, killed: dict[int, float]) -> list[Attempt]:
    """Read what the handlers wrote; an attempt without an end lasted until its process was killed."""
    begun: dict[tuple[int, int], tuple[int, float]] = {}
    ends: dict[tuple[int, int], float] = {}
    for line in text.splitlines():
        what, job, number, pid, at = line.split()
        key = (int(job), int(number))
        if what == "begin":
            begun[key] = (int(pid), float(at))
        else:
            ends[key] = float(at)
    return [
        Attempt(*key, pid, began, ends.get(key, killed.get(pid, float("inf"))), key in ends)
        for key, (pid, began) in begun.items()
    ]


def queue_of(url: str, folder: Path, *, fresh: bool = False) -> Jobs:
    """Give the jobs of a catalog; with ``fresh`` the catalog is made first."""
    engine = engines.open_engine(url)
    if fresh:
        with engine.connect() as connection:
            chain = Chain(PROJECT / "migrations" / "admin", CATALOG_VERSION_TABLE)
            chain.upgrade(connection, transactional_ddl=engine.dialect.name != "mysql")
        (folder / "key").write_text(generate_key())
    queue = Jobs(Catalog(engine, AUDIT_KEY), Keyring([(folder / "key").read_text()]))
    file = os.open(folder / "attempts", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def busy(run: JobRun, arguments: dict[str, Any]) -> None:
        def write(what: str) -> None:
            os.write(file, f"{what} {run.job_id} {run.attempt} {os.getpid()} {time.monotonic()}\n".encode())

        write("begin")
        for _ in range(10):
            time.sleep(arguments["ms"] / 10_000)
            run.check()
        write("end")

    queue.kinds.register(Kind(KIND, "Be busy.", busy, (Argument("ms", "How long.", "number"),)))
    return queue


def work(folder: Path, url: str) -> None:
    """Be one of the workers."""
    queue, stop = queue_of(url, folder), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop.set).start())
    Worker(queue, Schedules(queue), THREADS, ttl_s=TTL_S, look_s=0.1).run(stop)


def _left(queue: Jobs) -> bool:
    return bool(queue.page(1, states=UNFINISHED))


def main(words: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.jobs", description=__doc__)
    for name, value in {"jobs": 1000, "workers": 4, "busy-ms": 150}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--every-s", type=float, default=1.0)
    parser.add_argument("--url", default="", help="an empty database for the catalog; a SQLite file by default")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = vars(parser.parse_args(None if words is None else list(words)))
    folder = given.pop("work")
    if folder is not None:
        work(folder, given["url"])
        return 0
    report = trial(**given)
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
