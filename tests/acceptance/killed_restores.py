"""Kill backups, restores and their undoing at random moments under a writer: no acknowledged row is lost.

    python -m tests.acceptance.killed_restores sqlite 50
    python -m tests.acceptance.killed_restores postgresql 50

A process inserts rows, some 200 a second, and notes each that was acknowledged. Another one backs up, restores and
undoes that, and gets SIGKILL at a random moment; what it was at is run again to its end. Then every acknowledged row
has to be in the present database or in one that is kept, and only the present one takes writes. All that opens a
database is a child process: the one that forks them has no connection that they could inherit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from select import select
from typing import TypeVar

import sqlalchemy as sa

import compose
from bench.world import environ, folder, progress
from compose import Parts
from settings import Settings
from tenancy.backends.base import DatabaseFields
from tenancy.catalog import leftovers, tenants
from tenancy.catalog.leftovers import Reason
from tenancy.errors import ClaimedError, ClaimLostError, TenancyError
from tenancy.models import State, Tenant
from tenancy.schema.tables import tenancy_identity
from tenancy.types import new_id
from tests.support import engines
from tests.support.applications import Child, forked, in_child
from tests.support.recovery import backup_keys

PRODUCTS = ("sqlite", "postgresql", "mysql")
STEPS = ("backup", "restore", "undo")
CLAIM_TTL_S = 2.0
PATIENCE_S = 120.0
PACE_S = 0.005
AFTERWARDS = 5
T = TypeVar("T")
INSERT = sa.text("INSERT INTO tasks (id, user_id, title) VALUES (:id, :user_id, :title)")


@dataclass
class Report:
    """Say what became of the rows, and what was wrong."""

    product: str
    kills: int = 0
    runs: int = 0
    killed_at: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    present: int = 0
    put_aside: int = 0
    """How many of the acknowledged rows are only in databases that are kept."""

    lost: int = 0
    refused: int = 0
    """How many writes were refused, most of them while the database was being exchanged."""

    kept: int = 0
    backups_verified: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.lost == 0 and not self.faults


@dataclass(frozen=True)
class Undone:
    """Say what an undoing told, and how many acknowledged rows the user does not see any more because of it."""

    said: int
    missing: int


@dataclass(frozen=True)
class Look:
    """What one look at all databases of the user found."""

    present: frozenset[int]
    aside: frozenset[int]
    kept: int
    verified: int
    faults: list[str]


class Scene:
    """Hold an installation with one user, and what its child processes note."""

    def __init__(self, place: Path, product: str) -> None:
        self.place, self.product = place, product
        self.settings = Settings.load(environ(place, **backup_keys(place)), dotenv=None)
        self.acknowledged, self.at, self.refused = (place / name for name in ("acknowledged", "at", "refused"))
        for path in (self.acknowledged, self.at, self.refused):
            path.touch()
        self.user_id = in_child(self._set_up)

    @contextmanager
    def parts(self) -> Iterator[Parts]:
        with closing(compose.build(self.settings)) as parts:
            parts.manager.services.claim_ttl_s = CLAIM_TTL_S
            yield parts

    def rows_acknowledged(self) -> set[int]:
        """Give the numbers that the writer has noted, but for a last line that it is writing."""
        lines = self.acknowledged.read_text().split("\n")[:-1]
        return {int(line) for line in lines}

    def note(self, step: str, backup_id: uuid.UUID | None, undone: int) -> None:
        """Note where a run is; a kill leaves the note before or this one."""
        fresh = self.at.with_suffix(".new")
        fresh.write_text(f"{step} {backup_id} {undone}")
        fresh.replace(self.at)

    def step(self) -> str:
        return self.at.read_text().split()[0]

    def took(self, step: str) -> Path:
        """Give the file that says how many seconds a step took when it came to its end last."""
        return self.place / f"{step}_took"

    def _set_up(self) -> int:
        with self.parts() as parts:
            parts.manager.prepare_catalog()
            if self.product != "sqlite":
                address = engines.server_address(self.product)
                assert address is not None
                parts.manager.servers.add("test", self.product, address.render_as_string(hide_password=False))
            user = parts.accounts.create("ada@example.org")
            parts.manager.provision(user.id, DatabaseFields(self.product))
            return user.id

    def take_away(self) -> None:
        """Delete what is on a server; the folder goes by itself."""
        with self.parts() as parts:
            _patiently(lambda: parts.manager.delete_user_database(self.user_id))
            for server in parts.manager.servers():
                parts.manager.servers.remove(server["name"])


@contextmanager
def scene(product: str) -> Iterator[Scene]:
    with folder() as place:
        here = Scene(place, product)
        try:
            yield here
        finally:
            in_child(here.take_away)


# --- child processes -----------------------------------------------------------------------------------------------


def _write(here: Scene) -> None:
    """Insert rows until a signal says that it is over; note each acknowledged one before the next is begun."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    number = refused = 0
    with here.parts() as parts, here.acknowledged.open("a", buffering=1) as notes:
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic() - PACE_S) + PACE_S  # what it is late is not made up for
            number += 1
            try:
                with parts.manager.session(here.user_id, write=True) as session:
                    session.execute(INSERT, {"id": new_id().hex, "user_id": here.user_id, "title": str(number)})
            except TenancyError:
                refused += 1
            else:
                notes.write(f"{number}\n")
    here.refused.write_text(str(refused))


def _run(here: Scene, first: str = STEPS[0], backup_id: uuid.UUID | None = None) -> Undone | None:
    """Back up, restore and undo, from this step on; note each step that begins."""
    with here.parts() as parts:
        manager, undone = parts.manager, None
        for step in STEPS[STEPS.index(first) :]:
            if step == "undo" and first != step:
                _noted_after(here, max(here.rows_acknowledged(), default=0))  # there is something to put aside
            here.note(step, backup_id, _undone(parts))
            took = here.took(step)
            if step == "backup":
                backup_id = _patiently(lambda: manager.backups.create(here.user_id), took).id
            elif step == "restore":
                assert backup_id is not None
                _patiently(partial(manager.restores.restore, here.user_id, backup_id), took)
            else:
                undone = _undo(here, parts, took)
        here.note("done", backup_id, _undone(parts))
    return undone


def _undo(here: Scene, parts: Parts, took: Path) -> Undone:
    """Undo the last restore; compare what it says with the acknowledged rows that are in the kept database alone."""
    done = _patiently(lambda: parts.manager.restores.undo(here.user_id, discard_newer=True), took)
    if done.kept is None:
        return Undone(done.written.rows, 0)
    # What the writer acknowledged before the fence is noted a moment later, but in the kept database already.
    return Undone(done.written.rows, len(_rows(parts, done.kept) - _rows(parts, done.tenant)))


def _patiently(work: Callable[[], T], took: Path | None = None) -> T:
    """Run a work again while the claim of one that was killed has not expired; write down how long the last took."""
    until = time.monotonic() + PATIENCE_S
    while True:
        started = time.monotonic()
        try:
            done = work()
        except (ClaimedError, ClaimLostError):
            if time.monotonic() > until:
                raise
            threading.Event().wait(CLAIM_TTL_S / 8)
        else:
            if took is not None:
                took.write_text(f"{time.monotonic() - started}")
            return done


def _undone(parts: Parts) -> int:
    with parts.catalog.reading() as connection:
        actions = connection.exec_driver_sql("SELECT action FROM audit_log").scalars()
        return sum(action == "tenant.undo_restore" for action in actions)


def _rows(parts: Parts, tenant: Tenant) -> frozenset[int]:
    backend = parts.manager.backends.get(tenant.db_type)
    with backend.copying.snapshot(tenant, parts.manager.services.access(tenant)) as connection:
        return frozenset(int(row[0]) for row in connection.execute(sa.text("SELECT title FROM tasks")))


def _active(parts: Parts, tenant: Tenant, epoch: int) -> bool:
    """Say whether a database takes writes: of the epoch that the catalog has, and ready by its own word."""
    backend = parts.manager.backends.get(tenant.db_type)
    with backend.copying.snapshot(tenant, parts.manager.services.access(tenant)) as connection:
        row = connection.execute(sa.select(tenancy_identity.c.epoch, tenancy_identity.c.state)).one()
    return bool(row.state == State.READY and row.epoch >= epoch)


def _look(here: Scene) -> Look:
    """Read all that the user has, here and aside, and verify the backups that never were."""
    with here.parts() as parts:
        manager = parts.manager
        with parts.catalog.reading() as connection:
            tenant = tenants.get(connection, here.user_id)
            left = leftovers.of_user(connection, here.user_id)
        kept = [each for each in left if each.reason == Reason.KEPT]
        faults = [f"{len(left) - len(kept)} databases are left behind"] if len(left) > len(kept) else []
        if tenant.state is not State.READY:
            faults.append(f"the database is {tenant.state}")
        active = [each.epoch for each in (tenant, *kept) if _active(parts, each, tenant.epoch)]
        if active != [tenant.epoch]:
            faults.append(f"the present epoch is {tenant.epoch}, and active are {active}")
        aside = frozenset[int]().union(*(_rows(parts, each) for each in kept))
        manager.backups.learn()
        verified = manager.backups.verify_all()
        faults += [f"backup {each.backup.id} is good, and {each.error}" for each in verified if not each.ok]
        return Look(_rows(parts, tenant), aside, len(kept), len(verified), faults)


# --- all of it -----------------------------------------------------------------------------------------------------


def killed_restores(product: str = "sqlite", kills: int = 50) -> Report:
    """Run until so many runs were killed; look at all rows after each."""
    report, chance = Report(product), random.Random(14)
    with scene(product) as here:
        writer = forked(lambda: _write(here))
        try:
            while report.kills < kills:
                here.note("nothing", None, 0)
                child = forked(lambda: _run(here))
                if report.runs and _goes_on(here, child, chance.choice(STEPS), chance):
                    child.kill()
                undone = child.result_unless_killed()
                if undone is None:
                    _again(here, report)
                else:
                    _finished(here, report, undone)
                progress(f"{report.kills} kills, {report.acknowledged} rows, {report.lost} lost, {report.faults[:3]}")
        finally:
            os.kill(writer.pid, signal.SIGTERM)
            writer.result()
        _looked(here, report, written_on=False)
        report.refused = int(here.refused.read_text())
    return report


def _goes_on(here: Scene, child: Child, step: str, chance: random.Random) -> bool:
    """Wait until a step has begun, and then at most as long as it took last; say whether the child still runs."""
    while here.step() != step:
        if select([child.answer], [], [], PACE_S)[0]:
            return False
    took_s = float(here.took(step).read_text())
    return not select([child.answer], [], [], chance.uniform(0, took_s))[0]


def _again(here: Scene, report: Report) -> None:
    """Run what was killed again to its end, and what comes after it."""
    report.kills += 1
    step, backup_id, undone = here.at.read_text().split()
    report.killed_at[step] = report.killed_at.get(step, 0) + 1
    if step == "done" or (step == "undo" and in_child(lambda: _undone_now(here)) > int(undone)):
        in_child(lambda: _settled(here))  # it was at its end already, and undoing it again would go back
        _looked(here, report)
        return
    of = uuid.UUID(backup_id) if backup_id != "None" else None
    first = step if step in STEPS else STEPS[0]
    _finished(here, report, in_child(lambda: _run(here, first, of)))


def _undone_now(here: Scene) -> int:
    with here.parts() as parts:
        return _undone(parts)


def _settled(here: Scene) -> None:
    with here.parts() as parts:
        parts.manager.settle_interrupted()


def _finished(here: Scene, report: Report, undone: Undone) -> None:
    report.runs += 1
    if undone.said < undone.missing:
        report.faults.append(f"undoing said {undone.said} rows, and {undone.missing} are missing")
    _looked(here, report)


def _looked(here: Scene, report: Report, *, written_on: bool = True) -> None:
    ended = max(here.rows_acknowledged(), default=0) + 1
    noted = _noted_after(here, ended) if written_on else here.rows_acknowledged()
    seen: Look = in_child(lambda: _look(here))
    report.acknowledged, report.kept = len(noted), seen.kept
    report.present = len(noted & seen.present)
    report.put_aside = len(noted & (seen.aside - seen.present))
    report.lost = len(noted - seen.present - seen.aside)
    report.backups_verified += seen.verified
    report.faults += seen.faults
    astray = {number for number in noted if number > ended} - seen.present
    if astray:
        report.faults.append(f"written after the end, and not in the present database: {sorted(astray)[:5]}")
    if report.lost:
        report.faults.append(f"lost: {sorted(noted - seen.present - seen.aside)[:5]}")


def _noted_after(here: Scene, number: int) -> set[int]:
    """Wait until rows with later numbers are acknowledged; give all that are."""
    until = time.monotonic() + PATIENCE_S
    while max(noted := here.rows_acknowledged(), default=0) < number + AFTERWARDS:
        if time.monotonic() > until:
            raise RuntimeError("no row is acknowledged any more")
        threading.Event().wait(PACE_S)
    return noted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.killed_restores", description=__doc__)
    parser.add_argument("product", choices=PRODUCTS)
    parser.add_argument("kills", type=int, nargs="?", default=50)
    report = killed_restores(**vars(parser.parse_args()))
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
