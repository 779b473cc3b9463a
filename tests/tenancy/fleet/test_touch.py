"""Migrating at first touch: off unless wanted, within a budget, one at a time, never twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenancy.errors import RevisionMismatchError, TenantNotReadyError
from tenancy.fleet.touch import FirstTouch
from tenancy.models import State
from tests.tenancy.fleet.conftest import COLUMN, fill, look
from tests.tenancy.support import audit_actions, placement_of, together

FAILS = "raise RuntimeError('not this one')"


def touching(manager, budget_s: float = 20.0):
    """Give a manager that migrates at first touch."""
    assert manager.router.on_behind is None, "it is off unless wanted"
    touch = FirstTouch(manager.provisioner, budget_s)
    manager.router.on_behind = touch.bring
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
        assert placement_of(second, user_id).state is State.READY
    assert second.fetch_all("SELECT id FROM things", user_id=user_id) == [(7,)]


def test_a_failure_is_told_and_not_tried_again_at_every_request(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    second = versions(2, FAILS)
    touching(second)
    for _ in range(2):
        with pytest.raises(TenantNotReadyError, match="not this one"):
            second.fetch_all("SELECT id FROM things", user_id=user_id)
    tenant = placement_of(second, user_id)
    assert (tenant.state, tenant.revision) == (State.FAILED, "0001")
    fixed = versions(2, COLUMN.format("c2"), "fixed")
    assert fixed.provision(user_id).created is False
    assert fixed.fetch_all("SELECT id FROM things", user_id=user_id) == [(7,)]


def test_a_request_that_knew_the_tenant_before_finds_it_migrated(versions):
    (user_id,) = fill(versions(1), 1)
    second = versions(2)
    old = placement_of(second, user_id)
    touching(second)
    second.provision(user_id)
    seen = []
    second.router.on_behind = seen.append
    assert second.router._caught_up(user_id, seen.append).revision == "0002"
    assert seen == []
    assert replace(old, revision="0002").tenant_id == placement_of(second, user_id).tenant_id


def test_the_setting_turns_it_on(make_parts):
    assert make_parts().manager.router.on_behind is None
    assert make_parts(migrate_on_first_touch="true").manager.router.on_behind is not None
    assert make_parts(migrate_on_first_touch="true", multi_tenant_mode="false").manager.router.on_behind is None
