"""Read all rows of a SQLite file, and fill one that nobody uses yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from tenancy.backends.access import Access
from tenancy.backends.copying import Column, Copying, Found, Kind, Row, Table, converted
from tenancy.backends.server.tables import by_table
from tenancy.errors import ArchiveError
from tenancy.models import Tenant

_TABLES = (
    "SELECT t.name, c.name FROM pragma_table_list t JOIN pragma_table_xinfo(t.name) c "
    "WHERE t.schema = 'main' AND t.type IN ('table', 'virtual') AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
    "AND c.hidden = 0 ORDER BY t.name, c.cid"
)
_PECULIAR = (
    "SELECT name, 'is a virtual table' FROM pragma_table_list WHERE schema = 'main' AND type = 'virtual' "
    "UNION ALL SELECT tbl_name, 'has triggers' FROM sqlite_schema WHERE type = 'trigger'"
)
_DIGITS = 15
"""A number with a point is a float here, which keeps this many digits (sqlite.org, "Floating Point Numbers")."""

_CACHE_KIB = 8_192


class SQLiteCopying(Copying):
    """Copy rows: values are read as they are stored, as SQLite's own forms of moments and dates are an archive's."""

    mark = "?"

    @contextmanager
    def frozen(self, driver: Any) -> Iterator[sa.Connection]:
        with self.backend.checks.looking(driver) as connection:
            connection.exec_driver_sql("SELECT 1 FROM sqlite_schema").first()  # the snapshot begins with a read
            yield connection

    def cursor(self, connection: sa.Connection, table: Table) -> Any:
        """Use the driver's own cursor: ours would be asked for each row."""
        driver: Any = connection.connection.dbapi_connection
        return sqlite3.Cursor(driver)

    def tables(self, connection: sa.Connection) -> Found:
        driver: Any = connection.connection.dbapi_connection
        found = by_table(driver.execute(_TABLES))
        return {table: tuple(name for (name,) in columns) for table, columns in found.items()}

    def peculiar(self, connection: sa.Connection) -> dict[str, str]:
        driver: Any = connection.connection.dbapi_connection
        return dict(driver.execute(_PECULIAR).fetchall())

    def read(self, column: Column) -> str:
        return self.q(column.name)

    def sorted(self, column: Column, table: Table) -> str:
        return f"{self.q(column.name)} COLLATE BINARY" if column.kind is Kind.TEXT else self.q(column.name)

    @contextmanager
    def loading(self, tenant: Tenant, access: Access) -> Iterator[sa.Connection]:
        with super().loading(tenant, access) as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            yield connection

    def loosen(self, connection: sa.Connection) -> None:
        """Do nothing: connections that change schemas do not check foreign keys."""

    def tighten(self, connection: sa.Connection) -> None:
        self.backend.check_before_commit(connection)

    def encoded(self, rows: Sequence[Row], table: Table) -> Sequence[Row]:
        def change(column: Column) -> Callable[[Any], Any] | None:
            return _exact(table, column) if column.kind is Kind.DECIMAL else None

        return converted(rows, table, change)


def _exact(table: Table, column: Column) -> Callable[[str], str]:
    """Refuse a number whose last digits SQLite would lose."""

    def check(number: str) -> str:
        if len(number.lstrip("-").replace(".", "").strip("0")) > _DIGITS:
            raise ArchiveError(
                f"table {table.name}, column {column.name}: SQLite cannot keep a number of more than {_DIGITS} digits.",
                table=table.name,
                column=column.name,
            )
        return number

    return check
