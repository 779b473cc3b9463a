"""Read all rows of a SQL Server database from one snapshot, and fill one that nobody uses yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from tenancy.backends.copying import Column, Copying, Found, Kind, Row, Table, converted
from tenancy.backends.server.sql import column as first_column, one, run
from tenancy.backends.server.tables import by_table

PATIENCE_S = 600

_TABLES = (
    "SELECT CASE WHEN t.schema_id = SCHEMA_ID('dbo') THEN t.name ELSE SCHEMA_NAME(t.schema_id) + '.' + t.name END, "
    "c.name FROM sys.tables t JOIN sys.columns c ON c.object_id = t.object_id "
    "WHERE c.is_computed = 0 ORDER BY t.name, c.column_id"
)
_TRIGGERS = "SELECT OBJECT_NAME(parent_id) FROM sys.triggers WHERE parent_class = 1"


class SQLServerCopying(Copying):
    """Copy rows under SNAPSHOT isolation, which ``make_plain_database`` allows in every database that it makes."""

    quotes = "[]"
    mark = "?"

    @contextmanager
    def frozen(self, driver: Any) -> Iterator[sa.Connection]:
        with self.backend.filling(driver) as connection:
            driver.timeout = PATIENCE_S
            self._allow(driver)
            run(driver, "SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
            driver.commit()  # the level may not change inside a transaction (error 3951)
            yield connection

    def _allow(self, driver: Any) -> None:
        """Allow SNAPSHOT in a database that was not made by this version; it then waits for open transactions."""
        if one(driver, "SELECT snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()") == 0:
            driver.commit()
            driver.autocommit = True  # error 226: not in a transaction
            with suppress(*self.backend.driver_errors):  # a login may not, or a server does not know the option
                run(driver, "ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON")
            driver.autocommit = False
        driver.commit()

    def tables(self, connection: sa.Connection) -> Found:
        with closing(_driver(connection).cursor()) as cursor:
            cursor.execute(_TABLES)
            found = by_table(cursor.fetchall())
        return {table: tuple(name for (name,) in columns) for table, columns in found.items()}

    def peculiar(self, connection: sa.Connection) -> dict[str, str]:
        return dict.fromkeys(first_column(_driver(connection), _TRIGGERS), "has triggers")

    def read(self, column: Column) -> str:
        name = self.q(column.name)
        if column.kind is Kind.MOMENT:
            return f"CONVERT(VARCHAR(26), CAST({name} AS DATETIME2(6)), 121)"
        if column.kind is Kind.DATE:
            return f"CONVERT(VARCHAR(10), {name}, 23)"
        return f"CAST({name} AS VARCHAR(60))" if column.kind is Kind.DECIMAL else name

    def decoded(self, rows: list[Row], table: Table) -> list[Row]:
        return [tuple(row) for row in converted(rows, table, _decoder)]  # the driver's rows are no tuples

    def sorted(self, column: Column, table: Table) -> str:
        """Sort texts by code point; a ``KeyText`` is kept as its bytes."""
        binary = column.kind is Kind.TEXT and not column.is_folded
        return f"{self.q(column.name)} COLLATE Latin1_General_100_BIN2" if binary else self.q(column.name)

    def loosen(self, connection: sa.Connection) -> None:
        self._each_table(connection, "NOCHECK CONSTRAINT ALL")

    def tighten(self, connection: sa.Connection) -> None:
        self._each_table(connection, "WITH CHECK CHECK CONSTRAINT ALL")

    def _each_table(self, connection: sa.Connection, change: str) -> None:
        tables = first_column(_driver(connection), "SELECT name FROM sys.tables")
        run(_driver(connection), *(f"ALTER TABLE {self.q(table)} {change}" for table in tables))

    def insert(self, connection: sa.Connection, table: Table, rows: Sequence[Row]) -> None:
        """Write rows, also into a column that the server numbers itself (IDENTITY), where it must be told so."""
        name = self.q(table.name)
        numbered = f"IF OBJECTPROPERTY(OBJECT_ID('{name}'), 'TableHasIdentity') = 1 SET IDENTITY_INSERT {name}"
        run(_driver(connection), f"{numbered} ON")
        super().insert(connection, table, rows)
        run(_driver(connection), f"{numbered} OFF")

    def encoded(self, rows: Sequence[Row], table: Table) -> Sequence[Row]:
        return converted(rows, table, _encoder)


def _decoder(column: Column) -> Callable[[Any], Any] | None:
    return bytes.decode if column.is_folded else None


def _encoder(column: Column) -> Callable[[Any], Any] | None:
    return str.encode if column.is_folded else None


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.dbapi_connection
