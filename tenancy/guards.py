"""Guard what passes between an engine and a database: whose it is, whether a write may go on, what an error means.

Every connection of every tenant engine passes ``check_identity`` when it opens, every transaction ``begin``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenancy.backends.base import IDENTITY_SQL, WHOSE_SQL, Backend
from tenancy.errors import (
    DatabaseUnreachableError,
    IdentityError,
    RevisionMismatchError,
    StaleRouteError,
    TenancyError,
)
from tenancy.models import CATALOG_VERSION_TABLE, WRITABLE, Kind, Placement, identity


class Standing(Enum):
    """Say what stands where a tenant's database belongs."""

    EMPTY = "empty"
    HALF = "half-made"
    OURS = "this tenant's"
    WAITING = "this tenant's, and not handed over yet"
    FOREIGN = "somebody else's"


def check_identity(backend: Backend, tenant: Placement, driver: Any, head: str | None) -> None:
    """Compare a fresh connection's database with what the catalog says stands there.

    Without ``head`` the revision is left aside: the caller is about to migrate, or to look.
    """
    cursor = driver.cursor()
    try:
        cursor.execute(IDENTITY_SQL if head is not None else WHOSE_SQL)
        rows = cursor.fetchall()
    except Exception as error:
        raise backend.explain(error) or IdentityError(
            "the database does not say whose it is: it was not made by this system.", tenant_id=tenant.tenant_id
        ) from error
    finally:
        cursor.close()
    if len(rows) != 1:
        raise IdentityError("the database's identity or version is missing.", tenant_id=tenant.tenant_id)
    tenant_id, user_id, kind, epoch, revision = rows[0]
    # One that stood ready for whoever came, and was claimed for this user, has not been told of them yet.
    waiting = user_id is None and tenant.revision is None
    owner = tenant.user_id if waiting else user_id
    if (uuid.UUID(str(tenant_id)), owner, kind) != (tenant.tenant_id, tenant.user_id, tenant.kind):
        raise IdentityError(
            f"the database configured for user {tenant.user_id} belongs to another tenant.", tenant_id=tenant.tenant_id
        )
    if epoch != tenant.epoch:
        raise StaleRouteError("the database was replaced or retired.", tenant_id=tenant.tenant_id)
    if head is not None and revision != head:
        raise revision_mismatch(tenant, revision, head)


def check_whose(backend: Backend, tenant: Placement, driver: Any) -> None:
    """Compare whose a database is before it is migrated; a run that was killed may have raised its epoch already."""
    try:
        check_identity(backend, tenant, driver, None)
    except StaleRouteError:
        check_identity(backend, tenant.with_(epoch=tenant.epoch + 1), driver, None)


def standing(tenant: Placement, connection: sa.Connection) -> Standing:
    """Look whose a database is that stands where a tenant's belongs."""
    tables = set(sa.inspect(connection).get_table_names())
    if not tables:
        return Standing.EMPTY
    if identity.name not in tables or CATALOG_VERSION_TABLE in tables:
        return Standing.FOREIGN
    row = connection.execute(sa.select(identity.c.tenant_id, identity.c.user_id)).first()
    connection.rollback()
    if row is None:
        return Standing.HALF
    if row.tenant_id != tenant.tenant_id:
        return Standing.FOREIGN
    return Standing.WAITING if row.user_id is None else Standing.OURS


def revision_mismatch(tenant: Placement, revision: str | None, head: str) -> RevisionMismatchError:
    """Say that a tenant and the code are not at the same revision, and what to do."""
    whose = "the shared database" if tenant.user_id is None else f"the database of user {tenant.user_id}"
    cure = "unify db create-config-table" if tenant.user_id is None else f"unify db init {tenant.user_id}"
    return RevisionMismatchError(
        f"{whose} is at revision {revision}, the application needs {head}: run `{cure}`, "
        "or start the version of the application that made it.",
        tenant_id=tenant.tenant_id,
        revision=revision,
        head_revision=head,
    )


def begin(backend: Backend, tenant: Placement, connection: sa.Connection) -> None:
    """Begin a transaction; unless it says that it only reads, it must pass the fence."""
    options = connection.get_execution_options()
    write = options.get("tenancy_write", True)
    try:
        backend.begin(connection, write)
        if tenant.kind is Kind.SHARED and "tenancy_owner" in options:
            backend.set_owner(connection, options["tenancy_owner"])
        if write:
            pass_fence(backend, tenant, connection)
    except TenancyError:
        connection.connection.rollback()
        raise
    except Exception as error:
        raise backend.explain(error) or DatabaseUnreachableError("the database cannot be reached.") from error


def pass_fence(backend: Backend, tenant: Placement, connection: sa.Connection) -> None:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(backend.fence_sql)
        row = cursor.fetchone()
    finally:
        cursor.close()
    if row is None or row[0] != tenant.epoch or row[1] not in WRITABLE:
        raise StaleRouteError(
            "the tenant was moved, retired or stopped meanwhile: nothing was written.", tenant_id=tenant.tenant_id
        )


@contextmanager
def explained(backend: Backend) -> Iterator[None]:
    """Turn a driver's error about the database's health into ours; other errors pass."""
    try:
        yield
    except DBAPIError as error:
        ours = backend.explain(error)
        if ours is None:
            raise
        raise ours from error
