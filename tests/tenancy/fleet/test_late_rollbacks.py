"""Rollbacks that sleep past their claim, are killed or lose their server: no row goes unsaid, the next one ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa

from compose import Parts
from tenancy import TenantManager
from tenancy.backends.mysql import backend as mysql_backend
from tenancy.catalog.runs import Rules, RunState, Selection
from tenancy.errors import StaleRouteError
from tenancy.fleet.runner import LOST_TOO_OFTEN
from tenancy.models import State
from tenancy.schema.tables import tenancy_identity
from tests.support import engines
from tests.support.applications import Child, add_task, add_tenants, expire_claims, forked, tenant_of, titles
from tests.support.products import _on
from tests.support.versions import next_version
from tests.tenancy.fleet.test_restore_points import BACK, DESTRUCTIVE, DROPS

WRITTEN = "written meanwhile"


@pytest.fixture
def parts(request, make_parts):
    yield from _on(engines.use(request, request.param), make_parts)


def migrated(parts: Parts, tmp_path) -> tuple[int, TenantManager, int]:
    """Give a user with a task whose database a run has migrated, the manager of the new version, and the run."""
    (user_id,) = add_tenants(parts, 1)
    add_task(parts.manager, user_id, "before")
    parts.manager.engines.close()
    fresh = next_version(parts, tmp_path / "next", DROPS, BACK, DESTRUCTIVE)
    run = fresh.fleet.work(fresh.fleet.start(Selection(), Rules()).id)
    assert run.counts == {"done": 1}
    fresh.engines.close()
    return user_id, fresh, run.id


def working(manager: TenantManager, run_id: int, step: str, number: signal.Signals) -> Child:
    """Work on a run in a process of its own, which sends itself a signal at a step; it takes tenants once."""

    def work() -> None:
        manager.services.step = lambda name: os.kill(os.getpid(), number) if name == step else None
        manager.fleet.work(run_id, alive=iter([True, False]).__next__)

    return forked(work)


@contextmanager
def asleep(manager: TenantManager, run_id: int, step: str) -> Iterator[None]:
    """Have a runner stopped at a step while the block runs, past its claim; it goes on, and ends, afterwards."""
    sleeper = working(manager, run_id, step, signal.SIGSTOP)
    sleeper.stopped()
    expire_claims(manager)
    try:
        yield
    finally:
        sleeper.wake()
        sleeper.result()


def inside(manager: TenantManager, user_id: int) -> tuple[int, str]:
    """Ask a tenant's database for its epoch and state."""
    tenant = tenant_of(manager, user_id)
    assert tenant is not None
    backend = manager.backends.get(tenant.db_type)
    with backend.checks.looking(backend.connect_to_migrate(tenant, manager.services.access(tenant))) as connection:
        return tuple(connection.execute(sa.select(tenancy_identity.c.epoch, tenancy_identity.c.state)).one())


def is_back(parts: Parts, fresh: TenantManager, user_id: int) -> None:
    tenant = tenant_of(fresh, user_id)
    assert (tenant.state, tenant.revision) == (State.READY, parts.manager.head)
    assert inside(fresh, user_id) == (tenant.epoch, State.READY)
    assert titles(parts.manager, user_id) == ["before"]
    add_task(parts.manager, user_id, "and it goes on")
    parts.manager.engines.close()


def another_worker(manager: TenantManager, user_id: int, run_id: int) -> None:
    """Find the database locked, and leave it for later: it was not closed yet, and is in use."""
    assert manager.fleet.work(run_id).counts == {"offline": 1}


def db_init(manager: TenantManager, user_id: int, run_id: int) -> None:
    """Open the database that the sleeper closed."""
    manager.provision(user_id)


@pytest.mark.parametrize(
    ("parts", "step", "meanwhile"),
    [("mysql", "close", another_worker), ("postgresql", "let in", db_init), ("postgresql", "swap", db_init)],
    indirect=["parts"],
)
def test_one_that_wakes_late_takes_no_row_away(parts, tmp_path, monkeypatch, step, meanwhile):
    monkeypatch.setattr(mysql_backend, "MIGRATION_LOCK_S", 1)
    user_id, fresh, run_id = migrated(parts, tmp_path)
    back = fresh.fleet.rollback(run_id)
    with asleep(fresh, back.id, step):
        meanwhile(fresh, user_id, back.id)
        add_task(fresh, user_id, WRITTEN)
        fresh.engines.close()
    assert titles(fresh, user_id) == ["before", WRITTEN]
    add_task(fresh, user_id, "and after")
    fresh.engines.close()
    assert fresh.fleet.work(fresh.fleet.resume(back.id).id).counts == {"done": 1}
    is_back(parts, fresh, user_id)


@pytest.mark.parametrize("parts", ["postgresql"], indirect=True)
def test_while_one_sleeps_at_its_work_whoever_takes_over_opens_nothing(parts, tmp_path):
    user_id, fresh, run_id = migrated(parts, tmp_path)
    back = fresh.fleet.rollback(run_id)
    with asleep(fresh, back.id, "swap"):
        assert fresh.fleet.work(back.id).counts == {"offline": 1}
        closed = inside(fresh, user_id)
        assert closed[1] == State.MIGRATING
        with pytest.raises(StaleRouteError):
            add_task(fresh, user_id, WRITTEN)
    assert inside(fresh, user_id) == closed, "the sleeper replaced nothing"
    assert fresh.fleet.work(fresh.fleet.resume(back.id).id).counts == {"done": 1}
    is_back(parts, fresh, user_id)


ENDS: dict[str, Callable[[TenantManager, int, int], object]] = {
    "resumed": lambda manager, user_id, run_id: manager.fleet.work(run_id),
    "deleted": lambda manager, user_id, run_id: manager.delete_user_database(user_id),
}


@pytest.mark.parametrize("end", ENDS)
def test_one_that_was_killed_before_it_opened_is_ended_though_the_epoch_rose_since(parts_on_each, tmp_path, end):
    """What was put back is as old as its restore point, but not its epoch."""
    parts = parts_on_each
    user_id, fresh, run_id = migrated(parts, tmp_path)
    fresh.suspend(user_id)
    fresh.resume(user_id)
    back = fresh.fleet.rollback(run_id)
    assert working(fresh, back.id, "open", signal.SIGKILL).killed()
    expire_claims(fresh)
    assert inside(fresh, user_id) == (tenant_of(fresh, user_id).epoch + 1, State.MIGRATING)
    ENDS[end](fresh, user_id, back.id)
    if end == "deleted":
        assert tenant_of(fresh, user_id) is None
    else:
        assert fresh.fleet.get(back.id).counts == {"done": 1}
        is_back(parts, fresh, user_id)


@pytest.mark.parametrize("parts", ["mysql"], indirect=True)
def test_one_whose_session_the_server_ends_half_way_is_resumed(parts, tmp_path):
    user_id, fresh, run_id = migrated(parts, tmp_path)
    back = fresh.fleet.rollback(run_id)
    fresh.services.step = lambda name: end_sessions(fresh, user_id) if name == "copy tasks" else None
    assert fresh.fleet.work(back.id).counts == {"offline": 1}
    fresh.services.step = lambda name: None
    assert fresh.fleet.work(fresh.fleet.resume(back.id).id).counts == {"done": 1}
    is_back(parts, fresh, user_id)


def end_sessions(manager: TenantManager, user_id: int) -> None:
    tenant = tenant_of(manager, user_id)
    assert tenant is not None
    backend, server = manager.backends.get(tenant.db_type), manager.services.access(tenant).admin
    assert isinstance(backend, mysql_backend.MySQLBackend)
    assert server is not None
    with closing(backend.at_server(server)) as driver:
        backend.end_sessions(driver, tenant.db_name or "")


@pytest.mark.parametrize("parts", ["mysql"], indirect=True)
def test_one_that_was_killed_too_often_half_way_is_given_up_and_can_be_resumed(parts, tmp_path):
    user_id, fresh, run_id = migrated(parts, tmp_path)
    back = fresh.fleet.rollback(run_id)
    for _ in range(LOST_TOO_OFTEN):
        assert working(fresh, back.id, "copy tasks", signal.SIGKILL).killed()
        expire_claims(fresh)
    given_up = fresh.fleet.work(back.id)
    assert (given_up.state, given_up.counts) == (RunState.INCOMPLETE, {"failed": 1})
    assert "runner was lost" in fresh.fleet.items(back.id)[0]["error"]
    assert fresh.fleet.work(fresh.fleet.resume(back.id).id).counts == {"done": 1}
    is_back(parts, fresh, user_id)
