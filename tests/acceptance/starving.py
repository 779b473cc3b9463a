"""Suspend a tenant under writers that never pause: it must hold as soon as the longest of their transactions ends.

    python -m tests.acceptance.starving --products sqlite,postgresql,mysql --writers 8 --hold-s 0.3

Each writer begins a transaction, keeps it open for a while, commits, and begins the next at once, so that there is
always one open. Printed for each product: the seconds until ``suspend`` returned, the longest transaction, and how many
writes were acknowledged after it had returned.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError as NotYet
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import perf_counter

from bench.world import World, progress, task, world
from repositories.schema import tasks
from tenancy import TenantManager
from tenancy.errors import TenancyError

GIVE_UP_S = 30.0
GOAL_S = 0.5
"""So much longer than the longest transaction a suspend may take."""


@dataclass(frozen=True)
class Report:
    """Say how long it took until nobody could write any more."""

    product: str
    outcome: str
    suspend_s: float
    longest_transaction_s: float
    transactions: int
    meanwhile: int
    """How many of them ended while the suspend waited: those that were under way have to."""
    acknowledged_afterwards: int
    refused: dict[str, int]

    @property
    def clean(self) -> bool:
        in_time = self.suspend_s <= self.longest_transaction_s + GOAL_S
        return self.outcome == "suspended" and in_time and self.acknowledged_afterwards == 0


class Writer:
    """Write to one tenant, transaction after transaction, until told to stop."""

    def __init__(self, manager: TenantManager, user_id: int, hold_s: float, over: threading.Event) -> None:
        self._manager, self._user_id, self._hold_s, self._over = manager, user_id, hold_s, over
        self.transactions: list[tuple[float, float]] = []
        self.refused: Counter[str] = Counter()
        self.wrote = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                with self._manager.session(self._user_id, write=True) as session:
                    session.execute(tasks.insert(), [task(self._user_id, number)])
                    began = perf_counter()  # it has passed the fence: what it waited for before is not its own time
                    threading.Event().wait(self._hold_s)
            except Exception as error:  # noqa: BLE001 - as for the suspend
                self.refused[error.code if isinstance(error, TenancyError) else type(error).__name__] += 1
                self._over.wait(self._hold_s / 10)
                continue
            self.transactions.append((began, perf_counter()))
            self.wrote.set()


def starve(product: str, *, writers: int = 8, hold_s: float = 0.3) -> Report:
    """Suspend one tenant on a product while others write to it."""
    with world() as here:
        here.register([product])
        here.add_users(1, [product])
        return _starve(here, product, writers, hold_s)


def _starve(here: World, product: str, number: int, hold_s: float) -> Report:
    manager, user_id, over = here.parts.manager, here.users[0].id, threading.Event()
    writers = [Writer(manager, user_id, hold_s, over) for _ in range(number)]
    outcome = "starved"
    with ThreadPoolExecutor(number + 1) as threads:
        running: list[Future[None]] = []
        for writer in writers:
            running.append(threads.submit(writer.run))
            over.wait(hold_s / number)  # one after another, so that there is always one under way
        writers[0].wrote.wait()
        began = perf_counter()
        suspending = threads.submit(_outcome, manager, user_id)
        with suppress(NotYet):
            outcome = suspending.result(GIVE_UP_S)
        held_at = perf_counter()
        if outcome == "suspended":
            over.wait(2 * hold_s)  # whoever could still write would be seen to
        over.set()
        for each in running:
            each.result()
        suspending.result()
    with suppress(TenancyError):
        manager.resume(user_id)
    done = [each for writer in writers for each in writer.transactions]
    return Report(
        product=product,
        outcome=outcome,
        suspend_s=round(held_at - began, 3),
        longest_transaction_s=round(max(end - start for start, end in done), 3),
        transactions=len(done),
        meanwhile=sum(began < end <= held_at for _, end in done),
        acknowledged_afterwards=sum(end > held_at for _, end in done) if outcome == "suspended" else 0,
        refused=dict(sum((writer.refused for writer in writers), Counter())),
    )


def _outcome(manager: TenantManager, user_id: int) -> str:
    try:
        manager.suspend(user_id)
    except TenancyError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 - an error that nobody foresaw is an outcome to tell
        return type(error).__name__
    return "suspended"


def starve_all(products: Sequence[str], writers: int, hold_s: float) -> list[Report]:
    reports = []
    for product in products:
        progress(f"{product}: {writers} writers")
        reports.append(starve(product, writers=writers, hold_s=hold_s))
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.starving", description=__doc__)
    parser.add_argument("--products", default="sqlite,postgresql,mysql")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--hold-s", type=float, default=0.3, help="how long each transaction is kept open")
    given = parser.parse_args()
    reports = starve_all(given.products.split(","), given.writers, given.hold_s)
    sys.stdout.write(json.dumps([asdict(report) for report in reports], indent=2) + "\n")
    return 0 if all(report.clean for report in reports) else 1


if __name__ == "__main__":
    raise SystemExit(main())
