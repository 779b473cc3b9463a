"""Runners that sleep past their claim: whatever they still do when they wake, nothing of others' is changed or lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

import compose
from compose import Parts
from tenancy import names
from tenancy.backends.base import DatabaseFields
from tenancy.backends.mysql import backend as mysql
from tenancy.backends.postgresql import backend as postgresql, driver as postgresql_driver
from tenancy.catalog import leftovers
from tenancy.errors import DatabaseBusyError, TenancyError, TenantNotReadyError
from tenancy.fleet.orphans import Orphans
from tenancy.models import State
from tests.support import engines
from tests.support.applications import (
    FaultAt,
    Stopped,
    add_task,
    add_tenants,
    add_users,
    audit_actions,
    change_config,
    expire_claims,
    set_back,
    tenant_of,
    titles,
)
from tests.support.products import _on

WRITTEN = "written meanwhile"


@pytest.fixture(params=["sqlite", "postgresql", "mysql", "sqlserver"])
def parts(request, make_parts):
    yield from _on(engines.use(request, request.param), make_parts)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch, short_locks) -> None:
    """Wait a moment for a lock that the sleeper holds: it holds it until the one who waits has given up."""
    monkeypatch.setattr(postgresql_driver, "_LOCK_MS", 300)
    monkeypatch.setattr(mysql, "MIGRATION_LOCK_S", 0.1)
    monkeypatch.setattr(postgresql, "FENCE_S", 0.1)


@pytest.fixture(autouse=True)
def ours(monkeypatch) -> set[str]:
    """Collect the names that databases of this test were given: others work on the same servers."""
    given: set[str] = set()
    planned = names.planned_database

    def remember(*whose: Any) -> str:
        given.add(planned(*whose))
        return planned(*whose)

    monkeypatch.setattr(names, "planned_database", remember)
    return given


def suspended(parts: Parts) -> int:
    (user_id,) = add_tenants(parts, 1)
    parts.manager.suspend(user_id)
    return user_id


def behind(parts: Parts) -> int:
    (user_id,) = add_tenants(parts, 1)
    set_back(parts.manager, [user_id])
    return user_id


def half_made(parts: Parts) -> int:
    """Give a user whose first attempt failed at its last step."""
    (user_id,) = add_users(parts, 1)

    def stop(name: str) -> None:
        if name == "ready":
            raise Stopped(name)

    parts.manager.services.step = stop
    with pytest.raises(Stopped):
        parts.manager.provision(user_id)
    parts.manager.services.step = FaultAt()
    return user_id


WORKS: dict[str, tuple[Callable[[Parts], int], Callable[[Any, int], object]]] = {
    "provision": (lambda parts: add_users(parts, 1)[0], lambda manager, user_id: manager.provision(user_id)),
    "provision again": (half_made, lambda manager, user_id: manager.provision(user_id)),
    "upgrade": (behind, lambda manager, user_id: manager.provision(user_id)),
    "suspend": (lambda parts: add_tenants(parts, 1)[0], lambda manager, user_id: manager.suspend(user_id)),
    "resume": (suspended, lambda manager, user_id: manager.resume(user_id)),
    "delete": (lambda parts: add_tenants(parts, 1)[0], lambda manager, user_id: manager.delete_user_database(user_id)),
}


@dataclass
class Sleeper:
    """Be a step hook that sleeps at the n-th step: when it wakes, its claim has expired and others were there."""

    position: int
    meanwhile: Callable[[], None]
    seen: list[str] = field(default_factory=list)
    slept: str | None = None

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) == self.position:
            self.slept = name
            self.meanwhile()


def another_deletes_and_provisions_anew(parts: Parts, user_id: int) -> bool:
    """Say whether another process got through; what the sleeper holds in the database itself may keep it waiting."""
    expire_claims(parts.manager)
    other = compose.build(parts.settings)
    try:
        if tenant_of(parts.manager, user_id) is not None:
            other.manager.delete_user_database(user_id)
        other.manager.provision(user_id)
        add_task(other.manager, user_id, WRITTEN)
    except DatabaseBusyError:
        return False
    finally:
        other.manager.close()
    return True


@pytest.mark.parametrize("work", WORKS)
def test_a_runner_that_wakes_late_at_any_step_changes_nothing(request, parts, ours, work):
    if work == "upgrade":  # a server that only speaks SQL Server's protocol cannot undo a revision
        engines.needs_the_product(request, request.node.callspec.params["parts"])
    prepare, do = WORKS[work]
    met: list[str] = []
    for position in range(1, 40):
        user_id = prepare(parts)
        went: list[bool] = []
        sleeper = Sleeper(position, lambda u=user_id, w=went: w.append(another_deletes_and_provisions_anew(parts, u)))
        parts.manager.services.step = sleeper
        try:
            do(parts.manager, user_id)
            outcome = "done"
        except TenancyError as error:
            outcome = error.code
        parts.manager.services.step = FaultAt()
        if sleeper.slept is None:
            break
        met.append(sleeper.slept)
        assert went, (met, outcome)
        if went == [True]:
            over = (sleeper.slept == "record" and position == 1) or sleeper.slept == "forget leftover"
            assert (outcome == "done") is over, met  # before the claim, or after all was done
            assert titles(parts.manager, user_id) == [WRITTEN], met
            add_task(parts.manager, user_id, "and after")
            assert tenant_of(parts.manager, user_id).state is State.READY, met
        nothing_is_left(parts, ours, met)
    assert len(met) >= 2, met


def nothing_is_left(parts: Parts, ours: set[str], met: Sequence[str] = ()) -> None:
    """No file, database, login or copy stands there that no row of the catalog knows."""
    with parts.catalog.reading() as connection:
        assert leftovers.page(connection, 0, 100) == [], met
    found = [finding.what for finding in Orphans(parts.manager.services).found()]
    assert [what for what in found if "user_" in what or any(name in what for name in ours)] == [], met


def test_a_deletion_that_sleeps_is_not_undone_by_one_that_meets_a_dead_server(parts, ours, monkeypatch):
    """The second deletion fails at the fence; because the first one may still drop, nobody may use the database."""
    (user_id,) = add_tenants(parts, 1)
    backend = parts.manager.backends.get(tenant_of(parts.manager, user_id).db_type)

    def meanwhile() -> None:
        expire_claims(parts.manager)
        with monkeypatch.context() as dead:
            dead.setattr(type(backend), "connect_to_migrate", _busy)
            with pytest.raises(DatabaseBusyError):
                parts.manager.delete_user_database(user_id)

    parts.manager.services.step = Sleeper(1, meanwhile)
    with pytest.raises(TenancyError):
        parts.manager.delete_user_database(user_id)
    parts.manager.services.step = FaultAt()
    assert tenant_of(parts.manager, user_id).state is State.ARCHIVED
    with pytest.raises(TenantNotReadyError):
        add_task(parts.manager, user_id, "lost")
    parts.manager.delete_user_database(user_id)
    nothing_is_left(parts, ours)


def _busy(*args: object) -> None:
    raise DatabaseBusyError("busy")


def test_whoever_comes_after_a_sleeper_makes_void_what_that_one_would_still_do(parts):
    """A suspension sleeps before its mark; another claim comes and goes. Awake, it must find a higher epoch."""
    (user_id,) = add_tenants(parts, 1)

    def meanwhile() -> None:
        expire_claims(parts.manager)
        parts.manager.resume(user_id)

    parts.manager.services.step = Sleeper(1, meanwhile)
    with pytest.raises(TenancyError):
        parts.manager.suspend(user_id)
    parts.manager.services.step = FaultAt()
    add_task(parts.manager, user_id, "goes on")
    assert titles(parts.manager, user_id) == ["goes on"]


@pytest.mark.parametrize("state", [State.FAILED, State.PROVISIONING])
def test_a_half_made_database_can_be_given_up_for_another_product(parts, ours, state):
    """Its sealed password, which belongs to the fields that are replaced, must not stay behind."""
    user_id = half_made(parts)
    change_config(parts.manager, user_id, state=state)
    expire_claims(parts.manager)
    parts.manager.provision(user_id, DatabaseFields("sqlite"))
    add_task(parts.manager, user_id, "here")
    assert titles(parts.manager, user_id) == ["here"]
    nothing_is_left(parts, ours)
    assert audit_actions(parts.manager).count("tenant.provision") == 1
