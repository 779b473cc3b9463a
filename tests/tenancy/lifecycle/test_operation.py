"""An operation that comes after one that was cut off first makes void what that one may still do."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tenancy.lifecycle.operation import Operation
from tenancy.models import State
from tests.support.applications import FaultAt, Stopped, add_tenants, change_config, expire_claims, tenant_of


def epoch_in_file(parts, user_id: int) -> int:
    with closing(sqlite3.connect(parts.settings.tenant_data_dir / f"user_{user_id}.db")) as driver:
        return driver.execute("SELECT epoch FROM tenancy_identity").fetchone()[0]


def claimed(parts, user_id: int):
    """Give an operation, its tenant and its claim."""
    operation, tenant = Operation(parts.manager.services), tenant_of(parts.manager, user_id)
    assert tenant is not None
    with parts.catalog.writing() as connection:
        return operation, tenant, operation.claim(connection, tenant, "test")


def test_after_an_operation_that_was_cut_off_the_epoch_is_raised_in_file_and_catalog(parts):
    (user_id,) = add_tenants(parts, 1)
    parts.manager.services.step = FaultAt(1)
    with pytest.raises(Stopped):
        parts.manager.suspend(user_id)
    parts.manager.services.step = FaultAt()
    change_config(parts.manager, user_id, state=State.READY)
    expire_claims(parts.manager)
    operation, tenant, claim = claimed(parts, user_id)
    assert claim.interrupted
    fresh = operation.refenced(tenant, claim, parts.manager.backends.get("sqlite"))
    assert fresh.epoch == claim.epoch > tenant.epoch
    assert tenant_of(parts.manager, user_id).epoch == epoch_in_file(parts, user_id) == claim.epoch


def test_after_an_operation_that_ended_the_epoch_stays(parts):
    (user_id,) = add_tenants(parts, 1)
    operation, tenant, claim = claimed(parts, user_id)
    assert operation.refenced(tenant, claim, parts.manager.backends.get("sqlite")) is tenant
    assert epoch_in_file(parts, user_id) == tenant.epoch
