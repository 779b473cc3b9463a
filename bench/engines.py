"""Measure a tenant's engine: its first touch (P2), and what it costs while nobody uses it (P8).

The baseline is an ordinary ``create_engine`` for each tenant, as a dict of engines would hold it, doing the same:
the same pragmas, the identity read and compared, the same query, the connection kept open in its pool.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sqlite3
import subprocess
import sys
import time
from contextvars import copy_context
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy import event

from bench.measure import AT_MOST, Figure, in_turns, median, same_work
from bench.world import World, progress, world
from repositories.repository_factory import RepositoryFactory
from repositories.schema import tasks
from tenancy.backends.base import IDENTITY_SQL
from tenancy.models import Principal, Tenant, User
from tenancy.routing.engines import IDLE_S
from tenancy.schema.tables import tenancy_identity

ROWS = 20
KIB = 1024


def run(small: bool = False) -> list[Figure]:
    """Give the figures of this module."""
    number = 21 if small else 300
    progress(f"touching {number} tenants for the first time")
    with world(number, tenant_engine_cache_size=number) as here:
        first = _first_touch(here, here.add_tasks(ROWS))
    return [first, *_idle(20 if small else 500)]


def _first_touch(here: World, written: dict[int, list[dict[str, Any]]]) -> Figure:
    """Take turns through the manager, through a new engine, and by the driver alone: a third of the tenants each.

    Nobody touches what another has open: a WAL that is there already makes opening a file half as dear.
    """
    people = {user.id: user for user in here.users}
    tenants = [here.parts.manager.tenant_of(user_id) for user_id in people]
    for tenant in tenants:
        here.parts.manager.engines.retire(tenant.tenant_id)
    ours, theirs, bare = (iter(tenants[start::3]) for start in range(3))
    kept: list[Any] = []
    titles: dict[int | None, list[str]] = {}

    def touch() -> None:
        tenant = next(ours)
        rows = copy_context().run(_list, here, people[tenant.user_id or 0], tenant)
        titles[tenant.user_id] = [row["title"] for row in rows]

    def plain() -> None:
        tenant = next(theirs)
        engine, rows = plain_list(here.folder / "users", tenant)
        kept.append(engine.dispose)
        titles[tenant.user_id] = [row.title for row in rows]

    def alone() -> None:
        tenant = next(bare)
        driver, rows = _sqlite_alone(here.folder / "users", tenant)
        kept.append(driver.close)
        titles[tenant.user_id] = [title for (title, *_) in rows]

    mine, baseline, sqlite = in_turns(len(tenants) // 3 - 1, touch, plain, alone)
    same_work({user_id: [row["title"] for row in rows] for user_id, rows in written.items()}, titles)
    for close in kept:
        close()
    return Figure(
        "P2",
        "first touch of a tenant: engine, pragmas, identity, query",
        "ms",
        median(mine) * 1000,
        median(baseline) * 1000,
        "an ordinary create_engine doing the same",
        (AT_MOST, 0.5),
        notes={"touched_by_each": len(mine), "sqlite_alone_ms": median(sqlite) * 1000},
    )


def _sqlite_alone(folder: Path, tenant: Tenant) -> tuple[sqlite3.Connection, list[Any]]:
    """Do what both have SQLite do, by its driver alone: what neither can go below."""
    driver = sqlite3.connect(folder / str(tenant.db_path), isolation_level=None)
    pragmas(driver, None)
    driver.execute(IDENTITY_SQL).fetchall()
    query = "SELECT title, * FROM tasks WHERE user_id = ? ORDER BY created_at, id LIMIT 50"
    return driver, driver.execute(query, (tenant.user_id,)).fetchall()


def _list(here: World, user: User, tenant: Tenant) -> list[dict[str, Any]]:
    """List tasks as a request does that knows its user and tenant already."""
    here.parts.manager.bind(Principal(user, tenant))
    with here.parts.manager.session() as session:
        rows: list[dict[str, Any]] = RepositoryFactory.get_repository("tasks", session, user.id).list()
    return rows


def plain_list(folder: Path, tenant: Tenant) -> tuple[sa.Engine, list[Any]]:
    """List a tenant's tasks over an ordinary engine made for it, as a dict of engines does."""
    engine = sa.create_engine(f"sqlite:///{folder / str(tenant.db_path)}")
    event.listen(engine, "connect", pragmas)
    with engine.connect() as connection:
        whose = connection.execute(sa.select(tenancy_identity.c.tenant_id, tenancy_identity.c.user_id)).one()
        same_work((tenant.tenant_id, tenant.user_id), tuple(whose))
        query = sa.select(tasks).where(tasks.c.user_id == tenant.user_id)
        return engine, list(connection.execute(query.order_by(tasks.c.created_at, tasks.c.id).limit(50)))


def pragmas(driver: Any, _: Any) -> None:
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "cache_size = -512", "trusted_schema = OFF"):
        driver.execute(f"PRAGMA {pragma}")


def _idle(number: int) -> list[Figure]:
    """Weigh each kind in a process of its own, where nothing else grows."""
    progress(f"weighing {number} idle tenants")
    ours, theirs = (_weighed(kind, number) for kind in ("ours", "plain"))
    same_work(ours["rows"], theirs["rows"])
    return [
        _weight_figure("memory of one idle cached tenant", "KiB", 20, (ours["kib"], theirs["kib"]), number),
        _weight_figure("descriptors of one idle cached tenant", "files", 0, (ours["files"], theirs["files"]), number),
    ]


def _weight_figure(what: str, unit: str, most: float, found: tuple[float, float], number: int) -> Figure:
    beside = "an ordinary engine per tenant, connection open"
    return Figure("P8", what, unit, *found, beside, (AT_MOST, most), of_ratio=False, notes={"tenants": number})


def _weighed(kind: str, number: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.engines", kind, str(number)]
    root = Path(__file__).resolve().parent.parent
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)
    return found


def weigh(kind: str, number: int) -> dict[str, Any]:
    """Touch this many tenants once each; give what each still costs the process afterwards."""
    warm_up = 10
    with world(number + warm_up, tenant_engine_cache_size=number + warm_up) as here:
        here.add_tasks(1)
        tenants = [(user, here.parts.manager.tenant_of(user.id)) for user in here.users]
        here.parts.manager.engines.close()
        kept: list[sa.Engine] = []

        def touch(user: User, tenant: Tenant) -> int:
            if kind == "ours":
                return len(copy_context().run(_list, here, user, tenant))
            engine, rows = plain_list(here.folder / "users", tenant)
            kept.append(engine)
            return len(rows)

        for each in tenants[:warm_up]:
            touch(*each)
        _let_time_pass(here)
        before = weight()
        rows = sum(touch(*each) for each in tenants[warm_up:])
        _let_time_pass(here)
        after = weight()
        for engine in kept:
            engine.dispose()
        return {
            "rows": rows,
            "kib": (after[0] - before[0]) / number / KIB,
            "files": (after[1] - before[1]) / number,
        }


def _let_time_pass(here: World) -> None:
    """Sweep as if IDLE_S had gone by since the last lease."""
    cache = here.parts.manager.engines
    cache._clock = lambda: time.monotonic() + IDLE_S + 1
    cache.sweep()
    cache._clock = time.monotonic


def weight() -> tuple[int, int]:
    """Give resident bytes, after what is free was given back, and open descriptors."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds()


if __name__ == "__main__":
    print(json.dumps(weigh(sys.argv[1], int(sys.argv[2]))))
