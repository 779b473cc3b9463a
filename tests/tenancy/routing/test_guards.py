"""Every guard holds, and is missed: each checker finds nothing, and finds something once its guard is taken out.

A checker gives the list of what it saw go wrong; the tests beside it in this room assert the same things. A guard
that could be taken out without a checker noticing would be a guard that nobody tests.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

import pytest
import sqlalchemy as sa

from compose import Parts
from repositories import categories
from repositories.base import scope, statements
from repositories.errors import NotFoundError
from repositories.repository_factory import RepositoryFactory
from tenancy import names
from tenancy.backends.gates import Gated
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.errors import ClaimLostError, DatabaseBusyError, TenancyError, UnfencedError
from tenancy.manager import TenantManager
from tenancy.models import WRITABLE, State
from tenancy.routing import connection_limits, guards
from tenancy.routing.engines import EngineCache
from tenancy.schema import identity
from tenancy.schema.tables import tenancy_identity
from tenancy.types import new_id
from tests.support.applications import add_task, add_tenants, add_users, cache_over, expire_claims, lease, titles
from tests.support.rows import CATEGORIZED, PAGED, named_by, new_row

# --- the owner filter -----------------------------------------------------------------------------------


@pytest.fixture
def side_by_side(shared_parts: Parts) -> tuple[TenantManager, int, int]:
    """Give two users whose rows stand in one database."""
    manager = shared_parts.manager
    mine, theirs = add_users(shared_parts, 2)
    for user_id in (mine, theirs):
        manager.provision(user_id)
        with manager.session(user_id, write=True) as session:
            for name in PAGED:
                RepositoryFactory.get_repository(name, session, user_id).create(new_row(name, f"of {user_id}"))
    return manager, mine, theirs


@pytest.fixture
def _statements_are_built_anew() -> Iterator[None]:
    """Repositories keep their statements; a mutant's must not outlive its test, nor a good one hide the mutant."""
    cached = [
        each for module in (statements, categories) for each in vars(module).values() if hasattr(each, "cache_clear")
    ]
    assert cached
    for each in cached:
        each.cache_clear()
    yield
    for each in cached:
        each.cache_clear()


def rows_of_others(manager: TenantManager, mine: int, theirs: int) -> list[str]:
    """Try every verb of every repository from one user to another's rows; list each that reached one."""
    return [verb for name in PAGED for verb in _reached(manager, name, mine, theirs)]


def _reached(manager: TenantManager, name: str, mine: int, theirs: int) -> list[str]:
    with manager.session(theirs) as session:
        foreign = [row["id"] for row in RepositoryFactory.get_repository(name, session, theirs).list()]
    change = {named_by(name): "taken over"}
    with manager.session(mine, write=True) as session:
        repository = RepositoryFactory.get_repository(name, session, mine)
        listed = [row["id"] for row in repository.list()]
        seen = {
            "list": listed,
            "search": [row["id"] for row in repository.search("of")],
            "exists": [row_id for row_id in foreign if repository.exists(row_id)],
            "get": [row_id for row_id in foreign if _found(partial(repository.get, row_id))],
            "update": [row_id for row_id in foreign if _found(partial(repository.update, row_id, change))],
            "count": [] if repository.count() == len(set(listed) - set(foreign)) else foreign,
            "delete": [row_id for row_id in foreign if _found(partial(repository.delete, row_id))],
        }
        session.rollback()
    return [f"{name}.{verb}" for verb, ids in seen.items() if set(ids) & set(foreign)]


def _found(verb: Callable[[], object]) -> bool:
    try:
        verb()
    except NotFoundError:
        return False
    except Exception:  # noqa: BLE001 - it got past the filter, and then something else stopped it
        return True
    return True


@pytest.mark.usefixtures("_statements_are_built_anew")
def test_the_owner_filter_keeps_rows_apart(side_by_side):
    assert rows_of_others(*side_by_side) == []


@pytest.mark.usefixtures("_statements_are_built_anew")
def test_without_the_owner_filter_the_checker_finds_rows_of_others(side_by_side, monkeypatch):
    monkeypatch.setattr(scope, "owned", lambda statement, owner: statement)
    reached = rows_of_others(*side_by_side)
    for name in PAGED:
        assert {f"{name}.{verb}" for verb in ("list", "search", "exists", "get", "update", "count")} <= set(reached)


# --- the composite foreign key --------------------------------------------------------------------------


def foreign_parents_accepted(manager: TenantManager, mine: int, theirs: int) -> list[str]:
    """Write rows into another's category with the repository out of the way; list the tables that took them."""
    accepted = []
    with manager.session(theirs) as session:
        query = sa.text("SELECT id FROM categories WHERE user_id = :owner").bindparams(owner=theirs)
        category = session.execute(query).scalars().first()
    for table in CATEGORIZED:
        columns = f"id, user_id, {named_by(table)}, category_id"
        try:
            with manager.session(mine, write=True) as session:
                session.execute(
                    sa.text(f"INSERT INTO {table} ({columns}) VALUES (:id, :me, 'x', :category)"),
                    {"id": new_id().hex, "me": mine, "category": category},
                )
            accepted.append(table)
        except sa.exc.IntegrityError:
            continue
    return accepted


def test_the_database_itself_refuses_a_foreign_parent(side_by_side):
    assert foreign_parents_accepted(*side_by_side) == []


def test_without_the_composite_key_the_checker_finds_foreign_parents(side_by_side, tmp_path):
    manager, mine, theirs = side_by_side
    manager.engines.close()
    with closing(sqlite3.connect(tmp_path / "admin.db")) as driver, driver:
        for table in CATEGORIZED:
            driver.execute(f"CREATE TABLE without_key AS SELECT * FROM {table}")
            driver.execute(f"DROP TABLE {table}")
            driver.execute(f"ALTER TABLE without_key RENAME TO {table}")
    assert foreign_parents_accepted(manager, mine, theirs) == [*CATEGORIZED]


# --- the identity check ---------------------------------------------------------------------------------


@pytest.fixture
def two(parts: Parts) -> tuple[Parts, int, int]:
    """Give two users with databases of their own and a task each."""
    mine, theirs = add_tenants(parts, 2)
    add_task(parts.manager, mine, f"of {mine}")
    add_task(parts.manager, theirs, f"of {theirs}")
    return parts, mine, theirs


def shown_from_a_wrong_file(parts: Parts, mine: int, theirs: int) -> list[str]:
    """Put another's file in the place of one's own; list what of it is shown."""
    parts.manager.engines.close()
    folder = parts.settings.tenant_data_dir
    shutil.copyfile(folder / f"user_{theirs}.db", folder / f"user_{mine}.db")
    try:
        return titles(parts.manager, mine)
    except TenancyError:
        return []


def test_the_identity_check_shows_nothing_of_a_wrong_file(two):
    assert shown_from_a_wrong_file(*two) == []


def test_without_the_identity_check_the_checker_finds_rows_of_others(two, monkeypatch):
    monkeypatch.setattr(guards, "check_identity", lambda *args: None)
    assert shown_from_a_wrong_file(*two) == [f"of {two[2]}"]


def test_a_wrong_engine_alone_shows_nothing_through_a_repository(two, monkeypatch):
    """Two guards stand one behind the other: this is the second, with the first taken out."""
    parts, mine, _ = two
    monkeypatch.setattr(guards, "check_identity", lambda *args: None)
    assert shown_from_a_wrong_file(*two)
    with parts.manager.session(mine) as session:
        assert RepositoryFactory.get_repository("tasks", session, mine).list() == []


# --- the fence ------------------------------------------------------------------------------------------


def written_after_retirement(parts: Parts, mine: int, theirs: int) -> list[str]:
    """Write by a route that was read before its database was retired; list the kinds of retirement it got past."""
    passed = []
    route, manager = parts.manager.tenant_of(mine), parts.manager
    file = parts.settings.tenant_data_dir / f"user_{mine}.db"
    titles(manager, mine)
    for kind, change in {"moved": "epoch = 2", "stopped": "state = 'suspended'"}.items():
        with closing(sqlite3.connect(file)) as driver, driver:
            driver.execute(f"UPDATE tenancy_identity SET {change}")
        with suppress(TenancyError):  # the refusal that is looked for: what gets past it is the finding
            with lease(manager.engines, route) as engine, engine.begin() as connection:
                connection.execute(sa.text("UPDATE tasks SET title = 'too late'"))
            passed.append(kind)
        with closing(sqlite3.connect(file)) as driver, driver:
            driver.execute("UPDATE tenancy_identity SET epoch = 1, state = 'ready'")
    return passed


def test_the_fence_lets_nothing_into_a_retired_database(two):
    assert written_after_retirement(*two) == []
    assert titles(two[0].manager, two[1]) == [f"of {two[1]}"]


def test_without_the_fence_the_checker_finds_late_writes(two, monkeypatch):
    monkeypatch.setattr(guards, "pass_fence", lambda *args: None)
    assert written_after_retirement(*two) == ["moved", "stopped"]
    assert titles(two[0].manager, two[1]) == ["too late"]


def test_a_fence_that_forgets_the_state_is_found(two, monkeypatch):
    monkeypatch.setattr(guards, "WRITABLE", frozenset(State))
    assert frozenset(State) != WRITABLE
    assert written_after_retirement(*two) == ["stopped"]


# --- leases ---------------------------------------------------------------------------------------------


def harm_to_engines_in_use(cache: EngineCache, parts: Parts, ids: list[int]) -> list[str]:
    """Use one tenant while others crowd it out; list what that did to the one in use."""
    harm = []
    places = [parts.manager.tenant_of(user_id) for user_id in ids]
    with lease(cache, places[0]) as engine:
        for place in places[1:]:
            with lease(cache, place) as other, other.connect().execution_options(tenancy_write=False):
                pass
        with lease(cache, places[0]) as again:
            if again is not engine:
                harm.append("one tenant has two engines")
        if cache.stats()["leased"] != 1:
            harm.append("an engine in use is not counted")
    return harm


def test_an_engine_in_use_is_never_evicted(parts):
    cache = cache_over(parts.manager, size=1)
    assert harm_to_engines_in_use(cache, parts, add_tenants(parts, 3)) == []
    cache.close()


def test_without_leases_the_checker_finds_evicted_engines(parts, monkeypatch):
    def evict_whatever_is_oldest(cache: EngineCache) -> list:
        out = list(cache._entries.values())[: max(0, len(cache._entries) - cache.size)]
        for entry in out:
            del cache._entries[entry.tenant.tenant_id]
            entry.retired = True
        return out

    monkeypatch.setattr(EngineCache, "_over_size", evict_whatever_is_oldest)
    cache = cache_over(parts.manager, size=1)
    assert "one tenant has two engines" in harm_to_engines_in_use(cache, parts, add_tenants(parts, 3))
    cache.close()


# --- the version in the cache's key ---------------------------------------------------------------------


def engines_of_old_configurations(parts: Parts, user_id: int) -> list[str]:
    """Change a configuration and its password; list the changes after which the old engine was still given."""
    given = []
    cache = cache_over(parts.manager)
    place = parts.manager.tenant_of(user_id)
    with lease(cache, place) as old:
        pass
    sealed = parts.manager.keyring.seal("a new password", place.binding)
    for change in ({"is_active": False}, {"sealed_password": sealed}):
        place = replace(place, version=place.version + 1, **change)
        with lease(cache, place) as fresh:
            if fresh is old:
                given.append(", ".join(change))
        old = fresh
    cache.close()
    return given


def test_a_changed_configuration_is_never_served_by_its_old_engine(parts):
    assert engines_of_old_configurations(parts, *add_tenants(parts, 1)) == []


def test_without_the_version_in_the_key_the_checker_finds_old_engines(parts, monkeypatch):
    real = EngineCache._current

    def of_the_tenant_whatever_its_version(cache: EngineCache, tenant):
        there = cache._entries.get(tenant.tenant_id)
        return (there, []) if there is not None else real(cache, tenant)

    monkeypatch.setattr(EngineCache, "_current", of_the_tenant_whatever_its_version)
    assert engines_of_old_configurations(parts, *add_tenants(parts, 1)) == ["is_active", "sealed_password"]


# --- the gate -------------------------------------------------------------------------------------------


def written_past_the_fence(parts: Parts, user_id: int) -> list[str]:
    """Write to a suspended database in AUTOCOMMIT and by a driver's connection; list what was written."""
    engine = parts.manager.engine_for(user_id)
    parts.manager.suspend(user_id)
    with suppress(UnfencedError), closing(engine.raw_connection()) as raw:
        raw.cursor().execute(f"INSERT INTO tasks (id, user_id, title) VALUES ('{new_id().hex}', {user_id}, 'raw')")
        raw.commit()
    with suppress(UnfencedError), engine.connect() as connection:
        connection.connection.execute(f"DELETE FROM tasks WHERE user_id = {user_id} AND title = 'kept'")
        connection.connection.commit()
    parts.manager.resume(user_id)
    return titles(parts.manager, user_id)


def test_a_suspended_database_is_not_written_to_past_the_fence(parts):
    (user_id,) = add_tenants(parts, 1)
    add_task(parts.manager, user_id, "kept")
    assert written_past_the_fence(parts, user_id) == ["kept"]


def test_without_the_gate_the_checker_finds_what_was_written(parts, monkeypatch):
    (user_id,) = add_tenants(parts, 1)
    add_task(parts.manager, user_id, "kept")
    monkeypatch.setattr(Gated, "ask", lambda driver, text: None)
    assert written_past_the_fence(parts, user_id) == ["raw"]


# --- the claim's number ---------------------------------------------------------------------------------


def harm_by_a_runner_that_slept(parts: Parts, user_id: int) -> list[str]:
    """Let a deletion sleep past its claim's expiry while another finishes and the user starts anew; list its harm."""
    harm = []
    manager = parts.manager

    def sleep(name: str) -> None:
        if name != "drop":
            return
        manager.services.step = lambda name: None
        expire_claims(manager)
        manager.delete_user_database(user_id)
        manager.provision(user_id)
        add_task(manager, user_id, "of the next database")

    manager.services.step = sleep
    with suppress(ClaimLostError):  # as it should be; going on is the finding
        manager.delete_user_database(user_id)
        harm.append("the sleeper was not told that its claim was lost")
    try:
        if titles(manager, user_id) != ["of the next database"]:
            harm.append("rows of the next database are gone")
    except TenancyError as error:
        harm.append(f"the next database is gone: {error.code}")
    if not (parts.settings.tenant_data_dir / str(manager.tenant_of(user_id).db_path)).exists():
        harm.append("the next database's file is gone")
    return harm


def test_a_runner_that_slept_past_its_claim_does_no_harm(parts):
    assert harm_by_a_runner_that_slept(parts, *add_tenants(parts, 1)) == []


def test_without_names_that_are_used_once_nor_a_look_the_checker_finds_the_sleepers_harm(parts, monkeypatch):
    """Each of the two guards by itself keeps the next database's file."""
    monkeypatch.setattr(SQLiteBackend, "_is_anothers", lambda backend, path, tenant: False)
    assert harm_by_a_runner_that_slept(parts, *add_tenants(parts, 1)) == []
    monkeypatch.setattr(names, "sqlite_file", lambda owner, epoch=1: f"user_{owner}.db")
    harm = harm_by_a_runner_that_slept(parts, *add_tenants(parts, 1))
    assert "the next database's file is gone" in harm


def harm_by_a_suspension_that_slept(parts: Parts, user_id: int) -> list[str]:
    """Let a suspension sleep past its claim's expiry while another one comes and is resumed; list its harm."""
    manager = parts.manager

    def sleep(name: str) -> None:
        manager.services.step = lambda name: None
        expire_claims(manager)
        manager.suspend(user_id)
        manager.resume(user_id)

    manager.services.step = sleep
    with suppress(ClaimLostError):
        manager.suspend(user_id)
    try:
        add_task(manager, user_id, "after")
    except TenancyError as error:
        return [f"the catalog says {manager.tenant_of(user_id).state}, and writes are refused: {error.code}"]
    return []


def test_a_suspension_that_slept_past_its_claim_does_no_harm(parts):
    assert harm_by_a_suspension_that_slept(parts, *add_tenants(parts, 1)) == []


def test_without_the_epoch_the_checker_finds_the_late_suspensions_harm(parts, monkeypatch):
    table = tenancy_identity
    mine = (table.c.id == 1, table.c.tenant_id == sa.bindparam("whose"))
    anybodys = sa.bindparam("upto", type_=sa.Integer) >= sa.bindparam("since", type_=sa.Integer)
    monkeypatch.setattr(identity, "_change", table.update().where(*mine, anybodys))
    assert harm_by_a_suspension_that_slept(parts, *add_tenants(parts, 1)) != []


# --- the rule of one connection per thread --------------------------------------------------------------


def test_without_the_rule_of_one_engine_a_thread_two_threads_wait_for_each_other(parts, monkeypatch):
    """With it they are told at once, see test_engines; without it each waits out its whole patience."""
    places = [parts.manager.tenant_of(user_id) for user_id in add_tenants(parts, 2)]
    waited: list[bool] = []
    real = connection_limits.ConnectionBudget.take

    def waiting_though_it_holds_one(budget, make_room, may_wait) -> None:
        waited.append(not may_wait)
        budget._patience_s = 0.0
        real(budget, make_room, True)

    monkeypatch.setattr(connection_limits.ConnectionBudget, "take", waiting_though_it_holds_one)
    cache = cache_over(parts.manager, limit=1)
    with (
        lease(cache, places[0]) as engine,
        engine.connect().execution_options(tenancy_write=False),
        pytest.raises(DatabaseBusyError),
        lease(cache, places[1]) as second,
        second.connect(),
    ):
        raise AssertionError("it got a second connection")
    assert waited == [False, True]
    cache.close()
