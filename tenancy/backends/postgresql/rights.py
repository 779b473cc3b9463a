"""Say who may enter a PostgreSQL database, and empty it of sessions, with the rights of a login that is no superuser.

A database is closed by ``CONNECTION LIMIT 0``, which keeps everybody out but superusers. ``ALLOW_CONNECTIONS false``
would keep those out too, but `pg_upgrade` refuses a server on which such a database is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from psycopg2 import errors

from tenancy import names
from tenancy.backends.server.sql import column, one, run
from tenancy.errors import AccessDeniedError
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_tables

OWNER = "unify.owner"
CLOSED = "CONNECTION LIMIT 0"
_TRIES = 3
_HOUSE = (*tenancy_tables.tables, TENANT_VERSION_TABLE)
_MAINTENANCE = ["postgres", "template1"]
_MEMBERS_SAY_HOW = 160_000
"""From this version on each membership says whether it inherits, and a login has to be allowed to grant it."""

OWNERS_OF_PUBLIC = 150_000
"""From this version on the schema ``public`` belongs to a database's owner; before, to the server's superuser."""


def open_to_owner(name: str) -> str:
    """Open a closed database to its owner alone, in one text, which is one transaction."""
    return f"REVOKE ALL ON DATABASE {_q(name)} FROM PUBLIC;ALTER DATABASE {_q(name)} WITH CONNECTION LIMIT -1"


def keep_closed(name: str) -> str:
    """Close a database to all but superusers, for good, as `pg_upgrade` takes it."""
    return (
        f"REVOKE ALL ON DATABASE {_q(name)} FROM PUBLIC;ALTER DATABASE {_q(name)} WITH ALLOW_CONNECTIONS true {CLOSED}"
    )


def there(driver: Any, name: str) -> bool:
    return one(driver, "SELECT 1 FROM pg_database WHERE datname = %s", (name,)) is not None


def own(driver: Any, candidates: Sequence[str]) -> list[str]:
    """Give those databases which the login of a connection may alter and drop."""
    mine = (
        "SELECT datname FROM pg_database WHERE datname = ANY(%s) AND pg_has_role(current_user, datdba, 'USAGE')"
        " ORDER BY 1"
    )
    return column(driver, mine, (list(candidates),))  # a superuser has every role


def left_closed(driver: Any, name: str) -> bool:
    """Say whether one of this login's databases was made and never opened: ``keep_closed`` shuts PUBLIC out besides."""
    between = (
        "SELECT datconnlimit = 0 AND has_database_privilege('public', oid, 'CONNECT') FROM pg_database "
        "WHERE datname = %s AND pg_has_role(current_user, datdba, 'USAGE')"
    )
    return bool(one(driver, between, (name,)))


def own_closed(driver: Any, candidates: Sequence[str]) -> list[str]:
    """Give those of ``own`` on which `pg_upgrade` would fail."""
    closed = column(driver, "SELECT datname FROM pg_database WHERE NOT datallowconn")
    return [name for name in own(driver, candidates) if name in closed]


# --- sessions ---------------------------------------------------------------------------------------------


def alone(driver: Any, database: str, statement: str) -> None:
    """End the sessions in a database and run a statement that needs it empty."""
    emptied(driver, database, lambda: run(driver, statement))


def emptied(driver: Any, database: str, work: Callable[[], None]) -> None:
    """End the sessions in a database and do what needs it empty; again where one slipped in between.

    The server itself waits five seconds for sessions to end ("CountOtherDBBackends").
    """
    for left in reversed(range(_TRIES)):
        staying = end_sessions(driver, database)
        try:
            return work()
        except errors.ObjectInUse as error:
            if staying:
                raise _may_not_end(database, staying) from error
            if not left:
                raise


def end_sessions(driver: Any, database: str) -> list[str]:
    """End the sessions in a database; give the logins whose sessions the server's login may not end."""
    found = column(
        driver,
        "SELECT DISTINCT usename FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid() AND usename IS NOT NULL",
        (database,),
    )
    return [user for user in found if not _end_sessions_of(driver, database, user)]


def _end_sessions_of(driver: Any, database: str, user: str) -> bool:
    """End a login's sessions there: who is no superuser has to belong to it, and does for this one transaction."""
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND usename = %s"
    values = (database, user)
    try:
        one(driver, ended, values)
    except errors.InsufficientPrivilege:
        how = " WITH INHERIT TRUE" if driver.server_version >= _MEMBERS_SAY_HOW else ""
        belonging = f"GRANT {_q(user)} TO CURRENT_USER{how}"
        try:
            with driver.cursor() as cursor:
                cursor.execute(f"{belonging};{ended};REVOKE {_q(user)} FROM CURRENT_USER", values)
        except errors.InsufficientPrivilege:  # a superuser's, or of a login that another one made
            return False
    return True


def _may_not_end(database: str, users: list[str]) -> AccessDeniedError:
    return AccessDeniedError(
        f"the login {', '.join(users)} is connected to the database {database}, and the server's login may not end its "
        "sessions: close them, or GRANT pg_signal_backend to the server's login, and try again."
    )


# --- the server -------------------------------------------------------------------------------------------


def open_to_all(driver: Any) -> list[str]:
    """Name the server's own databases that every login may enter, tenants' logins too."""
    listed = (
        "SELECT datname FROM pg_database WHERE datname = ANY(%s) AND datallowconn"
        " AND has_database_privilege('public', oid, 'CONNECT') ORDER BY 1"
    )
    return column(driver, listed, (_MAINTENANCE,))


def close_to_tenants(driver: Any, *, beside_others: bool) -> list[str]:
    """Let no tenant's login into the server's own databases, where this login may say so; say what was done.

    Where there are logins of others that is left as it is, or with ``beside_others`` done so that those keep their way
    in.
    """
    done: list[str] = []
    here = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND rolname <> current_user"
    others = ", ".join(_q(user) for user in column(driver, here) if not names.is_tenants_login(user))
    if others and not beside_others:
        return done
    for name in own(driver, open_to_all(driver)):
        kept = f"GRANT CONNECT ON DATABASE {_q(name)} TO {others};" if others else ""
        run(driver, f"{kept}REVOKE CONNECT ON DATABASE {_q(name)} FROM PUBLIC")
        granted = f", and granted it to {others}" if others else ""
        done.append(f"revoked CONNECT ON DATABASE {name} FROM PUBLIC{granted}")
    return done


def remarks(driver: Any) -> list[str]:
    """Say what an operator should do about a server, a sentence each."""
    said = []
    if opened := open_to_all(driver):
        every = f"every login, tenants' too, may enter the database {' and the database '.join(opened)}:"
        if own(driver, opened) == opened:
            said.append(f"{every} `unify servers tidy` or `manager.servers.tidy()` takes that from tenants' logins.")
        else:
            revoked = "; ".join(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC" for name in opened)
            said.append(f"{every} as its owner run {revoked} after GRANT CONNECT to the logins that need it.")
    if driver.server_version < OWNERS_OF_PUBLIC and not one(
        driver, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    ):
        said.append(_OLD_SERVER)
    return said


_OLD_SERVER = (
    "before PostgreSQL 15 the schema public belongs to the server's superuser, and every login may make tables in it: "
    "register a superuser's login, or upgrade the server."
)


# --- inside a database ------------------------------------------------------------------------------------


def refuse_makers_of_tables(driver: Any) -> None:
    """Refuse a template in which a tenant's login could make tables: its rights there are PUBLIC's."""
    if one(driver, "SELECT has_schema_privilege('public', 'public', 'CREATE')"):
        raise AccessDeniedError(f"no database can be made for a tenant here: {_OLD_SERVER}")


def tenant_rights() -> list[str]:
    """Give what PUBLIC may do in a tenant's database, which is what its login may do there: read and write rows.

    FOR SHARE needs the right to update some column (postgresql.org, "SELECT", The Locking Clause).
    """
    house = ", ".join(_q(name) for name in _HOUSE)
    return [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO PUBLIC",
        f"REVOKE INSERT, UPDATE, DELETE ON {house} FROM PUBLIC",
        "GRANT UPDATE (created_at) ON tenancy_identity TO PUBLIC",
    ]


def shared_rights(user: str, owned_tables: Sequence[str]) -> list[str]:
    """Give the login that serves all users its rights, and the policy by which each transaction sees one owner's rows.

    Without an owner set ``current_setting`` gives NULL or nothing, and no row is seen.
    """
    mine, user = f"user_id = NULLIF(current_setting('{OWNER}', true), '')::integer", _q(user)
    statements = [
        f"GRANT USAGE ON SCHEMA public TO {user}",
        f"GRANT SELECT ON {', '.join(_q(name) for name in _HOUSE)} TO {user}",
        f"GRANT UPDATE (created_at) ON tenancy_identity TO {user}",
    ]
    for table in map(_q, owned_tables):
        statements += [
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user}",
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS unify_owner ON {table}",
            f"CREATE POLICY unify_owner ON {table} TO {user} USING ({mine}) WITH CHECK ({mine})",
        ]
    return statements


def commit(connection: sa.Connection, *statements: str) -> None:
    driver: Any = connection.connection.dbapi_connection
    run(driver, *statements)
    driver.commit()


def _q(name: str) -> str:
    return names.quoted(name)
