"""Put fleet runs to the proof: revisions that fail, runners that are killed or come in pairs, requests meanwhile.

python -m tests.acceptance.fleet failures --tenants 1000
python -m tests.acceptance.fleet kills --tenants 200 --kills 100     (SQLite and PostgreSQL, half and half)
python -m tests.acceptance.fleet pairs --tenants 40 --rounds 20      (two runners and four web workers at once)
python -m tests.acceptance.fleet load --tenants 200 --clients 16     (requests while the fleet is migrated)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import compose
from bench.served import PROJECT, Served
from bench.world import World, world
from compose import Parts
from repositories.schema import MIGRATIONS, categories
from settings import Settings
from tenancy import TenantManager
from tenancy.catalog.runs import Rules, Run, Selection
from tenancy.errors import TenancyError
from tenancy.fleet.processes import Crew, work_in_processes
from tenancy.lifecycle.upgrade_on_first_use import UpgradeOnFirstUse
from tenancy.models import State, Tenant
from tenancy.schema import ledger
from tenancy.schema.chain import Chain
from tenancy.schema.tables import TENANT_VERSION_TABLE
from tests.acceptance.clients import Client, Person, Seen, lost
from tests.support.applications import Child, Gate, forked, revision, set_back

CLAIM_TTL_S = 1.5
TASKS = 3
REBUILDS = """
there = [column['name'] for column in sa.inspect(op.get_bind()).get_columns('categories')]
sqlite = op.get_context().dialect.name == 'sqlite'
if 'note' not in there:
    with op.batch_alter_table('categories', recreate='always' if sqlite else 'never') as batch:
        batch.add_column(sa.Column('note', sa.String(50)))
"""
ADDS = """
if 'estimate' not in [column['name'] for column in sa.inspect(op.get_bind()).get_columns('tasks')]:
    op.add_column('tasks', sa.Column('estimate', sa.Integer))
op.execute("UPDATE tasks SET estimate = 5")
"""
FAILS = (
    ADDS
    + """
if op.get_bind().execute(sa.text("SELECT count(*) FROM tasks WHERE title = 'stop'")).scalar():
    raise RuntimeError('a task says stop')
"""
)
BEFORE = Chain(MIGRATIONS, TENANT_VERSION_TABLE).head
REBUILT, HEAD = (f"{int(BEFORE) + step:04}" for step in (1, 2))


@dataclass
class Fleet:
    """Hold an installation, its next version's chain, and the manager that serves by it."""

    here: World
    migrations: Path
    manager: TenantManager

    @property
    def build(self) -> partial[Parts]:
        return partial(next_version, self.here.parts.settings, self.migrations)

    def tenants(self) -> list[Tenant]:
        return [self.manager.tenant_of(user.id) for user in self.here.users]


def next_version(settings: Settings, migrations: Path) -> Parts:
    """Join the parts of the application's next version; its claims end soon."""
    parts = compose.build(settings)
    old = parts.manager
    fresh = TenantManager(
        parts.catalog,
        old.backends,
        replace(old.schema, migrations=migrations),
        old.keyring,
        old.options,
        catalog_chain=old.catalog_chain,
    )
    fresh.services.claim_ttl_s = CLAIM_TTL_S
    return replace(parts, manager=fresh)


@contextmanager
def fleet(number: int, types: Sequence[str] = ("sqlite",), last: str = ADDS) -> Iterator[Fleet]:
    """Make tenants at 0002 with a category and tasks under it each, and a next version with two revisions more."""
    with world() as here:
        here.register(types)
        here.add_users(number, types)
        for user in here.users:
            _fill(here.parts.manager, user.id)
        here.parts.manager.engines.close()
        migrations = here.folder / "migrations" / "tenant"
        shutil.copytree(here.parts.manager.schema.migrations, migrations, ignore=shutil.ignore_patterns("__pycache__"))
        write_chain(migrations, last)
        yield Fleet(here, migrations, next_version(here.parts.settings, migrations).manager)


def write_chain(migrations: Path, last: str) -> None:
    revision(migrations, REBUILT, BEFORE, REBUILDS, _drop("categories", "note"))
    revision(migrations, HEAD, REBUILT, last, _drop("tasks", "estimate"))


def _drop(table: str, column: str) -> str:
    there = f"{column!r} in [column['name'] for column in sa.inspect(op.get_bind()).get_columns({table!r})]"
    return f"if {there}:\n    with op.batch_alter_table({table!r}) as batch:\n        batch.drop_column({column!r})"


def _fill(manager: TenantManager, user_id: int) -> None:
    from bench.world import task
    from repositories.schema import tasks

    with manager.session(user_id, write=True) as session:
        mine = session.execute(sa.select(categories.c.id).where(categories.c.user_id == user_id)).scalars().first()
        rows = [task(user_id, number) | {"category_id": mine} for number in range(TASKS)]
        session.execute(tasks.insert(), rows)


def state_of(fleet: Fleet, tenant: Tenant) -> dict[str, Any]:
    """Ask a tenant's own database, as the login that may change it."""
    backend = fleet.manager.backends.get(tenant.db_type)
    with backend.migrating(backend.connect_to_migrate(tenant, fleet.manager.services.access(tenant))) as connection:
        there = sa.inspect(connection)
        joined = "SELECT count(*) FROM tasks t JOIN categories c ON c.user_id = t.user_id AND c.id = t.category_id"
        return {
            "version": fleet.manager.chain.current(connection),
            "ledger": [(row["revision"], row["direction"]) for row in ledger.entries(connection)],
            "note": "note" in [column["name"] for column in there.get_columns("categories")],
            "estimate": "estimate" in [column["name"] for column in there.get_columns("tasks")],
            "tables": [name for name in there.get_table_names() if name.startswith("_alembic")],
            "children": connection.execute(sa.text(joined)).scalar(),
        }


def faults(fleet: Fleet, wanted: str) -> list[str]:
    """Name what is not as it should be with a tenant at ``wanted``: half tables, lost rows, a ledger that doubles."""
    found = []
    order = list(fleet.manager.chain.checksums)
    for tenant in fleet.tenants():
        told = state_of(fleet, tenant)
        at = order.index(wanted)
        right = {"version": wanted, "note": at >= 2, "estimate": at >= 3, "tables": [], "children": TASKS}
        found += [f"user {tenant.user_id}: {name} is {told[name]!r}" for name in right if told[name] != right[name]]
        if (tenant.state, tenant.revision) != (State.READY, wanted):
            found.append(f"user {tenant.user_id}: the catalog says {tenant.state} at {tenant.revision}")
        if not _once_each(told["ledger"], order[: at + 1]):
            found.append(f"user {tenant.user_id}: the ledger says {told['ledger']}")
    return found


def _once_each(told: list[tuple[str, str]], wanted: list[str]) -> bool:
    """Say whether the ledger tells of each revision's coming and going in turn, and ends where it should."""
    standing: list[str] = []
    for name, direction in told:
        if direction == "upgrade" and name not in standing:
            standing.append(name)
        elif direction == "downgrade" and standing[-1:] == [name]:
            standing.pop()
        else:
            return False
    return standing == wanted


# --- a revision that fails on three --------------------------------------------------------------------------------


def failures(tenants: int = 1000) -> dict[str, Any]:
    """Let a revision fail on three; fix it, resume, roll back."""
    with fleet(tenants, last=FAILS) as here:
        manager, crew = here.manager, Crew(here.build, os.cpu_count() or 1)
        bad = [user.id for user in here.here.users[:: tenants // 3]][:3]
        for user_id in bad:
            here.here.parts.manager.execute_update("UPDATE tasks SET title = 'stop'", user_id=user_id)
        here.here.parts.manager.engines.close()
        first = _worked(manager, manager.fleet.start(Selection(), Rules()), crew)
        named = manager.fleet.items(first.id, states=["failed"])
        unharmed = [state_of(here, manager.tenant_of(user_id))["version"] for user_id in bad]
        write_chain(here.migrations, ADDS)
        fixed = next_version(here.here.parts.settings, here.migrations).manager
        here.manager = fixed
        applied = _applied(fixed)
        again = _worked(fixed, fixed.fleet.resume(first.id), crew)
        resumed = _applied(fixed) - applied
        wrong = [] if again.counts == {"done": tenants} else [str(again.counts)]
        for user_id in bad:  # the edited revision was applied to the three alone: the others' ledgers know the old one
            wrong += [] if state_of(here, fixed.tenant_of(user_id))["version"] == HEAD else [f"user {user_id}"]
        back = _worked(fixed, fixed.fleet.rollback(first.id), crew)
        return {
            "tenants": tenants,
            "first": first.counts,
            "named": [(row["user_id"], row["error"]) for row in named],
            "named_are_the_three": [row["user_id"] for row in named] == bad,
            "the_three_stood_at": unharmed,
            "resumed": resumed,
            "then": again.counts,
            "rolled_back": back.counts,
            "after_the_rollback": sorted({tenant.revision for tenant in here.tenants()}),
            "wrong": wrong,
        }


def _worked(manager: TenantManager, run: Run, crew: Crew) -> Run:
    return work_in_processes(manager.fleet, run.id, crew, lambda now: None)


def _applied(manager: TenantManager) -> int:
    with manager.catalog.reading() as connection:
        told = "SELECT count(*) FROM audit_log WHERE action = 'tenant.upgrade'"
        return int(connection.exec_driver_sql(told).scalar_one())


# --- killed at any moment --------------------------------------------------------------------------------------


def kills(tenants: int = 200, kills: int = 100, types: str = "sqlite,postgresql") -> dict[str, Any]:
    """Kill a run, forward and back in turns; let the next one finish it; look at every tenant each time."""
    chance, wrong, took_s, in_time = random.Random(7), [], [0.5], 0
    with fleet(tenants, types.split(",")) as here:
        crew = Crew(here.build, os.cpu_count() or 1)
        forward, killed, run_id = True, 0, 0
        while killed < kills:
            run = _next(here.manager, forward, run_id)
            child = _group(here, run.id, crew)
            if _ended_within(child, chance.uniform(0.02, max(took_s[-3:]))):
                in_time += 1
            else:
                os.killpg(child.pid, signal.SIGKILL)
                child.killed()
                killed += 1
            started = time.monotonic()
            again = _next(here.manager, forward, run_id)  # as an operator types it again
            done = _worked(here.manager, again, crew) if again.total else here.manager.fleet.get(run.id)
            took_s.append(time.monotonic() - started)
            found = faults(here, HEAD if forward else BEFORE)
            found += [] if done.counts == {"done": tenants} else [f"the run says {done.counts}"]
            wrong += [f"kill {killed}: {fault}" for fault in found]
            run_id, forward = done.id, not forward
            _say(f"{killed} kills, {len(wrong)} faults, {in_time} ended before, {took_s[-1]:.1f} s to finish")
        return {"kills": killed, "tenants": tenants, "types": types, "ended_before_the_kill": in_time, "faults": wrong}


def _next(manager: TenantManager, forward: bool, last: int) -> Run:
    return manager.fleet.start(Selection(), Rules()) if forward else manager.fleet.rollback(last)


def _group(here: Fleet, run_id: int, crew: Crew) -> Child:
    """Work on a run in a process group of its own: the one that watches, and its workers."""

    def work() -> None:
        os.setsid()
        parts = here.build()
        _worked(parts.manager, parts.manager.fleet.get(run_id), crew)

    child = forked(work)
    while True:  # the group is there as soon as the child has made it
        try:
            if os.getpgid(child.pid) == child.pid:
                return child
        except ProcessLookupError:
            return child


def _ended_within(child: Child, seconds: float) -> bool:
    """Say whether a child ends within so many seconds, and see it off if it does."""
    pidfd = os.pidfd_open(child.pid)
    try:
        import select

        ended = bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
    if ended:
        child.result()
    return ended


# --- several at once -------------------------------------------------------------------------------------------


def pairs(tenants: int = 40, rounds: int = 20) -> dict[str, Any]:
    """Start two runners and four web workers that migrate at first touch together, round after round."""
    wrong: list[str] = []
    with fleet(tenants, ("sqlite", "postgresql")) as here:
        run_id = 0
        for turn in range(rounds):
            gate = Gate()
            children = [forked(partial(_run_at, here, gate)) for _ in range(2)]
            children += [forked(partial(_touch_at, here, gate, seed)) for seed in range(4)]
            gate.open()
            outcomes = [child.result() for child in children]
            run_id = next(made for made in outcomes if made)
            here.manager.fleet.work(here.manager.fleet.resume(run_id).id)
            found = faults(here, HEAD)
            wrong += [f"round {turn}: {fault}" for fault in found]
            applied = _applied(here.manager) - turn * tenants
            wrong += [] if applied == tenants else [f"round {turn}: {applied} upgrades in the audit log"]
            _set_back(here)
            _say(f"round {turn + 1}: {len(wrong)} faults")
        return {"rounds": rounds, "tenants": tenants, "faults": wrong}


def _run_at(here: Fleet, gate: Gate) -> int:
    parts = here.build()
    gate.wait()
    run = parts.manager.fleet.start(Selection(), Rules())
    parts.manager.fleet.work(run.id)
    return run.id


def _touch_at(here: Fleet, gate: Gate, seed: int) -> int:
    """Ask for every tenant's rows, as the requests of a web worker would."""
    manager = here.build().manager
    manager.router.on_behind = UpgradeOnFirstUse(manager.provisioner).upgrade
    ids = [user.id for user in here.here.users]
    random.Random(seed).shuffle(ids)
    gate.wait()
    for user_id in ids:
        try:
            assert len(manager.fetch_all("SELECT title FROM tasks", user_id=user_id)) == TASKS
        except TenancyError:
            continue  # somebody else is at it, or has just been: the client comes again
    manager.close()
    return 0


def _set_back(here: Fleet) -> None:
    set_back(here.manager, [user.id for user in here.here.users], BEFORE)


# --- requests meanwhile ----------------------------------------------------------------------------------------


def load(tenants: int = 200, clients: int = 16, types: str = "sqlite", before: str = "no") -> dict[str, Any]:
    """Let clients read and write while every tenant is migrated; say what they were answered.

    Either the new version serves already, and who was not migrated yet is told to come again; or the version before
    goes on serving, and only who is being migrated in that moment is.
    """
    earlier, during, after = Seen(), Seen(), Seen()
    with ExitStack() as stack:
        server = stack.enter_context(Served(workers=2, tenants=tenants, rows=0, types=types.split(",")))
        people = [Person(user.id, key) for user, key in zip(server.users, server.keys, strict=True)]
        _ask(server.port, people, clients, earlier, 3.0)
        parts = compose.build(Settings.load(server.environ, dotenv=None))
        if before == "no":
            set_back(parts.manager, [user.id for user in server.users])
        during.written = earlier.written
        over = threading.Event()
        asking = threading.Thread(target=_ask, args=(server.port, people, clients, during, None, over))
        asking.start()
        started = time.monotonic()
        counts = _migrate_as_is(server) if before == "no" else _migrate_beside(server, parts)
        took_s = time.monotonic() - started
        _ask(server.port, people, 2, after, 1.0)
        over.set()
        asking.join()
        missing = lost(server.port, people, during)
        parts.close()
    answers = dict(sorted(during.statuses.items()))
    return {
        "tenants": tenants,
        "types": types,
        "served_by_the_version_before": before,
        "migrated": counts,
        "in_s": round(took_s, 1),
        "answers": answers,
        "answers_after": dict(sorted(after.statuses.items())),
        "foreign_rows": len(during.foreign),
        "torn_rows": len(during.torn),
        "lost_writes": len(missing),
        "other_than_200_201_503": sum(count for status, count in answers.items() if status not in (200, 201, 503)),
        "503_without_retry_after": during.unannounced,
        "slowest_s": round(during.slowest_s, 3),
        "slowest_before_s": round(earlier.slowest_s, 3),
        "examples": sorted({failure.partition("detail")[2][3:120] for failure in during.failures})[:6],
    }


def _migrate_as_is(server: Served) -> dict[str, int]:
    """Run the command, as an operator would who has started the new version already."""
    words = [sys.executable, "-m", "utils.cli", "fleet", "migrate", "--json"]
    done = subprocess.run(
        words, cwd=PROJECT, env=dict(os.environ) | server.environ, capture_output=True, text=True, check=False
    )
    counts: dict[str, int] = json.loads(done.stdout)["counts"]
    return counts


def _migrate_beside(server: Served, parts: Parts) -> dict[str, int]:
    """Migrate by the next version's chain while the version before serves."""
    migrations = server.folder / "migrations" / "tenant"
    shutil.copytree(parts.manager.schema.migrations, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    write_chain(migrations, ADDS)
    build = partial(next_version, parts.settings, migrations)
    manager = build().manager
    crew = Crew(build, os.cpu_count() or 1)
    return _worked(manager, manager.fleet.start(Selection(), Rules()), crew).counts


def _ask(
    port: int,
    people: list[Person],
    number: int,
    seen: Seen,
    seconds: float | None,
    over: threading.Event | None = None,
) -> None:
    ends = time.monotonic() + seconds if seconds is not None else float("inf")

    def work(seed: int) -> None:
        with closing(Client(port, seen, seed)) as client:
            while time.monotonic() < ends and not (over is not None and over.is_set()):
                client.work_until(people, min(ends, time.monotonic() + 0.1))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _say(text: str) -> None:
    sys.stderr.write(f"... {text}\n")


PROOFS = {"failures": failures, "kills": kills, "pairs": pairs, "load": load}


def main() -> int:
    import inspect

    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.fleet", description=__doc__)
    proofs = parser.add_subparsers(dest="proof", required=True)
    for name, proof in PROOFS.items():
        asked = proofs.add_parser(name)
        for parameter in inspect.signature(proof).parameters.values():
            asked.add_argument(f"--{parameter.name}", type=type(parameter.default), default=parameter.default)
    given = vars(parser.parse_args())
    report = PROOFS[given.pop("proof")](**given)
    sys.stdout.write(json.dumps(report, indent=2, default=str) + "\n")
    return 1 if report.get("faults") or report.get("wrong") else 0


if __name__ == "__main__":
    raise SystemExit(main())
