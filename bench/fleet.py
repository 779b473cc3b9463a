"""Measure fleet runs: one additive revision over 1,000 tenants (P6), and a run that finds nothing to do (P7).

The baselines of P6 do the same to copies of the same files, one after the other: plain ``sqlite3`` runs the same DDL
with the version and the ledger's row in one durable transaction; a loop of ``alembic upgrade`` runs the revision as
the command does, with a configuration and a script folder read for each, and keeps no ledger.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import compose
from bench.measure import AT_LEAST, AT_MOST, Figure, median, same_work, timed
from bench.world import World, environ, folder, progress, register_only, world
from compose import Parts
from repositories.schema import tenant_schema
from settings import Settings
from tenancy import TenantManager
from tenancy.catalog.runs import Rules, Selection
from tenancy.fleet.processes import work_in_processes
from tenancy.schema.tables import TENANT_VERSION_TABLE

REVISION = '''"""Let tasks have an estimate, a place and an order of their own. Revision 0003."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("estimate_min", sa.Integer))


def downgrade() -> None:
    op.drop_column("tasks", "estimate_min")
'''
DDL = "ALTER TABLE tasks ADD COLUMN estimate_min INTEGER"
OPENED = "sqlite3.connect"


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    return [
        *_one_revision(40 if small else 1000, 1 if small else 3, 10 if small else 100),
        _nothing_to_do(500 if small else 10_000),
    ]


def next_version(settings: Settings, migrations: Path) -> Parts:
    """Join the parts of the application's next version, whose chain has one revision more."""
    parts = compose.build(settings)
    old = parts.manager
    schema = replace(tenant_schema(compose.app_version()), migrations=migrations)
    fresh = TenantManager(
        parts.catalog, old.backends, schema, old.keyring, old.options, catalog_chain=old.catalog_chain
    )
    return replace(parts, manager=fresh)


def _one_revision(number: int, rounds: int, sample: int) -> list[Figure]:
    """Migrate the fleet, then copies of its files by plain ``sqlite3``, in turns; and some of them by Alembic."""
    progress(f"migrating {number} tenants beside the baselines, {rounds} times")
    ours, plain, looped = [], [], []
    for _ in range(rounds):
        with _grown(number) as (here, migrations):
            files = sorted((here.folder / "users").glob("user_*.db"))
            copies = [_copied(files, here.folder / name) for name in ("plain", "alembic")]
            settings = here.parts.settings
            upgraded = next_version(settings, migrations)
            here.parts.manager.close()
            work = partial(_migrate, upgraded, partial(next_version, settings, migrations))
            ours.append(timed(work) / number)
            plain.append(timed(partial(_by_hand, copies[0])) / number)
            looped.append(timed(partial(_by_alembic, copies[1][:sample], migrations)) / sample)
            same_work(_shape(files[-1]), _shape(copies[0][-1]))
            same_work(_shape(files[0])["columns"], _shape(copies[1][0])["columns"])
            here.users.clear()
            upgraded.close()
    notes = {"tenants": number, "rounds": rounds, "processes": os.cpu_count()}
    what = f"one additive revision over {number} SQLite tenants, durable, with ledger"
    mine, sqlite, alembic = (median(each) * 1000 for each in (ours, plain, looped))
    by_hand = "the same DDL by plain sqlite3, file by file"
    return [
        Figure("P6", what, "ms a tenant", mine, sqlite, by_hand, (AT_MOST, 1.3), notes=notes),
        Figure(
            "P6b",
            "the same, tenants a second",
            "tenants/s",
            1000 / mine,
            1000 / alembic,
            "a loop of alembic upgrade",
            (AT_LEAST, 3),
            notes=notes | {"sample": sample},
        ),
    ]


@contextmanager
def _grown(number: int) -> Iterator[tuple[World, Path]]:
    with world(number) as here:
        migrations = here.folder / "migrations" / "tenant"
        shutil.copytree(here.parts.manager.schema.migrations, migrations, ignore=shutil.ignore_patterns("__pycache__"))
        (migrations / "versions" / "0003_estimate.py").write_text(REVISION)
        yield here, migrations


def _migrate(parts: Parts, build: Any) -> None:
    from tenancy.fleet.processes import Crew

    made = parts.manager.fleet.start(Selection(), Rules())
    done = work_in_processes(parts.manager.fleet, made.id, Crew(build, os.cpu_count() or 1), lambda run: None)
    same_work(({"done": made.total}, "done"), (done.counts, str(done.state)))


def _by_hand(files: list[Path]) -> None:
    ledger = (
        "INSERT INTO tenancy_ledger SELECT ?, '0003', direction, checksum, applied_at, duration_ms, app_version "
        "FROM tenancy_ledger LIMIT 1"
    )
    for file in files:
        with closing(sqlite3.connect(file, isolation_level=None)) as driver:
            driver.execute("PRAGMA synchronous = FULL")
            driver.execute("BEGIN IMMEDIATE")
            driver.execute(DDL)
            driver.execute(f"UPDATE {TENANT_VERSION_TABLE} SET version_num = '0003'")
            driver.execute(ledger, (uuid.uuid4().hex,))
            driver.execute("COMMIT")


def _by_alembic(files: list[Path], migrations: Path) -> None:
    for file in files:
        engine = sa.create_engine(f"sqlite:///{file}")
        with engine.connect() as connection:
            config = Config(str(migrations / "alembic.ini"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        engine.dispose()


def _copied(files: list[Path], to: Path) -> list[Path]:
    to.mkdir()
    return [Path(shutil.copyfile(file, to / file.name)) for file in files]  # nobody has them open


def _shape(file: Path) -> dict[str, object]:
    with closing(sqlite3.connect(file)) as driver:
        return {
            "columns": [row[1:3] for row in driver.execute("PRAGMA table_info(tasks)")],
            "version": driver.execute(f"SELECT version_num FROM {TENANT_VERSION_TABLE}").fetchall(),
            "ledger": driver.execute("SELECT revision FROM tenancy_ledger ORDER BY revision").fetchall(),
        }


def _nothing_to_do(number: int) -> Figure:
    """Run the whole command over tenants that are only registered: who opened one of them would find no file."""
    progress(f"a fleet run over {number} tenants with nothing to apply")
    with folder() as place:
        settings = environ(place)
        parts = compose.build(Settings.load(settings, dotenv=None))
        parts.manager.prepare_catalog()
        register_only(parts, number)
        opened: list[object] = []
        sys.addaudithook(lambda event, given: opened.append(given[0]) if event == OPENED else None)
        inside = timed(lambda: same_work(number, parts.manager.fleet.start(Selection(), Rules()).already))
        elsewhere = [name for name in opened if "admin.db" not in str(name)]
        same_work([], elsewhere)
        parts.close()
        whole = [timed(lambda: _command(settings, number)) for _ in range(3)]
        same_work(False, (place / "users").exists())
    notes = {"tenants": number, "tenant_databases_opened": len(elsewhere), "without_starting_python_s": inside}
    what = f"unify fleet migrate with nothing to apply over {number} tenants"
    return Figure("P7", what, "s", median(whole), None, "", (AT_MOST, 1), of_ratio=False, notes=notes)


def _command(settings: dict[str, str], number: int) -> None:
    root = Path(__file__).resolve().parent.parent
    words = [sys.executable, "-m", "utils.cli", "fleet", "migrate"]
    done = subprocess.run(words, cwd=root, env=os.environ | settings, check=True, capture_output=True, text=True)
    same_work(True, f"nothing to do, {number} tenants" in done.stdout)
