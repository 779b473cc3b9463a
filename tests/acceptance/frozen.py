"""Freeze a tenant's server at each message of an operation in turn: people must be able to sign up meanwhile.

    python -m tests.acceptance.frozen --catalogs sqlite,postgresql --products postgresql,mysql

A proxy stands between the application and the database server. Each operation runs again and again: frozen at its
first message to the server, at its second, and so on, until it ends before it is frozen. While nothing moves a sign-up
writes to the catalog, which does not stand behind the proxy. Printed for each operation: at how many messages it was
frozen, the slowest sign-up, at which messages a sign-up had to wait for the server, and the slowest sign-up while the
operation ran unhindered.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, TimeoutError as NotYet, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from time import perf_counter

import sqlalchemy as sa

from bench.world import World, folder, progress, world
from tenancy.backends.base import DatabaseFields
from tenancy.catalog import servers
from tenancy.catalog.runs import Rules, Selection
from tenancy.errors import TenancyError
from tenancy.models import State
from tests.acceptance.proxy import Freezer
from tests.support import engines
from tests.support.applications import set_back

PATIENCE_S = 2.0
CALM_ROUNDS = 3
BETWEEN_S = 0.02
GOAL_S = 0.5
SERVER = "frozen"

Act = Callable[[], object]


@dataclass(frozen=True)
class Report:
    """Say how sign-ups went while one operation was frozen, and while it was not; ``held_at`` names messages."""

    catalog: str
    product: str
    operation: str
    messages: int
    held_at: list[int]
    refused: dict[str, int]
    slowest_s: float
    slowest_unfrozen_s: float
    outcomes: dict[str, int]

    @property
    def clean(self) -> bool:
        return not self.held_at and not self.refused and self.slowest_s - self.slowest_unfrozen_s < GOAL_S


class Bed:
    """Hold an installation whose one database server stands behind the proxy."""

    def __init__(self, here: World, freezer: Freezer, product: str) -> None:
        self.here, self.freezer, self.product = here, freezer, product
        self.manager = here.parts.manager
        self._address = _address(product)
        self._standing: int | None = None
        self._number = 0

    def register(self) -> None:
        through = self._address.set(host="127.0.0.1", port=self.freezer.port)
        self.manager.servers.add(SERVER, self.product, through.render_as_string(hide_password=False))

    def sign_up(self) -> int:
        self._number += 1
        return self.here.parts.accounts.create(f"person{self._number}@example.org").id

    def provision(self, user_id: int) -> None:
        self.manager.provision(user_id, DatabaseFields(self.product))

    def tenant(self) -> int:
        user_id = self.sign_up()
        self.provision(user_id)
        return user_id

    def standing(self) -> int:
        """Give a tenant that is ready, the one of the round before if that can be."""
        if self._standing is not None:
            with suppress(TenancyError):
                self.manager.resume(self._standing)
        if self._standing is None or self.manager.tenant_of(self._standing).state is not State.READY:
            self._standing = self.tenant()
        return self._standing

    def own_database(self) -> DatabaseFields:
        return DatabaseFields(
            self.product,
            db_host="127.0.0.1",
            db_port=self.freezer.port,
            db_name=f"unify_test_{secrets.token_hex(8)}",
            db_user=self._address.username,
            db_password=str(self._address.password or ""),
        )

    def leave(self) -> None:
        """Delete all that was made on the server."""
        manager = self.manager
        while rows := manager.reports.databases(limit=1000):
            for row in rows:
                manager.delete_user_database(row["user_id"])
        manager.servers.remove(SERVER)


# --- what is frozen ------------------------------------------------------------------------------------------------


def _provision(bed: Bed) -> Act:
    user_id = bed.sign_up()
    return lambda: bed.provision(user_id)


def _suspend(bed: Bed) -> Act:
    user_id = bed.standing()
    return lambda: bed.manager.suspend(user_id)


def _delete(bed: Bed) -> Act:
    user_id = bed.tenant()
    return lambda: bed.manager.delete_user_database(user_id)


def _own_database(bed: Bed) -> Act:
    user_id, fields = bed.tenant(), bed.own_database()
    return lambda: bed.manager.own_databases.connect(user_id, fields)


def _fleet_run(bed: Bed) -> Act:
    set_back(bed.manager, [bed.standing()])

    def run() -> object:
        fleet = bed.manager.fleet
        done = fleet.work(fleet.start(Selection(), Rules()).id).counts
        return "done" if set(done) == {"done"} else str(done)

    return run


def _pool(bed: Bed) -> Act:
    with bed.manager.catalog.reading() as connection:
        server = servers.by_name(connection, SERVER)
    bed.manager.pool.empty(server)

    def fill() -> object:
        (told,) = bed.manager.pool.fill(SERVER)
        return told["code"] or "done"

    return fill


OPERATIONS: dict[str, Callable[[Bed], Act]] = {
    "provision": _provision,
    "suspend": _suspend,
    "delete": _delete,
    "own database": _own_database,
    "fleet run": _fleet_run,
    "pool": _pool,
}


# --- freezing it ---------------------------------------------------------------------------------------------------


def freeze(
    catalog: str, product: str, operation: str, *, most: int = 1000, patience_s: float = PATIENCE_S, enough: int = 1000
) -> Report:
    """Freeze one operation at each of its messages in turn, ``most`` at most; stop once ``enough`` held people up."""
    held, refused, outcomes, slowest, messages = [], Counter[str](), Counter[str](), 0.0, 0
    with _bed(catalog, product, operation) as bed:
        calm = max(_unfrozen(bed, operation) for _ in range(CALM_ROUNDS))
        for at in range(1, most + 1):
            act = OPERATIONS[operation](bed)
            bed.freezer.arm(at)
            with ThreadPoolExecutor(2) as threads:
                working = threads.submit(_outcome, act)
                working.add_done_callback(lambda _: bed.freezer.settled.set())
                bed.freezer.settled.wait()
                if not bed.freezer.frozen:
                    break
                try:
                    signing = threads.submit(_timed, bed)
                    with suppress(NotYet):
                        signing.result(patience_s)
                    if not signing.done():
                        held.append(at)
                finally:
                    bed.freezer.thaw()
            messages = at
            took_s, code = signing.result()
            slowest = max(slowest, took_s)
            refused.update([code] if code else [])
            outcomes[working.result()] += 1
            if len(held) >= enough:
                break
        bed.freezer.arm(None)
    numbers = {"slowest_s": round(slowest, 3), "slowest_unfrozen_s": round(calm, 3)}
    return Report(catalog, product, operation, messages, held, dict(refused), outcomes=dict(outcomes), **numbers)


def _unfrozen(bed: Bed, operation: str) -> float:
    """Give the slowest sign-up while the operation runs as it should; one after another would starve it on SQLite."""
    act = OPERATIONS[operation](bed)
    bed.freezer.arm(None)
    slowest = 0.0
    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(act)
        while not working.done() or not slowest:
            slowest = max(slowest, _timed(bed)[0])
            wait([working], BETWEEN_S)
        working.result()
    return slowest


def _outcome(act: Act) -> str:
    try:
        told = act()
    except TenancyError as error:
        return error.code
    return told if isinstance(told, str) else "done"


def _timed(bed: Bed) -> tuple[float, str | None]:
    """Sign up; give the seconds it took, and the code where it was refused."""
    started, code = perf_counter(), None
    try:
        bed.sign_up()
    except TenancyError as error:
        code = error.code
    return perf_counter() - started, code


@contextmanager
def _bed(catalog: str, product: str, operation: str) -> Iterator[Bed]:
    address = _address(product)
    freezer = Freezer((address.host or "127.0.0.1", address.port or engines.backend_of(product).default_port))
    settings: dict[str, object] = {"allow_user_databases": "true", "tenant_db_hosts_allowed": "127.0.0.1"}
    settings["pending_tenants"] = "1" if operation == "pool" else "0"
    with (
        folder() as place,
        engines.fresh_database(catalog, place) as url,
        world(0, admin_database_url=url, **settings) as here,
    ):
        bed = Bed(here, freezer, product)
        bed.register()
        try:
            yield bed
        finally:
            freezer.thaw()
            bed.leave()
            freezer.close()


def _address(product: str) -> sa.URL:
    address = engines.server_address(product)
    if address is None:
        raise RuntimeError(f"no server for tests is named for {product}.")
    return address


def freeze_all(
    catalogs: Sequence[str], products: Sequence[str], operations: Sequence[str], **how: float
) -> list[Report]:
    reports = []
    for catalog in catalogs:
        for product in products:
            for operation in operations:
                reports.append(freeze(catalog, product, operation, **how))  # type: ignore[arg-type]  # by name
                progress(json.dumps(asdict(reports[-1])))
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.frozen", description=__doc__)
    parser.add_argument("--catalogs", default="sqlite,postgresql")
    parser.add_argument("--products", default="postgresql,mysql")
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="by name, with commas between")
    parser.add_argument("--most", type=int, default=1000, help="freeze an operation at its first so many messages")
    parser.add_argument("--patience-s", type=float, default=PATIENCE_S, help="how long a message is kept frozen")
    given = parser.parse_args()
    wanted = [list(getattr(given, name).split(",")) for name in ("catalogs", "products", "operations")]
    reports = freeze_all(*wanted, most=given.most, patience_s=given.patience_s)
    sys.stdout.write(json.dumps([asdict(report) for report in reports], indent=2) + "\n")
    return 0 if all(report.clean for report in reports) else 1


if __name__ == "__main__":
    raise SystemExit(main())
