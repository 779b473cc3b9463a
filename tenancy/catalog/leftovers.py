"""Remember databases that no tenant uses any more and that may still exist.

A row is inserted in the transaction that abandons the database and deleted after the database was removed. So no
database is forgotten if the process is killed in between or the server does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage, tenants
from tenancy.catalog.tables import leftover_databases
from tenancy.errors import TenantNotFoundError
from tenancy.models import Leftover, State, Tenant

_table = leftover_databases
_all = sa.select(*tenants.columns(_table), _table.c.id, _table.c.reason, _table.c.detail).order_by(_table.c.id)


class Reason(StrEnum):
    """List why a database is no longer used."""

    REPLACED = "replaced"
    """Its user has another database now."""

    FORGOTTEN = "forgotten"
    """An operator gave it up because its server could not be reached."""

    HALF_MADE = "half_made"
    """The attempt to create it failed; the next attempt creates another one."""

    KEPT = "kept"
    """A restore replaced it, or undoing one did; it stays until somebody asks for its removal."""


def add(connection: sa.Connection, tenant: Tenant, reason: Reason, detail: str | None = None) -> Leftover:
    """Insert a tenant's database; its sealed password is copied as it is."""
    found = {f.name: getattr(tenant, f.name) for f in fields(Tenant) if f.name != "sealed_password"}
    row = found | {"db_password": tenant.sealed_password, "state": State.ARCHIVED, "updated_at": datetime.now(UTC)}
    key = connection.execute(_table.insert(), row | {"reason": str(reason), "detail": detail}).inserted_primary_key
    place: dict[str, Any] = found | {"state": State.ARCHIVED, "sealed_password": tenant.sealed_password}
    return Leftover(**place, id=int((key or [0])[0]), reason=str(reason), detail=detail)


def of_user(connection: sa.Connection, user_id: int) -> list[Leftover]:
    """List a user's leftover databases, oldest first; damaged rows with what can be read of them."""
    return _listed(connection, _all.where(_table.c.user_id == user_id))


def page(connection: sa.Connection, after: int, most: int) -> list[Leftover]:
    """List up to ``most`` leftover databases after the id ``after``, oldest first."""
    return _listed(connection, _all.where(_table.c.id > after).limit(most))


def every(connection: sa.Connection) -> list[Leftover]:
    """List all leftover databases, oldest first."""
    return _listed(connection, _all)


def get(connection: sa.Connection, leftover_id: int) -> Leftover:
    found = _listed(connection, _all.where(_table.c.id == leftover_id))
    if not found:
        raise TenantNotFoundError(
            f"there is no leftover database {leftover_id}: "
            "`unify db leftovers` or `manager.leftovers.listed()` lists them."
        )
    return found[0]


def on_server(connection: sa.Connection, server_id: int) -> bool:
    """Return whether a server has any leftover database."""
    return (
        connection.execute(sa.select(_table.c.id).where(_table.c.server_id == server_id).limit(1)).first() is not None
    )


def failed(connection: sa.Connection, left: Leftover, message: str, code: str) -> None:
    """Record why a leftover could not be removed."""
    changes = {"last_error": message, "last_error_code": code, "updated_at": datetime.now(UTC)}
    connection.execute(_table.update().where(_table.c.id == left.id), changes)


def remove(connection: sa.Connection, left: Sequence[Leftover]) -> None:
    """Delete the rows of databases that are gone."""
    if left:
        connection.execute(_table.delete().where(_table.c.id.in_([each.id for each in left])))


def _listed(connection: sa.Connection, query: sa.Select[Any]) -> list[Leftover]:
    found = []
    for row in damage.read(connection, query, tenants.CHECKS):
        kept = tenants.listed(damage.Read(row.values[:-3], row.damaged))
        held = {f.name: getattr(kept, f.name) for f in fields(Tenant)}
        found.append(Leftover(**held, id=row.values[-3], reason=str(row.values[-2]), detail=row.values[-1]))
    return found
