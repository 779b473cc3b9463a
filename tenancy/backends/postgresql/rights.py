"""Grant and revoke rights on PostgreSQL, and end sessions, as a login that need not be a superuser.

A database is closed by CONNECTION LIMIT 0, which lets only superusers connect. ALLOW_CONNECTIONS false would keep
superusers out too, but `pg_upgrade` refuses a server that has such a database.
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
_TENANCY_TABLES = (*tenancy_tables.tables, TENANT_VERSION_TABLE)
_MAINTENANCE = ["postgres", "template1"]
_MEMBERS_SAY_HOW = 160_000
"""From this version on GRANT of a role says WITH INHERIT, and a login needs ADMIN OPTION on the role to grant it."""

OWNERS_OF_PUBLIC = 150_000
"""From this version on the schema ``public`` belongs to the database's owner; before, to the server's superuser."""


def open_to_owner(name: str) -> str:
    """Write the SQL that opens a closed database to its owner alone; one text is one transaction."""
    return f"REVOKE ALL ON DATABASE {_q(name)} FROM PUBLIC;ALTER DATABASE {_q(name)} WITH CONNECTION LIMIT -1"


def keep_closed(name: str) -> str:
    """Write the SQL that closes a database to all but superusers, in the way that `pg_upgrade` accepts."""
    return (
        f"REVOKE ALL ON DATABASE {_q(name)} FROM PUBLIC;ALTER DATABASE {_q(name)} WITH ALLOW_CONNECTIONS true {CLOSED}"
    )


def there(driver: Any, name: str) -> bool:
    return one(driver, "SELECT 1 FROM pg_database WHERE datname = %s", (name,)) is not None


def own(driver: Any, candidates: Sequence[str]) -> list[str]:
    """Return those of the databases that the connection's login may alter and drop."""
    mine = (
        "SELECT datname FROM pg_database WHERE datname = ANY(%s) AND pg_has_role(current_user, datdba, 'USAGE')"
        " ORDER BY 1"
    )
    return column(driver, mine, (list(candidates),))  # pg_has_role is true for superusers


def left_closed(driver: Any, name: str) -> bool:
    """Say whether a database was made and never opened: PUBLIC still has CONNECT, which ``keep_closed`` revokes."""
    between = (
        "SELECT datconnlimit = 0 AND has_database_privilege('public', oid, 'CONNECT') FROM pg_database "
        "WHERE datname = %s AND pg_has_role(current_user, datdba, 'USAGE')"
    )
    return bool(one(driver, between, (name,)))


def own_closed(driver: Any, candidates: Sequence[str]) -> list[str]:
    """Return those databases of ``own`` that have ALLOW_CONNECTIONS false, on which `pg_upgrade` fails."""
    closed = column(driver, "SELECT datname FROM pg_database WHERE NOT datallowconn")
    return [name for name in own(driver, candidates) if name in closed]


# --- sessions ---------------------------------------------------------------------------------------------


def alone(driver: Any, database: str, statement: str) -> None:
    """End the sessions in a database and run a statement that needs it to have none."""
    emptied(driver, database, lambda: run(driver, statement))


def emptied(driver: Any, database: str, work: Callable[[], None]) -> None:
    """End the sessions in a database and call ``work``, which needs it to have none; retry if a new session came.

    The server itself waits five seconds for sessions to end (CountOtherDBBackends in its source).
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
    """End the sessions in a database; return the logins whose sessions the server's login may not end."""
    found = column(
        driver,
        "SELECT DISTINCT usename FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid() AND usename IS NOT NULL",
        (database,),
    )
    return [user for user in found if not _end_sessions_of(driver, database, user)]


def _end_sessions_of(driver: Any, database: str, user: str) -> bool:
    """End a login's sessions in a database, if need be as its member for one transaction; False if refused."""
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
        except errors.InsufficientPrivilege:  # a superuser's session, or of a login that this one may not join
            return False
    return True


def _may_not_end(database: str, users: list[str]) -> AccessDeniedError:
    return AccessDeniedError(
        f"the login {', '.join(users)} is connected to the database {database}, and the server's login may not end its "
        "sessions: close them, or GRANT pg_signal_backend to the server's login, and try again."
    )


# --- the server -------------------------------------------------------------------------------------------


def open_to_all(driver: Any) -> list[str]:
    """Name the server's own databases to which every login, also a tenant's, may connect."""
    listed = (
        "SELECT datname FROM pg_database WHERE datname = ANY(%s) AND datallowconn"
        " AND has_database_privilege('public', oid, 'CONNECT') ORDER BY 1"
    )
    return column(driver, listed, (_MAINTENANCE,))


def close_to_tenants(driver: Any, *, beside_others: bool) -> list[str]:
    """REVOKE CONNECT on the server's own databases from PUBLIC, if this login may; return a sentence for each.

    On a server with logins of others nothing is done, unless ``beside_others`` is set: then those logins are granted
    CONNECT first.
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
    """Return a sentence for each thing that an operator should do about a server."""
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
    """Raise AccessDeniedError if PUBLIC, and so a tenant's login, could make tables in databases of this template."""
    if one(driver, "SELECT has_schema_privilege('public', 'public', 'CREATE')"):
        raise AccessDeniedError(f"no database can be made for a tenant here: {_OLD_SERVER}")


def tenant_rights() -> list[str]:
    """Return the GRANTs to PUBLIC in a tenant's database, where only the tenant's login has CONNECT: rows, no schema.

    UPDATE on one column of the identity row allows FOR SHARE on it (postgresql.org, "SELECT", The Locking Clause).
    """
    tenancy = ", ".join(_q(name) for name in _TENANCY_TABLES)
    return [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO PUBLIC",
        f"REVOKE INSERT, UPDATE, DELETE ON {tenancy} FROM PUBLIC",
        "GRANT UPDATE (created_at) ON tenancy_identity TO PUBLIC",
    ]


def shared_rights(user: str, owned_tables: Sequence[str]) -> list[str]:
    """Return the GRANTs to the login that serves all users, and the row-level security policies.

    A transaction sees the rows of the owner set by ``set_owner``. Without one, ``current_setting`` is NULL or empty,
    and no row is visible.
    """
    mine, user = f"user_id = NULLIF(current_setting('{OWNER}', true), '')::integer", _q(user)
    statements = [
        f"GRANT USAGE ON SCHEMA public TO {user}",
        f"GRANT SELECT ON {', '.join(_q(name) for name in _TENANCY_TABLES)} TO {user}",
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
    """Run statements and commit."""
    driver: Any = connection.connection.dbapi_connection
    run(driver, *statements)
    driver.commit()


def _q(name: str) -> str:
    return names.quoted(name)
