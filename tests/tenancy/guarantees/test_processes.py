"""Processes: forked workers share files and never connections; what was acknowledged outlives a kill."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from compose import Parts
from tenancy.errors import StaleRouteError
from tests.support.applications import (
    PROJECT,
    add_task,
    add_tenants,
    cache_over,
    forked,
    in_child,
    lease,
    named,
    read_one,
    titles,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


@pytest.fixture
def tenants(parts: Parts) -> list[int]:
    ids = add_tenants(parts, 2)
    for user_id in ids:
        add_task(parts.manager, user_id, "before the fork")
    return ids


def wal(parts: Parts, user_id: int) -> Path:
    return parts.settings.tenant_data_dir / f"user_{user_id}.db-wal"


def connection_ids(parts: Parts, user_id: int) -> set[int]:
    """Name the driver connections that lie in the pools of a tenant's engine and of the catalog's."""
    found = set()
    for engine in (parts.manager.engine_for(user_id), parts.catalog.engine):
        with engine.connect().execution_options(tenancy_write=False) as connection:
            found.add(id(connection.connection.driver_connection))
    return found


def test_a_forked_child_opens_connections_of_its_own_and_both_go_on(parts, tenants):
    (user_id, _) = tenants
    parents = connection_ids(parts, user_id)
    kept = [parts.manager.engine_for(user_id).pool, parts.catalog.engine.pool]  # so that no id is used twice

    def work() -> tuple[bool, list[str], int]:
        mine = connection_ids(parts, user_id)
        add_task(parts.manager, user_id, "by the child")
        return mine.isdisjoint(parents), titles(parts.manager, user_id), parts.manager.engines.stats()["connections"]

    own, seen, counted = in_child(work)
    assert own
    assert seen == ["before the fork", "by the child"]
    assert counted == 1
    add_task(parts.manager, user_id, "by the parent")
    assert titles(parts.manager, user_id) == ["before the fork", "by the child", "by the parent"]
    assert connection_ids(parts, user_id) == parents
    assert len(kept) == 2


def test_a_child_that_closes_everything_leaves_the_parents_wal_alone(parts, tenants):
    (user_id, _) = tenants
    titles(parts.manager, user_id)
    before = wal(parts, user_id).stat()

    def work() -> None:
        titles(parts.manager, user_id)
        parts.manager.close()
        parts.close()
        gc.collect()

    in_child(work)
    assert wal(parts, user_id).stat().st_ino == before.st_ino
    assert wal(parts, user_id).stat().st_size >= before.st_size > 0
    add_task(parts.manager, user_id, "after the child")
    assert in_child(lambda: titles(parts.manager, user_id)) == ["after the child", "before the fork"]


def test_an_engine_kept_from_before_the_fork_is_refused_in_the_child(parts, tenants):
    (user_id, _) = tenants
    engine = parts.manager.engine_for(user_id)
    read_one(engine)

    def work() -> str:
        try:
            read_one(engine)
        except StaleRouteError as error:
            return named(error)
        return "it used the parent's"

    assert in_child(work) == "StaleRouteError"
    assert read_one(engine) == 1


def test_a_child_forked_in_the_middle_of_a_write_does_not_end_it(parts, tenants):
    (user_id, other) = tenants
    with parts.manager.session(user_id, write=True) as session:
        session.execute(sa.text("UPDATE tasks SET title = 'changed'"))
        assert in_child(lambda: titles(parts.manager, user_id)) == ["before the fork"]
        assert in_child(lambda: add_task(parts.manager, other, "by the child")) is None
        session.execute(sa.text("UPDATE tasks SET title = title || ' twice'"))
    assert titles(parts.manager, user_id) == ["changed twice"]
    assert titles(parts.manager, other) == ["before the fork", "by the child"]


def test_a_child_has_the_whole_budget_of_connections(parts, tenants):
    cache = cache_over(parts.manager, limit=1)
    tenant = parts.manager.tenant_of(tenants[0])

    def work() -> int:
        with lease(cache, tenant) as engine:
            return read_one(engine)

    with lease(cache, tenant) as engine, engine.connect().execution_options(tenancy_write=False) as connection:
        connection.execute(sa.text("SELECT 1"))
        assert in_child(work) == 1
    assert work() == 1
    cache.close()


def test_four_workers_write_to_one_tenant_and_the_catalog_at_once(parts, tenants):
    (user_id, _) = tenants

    def work(number: int) -> list[str]:
        for position in range(20):
            add_task(parts.manager, user_id, f"{number}/{position:02}")
            with parts.catalog.writing() as connection:
                parts.catalog.audit.append(connection, "test", detail={"worker": number})
        return []

    children = [forked(lambda n=n: work(n)) for n in range(4)]
    assert [child.result() for child in children] == [[]] * 4
    expected = sorted(f"{number}/{position:02}" for number in range(4) for position in range(20))
    assert titles(parts.manager, user_id) == [*expected, "before the fork"]
    with parts.catalog.reading() as connection:
        assert parts.catalog.audit.verify(connection)["rows"] == 82


def test_what_a_killed_writer_acknowledged_is_there(parts, tenants):
    (user_id, _) = tenants
    for number in range(3):
        reader, writer = os.pipe()

        def work(number=number, writer=writer) -> None:
            for position in range(10_000):
                add_task(parts.manager, user_id, f"{number}/{position}")
                os.write(writer, b".")

        child = forked(work)
        os.close(writer)
        acknowledged = 0
        while acknowledged < 25:
            acknowledged += len(os.read(reader, 25))
        os.kill(child.pid, signal.SIGKILL)
        assert child.killed()
        while more := os.read(reader, 1000):
            acknowledged += len(more)
        os.close(reader)
        there = {title for title in titles(parts.manager, user_id) if title.startswith(f"{number}/")}
        assert {f"{number}/{position}" for position in range(acknowledged)} <= there
        assert len(there) <= acknowledged + 1  # the one that was written and not yet acknowledged
    with closing(sqlite3.connect(parts.settings.tenant_data_dir / f"user_{user_id}.db")) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchone() == ("ok",)


PRELOADED = """
import os, sys
import compose
from settings import Settings
from tests.support.applications import add_task, add_users, titles

parts = compose.build(Settings.load(os.environ, dotenv=None))
parts.manager.prepare_catalog()
(user_id,) = add_users(parts, 1)
parts.manager.provision(user_id)
add_task(parts.manager, user_id, "by the master, before")   # the master has it open, as with --preload
pids = []
for number in range(2):
    pid = os.fork()
    if pid == 0:
        add_task(parts.manager, user_id, f"by worker {number}")
        parts.close()
        sys.exit(0)                                          # the interpreter ends in its usual way
    pids.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
add_task(parts.manager, user_id, "by the master, after")
print(titles(parts.manager, user_id), flush=True)
os.kill(os.getpid(), 9)
"""


def test_workers_of_a_preloaded_application_end_and_the_masters_rows_outlive_a_kill(process_environ, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELOADED],
        cwd=PROJECT,
        env=process_environ() | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    rows = ["by the master, after", "by the master, before", "by worker 0", "by worker 1"]
    assert run.stdout.strip() == str(rows)
    with closing(sqlite3.connect(tmp_path / "users" / "user_1.db")) as driver:
        assert [row[0] for row in driver.execute("SELECT title FROM tasks ORDER BY title")] == rows
        assert driver.execute("PRAGMA integrity_check").fetchone() == ("ok",)
