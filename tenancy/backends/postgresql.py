"""Serve tenants from PostgreSQL: a database and a login each, copied from a template that is made once.

A tenant's rights stand in its database as PUBLIC's: nobody but its login may connect there, so that the rights come
along with the copy. The database that all users share has row-level security instead, as a second wall.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar

import psycopg2
import sqlalchemy as sa
from psycopg2 import errorcodes as codes
from psycopg2 import extensions
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from tenancy import names
from tenancy.backends.base import FENCE_SQL, Blueprint
from tenancy.backends.logins import Access, Login
from tenancy.backends.postgresql_driver import AnswerTimeout, be_patient, open_connection
from tenancy.backends.postgresql_points import PostgreSQLPoints
from tenancy.backends.server import ServerBackend, column, one, rights_on, run
from tenancy.backends.server_engines import SharedDialect, make_engine
from tenancy.errors import (
    AccessDeniedError,
    ConnectionRefusedByServerError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    LoginRefusedError,
    ReadOnlyRouteError,
    StorageFullError,
    TenancyError,
    TooManyConnectionsError,
)
from tenancy.models import TENANT_VERSION_TABLE, Kind, Origin, Placement, house_metadata
from tenancy.placeholders import Rules

PATIENCE_S = 600.0
_LOCK = 0x756E696679  # "unify": one migration at a time in a database, one maker of templates at a server
_OWNER = "unify.owner"
_ROLE = "CREATE ROLE {} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
_ROLE_AGAIN = "ALTER ROLE {} WITH LOGIN"
_HOUSE = (*house_metadata.tables, TENANT_VERSION_TABLE)
_PLAIN = "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
"""template1 may be busy, and may hold what others put there; text sorts by code point, as on the other products."""


class SharedPostgreSQLDialect(SharedDialect, PGDialect_psycopg2):
    """Know the server's version from the connection itself, and open connections without a question.

    For psycopg2 to read hstore by itself, every new connection would ask for the type's number, which takes longer
    than connecting does in a database that is new; SQLAlchemy reads it as well.
    """

    supports_statement_cache = True

    def __init__(self, **kw: Any) -> None:
        super().__init__(use_native_hstore=False, **kw)  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy

    def version_of(self, driver: Any) -> Any:
        return driver.server_version

    def schema_of(self, driver: Any) -> str | None:
        return "public"


registry.register("postgresql.unify", __name__, "SharedPostgreSQLDialect")

_BY_STATE: dict[str, tuple[type[TenancyError], str]] = {
    codes.INVALID_CATALOG_NAME: (DatabaseMissingError, "the server has no database of this name."),
    codes.DUPLICATE_DATABASE: (DatabaseExistsError, "a database of this name stands there already."),
    codes.INVALID_PASSWORD: (LoginRefusedError, "the server does not take this login or its password."),
    codes.INVALID_AUTHORIZATION_SPECIFICATION: (LoginRefusedError, "the server does not take this login."),
    codes.INSUFFICIENT_PRIVILEGE: (AccessDeniedError, "the login has no right to do this."),
    codes.TOO_MANY_CONNECTIONS: (TooManyConnectionsError, "the server takes no further connections: try again."),
    codes.DISK_FULL: (StorageFullError, "the server's disk is full."),
    codes.LOCK_NOT_AVAILABLE: (DatabaseBusyError, "the database is locked by another writer: try again."),
    codes.DEADLOCK_DETECTED: (DatabaseBusyError, "the database is locked by another writer: try again."),
    codes.SERIALIZATION_FAILURE: (DatabaseBusyError, "another writer was first: try again."),
    codes.OBJECT_IN_USE: (DatabaseBusyError, "the database is in use: try again."),
    codes.QUERY_CANCELED: (DatabaseTimeoutError, "the server took too long to answer."),
    codes.READ_ONLY_SQL_TRANSACTION: (ReadOnlyRouteError, "this unit of work may only read."),
}
_BY_WORDS: tuple[tuple[str, str], ...] = (
    # A connection that fails has no code (psycopg2's OperationalError from libpq), only words.
    (r"password authentication failed|no password supplied|no pg_hba\.conf entry", codes.INVALID_PASSWORD),
    (r"role \".*\" does not exist|is not permitted to log in|authentication failed", codes.INVALID_PASSWORD),
    (r"database \".*\" does not exist", codes.INVALID_CATALOG_NAME),
    (r"permission denied for database", codes.INSUFFICIENT_PRIVILEGE),
    (r"too many (clients|connections)|connection slots are reserved", codes.TOO_MANY_CONNECTIONS),
)


class PostgreSQLBackend(PostgreSQLPoints, ServerBackend):
    """Keep tenants in databases of PostgreSQL 13 or newer."""

    name: ClassVar[str] = "postgresql"
    label: ClassVar[str] = "PostgreSQL"
    scheme: ClassVar[str] = "postgresql+unify"
    default_port: ClassVar[int] = 5432
    rules: ClassVar[Rules] = Rules(mark="%s", escape_strings=True, dollar_quotes=True, nested_comments=True)
    fence_sql: ClassVar[str] = f"{FENCE_SQL} FOR SHARE"

    # --- connections ------------------------------------------------------------------------------------

    def open(self, login: Login) -> Any:
        with self.explained():
            return open_connection(login)

    def at_server(self, login: Login) -> Any:
        driver = self.open(login.into("postgres").patient())
        driver.autocommit = True
        return driver

    def may_create(self, driver: Any) -> bool | None:
        with self.explained():
            asked = "SELECT rolsuper OR (rolcreatedb AND rolcreaterole) FROM pg_roles WHERE rolname = current_user"
            return bool(one(driver, asked))

    def socket_of(self, driver: Any) -> int | None:
        found: int = driver.fileno()
        return found

    def begin(self, connection: sa.Connection, write: bool) -> None:
        """Say it to the driver, which says it with its BEGIN: a read costs no statement more."""
        driver: Any = connection.connection.dbapi_connection
        if driver.readonly is write:
            driver.readonly = not write
        elif driver.readonly is None:
            driver.set_session(isolation_level=extensions.ISOLATION_LEVEL_READ_COMMITTED, readonly=not write)

    def set_owner(self, connection: sa.Connection, owner: int) -> None:
        cursor = connection.connection.cursor()
        cursor.execute("SELECT set_config(%s, %s, true)", (_OWNER, str(owner)))
        cursor.close()

    @contextmanager
    def migrating(self, driver: Any) -> Iterator[sa.Connection]:
        with self.filling(driver) as connection:
            driver.rollback()
            driver.readonly = False
            be_patient(driver, PATIENCE_S)
            run(driver, f"SELECT pg_advisory_lock({_LOCK})")
            driver.commit()
            yield connection

    @contextmanager
    def filling(self, driver: Any) -> Iterator[sa.Connection]:
        engine = make_engine(self.scheme, lambda: driver, poolclass=sa.StaticPool)
        with closing(driver), self.explained(), engine.connect() as connection:
            yield connection

    # --- rights -----------------------------------------------------------------------------------------

    def shared_login(self, tenant_id: uuid.UUID) -> str | None:
        return f"unify_shared_{tenant_id.hex[-12:]}"

    def settle(self, connection: sa.Connection, tenant: Placement, access: Access, owned_tables: Sequence[str]) -> None:
        if tenant.kind is Kind.SHARED:
            assert access.login is not None  # noqa: S101 - a shared database on a server has a login of its own
            driver: Any = connection.connection.dbapi_connection
            there = one(driver, "SELECT 1 FROM pg_roles WHERE rolname = %s", (access.login.user,))
            _let_in(driver, access.login, _ROLE_AGAIN if there else _ROLE)
            _commit(connection, *_shared_rights(_q(access.login.user), owned_tables))
        elif tenant.origin == Origin.SERVER:
            _commit(connection, *_tenant_rights())

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        may = "has_table_privilege(quote_ident(%s), %s)"
        with self.explained():
            return [
                table
                for table in tables
                if not all(one(driver, f"SELECT {may}", (table, right)) for right in rights_on(table))
            ]

    def logins(self, driver: Any, prefix: str) -> list[str]:
        return column(driver, "SELECT rolname FROM pg_roles WHERE left(rolname, length(%s)) = %s", (prefix, prefix))

    # --- making and removing ----------------------------------------------------------------------------

    def make_login(self, driver: Any, login: Login) -> None:
        """Let nobody but this login into its database."""
        closed = f"REVOKE ALL ON DATABASE {_q(login.database or '')} FROM PUBLIC"
        with self.explained():
            try:
                _let_in(driver, login, _ROLE, closed)
            except psycopg2.ProgrammingError as error:
                if error.pgcode != codes.DUPLICATE_OBJECT:
                    raise
                # It is left of an earlier attempt.
                _let_in(driver, login, _ROLE_AGAIN, closed)

    def drop_login(self, driver: Any, user: str) -> None:
        with self.explained():
            run(driver, f"DROP ROLE IF EXISTS {_q(user)}")

    def make_database(self, driver: Any, tenant: Placement, access: Access, blueprint: Blueprint) -> None:
        with self.explained():
            if tenant.origin != Origin.SERVER:
                return self.make_plain_database(driver, tenant.db_name or "")
            name, template = tenant.db_name or "", f"unify_template_{blueprint.fingerprint[:16]}"
            try:
                self._create(driver, name, f"TEMPLATE {_q(template)}")
            except DatabaseMissingError:  # the template is; that it is there is not asked each time
                self._make_template_once(driver, access, blueprint, template)
                self._create(driver, name, f"TEMPLATE {_q(template)}")

    def furnish(self, driver: Any, tenant: Placement, access: Access, blueprint: Blueprint) -> None:
        """Close it, unless that is done in one go with letting its login in; its schema came with the template."""
        if tenant.origin != Origin.SERVER:
            with self.explained():
                run(driver, f"REVOKE ALL ON DATABASE {_q(tenant.db_name or '')} FROM PUBLIC")

    def make_plain_database(self, driver: Any, name: str) -> None:
        self._create(driver, name, _PLAIN)

    def _create(self, driver: Any, name: str, how: str) -> None:
        with self.explained():
            try:
                run(driver, f"CREATE DATABASE {_q(name)} {how}")
            except psycopg2.IntegrityError as error:  # two at once: both found the name free
                raise DatabaseExistsError("a database of this name stands there already.") from error

    def drop_database(self, driver: Any, name: str) -> None:
        with self.explained():
            run(driver, f"DROP DATABASE IF EXISTS {_q(name)} WITH (FORCE)")

    def size_bytes(self, tenant: Placement, access: Access) -> int | None:
        try:
            with closing(self.connect_to_migrate(tenant, access)) as driver, self.explained():
                return int(one(driver, "SELECT pg_database_size(current_database())"))
        except DatabaseMissingError:
            return None

    def _make_template_once(self, driver: Any, access: Access, blueprint: Blueprint, name: str) -> None:
        """Make the template of a schema; a lock keeps two from making it at once."""
        run(driver, f"SELECT pg_advisory_lock({_LOCK})")
        try:
            if not one(driver, "SELECT 1 FROM pg_database WHERE datname = %s", (name,)):
                self._make_template(driver, access, blueprint, name)
        finally:
            run(driver, f"SELECT pg_advisory_unlock({_LOCK})")

    def _make_template(self, driver: Any, access: Access, blueprint: Blueprint, name: str) -> None:
        """Build under another name: what is called a template is whole, and as nobody may connect it is never busy."""
        assert access.admin is not None  # noqa: S101 - a registered server has its login
        draft = f"unify_draft_{uuid.uuid4().hex[:16]}"
        self.make_plain_database(driver, draft)
        try:
            with self.migrating(self.open(access.admin.into(draft))) as connection:
                blueprint.build(connection)
                _commit(connection, *_tenant_rights())
            run(
                driver,
                f"REVOKE ALL ON DATABASE {_q(draft)} FROM PUBLIC",
                f"ALTER DATABASE {_q(draft)} WITH ALLOW_CONNECTIONS false",
                f"ALTER DATABASE {_q(draft)} RENAME TO {_q(name)}",
            )
        except BaseException:
            self._undo("draft", self.drop_database, driver, draft)
            raise

    # --- errors -----------------------------------------------------------------------------------------

    def explain(self, error: BaseException) -> TenancyError | None:
        cause = getattr(error, "orig", None) or error
        if not isinstance(cause, psycopg2.Error):
            return None
        state = cause.pgcode or _state_in(str(cause))
        if state in _BY_STATE:
            kind, text = _BY_STATE[state]
            return kind(text)
        if isinstance(cause, AnswerTimeout) or "timeout expired" in str(cause):
            return DatabaseTimeoutError("the server did not answer in time.")
        if "onnection refused" in str(cause):
            return ConnectionRefusedByServerError("no server answers at this host and port.")
        gone = state is None and isinstance(cause, psycopg2.OperationalError | psycopg2.InterfaceError)
        if gone or (state or "")[:2] in ("08", "57"):  # connection exceptions; shutdown, crash, starting up
            return DatabaseUnreachableError("the server cannot be reached, or ended the connection.")
        return None


def _let_in(driver: Any, login: Login, role: str, *more: str) -> None:
    """Make a login, or change it, and let it into its database: in one go, which is one wait for the disk.

    The password is sent hashed: a server may log the statements that make roles.
    """
    user, database = _q(login.user), _q(login.database or "")
    made = f"{role.format(user)} PASSWORD '{scram_verifier(login.password)}'"
    run(driver, ";".join([made, *more, f"GRANT CONNECT ON DATABASE {database} TO {user}"]))


def scram_verifier(password: str) -> str:
    """Give what PostgreSQL keeps of a password (RFC 5802; its "pg_authid"), for one made by ``fresh_password``.

    Iterations are there to slow down guessing, at every login on both sides: 256 random bits need one.
    """
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    written = [base64.b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*written)


def _commit(connection: sa.Connection, *statements: str) -> None:
    driver: Any = connection.connection.dbapi_connection
    run(driver, *statements)
    driver.commit()


def _state_in(text: str) -> str | None:
    return next((state for words, state in _BY_WORDS if re.search(words, text)), None)


def _q(name: str) -> str:
    return names.quoted(name)


def _tenant_rights() -> list[str]:
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


def _shared_rights(user: str, owned_tables: Sequence[str]) -> list[str]:
    """Give the login that serves all users its rights, and the policy by which each transaction sees one owner's rows.

    Without an owner set ``current_setting`` gives NULL or nothing, and no row is seen.
    """
    mine = f"user_id = NULLIF(current_setting('{_OWNER}', true), '')::integer"
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
