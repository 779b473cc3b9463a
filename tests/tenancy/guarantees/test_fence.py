"""The fence: what was moved, retired or stopped is not written to, however long ago the work began."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest
import sqlalchemy as sa

import compose
from compose import Parts
from tenancy.errors import (
    ClaimLostError,
    DatabaseMissingError,
    IdentityError,
    StaleRouteError,
    TenantNotFoundError,
    TenantNotReadyError,
)
from tenancy.models import WRITABLE, State
from tests.support.applications import (
    PATIENCE_S,
    FaultAt,
    Stopped,
    add_task,
    add_tenants,
    cache_over,
    lease,
    tenant_of,
    titles,
    together,
)

INSERT = sa.text("INSERT INTO tasks (id, user_id, title) VALUES (hex(randomblob(16)), 1, 'late')")
COUNT = sa.text("SELECT count(*) FROM tasks")


@pytest.fixture
def user_id(parts: Parts) -> int:
    (made,) = add_tenants(parts, 1)
    return made


def set_identity(parts: Parts, user_id: int, **values) -> None:
    """Change a database's identity row, as whoever moves, restores or retires it does."""
    assignments = ", ".join(f"{name} = ?" for name in values)
    with closing(sqlite3.connect(parts.settings.tenant_data_dir / f"user_{user_id}.db")) as driver, driver:
        driver.execute(f"UPDATE tenancy_identity SET {assignments}", tuple(values.values()))


def count(parts: Parts, user_id: int) -> int:
    with closing(sqlite3.connect(parts.settings.tenant_data_dir / f"user_{user_id}.db")) as driver:
        return driver.execute("SELECT count(*) FROM tasks").fetchone()[0]


def by_session(manager, user_id: int) -> None:
    with manager.session(user_id, write=True) as session:
        session.execute(INSERT)


def by_engine(manager, user_id: int) -> None:
    with manager.engine_for(user_id).begin() as connection:
        connection.execute(INSERT)


def by_connection(manager, user_id: int) -> None:
    with closing(manager.get_user_connection(user_id)) as connection:
        connection.execute(INSERT.text)
        connection.commit()


def by_update(manager, user_id: int) -> None:
    manager.execute_update(INSERT.text, user_id=user_id)


WAYS = [by_session, by_engine, by_connection, by_update]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", [{"epoch": 2}, {"epoch": 0}, {"state": "archived"}, {"state": "moving"}])
def test_every_way_to_write_passes_the_fence(parts, user_id, way, change):
    way(parts.manager, user_id)
    set_identity(parts, user_id, **change)
    with pytest.raises(StaleRouteError):
        way(parts.manager, user_id)
    assert count(parts, user_id) == 1
    set_identity(parts, user_id, epoch=1, state="ready")
    way(parts.manager, user_id)
    assert count(parts, user_id) == 2


@pytest.mark.parametrize("state", [state for state in State if state not in WRITABLE])
def test_no_state_but_ready_lets_a_write_pass(parts, user_id, state):
    by_session(parts.manager, user_id)
    set_identity(parts, user_id, state=str(state))
    with pytest.raises(StaleRouteError, match="nothing was written"):
        by_session(parts.manager, user_id)
    assert count(parts, user_id) == 1


def test_a_database_without_its_identity_row_is_not_written_to(parts, user_id):
    by_session(parts.manager, user_id)
    with closing(sqlite3.connect(parts.settings.tenant_data_dir / f"user_{user_id}.db")) as driver, driver:
        driver.execute("DELETE FROM tenancy_identity")
    with pytest.raises(StaleRouteError):
        by_session(parts.manager, user_id)
    parts.manager.engines.close()
    with pytest.raises(IdentityError):
        by_session(parts.manager, user_id)


def test_a_new_connection_to_a_database_of_another_epoch_is_refused_for_reading_too(parts, user_id):
    set_identity(parts, user_id, epoch=2)
    parts.manager.engines.close()
    with pytest.raises(StaleRouteError), parts.manager.session(user_id):
        raise AssertionError("it was opened")


def test_reading_asks_the_catalog_alone(parts, user_id):
    """The fence is for writes: a read sends one statement to the tenant."""
    sent = []
    with parts.manager.session(user_id) as session:
        driver = session.connection().connection.dbapi_connection
        driver.set_trace_callback(sent.append)
        session.execute(COUNT)
        driver.set_trace_callback(None)
    assert sent == ["SELECT count(*) FROM tasks"]


def test_a_write_under_way_ends_before_its_database_is_retired(parts, user_id):
    """Whoever retires a database waits for the lock that the write holds to its commit."""
    order: list[str] = []
    at_the_mark = threading.Event()
    parts.manager.services.step = lambda name: at_the_mark.set() if name == "mark" else None

    def suspend() -> None:
        parts.manager.suspend(user_id)
        order.append("suspended")

    thread = threading.Thread(target=suspend)
    with parts.manager.session(user_id, write=True) as session:
        session.execute(INSERT)
        thread.start()
        assert at_the_mark.wait(PATIENCE_S)
        session.execute(INSERT)
        order.append("written")
    thread.join(PATIENCE_S)
    assert order == ["written", "suspended"]
    assert count(parts, user_id) == 2
    assert tenant_of(parts.manager, user_id).state is State.SUSPENDED


def test_work_that_read_its_route_before_its_database_was_retired_writes_nothing_after(parts, user_id):
    """The deletion is stopped after the fence and before the files go."""
    add_task(parts.manager, user_id, "before")
    old_route = tenant_of(parts.manager, user_id)
    fresh, warm = cache_over(parts.manager), cache_over(parts.manager)
    with lease(warm, old_route) as engine, engine.connect() as connection:
        connection.execute(COUNT)
    parts.manager.services.step = FaultAt(3)  # fence, commit, drop, forget
    with pytest.raises(Stopped, match="drop"):
        parts.manager.delete_user_database(user_id)
    for cache in (fresh, warm, parts.manager.engines):
        with pytest.raises(StaleRouteError), lease(cache, old_route) as engine, engine.begin() as connection:
            connection.execute(INSERT)
    assert count(parts, user_id) == 1
    for cache in (fresh, warm):
        cache.close()


def test_another_process_with_an_open_connection_writes_nothing_after_the_files_are_gone(parts, user_id):
    other_process = compose.build(parts.settings)
    add_task(other_process.manager, user_id, "before")
    old_route = tenant_of(other_process.manager, user_id)
    parts.manager.delete_user_database(user_id)
    engines = other_process.manager.engines
    with pytest.raises(DatabaseMissingError), lease(engines, old_route) as engine, engine.begin() as connection:
        connection.execute(INSERT)
    with pytest.raises(TenantNotFoundError):
        add_task(other_process.manager, user_id, "after")
    other_process.manager.close()


def test_the_next_database_of_the_same_user_is_safe_from_the_old_route(parts, user_id):
    add_task(parts.manager, user_id, "before")
    old_route = tenant_of(parts.manager, user_id)
    other_process = compose.build(parts.settings)
    titles(other_process.manager, user_id)
    parts.manager.delete_user_database(user_id)
    cold = cache_over(parts.manager)
    with pytest.raises(DatabaseMissingError), lease(cold, old_route) as engine, engine.begin() as connection:
        connection.execute(INSERT)
    parts.manager.provision(user_id)
    refused = (StaleRouteError, IdentityError, DatabaseMissingError)
    for cache in (cold, other_process.manager.engines, parts.manager.engines):
        with pytest.raises(refused), lease(cache, old_route) as engine, engine.begin() as connection:
            connection.execute(INSERT)
    assert titles(parts.manager, user_id) == titles(other_process.manager, user_id) == []
    cold.close()
    other_process.manager.close()


def test_writes_and_retirements_at_once_lose_no_acknowledged_row_and_let_no_late_one_in(parts, user_id):
    """Threads write while another suspends and resumes: what was acknowledged is there, and nothing else."""
    acknowledged: list[str] = []
    done = threading.Event()

    def write(number: int) -> None:
        for position in range(15):
            title = f"{number}/{position}"
            try:
                add_task(parts.manager, user_id, title)
                acknowledged.append(title)
            except (StaleRouteError, TenantNotReadyError):
                continue

    def suspend_and_resume() -> None:
        for _ in range(10):
            parts.manager.suspend(user_id)
            before = count(parts, user_id)
            assert count(parts, user_id) == before
            parts.manager.resume(user_id)
        done.set()

    assert together([*(lambda n=n: write(n) for n in range(6)), suspend_and_resume]) == [None] * 7
    assert done.is_set()
    assert titles(parts.manager, user_id) == sorted(acknowledged)


@pytest.mark.parametrize("what", ["suspend", "provision", "delete"])
def test_a_catalog_that_is_older_than_a_database_catches_up_with_it_when_it_is_run_again(parts, user_id, what):
    """The catalog was put back from a backup: every request is refused until an operation has raised the epoch."""
    set_identity(parts, user_id, epoch=15)
    manager = parts.manager
    manager.engines.close()
    with pytest.raises(StaleRouteError):
        titles(manager, user_id)
    with pytest.raises(ClaimLostError, match="Run it again"):
        manager.suspend(user_id)
    if what == "delete":
        manager.delete_user_database(user_id)
        return
    manager.suspend(user_id)
    manager.resume(user_id)
    if what == "provision":
        manager.provision(user_id)
    add_task(manager, user_id, "again")
    assert titles(manager, user_id) == ["again"]
    assert tenant_of(manager, user_id).epoch > 15
