"""What an operation that was cut off left half done is settled by housekeeping, without anybody who runs it again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tenancy import context
from tenancy.catalog.tables import claims
from tenancy.errors import DatabaseBusyError, DatabaseTimeoutError, IdentityError, StaleRouteError
from tenancy.lifecycle import reconcile
from tenancy.lifecycle.suspend_delete import Retirement
from tenancy.models import State
from tests.support import engines
from tests.support.applications import (
    FaultAt,
    Stopped,
    add_task,
    add_tenants,
    audit_actions,
    change_config,
    expire_claims,
    tenant_of,
    titles,
)
from tests.support.products import _on


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def parts(request, make_parts):
    yield from _on(engines.use(request, request.param), make_parts)


def answered_too_late(parts, user_id: int, monkeypatch) -> None:
    """Suspend a database whose commit arrives although its runner was told that the server is busy."""
    marked = Retirement.mark

    def lost(retirement, *what) -> None:
        marked(retirement, *what)
        raise DatabaseBusyError("no answer came")

    with monkeypatch.context() as once, pytest.raises(DatabaseBusyError):
        once.setattr(Retirement, "mark", lost)
        parts.manager.suspend(user_id)


def test_a_commit_that_was_answered_too_late_shuts_nobody_out_for_good(parts, monkeypatch):
    (user_id,) = add_tenants(parts, 1)
    answered_too_late(parts, user_id, monkeypatch)
    assert tenant_of(parts.manager, user_id).state is State.READY
    with pytest.raises(StaleRouteError):
        add_task(parts.manager, user_id, "refused")
    assert parts.manager.settle_interrupted() == [user_id]
    add_task(parts.manager, user_id, "goes on")
    assert titles(parts.manager, user_id) == ["goes on"]
    assert parts.manager.settle_interrupted() == [], "there is nothing left to settle"


@pytest.mark.parametrize(("left", "then"), [("suspended", "suspended"), ("moving", "ready")])
def test_a_tenant_is_settled_as_the_catalog_says(parts, left, then):
    (user_id,) = add_tenants(parts, 1)
    with pytest.raises(Stopped):
        _stopped_in_suspend(parts, user_id)
    change_config(parts.manager, user_id, state=State(left))
    expire_claims(parts.manager)
    assert parts.manager.settle_interrupted() == [user_id]
    assert tenant_of(parts.manager, user_id).state is State(then)
    if then == "suspended":
        parts.manager.resume(user_id)
    add_task(parts.manager, user_id, "goes on")


def _stopped_in_suspend(parts, user_id: int) -> None:
    parts.manager.services.step = FaultAt(2)
    try:
        parts.manager.suspend(user_id)
    finally:
        parts.manager.services.step = FaultAt()


def test_what_is_at_work_or_ended_well_is_left_alone(parts):
    one, two = add_tenants(parts, 2)
    parts.manager.suspend(two)
    seen: list[list[int]] = []
    parts.manager.services.step = lambda name: seen.append(parts.manager.settle_interrupted())
    parts.manager.suspend(one)
    parts.manager.services.step = FaultAt()
    assert seen
    assert not any(seen)


def test_one_that_cannot_be_settled_waits_longer_each_time_and_holds_up_nobody(parts, monkeypatch):
    """The first one's database is gone, so its claim goes on to be one that was cut off."""
    dead, well = add_tenants(parts, 2)
    for user_id in (dead, well):
        answered_too_late(parts, user_id, monkeypatch)
    mended = Retirement.set_state
    tried: list[int] = []

    def try_one(retirement, user_id: int, *states) -> None:
        tried.append(user_id)
        if user_id == dead:
            raise DatabaseBusyError("still no answer")
        mended(retirement, user_id, *states)

    monkeypatch.setattr(Retirement, "set_state", try_one)
    assert parts.manager.settle_interrupted() == [well]
    assert parts.manager.settle_interrupted() == []
    assert tried == [dead, well], "it waits for its next turn"
    monkeypatch.setattr(reconcile, "AGAIN_S", 0.0)
    parts.manager.reconciler._waits.clear()
    parts.manager.settle_interrupted()
    parts.manager.settle_interrupted()
    assert tried[2:] == [dead, dead]


def test_the_audit_log_says_that_housekeeping_did_it(parts, monkeypatch):
    (user_id,) = add_tenants(parts, 1)
    answered_too_late(parts, user_id, monkeypatch)
    parts.manager.settle_interrupted()
    with parts.catalog.reading() as connection:
        (newest,) = parts.catalog.audit.page(connection, limit=1)
    assert (newest["action"], newest["actor"]) == ("tenant.ready", context.HOUSEKEEPING)
    assert audit_actions(parts.manager).count("tenant.ready") == 1


def test_a_database_that_says_what_none_can_say_holds_up_nobody_and_can_be_deleted(make_parts, monkeypatch):
    """A user can write into a database of their own; SQLite keeps any value in any column."""
    parts = make_parts()
    hostile, well = add_tenants(parts, 2)
    for user_id in (hostile, well):
        answered_too_late(parts, user_id, monkeypatch)
    for value in ("tenant_id = 'zz'", "epoch = 'abc'", "epoch = 9223372036854775807"):
        with closing(sqlite3.connect(parts.settings.tenant_data_dir / f"user_{hostile}.db")) as edited:
            edited.execute(f"UPDATE tenancy_identity SET {value}")
            edited.commit()
        settled = parts.manager.settle_interrupted()
        assert settled == ([well] if "zz" in value else [])
        with pytest.raises(IdentityError):
            parts.manager.suspend(hostile)
    parts.manager.delete_user_database(hostile)
    parts.manager.provision(hostile)
    add_task(parts.manager, hostile, "anew")


def test_the_other_databases_of_a_server_that_does_not_answer_are_not_asked(make_parts, monkeypatch):
    parts = make_parts()
    ids = add_tenants(parts, 3)
    for user_id in ids:
        answered_too_late(parts, user_id, monkeypatch)
    for user_id in ids[:2]:
        change_config(parts.manager, user_id, db_host="192.0.2.1", db_port=5432)
    asked: list[int] = []

    def silent(retirement, user_id: int, *states) -> None:
        asked.append(user_id)
        raise DatabaseTimeoutError("no answer came")

    monkeypatch.setattr(Retirement, "set_state", silent)
    assert parts.manager.settle_interrupted() == []
    assert asked == [ids[0], ids[2]]


def test_what_was_claimed_while_the_clock_was_ahead_is_settled(make_parts, monkeypatch):
    parts = make_parts()
    (user_id,) = add_tenants(parts, 1)
    answered_too_late(parts, user_id, monkeypatch)
    with parts.catalog.writing() as connection:
        connection.execute(claims.update().values(expires_at=datetime.now(UTC) + timedelta(days=1)))
    assert parts.manager.settle_interrupted() == [user_id]
