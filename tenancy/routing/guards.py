"""Check that a database belongs to the tenant and that writes are allowed, and translate errors.

Every new connection of a tenant's engine passes ``check_identity``, every transaction passes ``begin``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import IDENTITY_SQL, WHOSE_SQL, Backend
from tenancy.backends.gates import Gated
from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.errors import (
    PREPARE_CATALOG,
    DatabaseUnreachableError,
    IdentityError,
    RevisionMismatchError,
    StaleRouteError,
    TenancyError,
)
from tenancy.models import WRITABLE, Kind, State, Tenant
from tenancy.schema.identity import OLDER, legible
from tenancy.schema.tables import tenancy_identity

_NEWER = (
    "an operation has changed the database since the catalog was read: try again. If that does not help, the catalog "
    "is older than the database: restore its newest copy."
)


class Occupant(Enum):
    """List what may be found at the place of a tenant's database."""

    EMPTY = "empty"
    HALF = "half-made"
    OURS = "this tenant's"
    WAITING = "this tenant's, and not handed over yet"
    FOREIGN = "somebody else's"


def check_identity(backend: Backend, tenant: Tenant, driver: Any, head: str | None, *, or_later: bool = False) -> None:
    """Compare a new connection's database with the tenant in the catalog: owner, epoch and revision.

    ``head`` is the expected revision; None skips that check, for callers that migrate or inspect. ``or_later`` accepts
    a higher epoch.
    """
    cursor = driver.cursor()
    try:
        cursor.execute(IDENTITY_SQL if head is not None else WHOSE_SQL)
        rows = cursor.fetchall()
    except Exception as error:
        raise backend.explain(error) or IdentityError(
            "the database has no identity row: it was not created by Unify.", tenant_id=tenant.tenant_id
        ) from error
    finally:
        cursor.close()
    if len(rows) != 1:
        raise IdentityError("the database's identity row or revision is missing.", tenant_id=tenant.tenant_id)
    with legible(tenant):
        _compare(tenant, rows[0], head, or_later=or_later)


def _compare(tenant: Tenant, row: Sequence[Any], head: str | None, *, or_later: bool) -> None:
    tenant_id, user_id, kind, epoch, revision = row
    # A pending database that was taken for this user has no owner in its identity row yet.
    waiting = user_id is None and tenant.revision is None
    owner = tenant.user_id if waiting else user_id
    if (uuid.UUID(str(tenant_id)), owner, kind) != (tenant.tenant_id, tenant.user_id, tenant.kind):
        raise IdentityError(
            f"the database configured for user {tenant.user_id} belongs to another tenant.", tenant_id=tenant.tenant_id
        )
    if epoch != tenant.epoch and not (or_later and epoch > tenant.epoch):
        raise StaleRouteError(OLDER if epoch < tenant.epoch else _NEWER, tenant_id=tenant.tenant_id)
    if head is not None and revision != head:
        raise revision_mismatch(tenant, revision, head)


def check_whose(backend: Backend, tenant: Tenant, driver: Any) -> None:
    """Check the owner only; an operation that was cut off may have raised the epoch already."""
    check_identity(backend, tenant, driver, None, or_later=True)


def inspect_occupant(tenant: Tenant, connection: sa.Connection) -> Occupant:
    """Look whose database is at the place of a tenant's."""
    tables = set(sa.inspect(connection).get_table_names())
    if not tables:
        return Occupant.EMPTY
    if tenancy_identity.name not in tables or CATALOG_VERSION_TABLE in tables:
        return Occupant.FOREIGN
    with legible(tenant):
        row = connection.execute(sa.select(tenancy_identity.c.tenant_id, tenancy_identity.c.user_id)).first()
    connection.rollback()
    if row is None:
        return Occupant.HALF
    if row.tenant_id != tenant.tenant_id:
        return Occupant.FOREIGN
    return Occupant.WAITING if row.user_id is None else Occupant.OURS


def revision_mismatch(tenant: Tenant, revision: str | None, head: str) -> RevisionMismatchError:
    """Build the error for a tenant whose revision the code does not serve; it says what to do."""
    whose = "the shared database" if tenant.user_id is None else f"the database of user {tenant.user_id}"
    cure = f"run `unify db init {tenant.user_id}` or call `manager.provision({tenant.user_id})`"
    if tenant.user_id is None:
        cure = PREPARE_CATALOG
    return RevisionMismatchError(
        f"{whose} is at revision {revision}, the application needs {head}: {cure}, "
        "or start the version of the application that created it.",
        tenant_id=tenant.tenant_id,
        revision=revision,
        head_revision=head,
    )


def way_on(tenant: Tenant) -> str:
    """Return how a tenant in an unusable state becomes usable again, or else its last error."""
    if tenant.state is State.SUSPENDED and tenant.user_id is not None:
        return (
            f"nothing is lost, and an operator can resume it: `unify db resume {tenant.user_id}` or "
            f"`manager.resume({tenant.user_id})`."
        )
    if tenant.state is State.ARCHIVED and tenant.user_id is not None:
        return (
            f"an operator can finish deleting it: `unify db delete {tenant.user_id}` or "
            f"`manager.delete_user_database({tenant.user_id})`."
        )
    return tenant.last_error or "try again later."


def begin(backend: Backend, tenant: Tenant, connection: sa.Connection) -> None:
    """Begin a transaction; unless it is marked as reading only, it must pass the fence.

    The fence is a lock held until the transaction ends. AUTOCOMMIT has no transaction, so writes are refused there.
    """
    options = connection.get_execution_options()
    write = options.get("tenancy_write", True)
    try:
        if str(options.get("isolation_level")).upper() == "AUTOCOMMIT":
            return backend.read_singly(connection)
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
    driver: Any = connection.connection.dbapi_connection
    if isinstance(driver, Gated):
        driver.begun()


def pass_fence(backend: Backend, tenant: Tenant, connection: sa.Connection) -> None:
    """Read epoch and state of the identity row under a shared lock; raise StaleRouteError if they changed."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(backend.fence_sql)
        row = cursor.fetchone()
    finally:
        cursor.close()
    if row is None or row[0] != tenant.epoch or row[1] not in WRITABLE:
        raise StaleRouteError(
            "the tenant was moved, retired or stopped in the meantime: nothing was written.", tenant_id=tenant.tenant_id
        )


@contextmanager
def explained(backend: Backend) -> Iterator[None]:
    """Translate errors of the driver and of SQLAlchemy into ours."""
    with backend.explained():
        yield
