"""Measure provisioning: one tenant (P3), many in one command (P4), and how long 200 accounts take.

The baseline is the least that a durable tenant can cost: copy the template's file, sync file and folder, and commit
twice, durably, through plain ``sqlite3``, the rows that our catalog gets: "about to be made" with its claim, then
"ready" with its audit row. The notes also hold what it costs with two rows of three columns instead.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from bench.measure import AT_MOST, Figure, Laps, in_turns, median, same_work, timed
from bench.world import World, progress, world
from tenancy.catalog import users

_MADE = """
SELECT c.state, count(*), count(cl.attempt), count(a.id) FROM user_database_configs c
    JOIN claims cl ON cl.tenant_id = c.tenant_id AND cl.expires_at IS NULL
    JOIN audit_log a ON a.tenant_id = c.tenant_id GROUP BY c.state
"""
"""Count tenants with all that was written of them."""

PASSWORD = "a few words together"


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    return [
        _one_tenant(10 if small else 300),
        _many(20 if small else 1000, 3 if small else 50),
        *_accounts(5 if small else 200),
    ]


_RECORD = """
INSERT INTO user_database_configs (user_id, tenant_id, db_type, db_path, owned, is_active, state, version, epoch,
    created_at, updated_at) VALUES (:user_id, :tenant_id, 'sqlite', :path, 1, 1, 'provisioning', 1, 1, :now, :now);
INSERT INTO claims (tenant_id, operation, attempt, runner, expires_at)
    VALUES (:tenant_id, 'provision', 1, 'bench:1:1', :now)
"""
_READY = """
UPDATE claims SET expires_at = NULL WHERE tenant_id = :tenant_id;
UPDATE user_database_configs SET state = 'ready', revision = '0001', schema_fingerprint = :seal, updated_at = :now
    WHERE tenant_id = :tenant_id;
INSERT INTO audit_log (id, at, action, user_id, tenant_id, detail, seal)
    SELECT last_id + 1, :now, 'tenant.provision', :user_id, :tenant_id, '{"revision": "0001", "type": "sqlite"}', :seal
    FROM audit_head;
UPDATE audit_head SET last_id = last_id + 1, seal = :seal
"""


class Plain:
    """Provision by file copy and a catalog of plain ``sqlite3``; ``bare`` keeps three columns a tenant, no more."""

    def __init__(self, folder: Path, template: Path, *, bare: bool = False) -> None:
        name = "bare" if bare else "plain"
        self.folder, self._template = folder / name, template
        self.folder.mkdir()
        self.connection = sqlite3.connect(folder / f"{name}.db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        if bare:
            self._record = ["INSERT INTO configs VALUES (:user_id, :path, 'provisioning')"]
            self._ready = ["UPDATE configs SET state = 'ready' WHERE user_id = :user_id"]
            self.connection.execute("CREATE TABLE configs (user_id INTEGER PRIMARY KEY, db_path TEXT, state TEXT)")
        else:
            self._record, self._ready = _RECORD.split(";"), _READY.split(";")
            with closing(sqlite3.connect(folder / "admin.db")) as ours:
                ours.backup(self.connection)

    def provision(self, user_id: int) -> None:
        path = self.folder / f"user_{user_id}.db"
        values = {"user_id": user_id, "path": path.name, "tenant_id": uuid.uuid4().hex, "seal": uuid.uuid4().hex * 2}
        values["now"] = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        self._commit(self._record, values)
        shutil.copyfile(self._template, path)
        _sync(path)
        _sync(self.folder)
        self._commit(self._ready, values)

    def _commit(self, statements: list[str], values: dict[str, object]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self.connection.execute(statement, values)
        self.connection.execute("COMMIT")


def _one_tenant(number: int) -> Figure:
    """Provision tenants in turns with the baseline, one of each at a time."""
    progress(f"provisioning {number} tenants beside the baseline")
    with world(1) as here:
        manager, template = here.parts.manager, next((here.folder / "users" / ".templates").glob("*.db"))
        ids = [here.parts.accounts.create(f"new{n}@example.org").id for n in range(number + 1)]
        plain, bare = Plain(here.folder, template), Plain(here.folder, template, bare=True)
        ours, theirs, barely = iter(ids), iter(ids), iter(ids)
        laps = Laps()
        manager.services.step = laps.step
        mine, baseline, least = in_turns(
            number,
            laps.heard(lambda: manager.provision(next(ours))),
            lambda: plain.provision(next(theirs)),
            lambda: bare.provision(next(barely)),
        )
        for user_id in (ids[0], ids[-1]):
            made, copied = here.folder / "users" / f"user_{user_id}.db", plain.folder / f"user_{user_id}.db"
            same_work(_tables(copied), _tables(made))
        with here.parts.catalog.reading() as connection:
            same_work([*plain.connection.execute(_MADE)], [tuple(row) for row in connection.exec_driver_sql(_MADE)])
        for each in (plain, bare):
            each.connection.close()
    return Figure(
        "P3",
        "provision one SQLite tenant, durable",
        "ms",
        median(mine) * 1000,
        median(baseline) * 1000,
        "file copy, fsync of file and folder, two durable commits of the same rows by sqlite3",
        (AT_MOST, 1.3),
        notes={
            "tenants": number,
            "baseline_with_bare_rows_ms": median(least) * 1000,
            "steps_ms": laps.medians_ms(),
        },
    )


def _many(number: int, beside: int) -> Figure:
    """Provision many in one command, and a part of as many by Alembic, file by file, before and after it."""
    progress(f"provisioning {number} tenants in one command beside `alembic upgrade head`, file by file")
    with world(1) as here:
        ids = _bare_accounts(here, number)
        files = [here.folder / f"alembic_{n}.db" for n in range(beside)]
        half = beside // 2
        before = timed(lambda: _migrate(here, files[:half]))
        mine = timed(
            lambda: same_work(number, sum(r.created for r in here.parts.manager.initialize_all(lambda r: None)))
        )
        after = timed(lambda: _migrate(here, files[half:]))
        ours = here.folder / "users" / f"user_{ids[-1]}.db"
        house = {(kind, name) for kind, name in _tables(ours) if "tenancy" in name}
        same_work(_tables(files[-1]), [each for each in _tables(ours) if each not in house])
        with here.parts.catalog.reading() as connection:
            same_work([("ready", number + 1)], [tuple(row)[:2] for row in connection.exec_driver_sql(_MADE)])
    return Figure(
        "P4",
        f"provision {number} SQLite tenants in one command, durable",
        "ms a tenant",
        mine / number * 1000,
        (before + after) / beside * 1000,
        f"a loop of `alembic upgrade head` in one process, one new file after another ({beside} of them)",
        (AT_MOST, 1 / 50),
        notes={"tenants": number, "times_faster": (before + after) / beside / (mine / number)},
    )


def _bare_accounts(here: World, number: int) -> list[int]:
    with here.parts.catalog.writing() as connection:
        return [users.add(connection, f"many{n}@example.org", "", None, False).id for n in range(number)]


def _migrate(here: World, files: list[Path]) -> None:
    """Do what a loop of `alembic upgrade head` does: a configuration, an engine, and the whole chain for each file."""
    for path in files:
        config = Config()
        config.set_main_option("script_location", str(here.parts.manager.schema.migrations))
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        engine.dispose()


def _accounts(number: int) -> list[Figure]:
    progress(f"making {number} accounts with their databases")
    with world(1) as here:
        bare = timed(lambda: _make(here, number, "bare", None))
        hashed = timed(lambda: _make(here, number, "full", PASSWORD))
        same_work(1 + 2 * number, len(here.parts.manager.reports.databases(limit=3 * number, state="ready")))
    notes = {"accounts": number}
    return [
        Figure("accounts", f"{number} accounts with databases, no password", "s", bare, None, "", notes=notes),
        Figure("accounts", f"{number} accounts with databases, argon2id", "s", hashed, None, "", notes=notes),
    ]


def _make(here: World, number: int, prefix: str, password: str | None) -> None:
    for n in range(number):
        user = here.parts.accounts.create(f"{prefix}{n}@example.org", password=password)
        here.parts.manager.provision(user.id)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tables(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        same_work([("ok",)], connection.execute("PRAGMA integrity_check").fetchall())
        return connection.execute("SELECT type, name FROM sqlite_master ORDER BY 1, 2").fetchall()
