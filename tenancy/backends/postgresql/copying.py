"""Read all rows of a PostgreSQL database from one snapshot, and fill one that nobody uses yet.

COPY is not used: psycopg2 refuses it while a wait callback is set (``driver.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import extensions
from psycopg2.extras import execute_values

from tenancy.backends.copying import BATCH_BYTES, BATCH_ROWS, Column, Copying, Found, Kind, Row, Table
from tenancy.backends.postgresql.driver import be_patient
from tenancy.backends.server.sql import one, run
from tenancy.backends.server.tables import by_table
from tenancy.errors import MigrationError

PATIENCE_S = 600.0

_TABLES = (
    "SELECT CASE WHEN n.nspname = 'public' THEN c.relname::text ELSE n.nspname || '.' || c.relname END, a.attname "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid "
    "WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'f') "
    "AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' "
    'ORDER BY c.relname COLLATE "C", a.attnum'
)
_PECULIAR = (
    "SELECT c.relname, CASE WHEN c.relkind = 'p' THEN 'is split into partitions' WHEN c.relkind = 'f' "
    "THEN 'is foreign' WHEN i.inhrelid IS NOT NULL THEN 'inherits from another' ELSE 'has triggers' END "
    "FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace "
    "AND (c.relkind IN ('p', 'f') OR i.inhrelid IS NOT NULL "
    "OR EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal))"
)
_KEYS = (
    "SELECT c.relname, k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
    "WHERE k.contype = 'f' AND NOT k.condeferrable AND c.relnamespace = 'public'::regnamespace"
)
_WITHIN = {  # to_char() leaves out that a year is before Christ, and years beyond 9999 are no year anywhere else
    Kind.MOMENT: ("'YYYY-MM-DD HH24:MI:SS.US'", "'9999-12-31 23:59:59.999999'"),
    Kind.DATE: ("'YYYY-MM-DD'", "'9999-12-31'"),
}


class PostgreSQLCopying(Copying):
    """Copy rows through server-side cursors and INSERTs of many rows."""

    @contextmanager
    def frozen(self, driver: Any) -> Iterator[sa.Connection]:
        with self.backend.filling(driver) as connection:
            be_patient(driver, PATIENCE_S)
            run(driver, "SET idle_in_transaction_session_timeout = 0")  # between two batches it is we who work
            driver.commit()
            driver.set_session(isolation_level=extensions.ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
            run(driver, "SELECT 1")  # the snapshot begins with the first statement
            yield connection

    def tables(self, connection: sa.Connection) -> Found:
        with closing(_driver(connection).cursor()) as cursor:
            cursor.execute(_TABLES)
            found = by_table(cursor.fetchall())
        return {table: tuple(name for (name,) in columns) for table, columns in found.items()}

    def peculiar(self, connection: sa.Connection) -> dict[str, str]:
        with closing(_driver(connection).cursor()) as cursor:
            cursor.execute(_PECULIAR)
            return dict(cursor.fetchall())

    def cursor(self, connection: sa.Connection, table: Table) -> Any:
        cursor = _driver(connection).cursor("unify_archive")
        cursor.itersize = self._at_once(connection, table)
        return cursor

    def _at_once(self, connection: sa.Connection, table: Table) -> int:
        """Return how many rows may be fetched at once: the driver keeps all of them, so the longest row decides."""
        if not table.long:
            return BATCH_ROWS
        sizes = " + ".join(f"coalesce(octet_length({self.q(table.columns[at].name)}), 0)" for at in table.long)
        longest = one(_driver(connection), f"SELECT max({sizes}) FROM {self.q(table.name)}") or 0  # noqa: S608 - quoted names
        return min(BATCH_ROWS, max(1, 4 * BATCH_BYTES // (longest + 1)))

    def read(self, column: Column) -> str:
        name = self.q(column.name)
        if column.kind in _WITHIN:
            form, last = _WITHIN[column.kind]
            return (
                f"CASE WHEN {name} BETWEEN '0001-01-01' AND {last} THEN to_char({name}, {form}) ELSE {name}::text END"
            )
        if column.kind is Kind.UUID and isinstance(column.type, sa.Uuid) and column.type.native_uuid:
            return f"replace({name}::text, '-', '')"
        return f"{name}::text" if column.kind is Kind.DECIMAL else name

    def sorted(self, column: Column, table: Table) -> str:
        name = self.q(column.name)
        if column.kind is Kind.TEXT and not column.is_folded:
            name = f'{name} COLLATE "C"'
        return name if table.key else f"{name} NULLS FIRST"

    def loosen(self, connection: sa.Connection) -> None:
        """Put the checks off until ``tighten``: switching them off would need a superuser."""
        with closing(_driver(connection).cursor()) as cursor:
            cursor.execute(_KEYS)
            connection.info["keys"] = cursor.fetchall()
        self._set(connection, "DEFERRABLE INITIALLY DEFERRED")

    def tighten(self, connection: sa.Connection) -> None:
        try:
            run(_driver(connection), "SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg2.IntegrityError as error:
            table = error.diag.table_name
            raise MigrationError(f"there are rows of {table} without the row that their foreign key names.") from error
        self._set(connection, "NOT DEFERRABLE")

    def _set(self, connection: sa.Connection, how: str) -> None:
        keys = connection.info["keys"]
        run(
            _driver(connection),
            *(f"ALTER TABLE {self.q(table)} ALTER CONSTRAINT {self.q(key)} {how}" for table, key in keys),
        )

    def insert(self, connection: sa.Connection, table: Table, rows: Sequence[Row]) -> None:
        columns = ", ".join(self.q(column.name) for column in table.columns)
        statement = f"INSERT INTO {self.q(table.name)} ({columns}) VALUES %s"  # noqa: S608 - quoted names
        with closing(_driver(connection).cursor()) as cursor:
            execute_values(cursor, statement, rows, page_size=BATCH_ROWS)

    def counted_on(self, connection: sa.Connection, table: Table) -> None:
        for column in (column for column in table.columns if column.kind is Kind.INTEGER and column.name in table.key):
            name, quoted = self.q(table.name), self.q(column.name)
            with closing(_driver(connection).cursor()) as cursor:
                cursor.execute(
                    f"SELECT setval(found, (SELECT max({quoted}) FROM {name})) "  # noqa: S608 - quoted names
                    "FROM pg_get_serial_sequence(%s, %s) found WHERE found IS NOT NULL",
                    (name, column.name),
                )


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.dbapi_connection
