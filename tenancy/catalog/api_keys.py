"""Store API keys, of which only the hash and the first characters are kept."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage
from tenancy.catalog.sessions import token_hash
from tenancy.catalog.tables import api_keys, users
from tenancy.errors import KeyNotFoundError
from tenancy.types import new_id

PREFIXES = {"api": "unify_", "calendar": "unifycal_"}
"""The first characters of a key by its purpose; a key is accepted for its own purpose only."""

_SHOWN = 6
_PUBLIC = (
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.prefix,
    api_keys.c.read_only,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.last_used_at,
    api_keys.c.held,
)


def add(
    connection: sa.Connection,
    user_id: int,
    name: str,
    read_only: bool,
    expires_at: datetime | None,
    *,
    purpose: str = "api",
) -> tuple[dict[str, Any], str]:
    """Make a key; return its public row and the key itself, which is not stored."""
    prefix = PREFIXES[purpose]
    key = prefix + secrets.token_urlsafe(32)
    row = {
        "id": new_id(),
        "name": name,
        "prefix": key[: len(prefix) + _SHOWN],
        "read_only": read_only,
        "created_at": datetime.now(UTC),
        "expires_at": expires_at,
        "held": False,
    }
    hidden = {"user_id": user_id, "key_hash": token_hash(key), "purpose": purpose}
    connection.execute(api_keys.insert(), {**row, **hidden})
    return row | {"last_used_at": None}, key


def of_user(connection: sa.Connection, user_id: int, purpose: str = "api") -> list[dict[str, Any]]:
    """List a user's keys for one purpose, oldest first, without their hashes."""
    query = sa.select(*_PUBLIC).where(api_keys.c.user_id == user_id, api_keys.c.purpose == purpose)
    return damage.dicts(connection, query.order_by(api_keys.c.created_at, api_keys.c.id))


def get(connection: sa.Connection, user_id: int, key_id: uuid.UUID, purpose: str = "api") -> dict[str, Any]:
    mine = (api_keys.c.user_id == user_id, api_keys.c.id == key_id, api_keys.c.purpose == purpose)
    row = connection.execute(sa.select(*_PUBLIC).where(*mine)).mappings().first()
    if row is None:
        raise _missing()
    return dict(row)


def remove(connection: sa.Connection, key_id: uuid.UUID, user_id: int | None = None) -> int:
    """Delete a key, of ``user_id`` or (None) of anybody; return whose it was."""
    condition = api_keys.c.id == key_id
    if user_id is not None:
        condition &= api_keys.c.user_id == user_id
    owner = connection.execute(sa.select(api_keys.c.user_id).where(condition)).scalar()
    if owner is None:
        raise _missing()
    connection.execute(api_keys.delete().where(condition))
    return int(owner)


def hold_all(connection: sa.Connection) -> int:
    """Let no key give access until it is confirmed, whatever its purpose; return how many there are."""
    return connection.execute(api_keys.update().values(held=True)).rowcount


def held(connection: sa.Connection) -> list[dict[str, Any]]:
    """List the keys of all users that are held, with ``user_id``, ``email`` and ``purpose``."""
    query = sa.select(*_PUBLIC, api_keys.c.purpose, api_keys.c.user_id, users.c.email)
    owned = query.join(users, users.c.id == api_keys.c.user_id).where(api_keys.c.held)
    return damage.dicts(connection, owned.order_by(api_keys.c.user_id, api_keys.c.created_at, api_keys.c.id))


def confirm(connection: sa.Connection, *, user_id: int | None = None, key_id: uuid.UUID | None = None) -> int:
    """Let held keys give access again, of a user, one key, or all; return how many there were."""
    wanted = {api_keys.c.user_id: user_id, api_keys.c.id: key_id}
    conditions = [column == value for column, value in wanted.items() if value is not None]
    return connection.execute(api_keys.update().where(api_keys.c.held, *conditions).values(held=False)).rowcount


def owner(connection: sa.Connection, key_id: uuid.UUID) -> int:
    """Return whose key this is, or raise KeyNotFoundError."""
    found = connection.execute(sa.select(api_keys.c.user_id).where(api_keys.c.id == key_id)).scalar()
    if found is None:
        raise _missing()
    return int(found)


def _missing() -> KeyNotFoundError:
    return KeyNotFoundError(
        "there is no such key: `unify keys list --user E` or `Accounts.keys()` lists the user's keys."
    )
