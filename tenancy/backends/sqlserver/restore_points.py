"""Keep restore points on SQL Server: a second database that holds the rows, table by table.

The server cannot return the statements that make a table, so a restore makes the schema by its migrations
(``rebuild``). Rows are copied in one transaction, the identity row among them: a point with an identity row is whole. A
restore drops the identity row first and writes it back with all other rows, so that nobody takes a half-restored
database for a tenant's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenancy.backends.base import Rebuild
from tenancy.backends.restore_points import is_of, raising_epoch
from tenancy.backends.server.restore_points import Copying, ServerRestorePoints, refuse_half
from tenancy.backends.server.sql import one, run
from tenancy.backends.server.tables import Table
from tenancy.backends.sqlserver.tables import q, standing_in, tables_of, text
from tenancy.schema.tables import tenancy_identity

if TYPE_CHECKING:
    from tenancy.backends.sqlserver.backend import SQLServerBackend


class SQLServerRestorePoints(ServerRestorePoints):
    """Copy rows from one database to another; the session is always in the database that is written."""

    backend: SQLServerBackend

    def is_whole(self, work: Copying) -> bool:
        if one(work.driver, "SELECT DB_ID(?)", (work.point,)) is None:
            return False
        return is_of(work.tenant, _whose(work, work.point))

    def make_point(self, work: Copying) -> None:
        refuse_half(work.tenant, _whose(work, work.database))
        work.step("remove earlier point")
        self.backend.drop_database(work.driver, work.point)
        work.step("make point")
        self.backend.make_plain_database(work.driver, work.point)
        tables = tables_of(work.driver, work.database)
        with standing_in(work.driver, work.point), _transaction(work.driver):
            run(work.driver, _lock_out_writers(work.database))
            for table in tables:
                work.step(f"copy {table.name}")
                run(work.driver, table.create, *_copied(table, work.database))
            work.step("commit")

    def return_to(self, work: Copying, rebuild: Rebuild) -> None:
        tables = {table.name: table for table in tables_of(work.driver, work.point)}
        work.step("end sessions")
        self.backend.end_sessions(work.driver, f"database_id = DB_ID({text(work.database)})")
        opened = self.backend.connect_to_migrate(work.tenant, work.access)
        with self.backend.migrating(opened) as connection:
            work.check()  # the lock of this session keeps a new holder of the claim from setting the tenant to ready
            _take_apart(work, connection)
            work.step("rebuild")
            rebuild(connection)
            self.backend.grant_rights(connection, work.tenant, work.access, ())
            work.step("copy rows")
            _copy_rows(work, connection, tables)
            if work.claim is not None:
                connection.exec_driver_sql(raising_epoch(work.claim))
            work.step("commit")
            connection.commit()


@contextmanager
def _transaction(driver: Any) -> Iterator[None]:
    """Run the block in one transaction, on a connection in autocommit mode.

    There is no rollback here: after an error the caller closes the session, which rolls back. The server may have
    rolled back already, and an error from a second rollback would hide the first error.
    """
    driver.autocommit = False
    yield
    driver.commit()
    driver.autocommit = True


def _whose(work: Copying, database: str) -> object:
    """Read the tenant id of a database's identity row; None if there is no table or no row.

    The session enters the database first: OBJECT_ID of other products that speak the protocol looks nowhere else.
    """
    table = f"dbo.{tenancy_identity.name}"
    with standing_in(work.driver, database):
        if one(work.driver, "SELECT OBJECT_ID(?)", (table,)) is None:
            return None
        return one(work.driver, f"SELECT tenant_id FROM {table} WHERE id = 1")  # noqa: S608 - our own words


def _lock_out_writers(database: str) -> str:
    """Lock the identity row, which every writing transaction locks until it commits: no writer is left, none begins."""
    return f"SELECT epoch FROM {q(database)}.dbo.{tenancy_identity.name} WITH (XLOCK, HOLDLOCK) WHERE id = 1"  # noqa: S608 - a quoted name


def _copied(table: Table, source: str) -> list[str]:
    """Write the statements that copy a table's rows, with the numbers that the server gave them."""
    name = f"dbo.{q(table.name)}"
    copy = table.copy(f"{q(source)}.{name}", name)
    return [f"SET IDENTITY_INSERT {name} ON", copy, f"SET IDENTITY_INSERT {name} OFF"] if table.counted else [copy]


def _take_apart(work: Copying, connection: sa.Connection) -> None:
    """Drop the identity table first, then views and all tables; SQLAlchemy drops foreign keys that form a cycle."""
    found = sa.MetaData()
    found.reflect(connection)
    work.step("drop identity")
    if tenancy_identity.name in found.tables:
        found.tables[tenancy_identity.name].drop(connection)
        found.remove(found.tables[tenancy_identity.name])
        connection.commit()
    work.step("drop tables")
    for view in sa.inspect(connection).get_view_names():
        connection.exec_driver_sql(f"DROP VIEW dbo.{q(view)}")
    found.drop_all(connection)
    connection.commit()


def _copy_rows(work: Copying, connection: sa.Connection, tables: dict[str, Table]) -> None:
    """Fill the rebuilt tables, parents first; foreign keys that form a cycle are switched off until the end.

    A table that no migration makes is created with its columns alone.
    """
    *ordered, (_, circles) = sa.inspect(connection).get_sorted_table_and_fkc_names()
    made = [str(name) for name, _ in ordered]
    for table, key in circles:
        connection.exec_driver_sql(f"ALTER TABLE dbo.{q(table)} NOCHECK CONSTRAINT {q(key or '')}")
    for name in reversed(made):  # rows that the migrations wrote: ledger and version
        connection.exec_driver_sql(f"DELETE FROM dbo.{q(name)}")  # noqa: S608 - a quoted name
    for name in [*(name for name in made if name in tables), *(name for name in tables if name not in made)]:
        work.step(f"copy {name}")
        create = [] if name in made else [tables[name].create]
        for statement in [*create, *_copied(tables[name], work.point)]:
            connection.exec_driver_sql(statement)
    for table, key in circles:
        connection.exec_driver_sql(f"ALTER TABLE dbo.{q(table)} WITH CHECK CHECK CONSTRAINT {q(key or '')}")
