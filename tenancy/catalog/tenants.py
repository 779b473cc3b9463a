"""Store tenants: where each database is, and its state.

In multi-tenant mode each user has a row in ``user_database_configs``; the database that all users share is the single
row of ``shared_database``. Both tables have the columns of ``Tenant``.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tenancy.catalog import damage
from tenancy.catalog.tables import shared_database, user_database_configs, users
from tenancy.catalog.users import no_user
from tenancy.errors import CatalogDamagedError, ClaimedError, TenantNotFoundError
from tenancy.models import State, Tenant

SHARED_ID = 1
_FIELDS = (
    "db_type",
    "state",
    "version",
    "epoch",
    "db_host",
    "db_port",
    "db_name",
    "db_user",
    "db_password",
    "db_path",
    "db_options",
    "owned",
    "is_active",
    "revision",
    "schema_fingerprint",
    "last_error",
    "last_error_code",
    "last_used_at",
    "created_at",
    "updated_at",
    "server_id",
    "origin",
    "usable_from",
)


def columns(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return the columns in the order in which ``from_row`` expects them."""
    owner: sa.ColumnElement[Any] = table.c.user_id if "user_id" in table.c else sa.null().label("user_id")
    return [table.c.tenant_id, owner, *(table.c[name] for name in _FIELDS)]


def from_row(row: Any) -> Tenant | None:
    """Build a Tenant from a row of ``columns``; None if an outer join found nothing."""
    if row[0] is None:
        return None
    try:
        if bytes in map(type, row):
            raise ValueError
        return Tenant(row[0], row[1], row[2], State(row[3]), *row[4:])
    except ValueError as error:
        raise damage.broken(f"the configuration of user {row[1]}", user_id=row[1]) from error


def listed(row: damage.Read) -> Tenant:
    """Build a Tenant from a row of a list; a damaged one is inactive and has the damage as its error."""
    if not row.damaged:
        return _present(row.values)
    tenant_id, user_id, db_type, state, *rest = row.values
    kept = Tenant(tenant_id or uuid.UUID(int=0), user_id, db_type, state, *rest, damaged=row.damaged)
    lost = f"its row in the catalog is damaged ({', '.join(row.damaged)})."
    if "state" in row.damaged:
        kept = kept.with_(state=State.FAILED)
    return kept.with_(is_active=False, last_error=lost, last_error_code=CatalogDamagedError.code)


_of_user = sa.select(*columns(user_database_configs)).where(user_database_configs.c.user_id == sa.bindparam("user_id"))
_place = users.outerjoin(user_database_configs, user_database_configs.c.user_id == users.c.id)
_of_account = (
    sa.select(*columns(user_database_configs), users.c.database_epoch)
    .select_from(_place)
    .where(users.c.id == sa.bindparam("user_id"))
)
_shared = sa.select(*columns(shared_database)).where(shared_database.c.id == SHARED_ID)
_insert = {table: table.insert() for table in (user_database_configs, shared_database)}
_update = {table: table.update().where(table.c.tenant_id == sa.bindparam("of")) for table in _insert}


_update_some = user_database_configs.update().where(
    user_database_configs.c.tenant_id.in_(sa.bindparam("of", expanding=True))
)
_all = sa.select(*columns(user_database_configs))
CHECKS = {"state": State}
"""Checks of ``damage.read`` for a tenant's row, beyond the types of its columns."""


def find(connection: sa.Connection, user_id: int) -> Tenant | None:
    row = damage.first(connection, _of_user, {"user_id": user_id})
    return None if row is None else from_row(row)


def of_account(connection: sa.Connection, user_id: int) -> Tenant | None:
    """Return an account's tenant, None if it has no database yet; raise UserNotFoundError without an account."""
    return of_account_with_epoch(connection, user_id)[0]


def of_account_with_epoch(connection: sa.Connection, user_id: int) -> tuple[Tenant | None, int]:
    """Return an account's tenant, or the epoch above which its first database must begin.

    The epoch is 0 if the account has a tenant, or if the names of earlier databases may be reused.
    """
    row = damage.first(connection, _of_account, {"user_id": user_id})
    if row is None:
        raise no_user(user_id)
    *of_tenant, epoch = row
    try:
        found = from_row(of_tenant)
        return found, int(epoch or 0) if found is None else 0
    except (ValueError, TypeError) as error:
        raise damage.broken(f"the account of user {user_id}", user_id=user_id) from error


def of_users(connection: sa.Connection, user_ids: Collection[int]) -> dict[int, Tenant]:
    """Return the tenants of the users who have one."""
    mine = _all.where(user_database_configs.c.user_id.in_(list(user_ids))).order_by(user_database_configs.c.user_id)
    rows = damage.read(connection, mine, CHECKS)
    return {row.values[1]: listed(row) for row in rows}


def get(connection: sa.Connection, user_id: int) -> Tenant:
    found = find(connection, user_id)
    if found is None:
        raise TenantNotFoundError(
            f"user {user_id} has no database: run `unify db init {user_id}` or call `manager.provision({user_id})`.",
            user_id=user_id,
        )
    return found


def shared(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> Tenant | None:
    """Return the shared database if it exists and meets the conditions."""
    row = damage.first(connection, _shared.where(*conditions) if conditions else _shared)
    return None if row is None else from_row(row)


def add(connection: sa.Connection, user_id: int | None, values: dict[str, Any]) -> Tenant:
    """Insert a tenant in state ``provisioning`` and return it; raise ClaimedError if another runner was first."""
    table, key = _table(user_id)
    row = _fresh(values)
    try:
        connection.execute(_insert[table], {**key, **row})
    except IntegrityError as error:
        raise ClaimedError(
            "this user's database is being made by another runner: wait until it ends and try again.", user_id=user_id
        ) from error
    return _of_values(user_id, row)


def add_many(connection: sa.Connection, values: Mapping[int, dict[str, Any]]) -> list[Tenant]:
    """Insert tenants of several users in state ``provisioning`` and return them; all must have the same columns."""
    rows = {user_id: _fresh(row) for user_id, row in values.items()}
    connection.execute(_insert[user_database_configs], [{"user_id": each, **row} for each, row in rows.items()])
    return [_of_values(user_id, row) for user_id, row in rows.items()]


def change(connection: sa.Connection, tenant: Tenant, **changes: Any) -> None:
    """Update columns of a tenant; a new place or password must also raise ``version``."""
    table, _ = _table(tenant.user_id)
    connection.execute(_update[table], {"of": tenant.tenant_id, **changes, "updated_at": datetime.now(UTC)})


def change_grouped(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Update tenants by their ``tenant_id``; those with the same values in one statement."""
    groups: dict[tuple[tuple[str, Any], ...], list[uuid.UUID]] = {}
    for row in rows:
        groups.setdefault(tuple(_without(row, "tenant_id").items()), []).append(row["tenant_id"])
    for values, tenant_ids in groups.items():
        change_alike(connection, tenant_ids, **dict(values))


def change_alike(connection: sa.Connection, tenant_ids: Collection[uuid.UUID], **changes: Any) -> None:
    """Update several tenants with the same values."""
    connection.execute(_update_some, {"of": list(tenant_ids), **changes, "updated_at": datetime.now(UTC)})


def remove(connection: sa.Connection, tenant: Tenant) -> None:
    table, _ = _table(tenant.user_id)
    connection.execute(table.delete().where(table.c.tenant_id == tenant.tenant_id))


def page(
    connection: sa.Connection, after: int, limit: int, conditions: list[sa.ColumnElement[bool]]
) -> list[tuple[str, Tenant]]:
    """List ``(email, tenant)`` by user id."""
    table = user_database_configs
    query = (
        sa.select(*columns(table), users.c.email)
        .join(users, users.c.id == table.c.user_id)
        .where(table.c.user_id > after, *conditions)
        .order_by(table.c.user_id)
        .limit(limit)
    )
    rows = damage.read(connection, query, CHECKS)
    return [(row.values[-1], listed(damage.Read(row.values[:-1], row.damaged))) for row in rows]


def count(connection: sa.Connection, conditions: list[sa.ColumnElement[bool]]) -> int:
    """Count what ``page`` lists."""
    query = sa.select(sa.func.count()).select_from(user_database_configs).where(*conditions)
    return int(connection.execute(query).scalar_one())


def every(connection: sa.Connection) -> Iterator[Tenant]:
    """Yield all tenants in the order in which they were made."""
    query = _all.add_columns(user_database_configs.c.id)
    for row in damage.pages(connection, query, user_database_configs.c.id, CHECKS):
        yield listed(damage.Read(row.values[:-1], row.damaged))


def measured(connection: sa.Connection) -> Iterator[tuple[Tenant, int | None, datetime | None]]:
    """Yield all tenants, each with its last measured size and the time of that."""
    table = user_database_configs
    query = _all.add_columns(table.c.size_bytes, table.c.measured_at, table.c.id)
    for row in damage.pages(connection, query, table.c.id, CHECKS):
        *place, size, at, _ = row.values
        yield listed(damage.Read(place, row.damaged)), size, at


def shared_listed(connection: sa.Connection) -> list[Tenant]:
    """Return a list with the shared database, or an empty one."""
    return [listed(row) for row in damage.read(connection, _shared, CHECKS)]


def shared_measured(connection: sa.Connection) -> Iterator[tuple[Tenant, int | None, datetime | None]]:
    """Yield the shared database as ``measured`` does, if it exists."""
    sizes = sa.select(shared_database.c.size_bytes, shared_database.c.measured_at)
    tenant = shared(connection)
    row = damage.first(connection, sizes.where(shared_database.c.id == SHARED_ID)) if tenant else None
    if tenant and row:
        yield tenant, row.size_bytes, row.measured_at


def users_without(connection: sa.Connection) -> list[int]:
    """List active users who have no database."""
    table = user_database_configs
    query = (
        sa.select(users.c.id)
        .outerjoin(table, table.c.user_id == users.c.id)
        .where(table.c.id.is_(None), users.c.is_active)
        .order_by(users.c.id)
    )
    return list(connection.execute(query).scalars())


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _fresh(values: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.now(UTC)
    return {
        "state": State.PROVISIONING,
        "version": 1,
        "epoch": 1,
        "owned": True,
        "is_active": True,
        "created_at": moment,
        "updated_at": moment,
        **values,
    }


def _of_values(user_id: int | None, row: dict[str, Any]) -> Tenant:
    sealed = row.pop("db_password", None)
    return Tenant(user_id=user_id, sealed_password=sealed, **row)


def _present(row: Any) -> Tenant:
    found = from_row(row)
    assert found is not None  # noqa: S101 - tenant_id is NOT NULL and no outer join is involved
    return found


def _table(user_id: int | None) -> tuple[sa.Table, dict[str, Any]]:
    return (shared_database, {"id": SHARED_ID}) if user_id is None else (user_database_configs, {"user_id": user_id})
