"""Serve tenants from MySQL 8 and MariaDB 10.5 or newer: a database and a login each, their schema replayed.

DDL commits itself there (dev.mysql.com, "Statements That Cause an Implicit Commit"): a revision that is cut off
leaves its first part, and is written so that it can be run again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, ClassVar

import pymysql
import sqlalchemy as sa
from pymysql.constants import CR, ER
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql

from tenancy import names
from tenancy.backends.access import Access, Login
from tenancy.backends.base import FENCE_SQL, Blueprint
from tenancy.backends.gates import Words
from tenancy.backends.mysql.driver import MODES, RULES, WORDS, be_patient, is_mariadb, open_connection
from tenancy.backends.mysql.restore_points import MySQLPoints
from tenancy.backends.placeholders import Rules
from tenancy.backends.server.backend import ServerBackend, column, one, rights_on, run
from tenancy.backends.server.engines import SharedDialect, make_engine
from tenancy.backends.server.network import GONE, UNENCRYPTED, of_network
from tenancy.backends.server.replay import Recordings, Statement
from tenancy.backends.server.restore_points import Way
from tenancy.errors import (
    AccessDeniedError,
    BackendError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    LoginRefusedError,
    ReadOnlyRouteError,
    StatementTooLongError,
    StorageFullError,
    TenancyError,
    TooManyConnectionsError,
    WriteConflictError,
)
from tenancy.models import Origin, Tenant

PATIENCE_S = 600.0
LOCK_S = 30
_PLAIN = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


class SharedMySQLDialect(SharedDialect, MySQLDialect_pymysql):
    """Know the server's version from its greeting; the modes are ours, so that they need not be asked for."""

    supports_statement_cache = True

    def version_of(self, driver: Any) -> Any:
        return (driver.get_server_info(), MODES)

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Leave the driver's own mode alone: a transaction is begun by a statement, and AUTOCOMMIT begins none."""
        if level != "AUTOCOMMIT":
            dbapi_connection.query(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")

    def schema_of(self, driver: Any) -> str | None:
        name = driver.db
        return name.decode() if isinstance(name, bytes) else name


registry.register("mysql.unify", __name__, "SharedMySQLDialect")

_MISSING = (DatabaseMissingError, "the server has no database of this name.")
_DENIED = (AccessDeniedError, "the login has no right to do this.")
_MET = (WriteConflictError, "another writer was first: try again.")
_BUSY = (DatabaseBusyError, "the database is locked by another writer: try again.")
_FULL = (StorageFullError, "the server's disk is full.")
_MANY = (TooManyConnectionsError, "the server takes no further connections: try again.")
_LATE = (StatementTooLongError, "the server took too long to answer.")
_GONE = (DatabaseUnreachableError, GONE)

_BY_CODE: dict[int, tuple[type[TenancyError], str]] = {
    ER.BAD_DB_ERROR: _MISSING,
    ER.DB_CREATE_EXISTS: (DatabaseExistsError, "a database of this name stands there already."),
    ER.ACCESS_DENIED_ERROR: (LoginRefusedError, "the server does not take this login or its password."),
    ER.HOST_NOT_PRIVILEGED: (LoginRefusedError, "the server does not take logins from this machine."),
    ER.DBACCESS_DENIED_ERROR: _DENIED,
    ER.TABLEACCESS_DENIED_ERROR: _DENIED,
    ER.COLUMNACCESS_DENIED_ERROR: _DENIED,
    ER.SPECIFIC_ACCESS_DENIED_ERROR: _DENIED,
    ER.CON_COUNT_ERROR: _MANY,
    ER.TOO_MANY_USER_CONNECTIONS: _MANY,
    ER.USER_LIMIT_REACHED: _MANY,
    ER.DISK_FULL: _FULL,
    ER.RECORD_FILE_FULL: _FULL,
    ER.LOCK_WAIT_TIMEOUT: _BUSY,
    ER.LOCK_DEADLOCK: _MET,
    1792: (ReadOnlyRouteError, "this unit of work may only read."),  # a transaction begun READ ONLY
    ER.QUERY_INTERRUPTED: _LATE,
    1969: _LATE,  # MariaDB: max_statement_time exceeded
    3024: _LATE,  # MySQL: max_execution_time exceeded
    1698: (LoginRefusedError, "the server does not take this login or its password."),
    1020: _MET,  # MariaDB: the record has changed since it was read
    1053: _GONE,  # the server is shutting down
    1927: _GONE,  # the connection was killed
    CR.CR_SSL_CONNECTION_ERROR: (DatabaseUnreachableError, UNENCRYPTED),
}


_STUMBLES = (
    *(ArithmeticError, AssertionError, LookupError, NameError, RuntimeError, ValueError, struct.error),
    pymysql.err.Error,  # one that explain() knows nothing of
)
"""What the driver raises over answers that it cannot read, wants a package for, or will not follow (a local file)."""


class MySQLBackend(MySQLPoints, ServerBackend):
    """Keep tenants in databases of MySQL or MariaDB."""

    name: ClassVar[str] = "mysql"
    label: ClassVar[str] = "MySQL"
    scheme: ClassVar[str] = "mysql+unify"
    default_port: ClassVar[int] = 3306
    own_names: ClassVar[frozenset[str]] = frozenset(["information_schema", "mysql", "performance_schema", "sys"])
    rules: ClassVar[Rules] = RULES
    words: ClassVar[Words] = WORDS
    transactional_ddl: ClassVar[bool] = False
    fence_sql: ClassVar[str] = f"{FENCE_SQL} LOCK IN SHARE MODE"
    driver_errors = (pymysql.err.Error,)

    def __init__(self) -> None:
        super().__init__()
        self._recordings = Recordings()

    # --- connections ------------------------------------------------------------------------------------

    def open(self, login: Login) -> Any:
        return self._opened(login)

    def at_server(self, login: Login) -> Any:
        return self._opened(login.into(None).patient(), several_statements=True)

    def _opened(self, login: Login, **how: bool) -> Any:
        try:
            with self.explained():
                return open_connection(login, **how)
        except _STUMBLES as error:
            raise DatabaseUnreachableError(
                "what answers at this host and port is no MySQL or MariaDB that this system can talk to."
            ) from error

    def connect(self, tenant: Tenant, access: Access) -> Any:
        assert access.login is not None  # noqa: S101 - what stands on a server has a login
        return self._opened(access.login.into(tenant.db_name), only_reads=True)

    def may_create(self, driver: Any) -> bool | None:
        """Look at what is granted to the login itself; what a role brings along is not seen here."""
        with self.explained():
            granted = (
                "SELECT privilege_type FROM information_schema.{}_privileges WHERE grantee = CONCAT(QUOTE(LEFT(%s, "
                "CHAR_LENGTH(%s) - LOCATE('@', REVERSE(%s)))), '@', QUOTE(SUBSTRING_INDEX(%s, '@', -1)))"
            )
            me = (one(driver, "SELECT CURRENT_USER()"),) * 4
            with closing(driver.cursor()) as cursor:
                cursor.execute(f"{granted.format('user')} UNION {granted.format('schema')}", me * 2)
                rights = {row[0] for row in cursor.fetchall()}
            if {"CREATE", "CREATE USER"} <= rights:
                return True
            return None if one(driver, "SELECT CURRENT_ROLE()") not in (None, "NONE") else False

    def socket_of(self, driver: Any) -> int | None:
        return None if driver._sock is None else int(driver._sock.fileno())

    def begin(self, connection: sa.Connection, write: bool) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.query(f"START TRANSACTION READ {'WRITE' if write else 'ONLY'}")

    @contextmanager
    def migrating(self, driver: Any) -> Iterator[sa.Connection]:
        """Leave the driver's own transactions on: what no DDL has committed is one transaction, with its ledger row."""
        with self.filling(driver) as connection:
            be_patient(driver, PATIENCE_S)
            if not one(driver, "SELECT GET_LOCK(CONCAT('unify ', DATABASE()), %s)", (LOCK_S,)):
                raise DatabaseBusyError("another migration of this database is running: wait until it ends.")
            yield connection

    @contextmanager
    def filling(self, driver: Any) -> Iterator[sa.Connection]:
        driver.autocommit(False)
        engine = make_engine(self.scheme, lambda: driver, poolclass=sa.StaticPool)
        with closing(driver), self.explained(), engine.connect() as connection:
            yield connection

    # --- rights -----------------------------------------------------------------------------------------

    def settle(self, connection: sa.Connection, tenant: Tenant, access: Access, owned_tables: Sequence[str]) -> None:
        if tenant.origin == Origin.SERVER:
            driver: Any = connection.connection.dbapi_connection
            run(driver, *self._grants(driver, tenant.db_name or "", tenant.db_user or ""))

    def _grants(self, driver: Any, database: str, user: str) -> Iterator[str]:
        """Give a tenant's login its rights table by table: it may read, and not write, what the house keeps of it."""
        cursor = driver.cursor()
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (database,))
        tables = [row[0] for row in cursor.fetchall()]
        cursor.close()
        for table in tables:
            yield f"GRANT {', '.join(rights_on(table))} ON {_q(database)}.{_q(table)} TO {_user(driver, user)}"

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        """Compare what was granted to this very login: a tenant's has its rights table by table."""
        name, host = (f"QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', {which}))" for which in (1, -1))
        me = f"CONCAT({name}, '@', {host})"
        granted = (
            "SELECT table_name, privilege_type FROM information_schema.table_privileges WHERE table_schema = DATABASE()"
        )
        with self.explained(), closing(driver.cursor()) as cursor:
            cursor.execute(f"{granted} AND grantee = {me}")
            found = set(cursor.fetchall())
        return [table for table in tables if not {(table, right) for right in rights_on(table)} <= found]

    def logins(self, driver: Any, prefix: str) -> list[str]:
        return column(driver, "SELECT user FROM mysql.user WHERE LEFT(user, CHAR_LENGTH(%s)) = %s", (prefix, prefix))

    # --- making and removing ----------------------------------------------------------------------------

    def make_login(self, driver: Any, login: Login) -> None:
        """Send MariaDB the password hashed, as its log may hold it; MySQL leaves passwords out of its logs itself."""
        with self.explained():
            who = _user(driver, login.user)
            if is_mariadb(driver):
                secret = f"VIA mysql_native_password USING '{_native_hash(login.password)}'"
            else:
                secret = f"BY {driver.escape(login.password)}"
            made = [f"CREATE USER IF NOT EXISTS {who} IDENTIFIED {secret}", f"ALTER USER {who} IDENTIFIED {secret}"]
            _run_at_once(driver, [*made, *self._grants(driver, login.database or "", login.user)])

    def drop_login(self, driver: Any, user: str) -> None:
        with self.explained():
            run(driver, f"DROP USER IF EXISTS {_user(driver, user)}")

    def make_database(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        self.make_plain_database(driver, tenant.db_name or "")

    def furnish(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        if tenant.origin != Origin.SERVER:
            return

        def replay(statements: list[Statement]) -> None:
            driver.select_db(tenant.db_name)
            cursor = driver.cursor()
            _run_at_once(driver, [cursor.mogrify(text, values) for text, values in statements])

        with self.explained():
            self._recordings.furnish(
                blueprint,
                lambda: self.migrating(self.connect_to_migrate(tenant, access)),
                replay,
                server=driver.server,
                told=lambda connection: _told(connection.connection.dbapi_connection),
            )

    def make_plain_database(self, driver: Any, name: str) -> None:
        with self.explained():
            run(driver, f"CREATE DATABASE {_q(name)} {_PLAIN}")

    def drop_database(self, driver: Any, name: str) -> None:
        """End the sessions there first: an open transaction would hold the database."""
        with self.explained():
            self.end_sessions(driver, name)
            run(driver, f"DROP DATABASE IF EXISTS {_q(name)}")

    def clear(self, driver: Any, tenant: Tenant, access: Access) -> None:
        with self.explained():
            self.end_sessions(driver, tenant.db_name or "", access.login)

    def end_sessions(self, driver: Any, name: str, own: Login | None = None) -> None:
        """End what the login may end; others' sessions only with CONNECTION ADMIN, which managed servers do not give.

        Every login may end its own, so that ``own``, the tenant's, is entered for them. A session that stays is in the
        way only while its transaction lasts, which is waited for as for every lock.
        """
        staying = [session for session in _sessions(driver, name) if not _kill(driver, session)]
        if staying and own is not None:
            with suppress(BackendError), closing(self.open(own.into(None))) as as_tenant:
                for session in staying:
                    _kill(as_tenant, session)

    def give_rights(self, way: Way) -> None:
        """Give them again: those on a table that was dropped may have gone with it."""
        if way.tenant.origin == Origin.SERVER:
            run(way.driver, *self._grants(way.driver, way.database, way.tenant.db_user or ""))

    def size_bytes(self, tenant: Tenant, access: Access) -> int | None:
        size = "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
        try:
            with closing(self.connect_to_migrate(tenant, access)) as driver, self.explained():
                return int(one(driver, size) or 0)
        except DatabaseMissingError:
            return None

    # --- errors -----------------------------------------------------------------------------------------

    def _explain(self, error: BaseException) -> TenancyError | None:
        if isinstance(error, OSError):  # of the socket that was opened for the driver
            return of_network(error)
        if not isinstance(error, pymysql.err.Error):
            return None
        code = _code(error)
        if code in _BY_CODE:
            kind, text = _BY_CODE[code]
            return kind(text)
        if not 2000 <= code < 3000:  # the driver's own are there (dev.mysql.com, "Client Error Message Reference")
            return DatabaseUnreachableError(GONE) if isinstance(error, pymysql.err.InterfaceError) else None
        origin = getattr(error, "original_exception", None) or error.__context__  # the driver keeps it in either place
        return of_network(origin) if isinstance(origin, OSError) else DatabaseUnreachableError(GONE)

    def lacks(self, error: BaseException) -> bool:
        return _code(getattr(error, "orig", None) or error) in (ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR)


def _code(error: BaseException) -> int:
    """Give the number of an error; 0 where it has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _run_at_once(driver: Any, statements: list[str]) -> None:
    """Send statements in one text, on a connection that takes several."""
    with closing(driver.cursor()) as cursor:
        cursor.execute(";\n".join(statements))
        while cursor.nextset():  # a later statement's error comes with its result
            pass


def _told(driver: Any) -> list[Statement] | None:
    """Give what makes the database that a connection is in: its tables as they are, and the rows they hold.

    None where more than tables stands there, of which this does not tell.
    """
    here = "table_schema = DATABASE()"
    if one(
        driver,
        f"SELECT (SELECT COUNT(*) FROM information_schema.tables WHERE {here} AND table_type <> 'BASE TABLE')"  # noqa: S608 - constants only
        " + (SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = DATABASE())"
        " + (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = DATABASE())"
        " + (SELECT COUNT(*) FROM information_schema.events WHERE event_schema = DATABASE())",
    ):
        return None
    with closing(driver.cursor()) as cursor:
        # Not by EXTRA, which MySQL 8 fills with DEFAULT_GENERATED for a column whose default is an expression
        # (its manual, "The INFORMATION_SCHEMA COLUMNS Table"): what is written there is kept, as in any other.
        written = f"SELECT table_name, column_name FROM information_schema.columns WHERE {here}"  # noqa: S608 - constants only
        kept = "COALESCE(generation_expression, '') = ''"
        cursor.execute(f"{written} AND {kept} ORDER BY table_name, ordinal_position")
        columns: dict[str, list[str]] = {}
        for table, column in cursor.fetchall():
            columns.setdefault(table, []).append(_q(column))
        made: list[Statement] = [("SET foreign_key_checks = 0", ())]
        for table, names_of in columns.items():
            cursor.execute(f"SHOW CREATE TABLE {_q(table)}")
            made.append((cursor.fetchone()[1].replace("%", "%%"), ()))
            listed = ", ".join(names_of)
            cursor.execute(f"SELECT {listed} FROM {_q(table)}")  # noqa: S608 - quoted names
            marks = ", ".join(["%s"] * len(names_of))
            made += [(f"INSERT INTO {_q(table)} ({listed}) VALUES ({marks})", row) for row in cursor.fetchall()]  # noqa: S608 - quoted names
    return [*made, ("SET foreign_key_checks = 1", ())]


def _sessions(driver: Any, name: str) -> list[int]:
    found = column(driver, "SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
    return [session for session in found if session != driver.thread_id()]


def _kill(driver: Any, session: int) -> bool:
    """End a session; say whether the login may."""
    try:
        run(driver, f"KILL {int(session)}")
    except pymysql.err.OperationalError as error:
        if error.args[0] == ER.KILL_DENIED_ERROR:
            return False
        if error.args[0] != ER.NO_SUCH_THREAD:  # it ended by itself
            raise
    return True


def _native_hash(password: str) -> str:
    """Hash a password as mysql_native_password keeps it: the second of two SHA-1 (mariadb.com, PASSWORD)."""
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return f"*{hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()}"


def _user(driver: Any, name: str) -> str:
    return f"{driver.escape(name)}@'%'"


def _q(name: str) -> str:
    return names.quoted(name, "``")
