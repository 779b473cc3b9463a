"""Extend SQLAlchemy's SQL Server dialects, one for each driver, with what the application needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mssql import DATETIME2
from sqlalchemy.dialects.mssql.base import MSDialect, MSSQLCompiler
from sqlalchemy.dialects.mssql.mssqlpython import MSDialect_mssqlpython
from sqlalchemy.dialects.mssql.pyodbc import MSDialect_pyodbc

from tenancy.backends.gates import Around
from tenancy.backends.server.engines import SharedDialect

OVER_PYODBC, OVER_MSSQLPYTHON = "mssql+unify", "mssql+unify_mssqlpython"
_DBMS_VERSION = 18  # SQL_DBMS_VER of ODBC's SQLGetInfo
_PLACEHOLDER = re.compile(r"%%|%\((.+?)\)s")  # matches %% too, so that no part of it is taken for a placeholder
_NOTHING_TO_ROLL_BACK = re.compile(r"\(3903\)|no corresponding BEGIN|only be used in transaction blocks")


class _Written:
    """Send dates and times as ISO texts, which the server converts: FreeTDS gets days before 1700 wrong."""

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return lambda value: None if value is None else value.isoformat()


class _Day(_Written, sa.Date):
    pass


class _Moment(_Written, DATETIME2):
    pass


_TYPES = {sa.Date: _Day, DATETIME2: _Moment}


class _Locking(MSSQLCompiler):
    """Write FOR UPDATE as WITH (UPDLOCK) at each table; SQLAlchemy's own compiler leaves it out.

    ``_for_update_arg`` is private: SQLAlchemy has no public way to ask a SELECT whether it is FOR UPDATE.
    """

    def visit_select(self, select_stmt: Any, *args: Any, **kw: Any) -> Any:
        if select_stmt._for_update_arg is not None:
            for table in select_stmt.get_final_froms():
                select_stmt = select_stmt.with_hint(table, "WITH (UPDLOCK)", "mssql")
        return super().visit_select(select_stmt, *args, **kw)  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy


class _SharedMSDialect(SharedDialect, MSDialect):
    statement_compiler = _Locking

    def create_connect_args(self, url: sa.URL) -> tuple[list[str], dict[str, Any]]:
        """Return no arguments: the engine's creator makes connections, and its URL is only shown."""
        return [], {}

    def version_of(self, driver: Any) -> Any:
        return driver.getinfo(_DBMS_VERSION)

    def schema_of(self, driver: Any) -> str | None:
        return "dbo"

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        """Return the level that ``Driver.open`` sets; not every login may query it, nor every server."""
        return "READ COMMITTED"

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Set it over the driver's own connection, past the statement filter, which refuses it from callers."""
        super().set_isolation_level(_plain(dbapi_connection), level)  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy

    def do_savepoint(self, connection: sa.Connection, name: str) -> None:
        """BEGIN TRANSACTION first if none is open, past the statement filter: SAVE needs one.

        With the driver's autocommit off (IMPLICIT_TRANSACTIONS) a transaction begins when a table is first used.
        """
        with closing(_plain(connection.connection.dbapi_connection).cursor()) as cursor:
            cursor.execute("IF @@TRANCOUNT = 0 BEGIN TRANSACTION")
        connection.exec_driver_sql(f"SAVE TRANSACTION {name}")

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Ignore error 3903, nothing to roll back: the server rolled back itself, with the error that is raised."""
        try:
            super().do_rollback(dbapi_connection)  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
        except self.loaded_dbapi.Error as error:
            if not _NOTHING_TO_ROLL_BACK.search(str(error)):
                raise


class OverPyodbc(_SharedMSDialect, MSDialect_pyodbc):
    """Use no setinputsizes(): FreeTDS refuses the sizes that SQLAlchemy would state (HY090)."""

    supports_statement_cache = True
    colspecs = {**MSDialect_pyodbc.colspecs, **_TYPES}  # noqa: RUF012 - a plain dict in SQLAlchemy too

    def __init__(self, **kw: Any) -> None:
        super().__init__(**{"use_setinputsizes": False, **kw})  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Recognize a killed session: FreeTDS reports it as a general error without a native number."""
        if isinstance(e, self.loaded_dbapi.Error) and e.args and e.args[0] in ("HY000", "HYT01", "08001"):
            return True
        return bool(super().is_disconnect(e, connection, cursor))  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy


class OverMSSQLPython(_SharedMSDialect, MSDialect_mssqlpython):
    """Write NULL into the SQL text instead of binding None.

    For a bound None the driver asks the server for the parameter's type. That is a round trip, and some servers roll
    the transaction back over it.
    """

    supports_statement_cache = True
    colspecs = {**MSDialect_mssqlpython.colspecs, **_TYPES}  # noqa: RUF012 - a plain dict in SQLAlchemy too

    def _get_server_version_info(self, connection: sa.Connection) -> tuple[int, ...]:
        """Ask the driver: SQLAlchemy reads the sentence of @@VERSION, which other products word differently.

        Private to SQLAlchemy, which calls it in ``initialize``.
        """
        return tuple(map(int, self.version_of(connection.connection.dbapi_connection).split(".")))

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        statement, (parameters,) = _with_nulls(statement, [parameters])
        cursor.execute(statement, parameters)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        cursor.executemany(*_with_nulls(statement, parameters))


def _plain(connection: Any) -> Any:
    return connection.driver if isinstance(connection, Around) else connection


def _with_nulls(statement: str, rows: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return the statement with NULL for each parameter that is None in every row, and the rows without those."""
    if not rows or not isinstance(rows[0], dict):
        return statement, rows
    gone = {name for name in rows[0] if all(row[name] is None for row in rows)}
    if not gone:
        return statement, rows
    written = _PLACEHOLDER.sub(lambda found: "NULL" if found[1] in gone else found[0], statement)
    return written, [{name: value for name, value in row.items() if name not in gone} for row in rows]


registry.register("mssql.unify", __name__, "OverPyodbc")
registry.register("mssql.unify_mssqlpython", __name__, "OverMSSQLPython")
