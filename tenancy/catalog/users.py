"""Read and write accounts, which are unique by the folded e-mail address; ids are never reused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tenancy import names
from tenancy.catalog import damage
from tenancy.catalog.tables import users
from tenancy.errors import LastAdministratorError, UserExistsError, UserNotFoundError
from tenancy.models import User
from tenancy.types import looked_in

_WHERE_ALL_ARE = "`unify users list` or `Accounts.list()` lists all users."


class FollowsIds(Protocol):
    """Keep the numbers that a database gives out above those that were inserted; each backend does."""

    def follow_ids(self, connection: sa.Connection, table: sa.Table) -> None: ...


COLUMNS = (
    users.c.id,
    users.c.email,
    users.c.display_name,
    users.c.is_admin,
    users.c.is_active,
    users.c.created_at,
    users.c.last_seen_at,
    users.c.preferences,
)
"""The columns of ``User``, in the order of its fields."""

_by_id = sa.select(*COLUMNS).where(users.c.id == sa.bindparam("id"))
_had_some = sa.select(users.c.id).where(
    users.c.id.in_(sa.bindparam("ids", expanding=True)), users.c.database_epoch.is_not(None)
)
_keep_epoch = users.update().where(users.c.id == sa.bindparam("of"))


_others = users.alias("others")
# MySQL refuses to read the table that it updates, unless in a derived table that it materializes: hence the LIMIT.
_administer = (
    sa.select(_others.c.id)
    .where(_others.c.is_admin, _others.c.is_active, _others.c.id != sa.bindparam("of"))
    .limit(1)
    .subquery("administer")
)
_another_administers = sa.exists(sa.select(_administer.c.id))


def add(connection: sa.Connection, email: str, display_name: str, password_hash: str | None, is_admin: bool) -> User:
    """Insert an account, or raise UserExistsError if the address is taken."""
    moment = datetime.now(UTC)
    row = {
        "email": email,
        "email_key": names.fold(email),
        "display_name": display_name,
        "password_hash": password_hash,
        "is_admin": is_admin,
        "is_active": True,
        "created_at": moment,
        "updated_at": moment,
    }
    try:
        key = connection.execute(users.insert(), row).inserted_primary_key
    except IntegrityError as error:
        raise UserExistsError("an account with this address already exists.", field="email") from error
    assert key is not None  # noqa: S101 - an INSERT of one row into a table with a serial key gives it
    return User(int(key[0]), email, display_name, is_admin, True, moment)


def skip_ids(connection: sa.Connection, backend: FollowsIds, last: int) -> None:
    """Never give out an id up to ``last``: an account that has it is inserted and deleted again."""
    highest = connection.execute(sa.select(sa.func.max(users.c.id))).scalar_one() or 0
    if highest >= last:
        return
    moment = datetime.now(UTC)
    blank = {"id": last, "email": "", "email_key": f" {last}", "display_name": "", "is_active": False}
    connection.execute(users.insert(), blank | {"is_admin": False, "created_at": moment, "updated_at": moment})
    backend.follow_ids(connection, users)
    connection.execute(users.delete().where(users.c.id == last))


def get(connection: sa.Connection, user_id: int) -> User:
    row = connection.execute(_by_id, {"id": user_id}).first()
    if row is None:
        raise no_user(user_id)
    return User(*row)


def with_earlier_databases(connection: sa.Connection, user_ids: Collection[int]) -> set[int]:
    """Return those of the users who have a ``database_epoch``: a late runner may still remove an earlier database."""
    return set(connection.execute(_had_some, {"ids": list(user_ids)}).scalars())


def keep_database_epoch(connection: sa.Connection, user_id: int, epoch: int) -> None:
    """Make a user's next database begin above this epoch, and so have a name that was never in use.

    Used after an operation was interrupted: if its runner continues late and removes the database under the old name,
    no other database must have that name by then.
    """
    connection.execute(_keep_epoch, {"of": user_id, "database_epoch": epoch})


def no_user(user_id: int) -> UserNotFoundError:
    return UserNotFoundError(f"there is no user {user_id}: {_WHERE_ALL_ARE}", user_id=user_id)


def by_email(connection: sa.Connection, email: str) -> User:
    query = sa.select(*COLUMNS).where(users.c.email_key == names.fold(email))
    row = connection.execute(query).first() if names.is_storable(email) else None
    if row is None:
        raise UserNotFoundError(f"there is no user with this address: {_WHERE_ALL_ARE}")
    return User(*row)


def secret_of(connection: sa.Connection, email: str) -> tuple[User, str | None] | None:
    """Return an account with its password hash, which only signing in needs."""
    if not names.is_storable(email):
        return None
    query = sa.select(*COLUMNS, users.c.password_hash).where(users.c.email_key == names.fold(email))
    row = connection.execute(query).first()
    return None if row is None else (User(*row[:-1]), row[-1])


def hold(connection: sa.Connection, user_id: int) -> tuple[str | None, bool]:
    """Lock an account until the transaction ends; return its password hash and whether it is active."""
    query = sa.select(users.c.password_hash, users.c.is_active).where(users.c.id == user_id)
    row = connection.execute(query.with_for_update()).one()
    return row[0], bool(row[1])


def held_preferences(connection: sa.Connection, user_id: int) -> User:
    """Lock an account until the transaction ends, to change its preferences."""
    row = connection.execute(_by_id.with_for_update(), {"id": user_id}).first()
    if row is None:
        raise no_user(user_id)
    return User(*row)


def hash_of(connection: sa.Connection, user_id: int) -> str | None:
    hashed: str | None = connection.execute(sa.select(users.c.password_hash).where(users.c.id == user_id)).scalar_one()
    return hashed


def change(connection: sa.Connection, user_id: int, **changes: Any) -> User:
    """Update an account's columns and return the changed account."""
    values = {**changes, "updated_at": datetime.now(UTC)}
    connection.execute(users.update().where(users.c.id == user_id), values)
    return get(connection, user_id)


def change_unless_last(connection: sa.Connection, user_id: int, **changes: Any) -> User:
    """Update an account that stops being an administrator, or raise LastAdministratorError if no other one is left.

    The caller has locked the audit log's head, so two administrators who demote each other at once take turns.
    """
    values = {**changes, "updated_at": datetime.now(UTC)}
    kept = sa.or_(~users.c.is_admin, ~users.c.is_active, _another_administers)
    mine = users.update().where(users.c.id == sa.bindparam("of"), kept)
    if connection.execute(mine, {"of": user_id, **values}).rowcount == 1:
        return get(connection, user_id)
    raise LastAdministratorError(
        f"account {user_id} is the only active administrator: make another account an administrator first "
        "(`unify users promote`, or `Accounts.promote()`); --force (`force=True`) overrides this.",
        user_id=user_id,
    )


def page(connection: sa.Connection, after: int, limit: int, query: str | None) -> list[User]:
    """List accounts by id; with ``query`` only those whose address or name contains it."""
    statement = sa.select(*COLUMNS).where(users.c.id > after).order_by(users.c.id).limit(limit)
    if query:
        statement = statement.where(matches(query))
    return [User(*row.values) for row in damage.read(connection, statement)]


def addresses(connection: sa.Connection, user_ids: Collection[int]) -> dict[int, str]:
    """Return the e-mail addresses of accounts by id, without those that do not exist."""
    if not user_ids:
        return {}
    query = sa.select(users.c.id, users.c.email).where(users.c.id.in_(sorted(user_ids))).order_by(users.c.id)
    return {row.values[0]: row.values[1] for row in damage.read(connection, query)}


def matches(query: str) -> sa.ColumnElement[bool]:
    """Return the condition that an account's address or name contains ``query``."""
    names.storable(query, "query")
    return sa.or_(
        looked_in(users.c.email_key, users.c.email).contains(names.fold(query), autoescape=True),
        sa.func.lower(users.c.display_name).contains(query.lower(), autoescape=True),
    )


def count(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(users)).scalar_one())


def any_there(connection: sa.Connection) -> bool:
    return connection.execute(sa.select(users.c.id).limit(1)).first() is not None
