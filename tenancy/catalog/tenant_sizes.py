"""Store the size of each tenant's database once a day; the newest one is also written to the tenant's own row.

The shared database has its sizes under SHARED_OWNER. Days are in UTC.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from tenancy.catalog.tables import SHARED_OWNER, shared_database, tenant_sizes, user_database_configs
from tenancy.models import Tenant

KEPT_DAYS = 90


def today() -> date:
    return datetime.now(UTC).date()


def known(connection: sa.Connection, owners: Collection[int], day: date) -> set[int]:
    """Return those of the owners whose size on that day is stored."""
    query = sa.select(tenant_sizes.c.user_id).where(tenant_sizes.c.user_id.in_(owners), tenant_sizes.c.day == day)
    return set(connection.execute(query).scalars())


def add(connection: sa.Connection, day: date, measured: list[tuple[Tenant, int]]) -> None:
    """Write the sizes of one day, and delete sizes of the same tenants older than KEPT_DAYS."""
    rows = [{"user_id": owner_of(tenant), "day": day, "size_bytes": size} for tenant, size in measured]
    connection.execute(tenant_sizes.insert(), rows)
    at = datetime.now(UTC)
    for table in (user_database_configs, shared_database):
        mine = [
            {"of": tenant.tenant_id, "size": size, "at": at}
            for tenant, size in measured
            if (tenant.user_id is None) is (table is shared_database)
        ]
        statement = table.update().where(table.c.tenant_id == sa.bindparam("of"))
        if mine:
            connection.execute(statement.values(size_bytes=sa.bindparam("size"), measured_at=sa.bindparam("at")), mine)
    old = (
        tenant_sizes.c.user_id.in_([row["user_id"] for row in rows]),
        tenant_sizes.c.day <= day - timedelta(days=KEPT_DAYS),
    )
    connection.execute(tenant_sizes.delete().where(*old))


def of_owner(connection: sa.Connection, owner: int) -> list[tuple[date, int]]:
    """List ``(day, size in bytes)``, oldest first."""
    query = sa.select(tenant_sizes.c.day, tenant_sizes.c.size_bytes).where(tenant_sizes.c.user_id == owner)
    newest = connection.execute(query.order_by(tenant_sizes.c.day.desc()).limit(KEPT_DAYS)).all()
    return [(row.day, int(row.size_bytes)) for row in reversed(newest)]


def forget(connection: sa.Connection, owner: int) -> None:
    connection.execute(tenant_sizes.delete().where(tenant_sizes.c.user_id == owner))


def owner_of(tenant: Tenant) -> int:
    return SHARED_OWNER if tenant.user_id is None else tenant.user_id
