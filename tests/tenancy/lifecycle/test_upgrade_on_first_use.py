"""Migrating at first touch: off unless wanted, within a budget, one at a time, never twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from tenancy.errors import DatabaseBusyError, MigrationError, RevisionMismatchError, TenantNotReadyError
from tenancy.lifecycle import upgrade_on_first_use as touch_room
from tenancy.lifecycle.upgrade_on_first_use import UpgradeOnFirstUse
from tenancy.models import State
from tests.support.applications import FaultAt, audit_actions, tenant_of, together
from tests.support.versions import COLUMN, fill, look

FAILS = "raise RuntimeError('not this one')"


def touching(manager, budget_s: float = 20.0):
    """Give a manager that migrates at first touch."""
    assert manager.router.on_behind is None, "it is off unless wanted"
    touch = UpgradeOnFirstUse(manager.provisioner, budget_s)
    manager.router.on_behind = touch.upgrade
    return touch


def test_it_is_off_unless_wanted(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    with pytest.raises(RevisionMismatchError):
        versions(2).fetch_all("SELECT id FROM things", user_id=user_id)
    assert look(tmp_path, user_id)["version"] == ["0001"]


def test_who_is_behind_is_migrated_when_asked_for_and_nobody_else_is(versions, tmp_path):
    one, other = fill(versions(1), 2)
    second = versions(2)
    touching(second)
    assert second.fetch_all("SELECT id, c2 FROM things", user_id=one) == [(7, None)]
    assert look(tmp_path, one)["version"] == ["0002"]
    assert look(tmp_path, other)["version"] == ["0001"]
    assert second.fetch_all("SELECT count(*) FROM parts", user_id=one) == [(1,)]
    assert audit_actions(second).count("tenant.upgrade") == 1


def test_sixteen_at_once_migrate_once_and_are_told_to_wait_or_answered(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    second = versions(2)
    touching(second)
    answers = together([lambda: second.fetch_all("SELECT id FROM things", user_id=user_id)] * 16)
    for answer in answers:
        waits = isinstance(answer, TenantNotReadyError) and answer.fields["retry_after_s"] == 1
        assert waits or answer == [(7,)]
    assert look(tmp_path, user_id)["ledger"] == [("0001", "upgrade"), ("0002", "upgrade")]
    assert second.fetch_all("SELECT id FROM things", user_id=user_id) == [(7,)]


def test_what_takes_longer_than_the_budget_goes_on_behind_the_request(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    second = versions(2)
    touch = touching(second, budget_s=0.0)
    with pytest.raises(TenantNotReadyError, match="in a moment") as told:
        second.fetch_all("SELECT id FROM things", user_id=user_id)
    assert told.value.fields["retry_after_s"] == 1
    with touch._one_at_a_time:  # the work behind has ended
        assert tenant_of(second, user_id).state is State.READY
    assert second.fetch_all("SELECT id FROM things", user_id=user_id) == [(7,)]


def test_a_failure_is_told_and_not_tried_again_at_every_request(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    second = versions(2, FAILS)
    touching(second)
    for _ in range(2):
        with pytest.raises(TenantNotReadyError, match="not this one"):
            second.fetch_all("SELECT id FROM things", user_id=user_id)
    tenant = tenant_of(second, user_id)
    assert (tenant.state, tenant.revision) == (State.FAILED, "0001")
    fixed = versions(2, COLUMN.format("c2"), "fixed")
    assert fixed.provision(user_id).created is False
    assert fixed.fetch_all("SELECT id FROM things", user_id=user_id) == [(7,)]


@pytest.fixture
def locked(tmp_path, short_locks):
    """Give a function that locks a user's file for a block; whoever waits for the lock gives up soon."""

    @contextmanager
    def lock(user_id: int) -> Iterator[None]:
        with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    return lock


def test_a_database_that_is_locked_stays_as_it_was_and_is_migrated_once_the_lock_is_gone(versions, locked):
    one, other = fill(versions(1), 2)
    second = versions(2)
    touch = touching(second)
    tries = FaultAt()
    second.services.step = tries
    before = tenant_of(second, one)
    with locked(one):
        for _ in range(3):
            with pytest.raises(DatabaseBusyError) as busy:
                second.fetch_all("SELECT id FROM things", user_id=one)
            assert busy.value.fields["retry_after_s"] == touch_room.PAUSE_S
        assert tries.seen.count("record") == 1, "it was tried again by every request"
        assert second.fetch_all("SELECT c2 FROM things", user_id=other) == [(None,)]
    left = tenant_of(second, one)
    assert (left.state, left.revision, left.epoch) == (before.state, "0001", before.epoch)
    assert left.last_error_code == "database_busy"
    assert versions(1).fetch_all("SELECT id FROM things", user_id=one) == [(7,)], "older code goes on with it"
    touch._put_off.clear()  # the pause is over
    assert second.fetch_all("SELECT c2 FROM things", user_id=one) == [(None,)]
    after = tenant_of(second, one)
    assert (after.state, after.revision, after.last_error_code) == (State.READY, "0002", None)


def test_what_nobody_foresaw_ends_no_turn(versions, monkeypatch, caplog):
    one, other = fill(versions(1), 2)
    second = versions(2)
    touch = touching(second)
    real = touch._provisioner.provision

    def provision(user_id, fields):
        if user_id == one:
            raise LookupError("nobody foresaw this")
        return real(user_id, fields)

    monkeypatch.setattr(touch._provisioner, "provision", provision)
    with pytest.raises(RevisionMismatchError):
        second.fetch_all("SELECT id FROM things", user_id=one)
    assert "nobody foresaw this" in caplog.text
    assert second.fetch_all("SELECT id FROM things", user_id=other) == [(7,)]


def test_what_fails_half_way_is_recorded_as_far_as_it_came(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    third = versions(3, FAILS)
    before = tenant_of(third, user_id)
    with pytest.raises(MigrationError, match="not this one"):
        third.provision(user_id)
    left = tenant_of(third, user_id)
    assert look(tmp_path, user_id)["version"] == [left.revision] == ["0002"]
    assert (left.state, left.epoch, left.version) == (State.FAILED, before.epoch + 1, before.version + 1)
    fixed = versions(3, COLUMN.format("c3"), "fixed")
    assert fixed.provision(user_id).tenant.revision == "0003"
    assert fixed.fetch_all("SELECT c3 FROM things", user_id=user_id) == [(None,)]


def test_a_request_that_knew_the_tenant_before_finds_it_migrated(versions):
    (user_id,) = fill(versions(1), 1)
    second = versions(2)
    old = tenant_of(second, user_id)
    touching(second)
    second.provision(user_id)
    seen = []
    second.router.on_behind = seen.append
    assert second.router._caught_up(user_id, seen.append).revision == "0002"
    assert seen == []
    assert replace(old, revision="0002").tenant_id == tenant_of(second, user_id).tenant_id


def test_the_setting_turns_it_on(make_parts):
    assert make_parts().manager.router.on_behind is None
    assert make_parts(migrate_on_first_touch="true").manager.router.on_behind is not None
    assert make_parts(migrate_on_first_touch="true", multi_tenant_mode="false").manager.router.on_behind is None
