"""What stands where a tenant's database belongs is told before anything is made there."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa

from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.models import State, Tenant
from tenancy.routing.guards import Occupant, inspect_occupant
from tenancy.schema import identity
from tenancy.schema.tables import tenancy_tables

OURS = Tenant(uuid.UUID(int=1), 7, "sqlite", State.PROVISIONING, version=1, epoch=1)


def nothing(connection: sa.Connection) -> None:
    """Leave the database empty."""


def tables(connection: sa.Connection) -> None:
    tenancy_tables.create_all(connection)


def ours(connection: sa.Connection) -> None:
    tables(connection)
    identity.write(connection, OURS)


def ours_that_waits(connection: sa.Connection) -> None:
    tables(connection)
    identity.write(connection, OURS.with_(user_id=None))


def another_tenants(connection: sa.Connection) -> None:
    tables(connection)
    identity.write(connection, OURS.with_(tenant_id=uuid.UUID(int=2)))


def an_applications(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE books (id INTEGER)")


def the_catalog(connection: sa.Connection) -> None:
    ours(connection)
    connection.exec_driver_sql(f"CREATE TABLE {CATALOG_VERSION_TABLE} (version_num TEXT)")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (nothing, Occupant.EMPTY),
        (tables, Occupant.HALF),
        (ours, Occupant.OURS),
        (ours_that_waits, Occupant.WAITING),
        (another_tenants, Occupant.FOREIGN),
        (an_applications, Occupant.FOREIGN),
        (the_catalog, Occupant.FOREIGN),
    ],
)
def test_an_occupant_is_known_by_its_tables_and_its_identity(make, found):
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        make(connection)
        connection.commit()
        assert inspect_occupant(OURS, connection) is found
    engine.dispose()
