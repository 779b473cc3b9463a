"""Serve tenants from SQL Server: a database, a login and its user each, their schema replayed.

Written for SQL Server itself; where a server that only speaks its protocol lacks something (collations and options
of a database, lock hints), the lack is passed over.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event

from tenancy import hosts, names
from tenancy.backends.access import Access, Login
from tenancy.backends.base import Blueprint, DatabaseFields
from tenancy.backends.gates import Words
from tenancy.backends.placeholders import Rules
from tenancy.backends.server.backend import ServerBackend, column, one, rights_on, run
from tenancy.backends.server.engines import make_engine
from tenancy.backends.server.network import why_unreachable
from tenancy.backends.server.replay import Recordings, Statement
from tenancy.backends.sqlserver import driver as sqlserver_driver
from tenancy.backends.sqlserver.restore_points import SQLServerPoints, take_lock
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
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
    UnsupportedBackendError,
    WriteConflictError,
)
from tenancy.models import Origin, Tenant

log = logging.getLogger(__name__)

PATIENCE_S = 600
LOCK_MS = 30_000
DROP_S = 10.0
_COLLATION = "Latin1_General_100_BIN2"
_INSTANCE = re.compile(r"[A-Za-z_#][A-Za-z0-9_$#]{0,15}")
_READS = re.compile(r"\s*(SELECT|WITH|SET|IF|(SAVE|ROLLBACK)\s+TRANSACTION)\b", re.IGNORECASE)


_MISSING = (DatabaseMissingError, "the server has no database of this name that the login may enter.")
_LOGIN = (LoginRefusedError, "the server does not take this login or its password.")
_DENIED = (AccessDeniedError, "the login has no right to do this.")
_MET = (WriteConflictError, "another writer was first: try again.")
_BUSY = (DatabaseBusyError, "the database is locked by another writer: try again.")
_FULL = (StorageFullError, "the server's disk is full.")
_EXISTS = (DatabaseExistsError, "a database of this name stands there already.")
_MANY = (TooManyConnectionsError, "the server takes no further connections: try again.")
_LATE = (DatabaseTimeoutError, "the server did not answer in time.")
_GONE = (DatabaseUnreachableError, "the server cannot be reached, or ended the connection.")
_ONLY_READ = (ReadOnlyRouteError, "the database may only be read.")

_BY_NUMBER = {
    4060: _MISSING,
    911: _MISSING,
    18456: _LOGIN,
    18452: _LOGIN,
    18470: _LOGIN,
    18486: _LOGIN,
    916: _DENIED,
    229: _DENIED,
    230: _DENIED,
    262: _DENIED,
    297: _DENIED,
    15247: _DENIED,
    1222: _BUSY,
    1205: _MET,
    1105: _FULL,
    9002: _FULL,
    1801: _EXISTS,
    17809: _MANY,
    17300: _MANY,
    3906: _ONLY_READ,
    6005: _GONE,
}
_BY_WORDS = (
    # mssql-python tells no numbers, and servers that speak the protocol have one for most of what they refuse.
    (r"Cannot open database|[Dd]atabase ['\"].*['\"] does not exist", _MISSING),
    (r"Login failed|authentication failed", _LOGIN),
    (r"deadlock victim|concurrently updated", _MET),
    (r"lock timeout|Lock request time out", _BUSY),
    (r"permission (was )?denied|is not able to access the database|do(es)? not have permission", _DENIED),
    (r"too many clients|connection slots|maximum number of '.*' user connections|number of configured sessions", _MANY),
    (r"Database '.*' already exists", _EXISTS),
    (r"filegroup is full|transaction log for database .* is full", _FULL),
    (r"because the database is read-only", _ONLY_READ),
    (sqlserver_driver.CANNOT_LOAD, (UnsupportedBackendError, sqlserver_driver.NO_DRIVER)),
    (r"SHUTDOWN is in progress", _GONE),
    (r"[Tt]imeout expired|timed out|statement timeout", _LATE),
)
_BY_STATE = {
    "28000": _LOGIN,
    **dict.fromkeys(("HYT00", "HYT01"), _LATE),
    **dict.fromkeys(("08001", "08003", "08007", "08S01", "HY000"), _GONE),
}


class SQLServerBackend(SQLServerPoints, ServerBackend):
    """Keep tenants in databases of SQL Server 2016 or newer."""

    name: ClassVar[str] = "sqlserver"
    label: ClassVar[str] = "SQL Server"
    default_port: ClassVar[int] = 1433
    own_names: ClassVar[frozenset[str]] = frozenset(["master", "model", "msdb", "tempdb", "rdsadmin"])
    rules: ClassVar[Rules] = Rules(brackets=True, nested_comments=True)
    words: ClassVar[Words] = Words(rules, separated=False, counted="SELECT @@TRANCOUNT")
    fence_sql: ClassVar[str] = "SELECT epoch, state FROM tenancy_identity WITH (HOLDLOCK) WHERE id = 1"

    def __init__(self) -> None:
        super().__init__()
        self._recordings = Recordings()
        self._driver = sqlserver_driver.chosen()
        self._errors = self._driver.errors
        self.driver_errors = (self._errors.Error,)
        self.scheme = self._driver.scheme  # type: ignore[misc]  # the other products have one driver each

    def host(self, text: str) -> str:
        """Take ``host\\INSTANCE`` too; connections go to the port."""
        machine, slash, instance = text.partition("\\")
        if slash and not _INSTANCE.fullmatch(instance):
            raise ConfigurationError("db_host names no instance that SQL Server could have.", field="db_host")
        return f"{hosts.host(machine)}{slash}{instance}"

    def given(self, fields: DatabaseFields) -> dict[str, Any]:
        for name in ("db_user", "db_password"):
            self._driver.check(getattr(fields, name) or "", name)
        return super().given(fields)

    # --- connections ------------------------------------------------------------------------------------

    def open(self, login: Login) -> Any:
        try:
            with self.explained():
                return self._driver.open(login)
        except DatabaseUnreachableError as error:
            if type(error) is not DatabaseUnreachableError:  # which says no more than that
                raise
            raise why_unreachable(login) from error

    def at_server(self, login: Login) -> Any:
        driver = self.open(login.into("master").patient())
        driver.autocommit = True
        return driver

    def may_create(self, driver: Any) -> bool | None:
        with self.explained():
            asked = (
                "SELECT IS_SRVROLEMEMBER('sysadmin') + HAS_PERMS_BY_NAME(NULL, NULL, 'CREATE ANY DATABASE')"
                " * HAS_PERMS_BY_NAME(NULL, NULL, 'ALTER ANY LOGIN')"
            )
            found = one(driver, asked)
            return None if found is None else bool(found)

    def socket_of(self, driver: Any) -> int | None:
        return None  # ODBC does not show it

    def begin(self, connection: sa.Connection, write: bool) -> None:
        """There are no transactions that may only read: what would write in one is refused before it is sent."""
        connection.info["only_reads"] = not write

    def engine(self, creator: Any) -> sa.Engine:
        engine = super().engine(creator)
        event.listen(engine, "before_cursor_execute", _refuse_writing)
        return engine

    @contextmanager
    def migrating(self, driver: Any) -> Iterator[sa.Connection]:
        with self.filling(driver) as connection:
            driver.timeout = PATIENCE_S
            if not take_lock(driver, "unify", LOCK_MS):
                raise DatabaseBusyError("another migration of this database is running: wait until it ends.")
            driver.commit()
            yield connection

    @contextmanager
    def filling(self, driver: Any) -> Iterator[sa.Connection]:
        engine = make_engine(self.scheme, lambda: driver, poolclass=sa.StaticPool)
        with closing(driver), self.explained(), engine.connect() as connection:
            yield connection

    # --- rights -----------------------------------------------------------------------------------------

    def settle(self, connection: sa.Connection, tenant: Tenant, access: Access, owned_tables: Sequence[str]) -> None:
        if tenant.origin == Origin.SERVER:
            driver: Any = connection.connection.dbapi_connection
            _grant(driver, tenant.db_user or "")
            driver.commit()

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        may = "SELECT HAS_PERMS_BY_NAME(?, 'OBJECT', ?)"
        with self.explained():
            return [
                table
                for table in tables
                if not all(one(driver, may, (f"dbo.{_q(table)}", right)) for right in rights_on(table))
            ]

    def logins(self, driver: Any, prefix: str) -> list[str]:
        return column(
            driver,
            "SELECT name FROM sys.server_principals WHERE type = 'S' AND LEFT(name, LEN(?)) = ?",
            (prefix, prefix),
        )

    # --- making and removing ----------------------------------------------------------------------------

    def make_login(self, driver: Any, login: Login) -> None:
        with self.explained():
            user, text, secret = _q(login.user), _text(login.user), _text(login.password)
            run(
                driver,
                f"IF SUSER_ID({text}) IS NULL CREATE LOGIN {user} WITH PASSWORD = {secret} "
                f"ELSE ALTER LOGIN {user} WITH PASSWORD = {secret}",
                f"USE {_q(login.database or '')}",
                f"IF DATABASE_PRINCIPAL_ID({text}) IS NULL CREATE USER {user} FOR LOGIN {user}",
            )
            _grant(driver, login.user)
            run(driver, "USE master")

    def drop_login(self, driver: Any, user: str) -> None:
        with self.explained():
            self.end_sessions(driver, f"login_name = {_text(user)}")
            run(driver, f"IF SUSER_ID({_text(user)}) IS NOT NULL DROP LOGIN {_q(user)}")

    def make_database(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        self.make_plain_database(driver, tenant.db_name or "")

    def furnish(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        if tenant.origin != Origin.SERVER:
            return

        def replay(statements: list[Statement]) -> None:
            with closing(self.connect_to_migrate(tenant, access)) as opened, closing(opened.cursor()) as cursor:
                for statement, values in statements:
                    cursor.execute(statement, values) if values else cursor.execute(statement)
                opened.commit()

        with self.explained():
            self._recordings.furnish(
                blueprint,
                lambda: self.migrating(self.connect_to_migrate(tenant, access)),
                replay,
                server=(tenant.db_host, tenant.db_port),
            )

    def make_plain_database(self, driver: Any, name: str) -> None:
        """CREATE DATABASE cannot run in a transaction (226); the driver's are off here."""
        with self.explained():
            if one(driver, "SELECT DB_ID(?)", (name,)) is not None:
                raise DatabaseExistsError("a database of this name stands there already.")
            try:
                self._create(driver, name, f" COLLATE {_COLLATION}")
            except self._errors.ProgrammingError as error:
                if "collation" not in str(error).lower():
                    raise
                self._create(driver, name, "")
            # Readers then see what was committed before, and do not wait for writers.
            with suppress(self._errors.ProgrammingError):
                run(driver, f"ALTER DATABASE {_q(name)} SET READ_COMMITTED_SNAPSHOT ON")

    def _create(self, driver: Any, name: str, how: str) -> None:
        try:
            run(driver, f"CREATE DATABASE {_q(name)}{how}")
        except self._errors.IntegrityError as error:  # two at once: both found the name free
            raise DatabaseExistsError("a database of this name stands there already.") from error

    def drop_database(self, driver: Any, name: str) -> None:
        """A session that is ending still counts for a moment: it is ended, and the drop tried again."""
        deadline = time.monotonic() + DROP_S
        with self.explained():
            while True:
                self.end_sessions(driver, f"database_id = DB_ID({_text(name)})")
                try:
                    return run(driver, f"IF DB_ID({_text(name)}) IS NOT NULL DROP DATABASE {_q(name)}")
                except self._errors.ProgrammingError as error:
                    if "in use" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    def end_sessions(self, driver: Any, which: str) -> None:
        """End sessions; one that ended by itself meanwhile is no error."""
        cursor = driver.cursor()
        cursor.execute(f"SELECT session_id FROM sys.dm_exec_sessions WHERE {which} AND session_id <> @@SPID")  # noqa: S608 - our own words
        sessions = [int(row[0]) for row in cursor.fetchall()]
        cursor.close()
        for session in sessions:
            with suppress(self._errors.Error):
                run(driver, f"KILL {session}")

    def exists(self, tenant: Tenant, access: Access) -> bool:
        """Ask the server: to a login that may not enter, a database that is there looks as if it were not."""
        assert access.admin is not None  # noqa: S101 - what stands on a server has a login
        with closing(self.at_server(access.admin)) as driver, self.explained():
            return one(driver, "SELECT DB_ID(?)", (tenant.db_name,)) is not None

    def size_bytes(self, tenant: Tenant, access: Access) -> int | None:
        try:
            with closing(self.connect_to_migrate(tenant, access)) as driver, self.explained():
                return int(one(driver, "SELECT SUM(CAST(size AS BIGINT)) * 8192 FROM sys.database_files") or 0)
        except DatabaseMissingError:
            return None

    # --- errors -----------------------------------------------------------------------------------------

    def _explain(self, error: BaseException) -> TenancyError | None:
        if not isinstance(error, self._errors.Error) or isinstance(
            error, self._errors.IntegrityError | self._errors.DataError
        ):  # which may quote what somebody wrote
            return None
        told = self._driver.told(error)
        found = _BY_NUMBER.get(told.number or 0)
        found = found or next((kind for words, kind in _BY_WORDS if re.search(words, told.text)), None)
        found = found or _BY_STATE.get(told.state)
        return None if found is None else found[0](found[1])

    def lacks(self, error: BaseException) -> bool:
        """Invalid object and column names are 208 and 207; one of the drivers has only the words for them."""
        cause = getattr(error, "orig", None) or error
        if not isinstance(cause, self._errors.Error):
            return False
        told = self._driver.told(cause)
        return told.number in (207, 208) or "Invalid object name" in told.text or "Invalid column name" in told.text


def _refuse_writing(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
    if connection.info.get("only_reads") and not _READS.match(statement):
        raise ReadOnlyRouteError("this unit of work may only read.")


def _grant(driver: Any, user: str) -> None:
    """Give a tenant's user its rights table by table: it may read, and not write, what the house keeps of it."""
    cursor = driver.cursor()
    cursor.execute("SELECT name FROM sys.tables")
    tables = [row[0] for row in cursor.fetchall()]
    cursor.close()
    for table in tables:
        run(driver, f"GRANT {', '.join(rights_on(table))} ON dbo.{_q(table)} TO {_q(user)}")


def _text(value: str) -> str:
    return "N'" + value.replace("'", "''") + "'"


def _q(name: str) -> str:
    return names.quoted(name, "[]")
