"""Serve tenants from MySQL 8 and MariaDB 10.5 or newer: a database and a login each.

DDL commits itself there (dev.mysql.com, "Statements That Cause an Implicit Commit"). A revision that is killed leaves
its first statements behind, so revisions are written in such a way that they can be run again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, ClassVar

import pymysql
import sqlalchemy as sa
from pymysql.constants import ER

from tenancy.backends.access import Access, Login
from tenancy.backends.base import FENCE_SQL
from tenancy.backends.gates import Words
from tenancy.backends.mysql import errors
from tenancy.backends.mysql.checks import MySQLChecks
from tenancy.backends.mysql.copying import MySQLCopying
from tenancy.backends.mysql.dialect import SCHEME
from tenancy.backends.mysql.driver import RULES, WORDS, be_patient, is_mariadb, open_connection
from tenancy.backends.mysql.restore_points import MySQLRestorePoints
from tenancy.backends.mysql.tables import dump, q
from tenancy.backends.placeholders import Rules
from tenancy.backends.server.backend import LOCK_S, rights_on
from tenancy.backends.server.replay import ReplayingBackend, Statement
from tenancy.backends.server.sql import column, one, run
from tenancy.errors import (
    BackendError,
    DatabaseBusyError,
    DatabaseUnreachableError,
)
from tenancy.models import Origin, Tenant

PATIENCE_S = 600.0
"""How long a migration may wait for more bytes of an answer."""

MIGRATION_LOCK_S = 30
_PLAIN = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


_UNREADABLE = (
    *(ArithmeticError, AssertionError, LookupError, NameError, RuntimeError, ValueError, struct.error),
    pymysql.err.Error,  # one that explain() has no translation for
)
"""What PyMySQL raises over an answer that is no MySQL protocol, needs another package, or asks for a local file."""


class MySQLBackend(ReplayingBackend):
    """Keep tenants in databases of MySQL or MariaDB."""

    name: ClassVar[str] = "mysql"
    label: ClassVar[str] = "MySQL"
    scheme: ClassVar[str] = SCHEME
    default_port: ClassVar[int] = 3306
    own_names: ClassVar[frozenset[str]] = frozenset(["information_schema", "mysql", "performance_schema", "sys"])
    rules: ClassVar[Rules] = RULES
    words: ClassVar[Words] = WORDS
    transactional_ddl: ClassVar[bool] = False
    fence_sql: ClassVar[str] = f"{FENCE_SQL} LOCK IN SHARE MODE"
    size_sql: ClassVar[str] = (
        "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
    )
    driver_errors = (pymysql.err.Error,)
    _explain, lacks = staticmethod(errors.explain), staticmethod(errors.lacks)

    def __init__(self) -> None:
        super().__init__()
        self.restore_points = MySQLRestorePoints(self)
        self.checks = MySQLChecks(self)
        self.copying = MySQLCopying(self)

    # --- connections ------------------------------------------------------------------------------------

    def open(self, login: Login) -> Any:
        return self._opened(login)

    def at_server(self, login: Login) -> Any:
        return self._opened(login.into(None).patient(), several_statements=True)

    def _opened(self, login: Login, **how: bool) -> Any:
        try:
            with self.explained():
                return open_connection(login, **how)
        except _UNREADABLE as error:
            raise DatabaseUnreachableError(
                "what answers at this host and port is no MySQL or MariaDB that this system can talk to."
            ) from error

    def connect(self, tenant: Tenant, access: Access) -> Any:
        assert access.login is not None  # noqa: S101 - what is on a server has a login
        return self._opened(access.login.into(tenant.db_name), only_reads=True)

    def may_create(self, driver: Any) -> bool | None:
        """Look at what is granted to the login itself; None if the login has a role, whose rights are not looked up."""
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
        """Take the migration lock of the database; autocommit is off, so that rows and ledger commit together."""
        with self.filling(driver) as connection:
            be_patient(driver, PATIENCE_S)
            if not one(driver, "SELECT GET_LOCK(CONCAT('unify ', DATABASE()), %s)", (MIGRATION_LOCK_S,)):
                raise DatabaseBusyError("another migration of this database is running: wait until it ends.")
            yield connection

    @contextmanager
    def filling(self, driver: Any) -> Iterator[sa.Connection]:
        driver.autocommit(False)
        with super().filling(driver) as connection:
            yield connection

    # --- rights -----------------------------------------------------------------------------------------

    def grant_rights(
        self, connection: sa.Connection, tenant: Tenant, access: Access, owned_tables: Sequence[str]
    ) -> None:
        self.grant_again(connection.connection.dbapi_connection, tenant)

    def grant_again(self, driver: Any, tenant: Tenant) -> None:
        """GRANT the rights on all tables: those on a table that was dropped may be gone with it."""
        if tenant.origin == Origin.SERVER:
            run(driver, *self._grants(driver, tenant.db_name or "", tenant.db_user or ""))

    def _grants(self, driver: Any, database: str, user: str) -> Iterator[str]:
        """Write the GRANTs for a tenant's login, one for each table, as tenancy tables are read-only to it."""
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
        for table in column(driver, tables, (database,)):
            yield f"GRANT {', '.join(rights_on(table))} ON {q(database)}.{q(table)} TO {_user(driver, user)}"

    def logins(self, driver: Any, prefix: str) -> list[str]:
        return column(driver, "SELECT user FROM mysql.user WHERE LEFT(user, CHAR_LENGTH(%s)) = %s", (prefix, prefix))

    def databases(self, driver: Any, prefix: str) -> list[str]:
        listed = "SELECT schema_name FROM information_schema.schemata WHERE LEFT(schema_name, CHAR_LENGTH(%s)) = %s"
        return column(driver, listed, (prefix, prefix))

    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        """GET_LOCK: for the name of a database it is the lock that a migration of that database takes too."""
        return bool(one(driver, "SELECT GET_LOCK(CONCAT('unify ', %s), %s)", (name, wait_s)))

    # --- making and removing ----------------------------------------------------------------------------

    def make_login(self, driver: Any, login: Login) -> None:
        """CREATE USER; MariaDB gets a hash, as its log may hold the statement. MySQL leaves passwords out of logs."""
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

    def replay(self, driver: Any, tenant: Tenant, access: Access, statements: list[Statement]) -> None:
        driver.select_db(tenant.db_name)
        cursor = driver.cursor()
        _run_at_once(driver, [cursor.mogrify(text, values) for text, values in statements])

    def dump(self, connection: sa.Connection) -> list[Statement] | None:
        return dump(connection.connection.dbapi_connection)

    def make_plain_database(self, driver: Any, name: str) -> None:
        with self.explained():
            run(driver, f"CREATE DATABASE {q(name)} {_PLAIN}")

    def drop_database(self, driver: Any, name: str) -> None:
        """End the database's sessions first: DROP DATABASE waits for open transactions."""
        with self.explained():
            self.end_sessions(driver, name)
            run(driver, f"DROP DATABASE IF EXISTS {q(name)}")

    def clear(self, driver: Any, tenant: Tenant, access: Access) -> None:
        with self.explained():
            self.end_sessions(driver, tenant.db_name or "", access.login)

    def end_sessions(self, driver: Any, name: str, own: Login | None = None) -> None:
        """KILL the sessions in a database, as the login of ``driver`` and then as ``own``, the tenant's login.

        Other logins' sessions can be killed with CONNECTION ADMIN alone, which managed servers do not grant; every
        login may kill its own. A session that stays is in the way only while its transaction is open, and statements
        wait for that as for any lock.
        """
        staying = [session for session in _sessions(driver, name) if not _kill(driver, session)]
        if staying and own is not None:
            with suppress(BackendError), closing(self.open(own.into(None))) as as_tenant:
                for session in staying:
                    _kill(as_tenant, session)


def _run_at_once(driver: Any, statements: list[str]) -> None:
    """Send several statements as one text, over a connection that allows that (CLIENT.MULTI_STATEMENTS)."""
    with closing(driver.cursor()) as cursor:
        cursor.execute(";\n".join(statements))
        while cursor.nextset():  # the error of a later statement comes with its result
            pass


def _sessions(driver: Any, name: str) -> list[int]:
    found = column(driver, "SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
    return [session for session in found if session != driver.thread_id()]


def _kill(driver: Any, session: int) -> bool:
    """KILL a session; False if the login may not."""
    try:
        run(driver, f"KILL {int(session)}")
    except pymysql.err.OperationalError as error:
        if error.args[0] == ER.KILL_DENIED_ERROR:
            return False
        if error.args[0] != ER.NO_SUCH_THREAD:  # it ended by itself
            raise
    return True


def _native_hash(password: str) -> str:
    """Hash a password as the plugin mysql_native_password stores it: SHA-1 of SHA-1 (mariadb.com, "PASSWORD")."""
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return f"*{hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()}"


def _user(driver: Any, name: str) -> str:
    return f"{driver.escape(name)}@'%'"
