"""Let one user's database hang while that user sends a hundred requests at once, and see what is left for the others.

    python -m tests.acceptance.hung                    (somebody holds a lock on the user's table)
    python -m tests.acceptance.hung --how frozen       (nothing comes back from the user's server)

Clients of other users read and write before and meanwhile; the two halves are printed side by side. The user's own
clients come again some seconds after each answer, as ``Retry-After`` says, and each answer has to come within five.
Beside them ``--slow 50`` clients send a head, and as many send a body, a byte a second; those that are cut come again.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass

import compose
from bench.served import Served
from compose import Parts
from settings import Settings
from tenancy.backends.base import DatabaseFields
from tenancy.backends.server.sql import run
from tests.acceptance.clients import Client, Person, Seen
from tests.support.engines import server_login
from tests.support.proxy import Proxy, proxy

DATABASE = "unify_hung_one"
IN_TIME_S = 5.0
SLOWLY = (
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
    b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n",
)
NOISE_S = 0.05
"""What a p99 may differ by from one half to the other where nothing hangs at all."""


@dataclass(frozen=True)
class Load:
    """Say how much to ask: ``own`` requests of the user whose database hangs, ``clients`` for all others.

    ``slow`` clients send a head a byte a second, and as many send a body.
    """

    how: str = "lock"
    workers: int = 2
    tenants: int = 20
    clients: int = 16
    own: int = 100
    slow: int = 50
    seconds: float = 15.0


@dataclass(frozen=True)
class Half:
    """Say what the other users' clients saw in one half."""

    requests: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    errors: int


@dataclass(frozen=True)
class Report:
    """Put both halves side by side; ``own`` counts what the user was answered whose database hung."""

    without: Half
    beside: Half
    p99_ratio: float
    own: dict[str, int]
    own_slowest_s: float
    own_refused_slowest_s: float
    unannounced: int
    slow_cut: int
    """How many of the slow clients' connections the server ended."""
    after: int
    """What that user was answered once the database was well again."""

    @property
    def clean(self) -> bool:
        slower_s = (self.beside.p99_ms - 2 * self.without.p99_ms) / 1000
        others = self.without.errors + self.beside.errors == 0 and slower_s <= NOISE_S
        return others and self.own_slowest_s < IN_TIME_S and self.unannounced == 0 and self.after == 200


class Timed(Seen):
    """Keep how long each answer took, and with which code the refused ones came."""

    def __init__(self) -> None:
        super().__init__()
        self.took_s: list[float] = []
        self.codes: Counter[str] = Counter()
        self.refused_slowest_s = 0.0

    def answer(self, status: int, what: str, body: bytes, *, took_s: float, retry_after: str | None) -> None:
        super().answer(status, what, body, took_s=took_s, retry_after=retry_after)
        code = json.loads(body)["code"] if status >= 400 else "answered"
        with self.lock:
            self.took_s.append(took_s)
            self.codes[code] += 1
            if code == "tenant_crowded":
                self.refused_slowest_s = max(self.refused_slowest_s, took_s)

    def half(self) -> Half:
        in_order = sorted(self.took_s)
        p50, p99, slowest = (in_order[min(len(in_order) - 1, int(len(in_order) * part))] for part in (0.5, 0.99, 1))
        errors = len(self.failures) + sum(self.broken.values())
        return Half(len(in_order), _ms(p50), _ms(p99), _ms(slowest), errors)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


def hung(load: Load) -> Report:
    """Serve, measure the others alone, let one database hang, measure them again."""
    login = server_login("postgresql")
    with ExitStack() as stack:
        between = stack.enter_context(proxy((login.host, login.port)))
        server = stack.enter_context(
            Served(workers=load.workers, tenants=load.tenants, rows=20, types=("sqlite", "postgresql"))
        )
        parts = compose.build(Settings.load(server.environ, dotenv=None))
        stack.callback(parts.close)
        victim = stack.enter_context(_victim(parts, between))
        others = [Person(user.id, key) for user, key in zip(server.users, server.keys, strict=True)]
        without = _let_loose(server.port, others, load)
        with _hanging(parts, between, victim, load.how):
            own = Timed()
            crowd = _Crowd(server.port, victim, own, load.own)
            slow = _Slow(server.port, load.slow)
            beside = _let_loose(server.port, others, load)
            crowd.over()
            slow.over()
        with closing(Client(server.port, Seen(), seed=0)) as client:
            after, _ = client.ask(victim, "GET", "/api/v1/tasks")
    before, meanwhile = without.half(), beside.half()
    return Report(
        before,
        meanwhile,
        p99_ratio=round(meanwhile.p99_ms / before.p99_ms, 2),
        own=dict(own.codes) | dict(own.broken),
        own_slowest_s=round(own.slowest_s, 2),
        own_refused_slowest_s=round(own.refused_slowest_s, 3),
        unannounced=own.unannounced,
        slow_cut=slow.cut,
        after=after,
    )


@contextmanager
def _victim(parts: Parts, between: Proxy) -> Iterator[Person]:
    """Make a user whose database is reached through the proxy, and delete it in the end."""
    login = server_login("postgresql")
    user = parts.accounts.create("hung@example.org", display_name="Hung")
    where = DatabaseFields("postgresql", "127.0.0.1", between.port, DATABASE, login.user, login.password)
    parts.manager.provision(user.id, where)
    try:
        yield Person(user.id, parts.accounts.issue_key(user.id, "hung")[1])
    finally:
        parts.manager.delete_user_database(user.id)


@contextmanager
def _hanging(parts: Parts, between: Proxy, victim: Person, how: str) -> Iterator[None]:
    """Let the victim's database answer nothing inside the block."""
    if how == "frozen":
        between.freeze()
        try:
            yield
        finally:
            between.thaw()
        return
    backend, tenant = parts.manager.backends.get("postgresql"), parts.manager.tenant_of(victim.id)
    with closing(backend.connect_to_migrate(tenant, parts.manager.services.access(tenant))) as driver:
        run(driver, "SET idle_in_transaction_session_timeout = 0", "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        yield
        driver.rollback()


class _Crowd:
    """Send one user's requests, all at once, and again when they are told to come again."""

    def __init__(self, port: int, victim: Person, seen: Timed, number: int) -> None:
        self._ended = threading.Event()
        self._clients = [
            threading.Thread(target=self._ask, args=(Client(port, seen, seed=each), victim)) for each in range(number)
        ]
        for client in self._clients:
            client.start()

    def over(self) -> None:
        self._ended.set()
        for client in self._clients:
            client.join()

    def _ask(self, client: Client, victim: Person) -> None:
        with closing(client):
            while not self._ended.is_set():
                client.ask(victim, "GET", "/api/v1/tasks")
                self._ended.wait(client.random.uniform(5, 8))  # Retry-After says 5


class _Slow:
    """Keep connections that send a byte a second; ``cut`` counts those that the server ended."""

    def __init__(self, port: int, number: int) -> None:
        self.cut = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._drip, args=(port, SLOWLY * number))
        self._thread.start()

    def over(self) -> None:
        self._ended.set()
        self._thread.join()

    def _drip(self, port: int, starts: tuple[bytes, ...]) -> None:
        clients = [_begun(port, start) for start in starts]
        while not self._ended.wait(1.0):
            for at, start in enumerate(starts):
                try:
                    clients[at].sendall(b"a")
                except OSError:
                    self.cut += 1
                    clients[at].close()
                    clients[at] = _begun(port, start)
        for client in clients:
            client.close()


def _begun(port: int, start: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(start)
    return client


def _let_loose(port: int, people: list[Person], load: Load) -> Timed:
    """Have clients read and write for people at random, for as long as the load says."""
    seen, ends = Timed(), time.monotonic() + load.seconds

    def work(number: int) -> None:
        with closing(Client(port, seen, seed=number)) as client:
            client.work_until(people, ends, writes=0.2)

    with ThreadPoolExecutor(load.clients) as pool:
        for done in [pool.submit(work, number) for number in range(load.clients)]:
            done.result()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.hung", description=__doc__)
    for name, value in asdict(Load()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    report = hung(Load(**vars(parser.parse_args())))
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
