"""Let many clients read and write at once, and count what must never be: foreign rows, 5xx, lost writes.

    python -m tests.acceptance.soak --workers 4 --tenants 200 --clients 32 --seconds 60 --cache 8 --hangups 5

``--mutant no-guards`` points the same checker at a build whose guards were taken out (``mutant.py``): it must find
foreign rows there. With one of the two guards left there must be none, though answers fail.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass

from bench.served import COMMAND, Served
from tests.acceptance.clients import Client, Person, Seen, lost

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

    @property
    def clean(self) -> bool:
        answers = self.server_errors + self.refused + self.broken_connections
        return self.foreign_rows + self.torn_rows + self.lost_writes + answers == 0


def soak(load: Load, *, mutant: str | None = None) -> Report:
    """Start a server, let the clients loose on it, read everything back."""
    seen = Seen()
    command = (sys.executable, "-m", "tests.acceptance.mutant", mutant, "serve") if mutant else COMMAND
    with Served(
        workers=load.workers, tenants=load.tenants, command=command, tenant_engine_cache_size=load.cache
    ) as server:
        people = [Person(user.id, key) for user, key in zip(server.users, server.keys, strict=True)]
        started = time.monotonic()
        _let_loose(server.port, people, load, seen)
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
    )


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
