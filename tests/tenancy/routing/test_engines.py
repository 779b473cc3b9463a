"""Engines: one a tenant, leased, bounded, closed when idle, never older than the configuration."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from compose import Parts
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.backends.sqlite.engines import SharedSQLiteDialect
from tenancy.errors import DatabaseBusyError, StaleRouteError
from tenancy.manager import TenantManager
from tenancy.models import Tenant
from tenancy.routing.connection_limits import ConnectionBudget, connection_limit
from tenancy.routing.engines import IDLE_S, EngineCache
from tests.support.applications import (
    PATIENCE_S,
    Clock,
    add_tenants,
    cache_over,
    change_config,
    lease,
    read_one,
    titles,
    together,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(parts: Parts) -> TenantManager:
    return parts.manager


@pytest.fixture
def tenants(parts: Parts) -> list[Tenant]:
    """Give four tenants' tenants."""
    return [parts.manager.tenant_of(user_id) for user_id in add_tenants(parts, 4)]


@pytest.fixture
def caches(manager: TenantManager):
    """Give a function that makes a cache; it is closed after the test."""
    made: list[EngineCache] = []

    def make(*args, **kwargs) -> EngineCache:
        made.append(cache_over(manager, *args, **kwargs))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def test_one_engine_is_made_when_64_threads_touch_a_tenant_first_together(manager, tenants, monkeypatch):
    made = []
    backend = manager.backends.get("sqlite")
    make = backend.engine
    monkeypatch.setattr(backend, "engine", lambda creator: made.append(make(creator)) or made[-1])

    engines = together([lambda: manager.engine_for(tenants[0].user_id)] * 64)

    assert len(made) == 1
    assert all(engine is made[0] for engine in engines)


def test_evicting_an_engine_in_use_waits_for_its_lease(caches, tenants):
    cache = caches(size=1)
    with lease(cache, tenants[0]) as engine, engine.connect().execution_options(tenancy_write=False) as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
        with lease(cache, tenants[1]) as second:
            read_one(second)
        with lease(cache, tenants[0]) as again:
            assert again is engine
        assert connection.execute(sa.text("SELECT count(*) FROM tasks")).scalar() == 0
    assert cache.stats()["open"] == 1
    assert cache.stats()["leased"] == 0


def test_the_least_recently_used_idle_engine_goes_first(caches, tenants):
    cache = caches(size=2)
    engines = {}
    for tenant in (tenants[0], tenants[1], tenants[0], tenants[2]):
        with lease(cache, tenant) as engines[tenant.user_id]:
            read_one(engines[tenant.user_id])
    with lease(cache, tenants[0]) as kept:
        assert kept is engines[tenants[0].user_id]
    with pytest.raises(StaleRouteError):
        read_one(engines[tenants[1].user_id])
    assert cache.stats()["evicted"] == 1


def test_the_cap_on_engines_is_exceeded_only_while_all_are_leased(caches, tenants):
    cache = caches(size=2)
    entries = [cache.acquire(tenant) for tenant in tenants]
    assert cache.stats()["open"] == 4
    assert [read_one(entry.engine) for entry in entries] == [0, 0, 0, 0]
    for entry in entries:
        cache.release(entry)
    assert cache.stats()["open"] == 2
    assert cache.stats()["connections"] == 2


def test_an_engine_idle_for_30_s_keeps_its_place_and_gives_back_its_connections(caches, tenants, clock):
    cache = caches(clock=clock)
    with lease(cache, tenants[0]) as engine:
        read_one(engine)
    clock.now_s += IDLE_S - 1
    cache.sweep()
    assert cache.stats()["connections"] == 1
    clock.now_s += 1
    cache.sweep()
    assert cache.stats() == {"open": 1, "leased": 0, "evicted": 0, "connections": 0}
    with lease(cache, tenants[0]) as again:
        assert again is engine
        assert read_one(again) == 0


def test_a_sweep_leaves_an_engine_in_use_alone(caches, tenants, clock):
    cache = caches(clock=clock)
    with lease(cache, tenants[0]) as engine, engine.connect().execution_options(tenancy_write=False) as connection:
        connection.execute(sa.text("SELECT 1"))
        clock.now_s += 10 * IDLE_S
        cache.sweep()
        assert connection.execute(sa.text("SELECT count(*) FROM tasks")).scalar() == 0
        assert cache.stats()["connections"] == 1


def test_a_connection_kept_without_a_lease_is_counted_until_it_is_closed(caches, tenants, clock):
    cache = caches(clock=clock)
    with lease(cache, tenants[0]) as engine:
        pass
    connection = engine.connect().execution_options(tenancy_write=False)  # as whoever took `engine_for` does
    clock.now_s += IDLE_S
    cache.sweep()
    assert connection.execute(sa.text("SELECT count(*) FROM tasks")).scalar() == 0
    assert cache.stats()["connections"] == 1
    connection.close()
    clock.now_s += IDLE_S
    cache.sweep()
    assert cache.stats()["connections"] == 0


def test_a_retired_engine_closes_the_connection_that_outlived_it(caches, tenants):
    cache = caches()
    with lease(cache, tenants[0]) as engine:
        pass
    connection = engine.connect().execution_options(tenancy_write=False)
    connection.execute(sa.text("SELECT 1"))
    cache.retire(tenants[0].tenant_id)
    connection.close()
    assert cache.stats()["connections"] == 0


def test_a_changed_configuration_version_retires_the_old_engine(caches, tenants):
    cache = caches()
    with lease(cache, tenants[0]) as old:
        read_one(old)
    changed = replace(tenants[0], version=tenants[0].version + 1)
    with lease(cache, changed) as fresh:
        assert fresh is not old
        assert read_one(fresh) == 0
    assert cache.stats() == {"open": 1, "leased": 0, "evicted": 0, "connections": 1}
    with pytest.raises(StaleRouteError, match="retired"):
        read_one(old)
    with pytest.raises(StaleRouteError, match="changed meanwhile"):
        cache.acquire(tenants[0])


def test_a_lease_under_the_old_version_ends_before_its_engine_closes(caches, tenants):
    cache = caches()
    with lease(cache, tenants[0]) as old, lease(cache, replace(tenants[0], version=2)) as fresh:
        assert read_one(old) == read_one(fresh) == 0
    assert cache.stats()["connections"] == 1
    with pytest.raises(StaleRouteError):
        read_one(old)


def test_a_changed_password_alone_makes_a_new_engine(manager, tenants):
    user_id, tenant = tenants[0].user_id, tenants[0]
    first = manager.engine_for(user_id)
    for password in ("one", "two"):
        sealed = manager.keyring.seal(password, tenant.binding)
        version = manager.tenant_of(user_id).version + 1
        change_config(manager, user_id, db_password=sealed, version=version)
        engine = manager.engine_for(user_id)
        assert engine is not first
        assert str(engine.url) == str(first.url)
        first = engine


def test_an_older_route_of_a_request_is_asked_for_again(manager, tenants):
    user_id = tenants[0].user_id
    change_config(manager, user_id, version=2)
    fresh = manager.engine_for(user_id)
    change_config(manager, user_id, version=1)  # what a request read before the change
    with pytest.raises(StaleRouteError):
        manager.engine_for(user_id)
    change_config(manager, user_id, version=2)
    assert manager.engine_for(user_id) is fresh


def test_a_retired_engine_is_refused_to_those_who_kept_it(manager, tenants):
    engine = manager.engine_for(tenants[0].user_id)
    manager.engines.retire(tenants[0].tenant_id)
    with pytest.raises(StaleRouteError):
        read_one(engine)
    assert titles(manager, tenants[0].user_id) == []


def test_closing_the_cache_closes_every_connection(caches, tenants):
    cache = caches()
    for tenant in tenants:
        with lease(cache, tenant) as engine:
            read_one(engine)
    cache.close()
    assert cache.stats()["connections"] == 0


# --- the cap on connections -----------------------------------------------------------------------------


def test_the_cap_on_connections_follows_the_limit_on_open_files():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        assert connection_limit() == 32
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_idle_connections_make_room_for_new_ones(caches, tenants):
    cache = caches(limit=1)
    for tenant in [*tenants, *tenants]:
        with lease(cache, tenant) as engine:
            assert read_one(engine) == 0
            assert cache.stats()["connections"] == 1


def test_a_thread_waits_for_a_connection_and_gets_it(caches, tenants):
    """The other's connection goes back to a pool, and from there to whoever waits."""
    cache = caches(limit=1)
    answers: list[int] = []

    def want() -> None:
        with lease(cache, tenants[1]) as engine:
            answers.append(read_one(engine))

    thread = threading.Thread(target=want)
    with lease(cache, tenants[0]) as engine, engine.connect().execution_options(tenancy_write=False) as connection:
        connection.execute(sa.text("SELECT 1"))
        thread.start()
        until(lambda: cache.budget.waiting == 1)
        assert answers == []
    thread.join(PATIENCE_S)
    assert answers == [0]


def test_a_thread_waits_for_a_second_connection_of_the_same_tenant(caches, tenants):
    cache = caches(limit=1)
    answers: list[int] = []

    def want() -> None:
        with lease(cache, tenants[0]) as engine:
            answers.append(read_one(engine))

    thread = threading.Thread(target=want)
    with lease(cache, tenants[0]) as engine, engine.connect().execution_options(tenancy_write=False) as connection:
        connection.execute(sa.text("SELECT 1"))
        thread.start()
        until(lambda: cache.budget.waiting == 1)
    thread.join(PATIENCE_S)
    assert answers == [0]


def test_a_connection_that_was_kept_without_a_lease_goes_to_whoever_waits(caches, tenants):
    cache = caches(limit=1)
    answers: list[int] = []

    def want() -> None:
        with lease(cache, tenants[1]) as engine:
            answers.append(read_one(engine))

    with lease(cache, tenants[0]) as engine:
        pass
    connection = engine.connect().execution_options(tenancy_write=False)
    connection.execute(sa.text("SELECT 1"))
    thread = threading.Thread(target=want)
    thread.start()
    until(lambda: cache.budget.waiting == 1)
    connection.close()
    thread.join(PATIENCE_S)
    assert answers == [0]


def test_those_who_wait_are_served_in_order_and_before_newcomers():
    budget = ConnectionBudget(1, patience_s=PATIENCE_S)
    budget.take(lambda _: None, may_wait=True)
    served: list[int] = []

    def want(number: int) -> None:
        budget.take(lambda _: None, may_wait=True)
        served.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=want, args=(number,)))
        threads[-1].start()
        until(lambda number=number: budget.waiting == number + 1)
    for number in range(5):
        budget.give_back()
        with pytest.raises(DatabaseBusyError):
            budget.take(lambda _: None, may_wait=False)  # a place that was promised is not free
        until(lambda number=number: len(served) == number + 1)
    assert served == [0, 1, 2, 3, 4]
    budget.give_back()
    assert budget.open == 0


def test_who_waits_too_long_is_told_so_and_leaves_no_place_taken():
    budget = ConnectionBudget(1, patience_s=0.01)
    budget.take(lambda _: None, may_wait=True)
    with pytest.raises(DatabaseBusyError):
        budget.take(lambda _: None, may_wait=True)
    assert (budget.open, budget.waiting) == (1, 0)
    budget.give_back()
    budget.take(lambda _: None, may_wait=False)
    assert budget.open == 1


def test_a_thread_that_holds_an_engine_never_waits_for_a_second(caches, tenants):
    cache = caches(limit=1)
    cache.budget._patience_s = 10 * PATIENCE_S  # waiting would show as a test that hangs
    with lease(cache, tenants[0]) as engine, engine.connect().execution_options(tenancy_write=False) as connection:
        connection.execute(sa.text("SELECT 1"))
        with pytest.raises(DatabaseBusyError), lease(cache, tenants[1]) as second:
            read_one(second)
        assert connection.execute(sa.text("SELECT count(*) FROM tasks")).scalar() == 0
    with lease(cache, tenants[1]) as second:
        assert read_one(second) == 0


def test_two_threads_that_each_want_the_others_connection_do_not_wait_for_ever(caches, tenants):
    cache = caches(limit=2)
    cache.budget._patience_s = 10 * PATIENCE_S
    both_hold = threading.Barrier(2)

    def work(mine: Tenant, theirs: Tenant) -> str:
        with lease(cache, mine) as engine, engine.connect().execution_options(tenancy_write=False) as connection:
            connection.execute(sa.text("SELECT 1"))
            both_hold.wait(PATIENCE_S)
            try:
                with lease(cache, theirs) as second:
                    read_one(second)
            finally:
                both_hold.wait(PATIENCE_S)
        return "done"

    results = together([lambda: work(tenants[0], tenants[1]), lambda: work(tenants[1], tenants[0])])
    assert [type(result) for result in results] == [DatabaseBusyError, DatabaseBusyError]


def test_a_connection_that_could_not_be_opened_takes_no_place(caches, tenants, manager):
    cache = caches(limit=1)
    (manager.backends.get("sqlite").data_dir / tenants[0].db_path).unlink()
    for _ in range(3):
        with pytest.raises(Exception, match="gone"), lease(cache, tenants[0]) as engine:
            read_one(engine)
    assert cache.stats()["connections"] == 0


# --- compiled SQL ---------------------------------------------------------------------------------------


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """List the statements that are compiled from here on."""
    compiled: list[str] = []
    real: Any = SharedSQLiteDialect.statement_compiler

    class Counting(real):
        def __init__(self, dialect, statement, *args, **kwargs) -> None:
            super().__init__(dialect, statement, *args, **kwargs)
            compiled.append(self.string)

    monkeypatch.setattr(SharedSQLiteDialect, "statement_compiler", Counting)
    return compiled


def test_200_engines_compile_a_statement_once(parts, compilations):
    backend = SQLiteBackend(parts.settings.tenant_data_dir)
    driver = _memory_with_tasks()
    table = sa.table("tasks", sa.column("id"), sa.column(f"title_{id(driver)}"))
    engines = [backend.engine(lambda: _memory_with_tasks(f"title_{id(driver)}")) for _ in range(200)]
    for number, engine in enumerate(engines):
        with engine.connect() as connection:
            assert connection.execute(sa.select(table).where(table.c.id == number)).all() == []
        engine.dispose()
    assert len([sql for sql in compilations if f"title_{id(driver)}" in sql]) == 1


def test_tenants_share_compiled_sql(manager, tenants, compilations):
    marker = sa.table("tasks", sa.column("title")).alias("shared_by_tenants")
    for tenant in tenants:
        with manager.session(tenant.user_id) as session:
            assert session.execute(sa.select(marker.c.title)).all() == []
    assert len([sql for sql in compilations if "shared_by_tenants" in sql]) == 1


def _memory_with_tasks(column: str = "title"):
    driver = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    driver.execute(f'CREATE TABLE tasks (id INTEGER, "{column}" TEXT)')
    return driver


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's progress, which has no event of its own."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it never happened")
