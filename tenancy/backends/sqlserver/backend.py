"""Serve tenants from SQL Server: a database, a login and the login's user each.

Written for SQL Server itself. A server of another product that speaks its protocol may have no collations or options
of a database, or no lock hints: it is then used without them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event

from tenancy import hosts
from tenancy.backends.access import Access, Login
from tenancy.backends.base import DatabaseFields
from tenancy.backends.gates import Words
from tenancy.backends.placeholders import Rules
from tenancy.backends.server.backend import LOCK_S, rights_on
from tenancy.backends.server.network import why_unreachable
from tenancy.backends.server.replay import ReplayingBackend, Statement
from tenancy.backends.server.sql import column, one, run
from tenancy.backends.sqlserver import driver as sqlserver_driver
from tenancy.backends.sqlserver.checks import SQLServerChecks
from tenancy.backends.sqlserver.copying import SQLServerCopying
from tenancy.backends.sqlserver.errors import explain, lacks
from tenancy.backends.sqlserver.restore_points import SQLServerRestorePoints
from tenancy.backends.sqlserver.tables import q, text
from tenancy.errors import (
    ConfigurationError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseUnreachableError,
    ReadOnlyRouteError,
    TenancyError,
)
from tenancy.models import Origin, Tenant

PATIENCE_S = 600
MIGRATION_LOCK_S = 30
DROP_S = 10.0
_COLLATION = "Latin1_General_100_BIN2"
_INSTANCE = re.compile(r"[A-Za-z_#][A-Za-z0-9_$#]{0,15}")
_READS = re.compile(r"\s*(SELECT|WITH|SET|IF|(SAVE|ROLLBACK)\s+TRANSACTION)\b", re.IGNORECASE)


class SQLServerBackend(ReplayingBackend):
    """Keep tenants in databases of SQL Server 2016 or newer."""

    name: ClassVar[str] = "sqlserver"
    label: ClassVar[str] = "SQL Server"
    default_port: ClassVar[int] = 1433
    own_names: ClassVar[frozenset[str]] = frozenset(["master", "model", "msdb", "tempdb", "rdsadmin"])
    rules: ClassVar[Rules] = Rules(brackets=True, nested_comments=True)
    words: ClassVar[Words] = Words(rules, separated=False, counted="SELECT @@TRANCOUNT")
    size_sql: ClassVar[str] = "SELECT SUM(CAST(size AS BIGINT)) * 8192 FROM sys.database_files"
    fence_sql: ClassVar[str] = "SELECT epoch, state FROM tenancy_identity WITH (HOLDLOCK) WHERE id = 1"

    def __init__(self) -> None:
        super().__init__()
        self.restore_points = SQLServerRestorePoints(self)
        self.checks = SQLServerChecks(self)
        self.copying = SQLServerCopying(self)
        self._driver = sqlserver_driver.chosen()
        self._errors = self._driver.errors
        self.driver_errors = (self._errors.Error,)
        self.scheme = self._driver.scheme  # type: ignore[misc]  # the other products have one driver each

    def host(self, text: str) -> str:
        """Accept ``host\\INSTANCE`` too; the connection goes to the port, whatever the instance's name."""
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
            if type(error) is not DatabaseUnreachableError:  # a subclass says why
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
        """Remember the mode: the server has no read-only transactions, so ``_refuse_writing`` refuses writes."""
        connection.info["only_reads"] = not write

    def engine(self, creator: Any) -> sa.Engine:
        engine = super().engine(creator)
        event.listen(engine, "before_cursor_execute", _refuse_writing)
        return engine

    @contextmanager
    def migrating(self, driver: Any) -> Iterator[sa.Connection]:
        with self.filling(driver) as connection:
            driver.timeout = PATIENCE_S
            if not _take_lock(driver, "unify", MIGRATION_LOCK_S * 1000):
                raise DatabaseBusyError("another migration of this database is running: wait until it ends.")
            driver.commit()
            yield connection

    # --- rights -----------------------------------------------------------------------------------------

    def grant_rights(
        self, connection: sa.Connection, tenant: Tenant, access: Access, owned_tables: Sequence[str]
    ) -> None:
        if tenant.origin == Origin.SERVER:
            driver: Any = connection.connection.dbapi_connection
            _grant(driver, tenant.db_user or "")
            driver.commit()

    def logins(self, driver: Any, prefix: str) -> list[str]:
        return column(
            driver,
            "SELECT name FROM sys.server_principals WHERE type = 'S' AND LEFT(name, LEN(?)) = ?",
            (prefix, prefix),
        )

    def databases(self, driver: Any, prefix: str) -> list[str]:
        return column(driver, "SELECT name FROM sys.databases WHERE LEFT(name, LEN(?)) = ?", (prefix, prefix))

    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        return _take_lock(driver, f"unify {name}", wait_s * 1000)

    # --- making and removing ----------------------------------------------------------------------------

    def make_login(self, driver: Any, login: Login) -> None:
        with self.explained():
            user, named, secret = q(login.user), text(login.user), text(login.password)
            run(
                driver,
                f"IF SUSER_ID({named}) IS NULL CREATE LOGIN {user} WITH PASSWORD = {secret} "
                f"ELSE ALTER LOGIN {user} WITH PASSWORD = {secret}",
                f"USE {q(login.database or '')}",
                f"IF DATABASE_PRINCIPAL_ID({named}) IS NULL CREATE USER {user} FOR LOGIN {user}",
            )
            _grant(driver, login.user)
            run(driver, "USE master")

    def drop_login(self, driver: Any, user: str) -> None:
        with self.explained():
            self.end_sessions(driver, f"login_name = {text(user)}")
            run(driver, f"IF SUSER_ID({text(user)}) IS NOT NULL DROP LOGIN {q(user)}")

    def replay(self, driver: Any, tenant: Tenant, access: Access, statements: list[Statement]) -> None:
        with closing(self.connect_to_migrate(tenant, access)) as opened, closing(opened.cursor()) as cursor:
            for statement, values in statements:
                cursor.execute(statement, values) if values else cursor.execute(statement)
            opened.commit()

    def make_plain_database(self, driver: Any, name: str) -> None:
        """CREATE DATABASE, over a connection in autocommit mode: it cannot run in a transaction (error 226)."""
        with self.explained():
            if one(driver, "SELECT DB_ID(?)", (name,)) is not None:
                raise DatabaseExistsError("a database of this name already exists.")
            try:
                self._create(driver, name, f" COLLATE {_COLLATION}")
            except self._errors.ProgrammingError as error:
                if "collation" not in str(error).lower():
                    raise
                self._create(driver, name, "")
            # Readers see the last committed rows and do not wait for writers; backups read one state (copying.py).
            for option in ("READ_COMMITTED_SNAPSHOT", "ALLOW_SNAPSHOT_ISOLATION"):
                with suppress(self._errors.ProgrammingError):
                    run(driver, f"ALTER DATABASE {q(name)} SET {option} ON")

    def _create(self, driver: Any, name: str, how: str) -> None:
        try:
            run(driver, f"CREATE DATABASE {q(name)}{how}")
        except self._errors.IntegrityError as error:  # another session made it at the same moment
            raise DatabaseExistsError("a database of this name already exists.") from error

    def drop_database(self, driver: Any, name: str) -> None:
        """KILL the sessions and DROP, again and again: a session that was killed is in the way until it has ended."""
        deadline = time.monotonic() + DROP_S
        with self.explained():
            while True:
                self.end_sessions(driver, f"database_id = DB_ID({text(name)})")
                try:
                    return run(driver, f"IF DB_ID({text(name)}) IS NOT NULL DROP DATABASE {q(name)}")
                except self._errors.ProgrammingError as error:
                    if "in use" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    def end_sessions(self, driver: Any, which: str) -> None:
        """KILL the sessions that a condition finds; an error means that the session has ended by itself."""
        cursor = driver.cursor()
        cursor.execute(f"SELECT session_id FROM sys.dm_exec_sessions WHERE {which} AND session_id <> @@SPID")  # noqa: S608 - our own words
        sessions = [int(row[0]) for row in cursor.fetchall()]
        cursor.close()
        for session in sessions:
            with suppress(self._errors.Error):
                run(driver, f"KILL {session}")

    def exists(self, tenant: Tenant, access: Access) -> bool:
        """Ask the server by DB_ID: to a login that may not enter it, a database seems to be missing (error 4060)."""
        with self.administering(access) as driver:
            return one(driver, "SELECT DB_ID(?)", (tenant.db_name,)) is not None

    # --- errors -----------------------------------------------------------------------------------------

    def _explain(self, error: BaseException) -> TenancyError | None:
        return explain(self._driver, error)

    def lacks(self, error: BaseException) -> bool:
        return lacks(self._driver, error)


def _take_lock(driver: Any, name: str, wait_ms: int) -> bool:
    """Take a lock by sp_getapplock, which the session holds until it ends; False if it is not free in time.

    A server that has something to say about the lock sends that as a result of its own, before the answer.
    """
    asked = (
        f"SET NOCOUNT ON; DECLARE @got INT; EXEC @got = sp_getapplock {text(name)}, @LockOwner = 'Session',"
        f" @LockMode = 'Exclusive', @LockTimeout = {wait_ms}; SET NOCOUNT OFF; SELECT @got"
    )
    with closing(driver.cursor()) as cursor:
        cursor.execute(asked)
        while cursor.description is None and cursor.nextset():
            pass
        return int(cursor.fetchone()[0]) >= 0


def _refuse_writing(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
    if connection.info.get("only_reads") and not _READS.match(statement):
        raise ReadOnlyRouteError("this unit of work may only read.")


def _grant(driver: Any, user: str) -> None:
    """GRANT a tenant's user its rights table by table, as tenancy tables are read-only to it."""
    for table in column(driver, "SELECT name FROM sys.tables"):
        run(driver, f"GRANT {', '.join(rights_on(table))} ON dbo.{q(table)} TO {q(user)}")
