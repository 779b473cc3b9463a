"""Store sessions by the hash of their token, and look up in one statement whose a token or key is.

That statement also reads the account and its tenant. It runs on every request, so a change to any of them takes effect
on the next request in every process.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import Catalog, damage, tenants
from tenancy.catalog.tables import api_keys, sessions, shared_database, user_database_configs, users
from tenancy.catalog.users import COLUMNS
from tenancy.errors import SessionNotFoundError
from tenancy.models import Principal, User

_USER_END = len(COLUMNS)


def new_token() -> str:
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Hash a token or key for storage; they are random, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _query(source: sa.Table, multi_tenant: bool, *extra: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Join a session or key to its account and to the tenant."""
    table = user_database_configs if multi_tenant else shared_database
    # The one shared row belongs to everybody. The always true comparison of ids joins it, or SQLAlchemy's linter
    # would warn of a cartesian product.
    shared = sa.and_(table.c.id == tenants.SHARED_ID, table.c.id <= users.c.id)
    place = table.c.user_id == users.c.id if multi_tenant else shared
    joined = source.join(users, users.c.id == source.c.user_id).outerjoin(table, place)
    return sa.select(*COLUMNS, *tenants.columns(table), *extra).select_from(joined).where(users.c.is_active)


_by_token = {
    mode: _query(sessions, mode).where(
        sessions.c.token_hash == sa.bindparam("hash"), sessions.c.expires_at > sa.bindparam("now")
    )
    for mode in (True, False)
}
_by_key = {
    mode: _query(api_keys, mode, api_keys.c.id, api_keys.c.read_only).where(
        api_keys.c.key_hash == sa.bindparam("hash"),
        api_keys.c.purpose == sa.bindparam("purpose"),
        ~api_keys.c.held,
        sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > sa.bindparam("now")),
    )
    for mode in (True, False)
}


def principal_by_token(catalog: Catalog, token: str) -> Principal | None:
    """Return whose session a token is; None if it is unknown, ended or expired, or the account is inactive."""
    hashed = token_hash(token)
    with catalog.reading() as connection:
        asked = {"hash": hashed, "now": datetime.now(UTC)}
        row = damage.first(connection, _by_token[catalog.multi_tenant], asked)
    if row is None:
        return None
    return Principal(User(*row[:_USER_END]), tenants.from_row(row[_USER_END:]), session_hash=hashed)


def principal_by_key(catalog: Catalog, key: str, purpose: str = "api") -> Principal | None:
    """Return whose key this is; None if it is unknown, of another purpose, held or expired.

    None also if the account is inactive.
    """
    asked = {"hash": token_hash(key), "now": datetime.now(UTC), "purpose": purpose}
    with catalog.reading() as connection:
        row = damage.first(connection, _by_key[catalog.multi_tenant], asked)
    if row is None:
        return None
    tenant = tenants.from_row(row[_USER_END:-2])
    return Principal(User(*row[:_USER_END]), tenant, key_id=row[-2], read_only=bool(row[-1]))


def add(connection: sa.Connection, user_id: int, token: str, expires_at: datetime, about: dict[str, str]) -> None:
    """Store a session; ``about`` has ``user_agent`` and ``address``, which its owner sees in a list."""
    moment = datetime.now(UTC)
    values = {"created_at": moment, "last_seen_at": moment, "expires_at": expires_at, "user_id": user_id}
    connection.execute(sessions.insert(), {"token_hash": token_hash(token), **values, **about})


def of_user(connection: sa.Connection, user_id: int) -> list[dict[str, Any]]:
    """List a user's sessions, newest first; ``id`` is the beginning of the stored hash."""
    query = sa.select(sessions).where(sessions.c.user_id == user_id, sessions.c.expires_at > datetime.now(UTC))
    rows = damage.dicts(connection, query.order_by(sessions.c.created_at.desc()))
    shown = ("created_at", "expires_at", "last_seen_at", "user_agent", "address", "token_hash")
    return [{name: row[name] for name in shown} | {"id": row["token_hash"][:12]} for row in rows]


def end(connection: sa.Connection, token: str) -> int:
    return connection.execute(sessions.delete().where(sessions.c.token_hash == token_hash(token))).rowcount


def end_one(connection: sa.Connection, user_id: int, hashed: str) -> None:
    """End one of a user's sessions by the hash of its token, or raise SessionNotFoundError."""
    mine = (sessions.c.token_hash == hashed, sessions.c.user_id == user_id)
    if connection.execute(sessions.delete().where(*mine)).rowcount != 1:
        raise SessionNotFoundError("there is no such session any more.")


def end_all(connection: sa.Connection, user_id: int, keep_token: str | None = None) -> int:
    """End a user's sessions, except the one with ``keep_token``; return how many ended."""
    condition = sessions.c.user_id == user_id
    if keep_token is not None:
        condition &= sessions.c.token_hash != token_hash(keep_token)
    return connection.execute(sessions.delete().where(condition)).rowcount


def purge(connection: sa.Connection) -> int:
    """Delete sessions that have expired."""
    return connection.execute(sessions.delete().where(sessions.c.expires_at <= datetime.now(UTC))).rowcount
