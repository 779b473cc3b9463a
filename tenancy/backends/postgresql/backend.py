"""Serve tenants from PostgreSQL: a database and a login each, copied from a template that is made once.

In a tenant's database the rights are granted to PUBLIC, so that CREATE DATABASE copies them from the template; only the
tenant's login has CONNECT, so PUBLIC there is that login alone. The database that all users share has row-level
security, as a second barrier beside the repositories' conditions on ``user_id``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar

import psycopg2
import sqlalchemy as sa
from psycopg2 import errorcodes as codes, extensions

from tenancy import names
from tenancy.backends.access import Access, Login
from tenancy.backends.base import FENCE_SQL, Blueprint
from tenancy.backends.gates import Words
from tenancy.backends.placeholders import Rules
from tenancy.backends.postgresql import errors
from tenancy.backends.postgresql.checks import PostgreSQLChecks
from tenancy.backends.postgresql.copying import PostgreSQLCopying
from tenancy.backends.postgresql.dialect import SCHEME
from tenancy.backends.postgresql.driver import RULES, WORDS, be_patient, open_connection, sqlstate
from tenancy.backends.postgresql.restore_points import PostgreSQLRestorePoints
from tenancy.backends.postgresql.rights import (
    CLOSED,
    OWNER,
    alone,
    close_to_tenants,
    commit,
    keep_closed,
    left_closed,
    open_to_owner,
    own_closed,
    remarks,
    shared_rights,
    tenant_rights,
)
from tenancy.backends.postgresql.templates import Templates
from tenancy.backends.server.backend import LOCK_S, ServerBackend
from tenancy.backends.server.network import why_unreachable
from tenancy.backends.server.sql import column, one, run
from tenancy.errors import (
    AccessDeniedError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    HostNotAllowedError,
    LoginRefusedError,
    TooManyConnectionsError,
)
from tenancy.models import Kind, Origin, Tenant
from tenancy.schema.tables import tenancy_identity

log = logging.getLogger(__name__)

PATIENCE_S = 600.0
FENCE_S = 20
"""How long a change of a tenant's state waits for running transactions before it gives up."""

_LOCK = (
    0x756E696679  # "unify" in ASCII: held by a migration in its database, and by whoever makes templates on a server
)
_ROLE = "CREATE ROLE {} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
_ROLE_AGAIN = "ALTER ROLE {} WITH LOGIN"
_PLAIN = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
"""For template0, as template1 may be in use or hold others' tables; "C" sorts by code point, as elsewhere."""
_PROVIDERS_SINCE = 150_000
"""From version 15 on a database's collation has a provider; without a name it would be the server's, ICU perhaps."""


class PostgreSQLBackend(ServerBackend):
    """Keep tenants in databases of PostgreSQL 13 or newer."""

    name: ClassVar[str] = "postgresql"
    label: ClassVar[str] = "PostgreSQL"
    scheme: ClassVar[str] = SCHEME
    default_port: ClassVar[int] = 5432
    own_names: ClassVar[frozenset[str]] = frozenset(
        ["postgres", "template0", "template1", "rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys"]
    )
    rules: ClassVar[Rules] = RULES
    words: ClassVar[Words] = WORDS
    fence_sql: ClassVar[str] = f"{FENCE_SQL} FOR SHARE"
    size_sql: ClassVar[str] = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"
    driver_errors = (psycopg2.Error,)
    _explain, lacks = staticmethod(errors.explain), staticmethod(errors.lacks)

    def __init__(self) -> None:
        super().__init__()
        self.restore_points = PostgreSQLRestorePoints(self)
        self.checks = PostgreSQLChecks(self)
        self.copying = PostgreSQLCopying(self)
        self._templates = Templates(self, _LOCK)

    # --- connections ------------------------------------------------------------------------------------

    def open(self, login: Login) -> Any:
        try:
            return open_connection(login)
        except psycopg2.Error as error:
            ours = self.explain(error)
            if ours is None or (type(ours) is DatabaseUnreachableError and sqlstate(error) is None):
                ours = why_unreachable(login)
            raise ours from error

    def at_server(self, login: Login) -> Any:
        try:
            driver = self.open(login.into("postgres").patient())
        except (HostNotAllowedError, LoginRefusedError):
            raise
        except AccessDeniedError as error:
            raise AccessDeniedError(
                "the login may not enter the server's database postgres: GRANT CONNECT ON DATABASE postgres TO it."
            ) from error
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
        """Set the driver's mode: psycopg2 sends BEGIN READ ONLY with the first statement, so no round trip is added."""
        driver: Any = connection.connection.dbapi_connection
        if driver.readonly is write:
            driver.readonly = not write
        elif driver.readonly is None:
            driver.set_session(isolation_level=extensions.ISOLATION_LEVEL_READ_COMMITTED, readonly=not write)

    def read_singly(self, connection: sa.Connection) -> None:
        """SET it for the session: in autocommit the driver sends no BEGIN that could say READ ONLY."""
        driver: Any = connection.connection.dbapi_connection
        with closing(extensions.cursor(driver)) as cursor:
            cursor.execute("SET default_transaction_read_only = on")

    def set_owner(self, connection: sa.Connection, owner: int) -> None:
        cursor = connection.connection.cursor()
        cursor.execute("SELECT set_config(%s, %s, true)", (OWNER, str(owner)))
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

    def follow_ids(self, connection: sa.Connection, table: sa.Table) -> None:
        """Set the sequence behind a serial column, which inserted values leave where it is; it never goes back."""
        column = table.autoincrement_column
        if column is not None:
            sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
            highest = sa.select(sa.func.max(column)).scalar_subquery()
            reached = sa.func.greatest(sa.func.nextval(sequence), highest)
            connection.execute(sa.select(sa.func.setval(sequence, reached)))

    def queue_for_identity(self, connection: sa.Connection) -> None:
        """LOCK TABLE: running writers are waited for, later ones queue behind us; readers do not wait.

        Writers hold row locks FOR SHARE. An UPDATE that waits for those would be overtaken by every later FOR SHARE,
        whereas table locks are given in the order of asking (postgresql.org, "Explicit Locking").
        """
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{FENCE_S}s'")
        connection.exec_driver_sql(f"LOCK TABLE {tenancy_identity.name} IN EXCLUSIVE MODE")

    # --- rights -----------------------------------------------------------------------------------------

    def shared_login(self, tenant_id: uuid.UUID) -> str | None:
        return f"{names.SHARED_LOGIN}{tenant_id.hex[-12:]}"

    def grant_rights(
        self, connection: sa.Connection, tenant: Tenant, access: Access, owned_tables: Sequence[str]
    ) -> None:
        if tenant.kind is Kind.SHARED:
            assert access.login is not None  # noqa: S101 - a shared database on a server has a login of its own
            driver: Any = connection.connection.dbapi_connection
            there = one(driver, "SELECT 1 FROM pg_roles WHERE rolname = %s", (access.login.user,))
            _let_in(driver, access.login, _ROLE_AGAIN if there else _ROLE)
            commit(connection, *shared_rights(access.login.user, owned_tables))
        elif tenant.origin == Origin.SERVER:
            commit(connection, *tenant_rights())

    def logins(self, driver: Any, prefix: str) -> list[str]:
        return column(driver, "SELECT rolname FROM pg_roles WHERE left(rolname, length(%s)) = %s", (prefix, prefix))

    def databases(self, driver: Any, prefix: str) -> list[str]:
        return column(driver, "SELECT datname FROM pg_database WHERE left(datname, length(%s)) = %s", (prefix, prefix))

    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        """Take an advisory lock; the wait is limited by the session's lock_timeout, which is ``LOCK_S`` too."""
        if not wait_s:
            return bool(one(driver, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)))
        try:
            one(driver, "SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
        except psycopg2.errors.LockNotAvailable:
            return False
        return True

    # --- making and removing ----------------------------------------------------------------------------

    def make_login(self, driver: Any, login: Login) -> None:
        """CREATE ROLE, and let it alone into its database, which was made closed to all."""
        opened = open_to_owner(login.database or "")
        with self.explained():
            try:
                _let_in(driver, login, _ROLE, opened)
            except psycopg2.ProgrammingError as error:
                if error.pgcode != codes.DUPLICATE_OBJECT:
                    raise
                # An earlier attempt made it.
                _let_in(driver, login, _ROLE_AGAIN, opened)

    def drop_login(self, driver: Any, user: str) -> None:
        with self.explained():
            run(driver, f"DROP ROLE IF EXISTS {_q(user)}")

    def make_database(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        with self.explained():
            name = tenant.db_name or ""
            if tenant.origin != Origin.SERVER:
                return self.make_plain_database(driver, name)
            template = names.template(access.installation, blueprint.fingerprint)
            try:
                self._create(driver, name, template)
            except DatabaseMissingError:  # the template is missing; a look at each call would cost a round trip
                with self._templates.locked(driver):
                    self._templates.make(driver, access, blueprint)
                    self._create(driver, name, template)
                    self._templates.drop_all(driver, access.installation, but=template)

    def build_schema(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        """Do nothing: the schema was copied with the template."""

    def make_plain_database(self, driver: Any, name: str) -> None:
        provider = " LOCALE_PROVIDER libc" if driver.server_version >= _PROVIDERS_SINCE else ""
        self._create(driver, name, "template0", f"{_PLAIN}{provider}")
        with self.explained():
            run(driver, open_to_owner(name))

    def stands(self, login: Login) -> bool:
        """Look, and first open a database that is still closed: a kill came between its CREATE and its GRANT."""
        try:
            return super().stands(login)
        except TooManyConnectionsError:
            with closing(self.at_server(login)) as driver, self.explained():
                if not left_closed(driver, login.database or ""):
                    raise
                run(driver, open_to_owner(login.database or ""))
            return True

    def _create(self, driver: Any, name: str, source: str, more: str = "") -> None:
        """CREATE DATABASE with CONNECTION LIMIT 0: until ``open_to_owner`` only superusers can connect.

        Without the limit PUBLIC could connect between CREATE and REVOKE. Sessions in the template are ended first:
        the server waits seconds for them, and then refuses to copy it.
        """
        made = f"CREATE DATABASE {_q(name)} TEMPLATE {_q(source)} {more} {CLOSED}"
        with self.explained():
            try:
                alone(driver, source, made)
            except psycopg2.IntegrityError as error:  # another session made it at the same moment
                raise DatabaseExistsError("a database of this name already exists.") from error

    def drop_database(self, driver: Any, name: str) -> None:
        """DROP ... WITH (FORCE) ends the sessions too. A login that may not is made a member of their logins first."""
        dropped = f"DROP DATABASE IF EXISTS {_q(name)}"
        with self.explained():
            try:
                run(driver, f"{dropped} WITH (FORCE)")
            except psycopg2.errors.InsufficientPrivilege:
                alone(driver, name, dropped)

    # --- the server as a whole --------------------------------------------------------------------------

    def prepare(self, driver: Any, *, beside_others: bool = False) -> list[str]:
        with self.explained():
            return close_to_tenants(driver, beside_others=beside_others)

    def remarks(self, driver: Any) -> list[str]:
        with self.explained():
            return remarks(driver)

    def tidy(self, driver: Any, installation: str, fingerprint: str) -> list[str]:
        scratch = super().tidy(driver, installation, fingerprint)
        with self.explained():
            close_to_tenants(driver, beside_others=True)
            with self._templates.locked(driver):
                needed = names.template(installation, fingerprint)
                dropped = self._templates.drop_all(driver, installation, but=needed)
            ours = [each for each in self.databases(driver, names.OURS) if names.is_of(installation, each)]
            closed = own_closed(driver, ours)
            for name in closed:
                run(driver, keep_closed(name))
        return [
            *scratch,
            *(f"dropped {name}" for name in dropped),
            *(f"closed {name} in another way" for name in closed),
        ]


def _let_in(driver: Any, login: Login, role: str, *more: str) -> None:
    """CREATE or ALTER a role and GRANT it CONNECT, in one text: one transaction, so one wait for the disk.

    The password is sent hashed, as a server may log the statement.
    """
    user, database = _q(login.user), _q(login.database or "")
    made = f"{role.format(user)} PASSWORD '{scram_verifier(login.password)}'"
    run(driver, ";".join([made, *more, f"GRANT CONNECT ON DATABASE {database} TO {user}"]))


def scram_verifier(password: str) -> str:
    """Hash a password of ``fresh_password`` as PostgreSQL stores it: SCRAM-SHA-256 (RFC 5802; its manual, "pg_authid").

    With one iteration: more would slow down guessing, and every login with it, and 256 random bits cannot be guessed.
    """
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    written = [base64.b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*written)


def _q(name: str) -> str:
    return names.quoted(name)
