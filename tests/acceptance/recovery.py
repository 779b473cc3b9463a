"""Lose everything and recover it on an empty machine, from backups and keys and nothing else.

    python -m tests.acceptance.recovery drill --tenants 50 --kills 50
    python -m tests.acceptance.recovery older --tenants 12

``drill`` kills each recovery at random moments (SIGKILL) and runs it again until it is done, and loses everything again
until there were that many kills; the rows of every tenant are compared. ``older`` goes on after the catalog's last
backup: a key is revoked, a database deleted, accounts made, databases changed; some are still there when the catalog
comes back.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import compose
from bench.world import environ, folder, progress, task
from compose import Parts
from repositories.schema import tasks
from settings import Settings
from tenancy import names
from tenancy.backends.base import DatabaseFields
from tenancy.catalog.runs import Selection
from tenancy.errors import ClaimedError, TenancyError
from tests.support import engines
from tests.support.applications import forked
from tests.support.recovery import backup_keys

PRODUCTS = ("sqlite", "postgresql", "mysql")
CLAIM_TTL_S = 1.5
BEFORE_KILL_S = (0.02, 4.0)
TASKS = 5

Rows = dict[int, list[tuple[Any, ...]]]


@dataclass
class Report:
    """Say what came back, and what should not have."""

    tenants: int
    kills: int = 0
    recoveries: int = 0
    wrong_tenants: list[int] = field(default_factory=list)
    """Users whose rows are not what they were."""

    faults: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not (self.wrong_tenants or self.faults)


class Scene:
    """Hold an installation that will be lost, and make the machines on which it comes back."""

    def __init__(self, place: Path, products: Sequence[str], stack: ExitStack) -> None:
        self.place, self.products = place, products
        self._stack = stack
        self._machines = 0
        self.settings = Settings.load(environ(place / "first", **backup_keys(place)), dotenv=None)
        self.parts = self.built(self.settings)
        self.parts.manager.prepare_catalog()
        for product in products:
            if product != "sqlite":
                address = engines.server_address(product)
                assert address is not None
                self.parts.manager.servers.add(product, product, address.render_as_string(hide_password=False))
        with self.parts.catalog.reading() as connection:
            self.mark = connection.exec_driver_sql("SELECT mark FROM installation").scalar_one()

    def built(self, settings: Settings) -> Parts:
        parts = compose.build(settings)
        self._stack.callback(parts.close)
        return parts

    def add_users(self, number: int) -> None:
        for _ in range(number):
            user = self.parts.accounts.create(f"user{self.parts.accounts.count()}@example.org")
            self.parts.manager.provision(user.id, DatabaseFields(self.products[user.id % len(self.products)]))
            with self.parts.manager.session(user.id, write=True) as session:
                session.execute(tasks.insert(), [task(user.id, number) for number in range(TASKS)])

    def rows(self, parts: Parts) -> Rows:
        """Give every user's tasks, sorted."""
        found: Rows = {}
        for user in parts.accounts.list(limit=10_000):
            with suppress(TenancyError), parts.manager.session(user.id) as session:
                found[user.id] = sorted((tuple(row) for row in session.execute(sa.select(tasks))), key=str)
        parts.manager.engines.close()
        return found

    def keep_tenants(self) -> None:
        for row in self.parts.manager.reports.databases(limit=10_000):
            self.parts.manager.backups.create(row["user_id"])

    def machine(self) -> Settings:
        """Give the settings of another empty machine: the keys, the place of the backups, and nothing else."""
        self._machines += 1
        place = self.place / f"machine{self._machines}"
        url = f"sqlite:///{place / 'admin.db'}"
        return replace(self.settings, admin_database_url=url, tenant_data_dir=place / "users")

    def lose_servers(self) -> None:
        """Drop all that this installation has on servers."""
        for product in self.products:
            if product != "sqlite":
                backend = engines.backend_of(product)
                with closing(backend.at_server(engines.server_login(product))) as driver:
                    for name in self.on(driver, backend.databases):
                        backend.drop_database(driver, name)
                    for name in self.on(driver, backend.logins):
                        backend.drop_login(driver, name)

    def on(self, driver: Any, listed: Any) -> list[str]:
        return [name for name in listed(driver, names.OURS) if names.installation_in(name) == self.mark]


@contextmanager
def scene(products: Sequence[str]) -> Iterator[Scene]:
    with folder() as place, ExitStack() as stack:
        made = Scene(place, products, stack)
        stack.callback(made.lose_servers)
        yield made


def drill(tenants: int = 50, kills: int = 50, products: Sequence[str] = PRODUCTS) -> Report:
    """Lose everything until recoveries were killed this often; compare what came back each time."""
    report, chance = Report(tenants), random.Random(14)
    with scene(products) as here:
        here.add_users(tenants)
        before = here.rows(here.parts)
        here.parts.manager.backups.create_catalog()
        here.keep_tenants()
        while report.kills < kills or not report.recoveries:
            here.lose_servers()
            settings = here.machine()
            report.kills += _recovered(settings, chance, kills - report.kills)
            report.recoveries += 1
            _compare(here, here.built(settings), before, report)
            progress(f"{report.kills} kills, {report.recoveries} recoveries, faults: {report.faults[:3]}")
            shutil.rmtree(settings.tenant_data_dir.parent)
    return report


def _recovered(settings: Settings, chance: random.Random, most: int) -> int:
    """Run recoveries until one is done; return how many of them were killed."""
    kills = 0
    while True:
        child = forked(lambda: _recover(settings))
        if kills < most:
            timer = threading.Timer(chance.uniform(*BEFORE_KILL_S), child.kill)
            timer.start()
            answer = child.result_unless_killed()
            timer.cancel()
        else:
            answer = child.result()
        if answer is None:
            kills += 1
        elif answer == "done":
            return kills
        else:
            threading.Event().wait(CLAIM_TTL_S / 4)  # the one that was killed still holds its claims


def _recover(settings: Settings) -> str:
    parts = compose.build(settings)
    parts.manager.services.claim_ttl_s = CLAIM_TTL_S
    try:
        report = parts.manager.recovery.run()
    except ClaimedError:
        return "claimed"
    finally:
        parts.close()
    return "done" if report.ended else "again"


def _compare(here: Scene, parts: Parts, before: Rows, report: Report) -> None:
    """Compare rows, and look for what should not be there: damage, orphans, a broken log."""
    after = here.rows(parts)
    report.wrong_tenants += [user_id for user_id in before if after.get(user_id) != before[user_id]]
    for server in parts.manager.servers():
        parts.manager.servers.tidy(server["name"])  # a template in the making may be left, as by any kill
    for checked in parts.manager.fleet.verify(Selection()):
        report.faults += [f"{found.code}: {found.what}" for found in checked.found]
    report.faults += [f"left behind: {left.db_name or left.db_path}" for left in parts.manager.leftovers.listed()]
    try:
        parts.manager.audit.verify()
    except TenancyError as error:
        report.faults.append(error.message)
    for name, number in parts.manager.recovery.status().report["tenants"].items():
        report.outcomes[name] = report.outcomes.get(name, 0) + number


def older(tenants: int = 12, products: Sequence[str] = PRODUCTS) -> Report:
    """Come back with a catalog that is older than the databases; a third of those are still in their places."""
    report = Report(tenants)
    with scene(products) as here:
        here.add_users(tenants)
        revoked, key = here.parts.accounts.issue_key(1)
        here.parts.manager.backups.create_catalog()
        here.parts.accounts.revoke_key(1, revoked["id"])
        here.parts.manager.delete_user_database(2)
        here.add_users(3)
        for user_id in (3, 4, 5):
            here.parts.manager.suspend(user_id)
            here.parts.manager.resume(user_id)
        here.keep_tenants()
        before = here.rows(here.parts)
        settings = here.machine()
        shutil.copytree(here.settings.tenant_data_dir, settings.tenant_data_dir)
        parts = here.built(settings)
        found = parts.manager.recovery.run()
        report.outcomes = found.counts
        report.faults += _harm(parts, key, known=tenants, given=tenants + 3)
        newer = {each.tenant.user_id or 0 for each in found.results if str(each.outcome) == "newer"}
        parts.manager.recovery.run(adopt=True)
        after = here.rows(parts)
        report.wrong_tenants = [n for n in before if n <= tenants and after.get(n) != before[n]]
        report.faults += [] if newer == {3, 4, 5} else [f"newer are {sorted(newer)}"]
        report.recoveries = 2
    return report


def _harm(parts: Parts, key: str, *, known: int, given: int) -> Iterator[str]:
    """Name what an old catalog has done to a newer world."""
    if parts.accounts.principal_by_key(key) is not None:
        yield "a revoked key gives access"
    if any(row["user_id"] == 2 for row in parts.manager.reports.databases(limit=10_000)):
        yield "a deleted database is there again"
    if parts.accounts.count() != known:
        yield f"{parts.accounts.count()} accounts came back"
    fresh = parts.accounts.create("fresh@example.org").id
    if fresh <= given:
        yield f"id {fresh} was given twice"
    parts.manager.audit.verify()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.recovery", description=__doc__)
    parser.add_argument("what", choices=("drill", "older"))
    parser.add_argument("--tenants", type=int, default=None)
    parser.add_argument("--kills", type=int, default=None)
    parser.add_argument("--products", default=",".join(PRODUCTS), help="with commas between")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    given["products"] = tuple(given["products"].split(","))
    report = drill(**given) if given.pop("what") == "drill" else older(**given)
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
