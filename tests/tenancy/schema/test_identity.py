"""The identity row changes for its own tenant alone, and for no number that is lower than the one that stands there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tenancy.errors import ClaimLostError, IdentityError, StaleRouteError
from tenancy.models import State, Tenant
from tenancy.schema import identity
from tenancy.schema.tables import tenancy_identity, tenancy_tables

OURS = Tenant(uuid.UUID(int=1), 7, "sqlite", State.READY, version=1, epoch=3)
ANOTHERS = OURS.with_(tenant_id=uuid.UUID(int=2))


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    """Give a connection to a database of ours, at epoch 5."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as opened:
        tenancy_tables.create_all(opened)
        identity.write(opened, OURS.with_(epoch=5))
        opened.commit()
        yield opened
    engine.dispose()


def stands(connection: sa.Connection) -> tuple[int, str]:
    row = connection.execute(sa.select(tenancy_identity.c.epoch, tenancy_identity.c.state)).one()
    return row.epoch, row.state


@pytest.mark.parametrize("epoch", [5, 6, 100])
def test_a_mark_raises_the_epoch_or_leaves_it(connection, epoch):
    identity.mark(connection, OURS, epoch, State.SUSPENDED)
    assert stands(connection) == (epoch, State.SUSPENDED)


@pytest.mark.parametrize(
    ("tenant", "epoch", "refusal"),
    [
        (OURS, 4, ClaimLostError),  # a later claim was here
        (OURS.with_(epoch=6), 9, StaleRouteError),  # the database is an older copy
        (ANOTHERS, 9, IdentityError),
    ],
)
def test_a_mark_that_may_not_be_changes_nothing(connection, tenant, epoch, refusal):
    with pytest.raises(refusal):
        identity.mark(connection, tenant, epoch, State.SUSPENDED)
    assert stands(connection) == (5, State.READY)


def test_what_was_put_back_as_it_was_is_opened_at_any_earlier_epoch(connection):
    identity.mark_restored(connection, OURS.with_(epoch=8), 9)
    assert stands(connection) == (9, State.READY)


@pytest.mark.parametrize(("tenant", "epoch", "refusal"), [(OURS, 4, ClaimLostError), (ANOTHERS, 9, IdentityError)])
def test_what_was_put_back_is_opened_by_its_last_claim_alone(connection, tenant, epoch, refusal):
    with pytest.raises(refusal):
        identity.mark_restored(connection, tenant, epoch)
    assert stands(connection) == (5, State.READY)


def test_what_has_an_owner_is_handed_over_to_nobody(connection):
    with pytest.raises(StaleRouteError):
        identity.hand_over(connection, OURS.with_(user_id=8), 9)
    assert stands(connection) == (5, State.READY)


def test_an_epoch_that_was_never_given_out_is_not_counted_on_from(connection):
    connection.execute(tenancy_identity.update().values(epoch=identity.MOST + 1))
    connection.commit()
    with pytest.raises(IdentityError, match="never given out"):
        identity.mark(connection, OURS, 9, State.SUSPENDED)
