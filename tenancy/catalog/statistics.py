"""Count accounts, databases by state, type and revision, sizes and growth, reading indexes only.

Days are in UTC.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage
from tenancy.catalog.tables import shared_database, tenant_errors, user_database_configs, users
from tenancy.catalog.tenant_sizes import today

GROWTH_DAYS = 84
ACTIVE_DAYS = (1, 7, 30)
_NAMED = 10

_accounts = sa.select(users.c.is_active, users.c.is_admin, sa.func.count()).group_by(
    users.c.is_active, users.c.is_admin
)


def _ranges() -> sa.CompoundSelect[Any]:
    """Count accounts made on each day and seen since each time, each count as one range of an index.

    GROUP BY the date would read every row, and products differ in how a date is taken from a timestamp.
    """
    made = [
        sa.select(sa.literal(f"made {n}"), sa.func.count()).where(
            users.c.created_at >= sa.bindparam(f"day{n}"), users.c.created_at < sa.bindparam(f"day{n + 1}")
        )
        for n in range(GROWTH_DAYS)
    ]
    seen = [
        sa.select(sa.literal(f"seen {n}"), sa.func.count()).where(users.c.last_seen_at >= sa.bindparam(f"since{n}"))
        for n in ACTIVE_DAYS
    ]
    return sa.union_all(*made, *seen)


_in_ranges = _ranges()


def accounts(connection: sa.Connection) -> dict[str, int]:
    """Count all accounts, administrators and deactivated accounts."""
    groups = connection.execute(_accounts).all()
    return {
        "accounts": sum(count for _, _, count in groups),
        "administrators": sum(count for _, is_admin, count in groups if is_admin),
        "deactivated": sum(count for is_active, _, count in groups if not is_active),
    }


def databases(connection: sa.Connection, *, multi_tenant: bool, head: str) -> dict[str, Any]:
    """Count databases by state, type and revision, and those that are not at revision ``head``."""
    table = user_database_configs if multi_tenant else shared_database
    how = (table.c.state, table.c.db_type, table.c.revision)
    groups = connection.execute(sa.select(*how, sa.func.count()).group_by(*how)).all()
    return {
        "databases": sum(count for *_, count in groups),
        "behind": sum(count for *_, revision, count in groups if revision != head),
        "by_state": _summed((state, count) for state, _, _, count in groups),
        "by_type": _summed((db_type, count) for _, db_type, _, count in groups),
        "by_revision": _summed((revision or "", count) for _, _, revision, count in groups),
    }


def sizes(connection: sa.Connection, *, multi_tenant: bool) -> dict[str, int]:
    """Add up the databases' newest sizes; ``measured`` counts those whose size is known."""
    table = user_database_configs if multi_tenant else shared_database
    known = sa.select(sa.func.count(table.c.size_bytes), sa.func.sum(table.c.size_bytes))
    measured, total = connection.execute(known).one()
    return {"measured": int(measured), "total_size_bytes": int(total or 0)}


def movement(connection: sa.Connection) -> dict[str, Any]:
    """Return ``growth``, [(day, accounts made)] oldest first, and ``active``, {days: accounts seen within them}."""
    first = today() - timedelta(days=GROWTH_DAYS - 1)
    days = [first + timedelta(days=n) for n in range(GROWTH_DAYS + 1)]
    now = datetime.now(UTC)
    asked: dict[str, datetime] = {f"day{n}": _midnight(day) for n, day in enumerate(days)}
    asked |= {f"since{n}": now - timedelta(days=n) for n in ACTIVE_DAYS}
    found: dict[str, int] = {str(what): int(count) for what, count in connection.execute(_in_ranges, asked)}
    return {
        "growth": [(day, found[f"made {n}"]) for n, day in enumerate(days[:-1])],
        "active": {n: found[f"seen {n}"] for n in ACTIVE_DAYS},
    }


def largest(connection: sa.Connection) -> list[tuple[int, str, int]]:
    """List the largest databases, as (user id, address, bytes)."""
    table = user_database_configs
    query = (
        sa.select(users.c.id, users.c.email, table.c.size_bytes)
        .join_from(table, users, users.c.id == table.c.user_id)
        .where(table.c.size_bytes.is_not(None))
        .order_by(table.c.size_bytes.desc(), table.c.user_id.desc())
    )
    rows = damage.read(connection, query.limit(_NAMED))
    return [(user_id, email, int(size or 0)) for user_id, email, size in (row.values for row in rows)]


def troubled(connection: sa.Connection) -> list[tuple[int | None, str | None, str, datetime]]:
    """List the databases with the latest errors, as (user id, address, code, when); the shared one has no user."""
    table = tenant_errors
    query = (
        sa.select(users.c.id, users.c.email, table.c.code, table.c.last_at)
        .join_from(table, users, users.c.id == table.c.user_id, isouter=True)
        .order_by(table.c.last_at.desc())
    )
    found: dict[int | None, tuple[int | None, str | None, str, datetime]] = {}
    for row in damage.read(connection, query.limit(_NAMED * 5)):  # a database has a row for each code
        user_id, email, code, at = row.values
        found.setdefault(user_id, (user_id, email, code, at))
    return list(found.values())[:_NAMED]


def _summed(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, count in counts:
        total[name] += count
    return dict(total)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
