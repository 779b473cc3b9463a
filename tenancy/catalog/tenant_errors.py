"""Store errors of tenants' databases: one row for each tenant and code, with first and last time and a count.

Errors of the shared database are stored under SHARED_OWNER.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage
from tenancy.catalog.tables import tenant_errors

KEPT_DAYS = 90


@dataclass
class TenantErrorEntry:
    """Collect how often an error happened, and when, before it is written."""

    message: str
    first_at: datetime
    last_at: datetime
    request_id: str | None = None
    count: int = 1


_mine = (tenant_errors.c.user_id == sa.bindparam("of"), tenant_errors.c.code == sa.bindparam("what"))
_again = (
    tenant_errors.update()
    .where(*_mine)
    .values(
        message=sa.bindparam("text"),
        last_at=sa.bindparam("at"),
        count=tenant_errors.c.count + sa.bindparam("more"),
        request_id=sa.bindparam("request"),
    )
)


def add(connection: sa.Connection, noted: Mapping[tuple[int, str], TenantErrorEntry]) -> None:
    """Write collected errors, whose keys are (owner, code)."""
    owners = sa.select(tenant_errors.c.user_id, tenant_errors.c.code).where(
        tenant_errors.c.user_id.in_({owner for owner, _ in noted})
    )
    there = {(row.user_id, row.code) for row in connection.execute(owners)}
    again = [
        {"of": key[0], "what": key[1], "text": t.message, "at": t.last_at, "more": t.count, "request": t.request_id}
        for key, t in noted.items()
        if key in there
    ]
    first = [{"user_id": key[0], "code": key[1], **vars(entry)} for key, entry in noted.items() if key not in there]
    if again:
        connection.execute(_again, again)
    if first:
        connection.execute(tenant_errors.insert(), first)


def of_owner(connection: sa.Connection, owner: int) -> list[dict[str, Any]]:
    """List a tenant's errors, newest first."""
    query = sa.select(tenant_errors).where(tenant_errors.c.user_id == owner)
    rows = damage.dicts(connection, query.order_by(tenant_errors.c.last_at.desc(), tenant_errors.c.code))
    return [{name: value for name, value in row.items() if name != "user_id"} for row in rows]


def purge(connection: sa.Connection) -> None:
    """Delete errors that have not happened for KEPT_DAYS."""
    before = datetime.now(UTC) - timedelta(days=KEPT_DAYS)
    connection.execute(tenant_errors.delete().where(tenant_errors.c.last_at < before))


def forget(connection: sa.Connection, owner: int) -> None:
    connection.execute(tenant_errors.delete().where(tenant_errors.c.user_id == owner))
