"""Store the databases that are kept ready on servers for future users.

A row is inserted before its database is created and deleted after it is dropped. When a user takes a database, its row
is deleted in the transaction that makes it the user's.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage, tenants
from tenancy.catalog.tables import pending_databases
from tenancy.models import Pending, State, Tenant

_table = pending_databases
_TRIES = 16
_all = sa.select(*tenants.columns(_table), _table.c.id).order_by(_table.c.id)
_of_server = _all.where(_table.c.server_id == sa.bindparam("server_id"))
_oldest_ready = _of_server.where(
    _table.c.state == str(State.READY), _table.c.schema_fingerprint == sa.bindparam("fingerprint")
).limit(1)
_take = _table.delete().where(_table.c.tenant_id == sa.bindparam("of"), _table.c.state == str(State.READY))
_insert = _table.insert()


def add(connection: sa.Connection, values: dict[str, Any]) -> Pending:
    """Insert and return a database that is about to be created, in state ``provisioning``."""
    moment = datetime.now(UTC)
    shared = {"state": State.PROVISIONING, "version": 1, "epoch": 1, "owned": True, "is_active": True}
    row = {**shared, "created_at": moment, "updated_at": moment, **values}
    result = connection.execute(_insert, row)
    sealed = row.pop("db_password", None)
    return Pending(user_id=None, sealed_password=sealed, id=int((result.inserted_primary_key or [0])[0]), **row)


def take(connection: sa.Connection, server_id: int, fingerprint: str) -> Pending | None:
    """Take the oldest ready database of this schema on a server, in the caller's transaction; None without one.

    Of several callers who found the same row, the one whose DELETE removes it has it; the others look again.
    """
    asked = {"server_id": server_id, "fingerprint": fingerprint}
    for _ in range(_TRIES):
        found = damage.read(connection, _oldest_ready.params(asked), tenants.CHECKS)
        if not found:
            return None
        if found[0].damaged:  # marked as failed, so that the next look does not find it
            spoilt = _table.c.id == found[0].values[-1]
            connection.execute(_table.update().where(spoilt), {"state": str(State.FAILED)})
        elif connection.execute(_take, {"of": found[0].values[0]}).rowcount == 1:
            return _pending(found[0])
    return None


def of_server(connection: sa.Connection, server_id: int) -> list[Pending]:
    """List a server's pending databases, oldest first, except those whose row is damaged."""
    rows = damage.read(connection, _of_server.params(server_id=server_id), tenants.CHECKS)
    return [_pending(row) for row in rows if not row.damaged]


def every(connection: sa.Connection) -> list[Pending]:
    """List all pending databases, oldest first."""
    return [_pending(row) for row in damage.read(connection, _all, tenants.CHECKS)]


def change(connection: sa.Connection, pending: Tenant, **changes: Any) -> bool:
    """Update a row if it is still in the state of ``pending``; return whether it was."""
    mine = (_table.c.tenant_id == pending.tenant_id, _table.c.state == str(pending.state))
    changed = connection.execute(_table.update().where(*mine), {**changes, "updated_at": datetime.now(UTC)})
    return changed.rowcount == 1


def remove(connection: sa.Connection, tenant_id: uuid.UUID) -> None:
    connection.execute(_table.delete().where(_table.c.tenant_id == tenant_id))


def _pending(row: damage.Read) -> Pending:
    *place, key = row.values
    found = tenants.listed(damage.Read(place, row.damaged))
    return Pending(**vars(found), id=key)
