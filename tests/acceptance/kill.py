"""Kill the server again and again while clients write: no acknowledged row is lost, none is torn.

    python -m tests.acceptance.kill --kills 50 --clients 8 --workers 4 --tenants 20

Each time the whole process group gets SIGKILL at a random moment. The next start is timed to its first answer
with rows in it.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from bench.served import Served
from tests.acceptance.clients import Client, Person, Seen, lost

FIRST_ANSWER_S = 3.0
BEFORE_KILL_S = (0.1, 0.8)


@dataclass(frozen=True)
class Report:
    """Say what is left after the last kill."""

    kills: int
    acknowledged_writes: int
    unanswered: int
    lost_rows: int
    torn_rows: int
    foreign_rows: int
    server_errors: int
    damaged_databases: int
    first_answer_s_max: float
    first_answer_s_median: float
    examples: list[str]

    @property
    def clean(self) -> bool:
        wrong = self.lost_rows + self.torn_rows + self.foreign_rows + self.server_errors + self.damaged_databases
        return wrong == 0 and self.first_answer_s_max <= FIRST_ANSWER_S


class Writers:
    """Run clients that write as fast as they can whenever the server is up."""

    def __init__(self, port: int, people: list[Person], seen: Seen, number: int) -> None:
        self._port, self._people, self._seen, self._number = port, people, seen, number
        self._up, self._over = threading.Event(), threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(self._number) as pool:
            writers = [pool.submit(self._run, seed) for seed in range(self._number)]
            try:
                yield
            finally:
                self._over.set()
                self._up.set()
            for writer in writers:
                writer.result()

    def server_is_up(self) -> None:
        self._up.set()

    def server_goes_down(self) -> None:
        self._up.clear()

    def _run(self, seed: int) -> None:
        with closing(Client(self._port, self._seen, seed)) as client:
            while not self._over.is_set():
                if not client.write(client.random.choice(self._people)):
                    self._up.wait()


def kill(kills: int = 50, clients: int = 8, workers: int = 4, tenants: int = 20) -> Report:
    """Kill and start the server this often; read everything back in the end."""
    seen, chance, pause = Seen(), random.Random(11), threading.Event()
    first_answers: list[float] = []
    with Served(workers=workers, tenants=tenants) as server:
        people = [Person(user.id, key) for user, key in zip(server.users, server.keys, strict=True)]
        writers = Writers(server.port, people, seen, clients)
        with writers.running():
            for _ in range(kills):
                writers.server_is_up()
                pause.wait(chance.uniform(*BEFORE_KILL_S))
                writers.server_goes_down()
                server.kill()
                first_answers.append(_start(server, people[0], seen))
        missing = lost(server.port, people, seen)
        server.stop()
        damaged = [*_damaged(server.folder)]
    return Report(
        kills=kills,
        acknowledged_writes=sum(map(len, seen.written.values())),
        unanswered=sum(seen.broken.values()),
        lost_rows=len(missing),
        torn_rows=len(seen.torn),
        foreign_rows=len(seen.foreign),
        server_errors=len(seen.failures),
        damaged_databases=len(damaged),
        first_answer_s_max=round(max(first_answers), 2),
        first_answer_s_median=round(sorted(first_answers)[len(first_answers) // 2], 2),
        examples=[*missing[:5], *seen.torn[:5], *seen.foreign[:5], *damaged[:5], *seen.failures[:5]],
    )


def _start(server: Served, person: Person, seen: Seen) -> float:
    """Start the server; give the seconds until it has answered with a person's rows."""
    started = perf_counter()
    server.start()
    with closing(Client(server.port, seen, seed=0)) as client:
        client.read(person)
    return perf_counter() - started


def _damaged(folder: Path) -> Iterator[str]:
    """Name each database of a stopped installation that SQLite finds fault with."""
    for path in [folder / "admin.db", *sorted((folder / "users").glob("user_*.db"))]:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
            found += connection.execute("PRAGMA foreign_key_check").fetchall()
        if found != [("ok",)]:
            yield f"{path.name}: {found[:3]}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.kill", description=__doc__)
    for name, value in {"kills": 50, "clients": 8, "workers": 4, "tenants": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    report = kill(**vars(parser.parse_args()))
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
