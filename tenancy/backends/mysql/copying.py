"""Read all rows of a MySQL or MariaDB database from one snapshot, and fill one that nobody uses yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import sqlalchemy as sa
from pymysql.cursors import SSCursor

from tenancy.backends.copying import Column, Copying, Found, Kind, Table
from tenancy.backends.mysql.driver import be_patient
from tenancy.backends.server.sql import column as first_column, run
from tenancy.backends.server.tables import by_table
from tenancy.errors import MigrationError

PATIENCE_S = 600.0

_TABLES = (
    "SELECT c.table_name, c.column_name FROM information_schema.columns c "
    "JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
    "WHERE c.table_schema = DATABASE() AND t.table_type = 'BASE TABLE' "
    "AND COALESCE(c.generation_expression, '') = '' ORDER BY BINARY c.table_name, c.ordinal_position"
)
_TRIGGERS = "SELECT event_object_table FROM information_schema.triggers WHERE trigger_schema = DATABASE()"


class MySQLCopying(Copying):
    """Copy rows by an unbuffered cursor and INSERTs of many rows."""

    quotes = "``"

    @contextmanager
    def frozen(self, driver: Any) -> Iterator[sa.Connection]:
        with self.backend.filling(driver) as connection:
            be_patient(driver, PATIENCE_S)
            run(
                driver,
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                f"SET SESSION net_write_timeout = {PATIENCE_S:.0f}",  # while we work, the server waits to send more
                "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            )
            yield connection

    def tables(self, connection: sa.Connection) -> Found:
        driver: Any = connection.connection.dbapi_connection
        with closing(driver.cursor()) as cursor:
            cursor.execute(_TABLES)
            found = by_table(cursor.fetchall())
        return {table: tuple(name for (name,) in columns) for table, columns in found.items()}

    def peculiar(self, connection: sa.Connection) -> dict[str, str]:
        driver: Any = connection.connection.dbapi_connection
        return dict.fromkeys(first_column(driver, _TRIGGERS), "has triggers")

    def cursor(self, connection: sa.Connection, table: Table) -> Any:
        driver: Any = connection.connection.dbapi_connection
        return driver.cursor(SSCursor)

    def read(self, column: Column) -> str:
        name = self.q(column.name)
        if column.kind is Kind.MOMENT:
            return f"DATE_FORMAT({name}, '%Y-%m-%d %H:%i:%s.%f')"
        if column.kind is Kind.DATE:
            return f"DATE_FORMAT({name}, '%Y-%m-%d')"
        return f"CAST({name} AS CHAR)" if column.kind is Kind.DECIMAL else name

    def sorted(self, column: Column, table: Table) -> str:
        """Sort texts as bytes: collations pad with blanks, so that a text may come after one that it begins."""
        return f"BINARY {self.q(column.name)}" if column.kind is Kind.TEXT else self.q(column.name)

    def loosen(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        run(driver, "SET SESSION foreign_key_checks = 0")

    def tighten(self, connection: sa.Connection) -> None:
        """Look for rows without a parent: the server checks what is written from now on, and nothing written before."""
        found = sa.MetaData()
        found.reflect(connection)
        broken = self.backend.checks.dangling(connection, list(found.tables.values()))
        if broken:
            child, parent = broken[0]
            raise MigrationError(f"there are rows of {child} without their parent in {parent}.")
        driver: Any = connection.connection.dbapi_connection
        run(driver, "SET SESSION foreign_key_checks = 1")
