"""Let many clients read and write at once, and count what must never be: foreign rows, 5xx, lost writes.

    python -m tests.acceptance.soak --workers 4 --tenants 200 --clients 32 --seconds 60 --cache 8 --hangups 5
    python -m tests.acceptance.soak --types sqlite,postgresql,mysql            (tenants of several types at once)
    python -m tests.acceptance.soak --types sqlite,postgresql,mysql --restart  (PostgreSQL is restarted half-way)

``--mutant no-guards`` points the same checker at a build whose guards were taken out (``mutant.py``): it must find
foreign rows there. With one of the two guards left there must be none, though answers fail.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass

from bench.served import COMMAND, Served
from tests.acceptance.clients import Client, Person, Seen, lost
from tests.support.servers import OwnServer, own_server

BUILDS = ("no-guards", "no-guards-files", "no-owner-filter", "no-identity-check")


@dataclass(frozen=True)
class Load:
    """Say how much to ask of how large an installation; ``hangups`` in percent of the requests."""

    workers: int = 4
    tenants: int = 200
    clients: int = 32
    seconds: float = 60.0
    cache: int = 8
    hangups: float = 5.0
    types: str = "sqlite"
    restart: bool = False


@dataclass(frozen=True)
class Report:
    """Say what the clients saw."""

    requests: int
    requests_per_s: float
    acknowledged_writes: int
    hangups: int
    foreign_rows: int
    torn_rows: int
    server_errors: int
    refused: int
    lost_writes: int
    broken_connections: int
    statuses: dict[int, int]
    examples: list[str]
    down_s: float = 0.0
    """How long the restarted server was away."""
    failed_after_s: float = 0.0
    """When, after its return, the last answer was an error."""

    @property
    def clean(self) -> bool:
        answers = self.server_errors + self.refused + self.broken_connections
        return self.foreign_rows + self.torn_rows + self.lost_writes + answers == 0


def soak(load: Load, *, mutant: str | None = None) -> Report:
    """Start a server, let the clients loose on it, read everything back."""
    seen = Seen()
    command = (sys.executable, "-m", "tests.acceptance.mutant", mutant, "serve") if mutant else COMMAND
    with ExitStack() as stack:
        own = stack.enter_context(_own_postgresql()) if load.restart else None
        server = stack.enter_context(
            Served(
                workers=load.workers,
                tenants=load.tenants,
                types=load.types.split(","),
                command=command,
                tenant_engine_cache_size=load.cache,
            )
        )
        people = [Person(user.id, key) for user, key in zip(server.users, server.keys, strict=True)]
        started = time.monotonic()
        interruption = Interruption(own, load.seconds / 3)
        _let_loose(server.port, people, load, seen)
        interruption.over()
        took_s = time.monotonic() - started
        statuses = dict(sorted(seen.statuses.items()))
        missing = [] if mutant else lost(server.port, people, seen)
        told = _errors(server)
    return Report(
        requests=sum(statuses.values()),
        requests_per_s=round(sum(statuses.values()) / took_s, 1),
        acknowledged_writes=sum(map(len, seen.written.values())),
        hangups=seen.hangups,
        foreign_rows=len(seen.foreign),
        torn_rows=len(seen.torn),
        server_errors=len(seen.failures),
        refused=sum(count for status, count in statuses.items() if 300 <= status < 500),
        lost_writes=len(missing),
        broken_connections=sum(seen.broken.values()),
        statuses=statuses,
        examples=[*seen.foreign[:5], *seen.torn[:5], *missing[:5], *seen.broken, *seen.failures[:5], *told[:10]],
        down_s=round(interruption.down_s, 2),
        failed_after_s=round(max([at - interruption.back_at for at in seen.failed_at], default=0.0), 2),
    )


class Interruption:
    """Restart a server while the clients work; without one nothing happens."""

    def __init__(self, server: OwnServer | None, after_s: float) -> None:
        self.down_s = self.back_at = 0.0
        self._server = server
        self._timer = threading.Timer(after_s, self._restart)
        if server is not None:
            self._timer.start()

    def over(self) -> None:
        if self._server is not None:
            self._timer.join()

    def _restart(self) -> None:
        assert self._server is not None
        gone_at = time.monotonic()
        self._server.stop()
        self._server.start()
        self.back_at = time.monotonic()
        self.down_s = self.back_at - gone_at


@contextmanager
def _own_postgresql() -> Iterator[OwnServer]:
    """Run a PostgreSQL of the soak's own, on which its tenants are placed."""
    with own_server("postgresql", connections=200) as server:
        before = os.environ.get("TEST_POSTGRES_URL")
        os.environ["TEST_POSTGRES_URL"] = server.url
        try:
            yield server
        finally:
            os.environ.pop("TEST_POSTGRES_URL")
            if before is not None:
                os.environ["TEST_POSTGRES_URL"] = before


def _let_loose(port: int, people: list[Person], load: Load, seen: Seen) -> None:
    ends = time.monotonic() + load.seconds

    def run(number: int) -> None:
        with closing(Client(port, seen, seed=number)) as client:
            client.work_until(people, ends, hangups=load.hangups / 100)

    with ThreadPoolExecutor(load.clients) as pool:
        for done in [pool.submit(run, number) for number in range(load.clients)]:
            done.result()


def _errors(server: Served) -> list[str]:
    """Give what the server had to say, in WARNING and above."""
    lines = server.log.read_text(errors="replace").splitlines()
    return [line[:300] for line in lines if " ERROR " in line or " WARNING " in line or "Traceback" in line]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.soak", description=__doc__)
    for name, value in asdict(Load()).items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--mutant", choices=BUILDS, help="run a build with guards taken out")
    asked = vars(parser.parse_args())
    mutant = asked.pop("mutant")
    report = soak(Load(**asked), mutant=mutant)
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    if mutant is None:
        return 0 if report.clean else 1
    return 0 if (report.foreign_rows > 0) is mutant.startswith("no-guards") else 1


if __name__ == "__main__":
    raise SystemExit(main())
