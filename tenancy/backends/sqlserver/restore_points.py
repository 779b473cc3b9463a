"""Keep restore points on SQL Server: a second database that holds the rows, table by table.

The server cannot tell what makes a table, so the schema is made again by its migrations (``rebuild``). Rows go over
in one transaction, the identity row among them: a point that says whose it is is whole. A tenant's database has no
identity row from the first moment it is taken apart until all its rows are back, so that nobody takes it for a
tenant's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.base import Rebuild
from tenancy.backends.server.backend import column, one, run
from tenancy.backends.server.restore_points import LOCK_S, ServerPoints, Way, is_of, raising_epoch, refuse_half
from tenancy.schema.tables import tenancy_identity

_ROWVERSION = 189  # a column of this type is written by the server alone ("timestamp", sys.types)
_LENGTHS = {"char": 1, "varchar": 1, "nchar": 2, "nvarchar": 2, "binary": 1, "varbinary": 1}
"""Types that have a length, and how many bytes of it a character takes in the server's own lists."""
_TEXTS = ("char", "varchar", "nchar", "nvarchar", "text", "ntext")


@dataclass(frozen=True)
class Column:
    """Hold a column's name, quoted, what makes it, and whether the server counts it."""

    name: str
    made: str
    counted: bool


@dataclass(frozen=True)
class Table:
    """Hold a table's name and the columns in which rows are written."""

    name: str
    listed: tuple[Column, ...]

    @property
    def columns(self) -> str:
        return ", ".join(column.name for column in self.listed)

    @property
    def counted(self) -> bool:
        return any(column.counted for column in self.listed)


class SQLServerPoints(ServerPoints):
    """Copy rows from one database to the other; the session always stands in the one that is written."""

    @abstractmethod
    def make_plain_database(self, driver: Any, name: str) -> None: ...

    @abstractmethod
    def end_sessions(self, driver: Any, which: str) -> None: ...

    @abstractmethod
    def migrating(self, driver: Any) -> AbstractContextManager[sa.Connection]: ...

    def beside(self, driver: Any, name: str) -> list[str]:
        return column(driver, "SELECT name FROM sys.databases WHERE LEFT(name, LEN(?)) = ?", (name, name))

    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        return take_lock(driver, f"unify {name}", wait_s * 1000)

    def is_whole(self, way: Way) -> bool:
        """All tables of a point were committed at once, the one that says whose it is among them."""
        if one(way.driver, "SELECT DB_ID(?)", (way.point,)) is None:
            return False
        return is_of(way.tenant, _whose(way, way.point))

    def make_point(self, way: Way) -> None:
        refuse_half(way.tenant, _whose(way, way.database))
        way.step("remove earlier point")
        self.drop_database(way.driver, way.point)
        way.step("make point")
        self.make_plain_database(way.driver, way.point)
        tables = _tables(way.driver, way.database)
        with _standing_in(way.driver, way.point), _transaction(way.driver):
            run(way.driver, _no_writers(way.database))
            for table in tables:
                way.step(f"copy {table.name}")
                run(way.driver, *_kept(table, way.database))
            way.step("commit")

    def return_to(self, way: Way, rebuild: Rebuild) -> None:
        tables = {table.name: table for table in _tables(way.driver, way.point)}
        way.step("end sessions")
        self.end_sessions(way.driver, f"database_id = DB_ID({_text(way.database)})")
        with self.migrating(self.connect_to_migrate(way.tenant, way.access)) as connection:
            way.check()  # until this session ends nobody opens what is closed: that takes the lock it holds
            _take_apart(way, connection)
            way.step("rebuild")
            rebuild(connection)
            self.settle(connection, way.tenant, way.access, ())
            way.step("copy rows")
            _copy_rows(way, connection, tables)
            if way.claim is not None:
                connection.exec_driver_sql(raising_epoch(way.claim))
            way.step("commit")
            connection.commit()


def take_lock(driver: Any, name: str, wait_ms: int) -> bool:
    """Wait for a lock, which the session then holds to its end; say whether it was got.

    What a server has to say of a lock that was not got stands before the answer.
    """
    asked = (
        f"SET NOCOUNT ON; DECLARE @got INT; EXEC @got = sp_getapplock {_text(name)}, @LockOwner = 'Session',"
        f" @LockMode = 'Exclusive', @LockTimeout = {wait_ms}; SET NOCOUNT OFF; SELECT @got"
    )
    with closing(driver.cursor()) as cursor:
        cursor.execute(asked)
        while cursor.description is None and cursor.nextset():
            pass
        return int(cursor.fetchone()[0]) >= 0


@contextmanager
def _transaction(driver: Any) -> Iterator[None]:
    """Make what runs inside one transaction, on a connection whose statements else commit themselves.

    One that fails ends with its session, which is closed then: the server may have ended it already, and what a
    driver says of that would stand in the place of the reason.
    """
    driver.autocommit = False
    yield
    driver.commit()
    driver.autocommit = True


@contextmanager
def _standing_in(driver: Any, database: str) -> Iterator[None]:
    run(driver, f"USE {_q(database)}")
    yield
    run(driver, "USE master")


def _has(driver: Any, table: str) -> bool:
    """Ask of the database that a session stands in: some servers look nowhere else."""
    return one(driver, "SELECT OBJECT_ID(?)", (f"dbo.{table}",)) is not None


def _whose(way: Way, database: str) -> object:
    """Ask a database whose it is; None where it does not say."""
    with _standing_in(way.driver, database):
        if not _has(way.driver, tenancy_identity.name):
            return None
        return one(way.driver, f"SELECT tenant_id FROM dbo.{tenancy_identity.name} WHERE id = 1")  # noqa: S608 - our own words


def _no_writers(database: str) -> str:
    """Wait for writers under way, and keep further ones waiting: each locks this row until it commits."""
    return f"SELECT epoch FROM {_q(database)}.dbo.{tenancy_identity.name} WITH (XLOCK, HOLDLOCK) WHERE id = 1"  # noqa: S608 - a quoted name


def _tables(driver: Any, database: str) -> list[Table]:
    """List the tables of a database, without the columns that the server writes itself."""
    asked = (
        "SELECT t.name, c.name, ISNULL(TYPE_NAME(c.system_type_id), TYPE_NAME(c.user_type_id)), c.max_length,"
        " c.precision, c.scale, c.collation_name, c.is_nullable, c.is_identity "
        "FROM sys.tables t JOIN sys.columns c ON c.object_id = t.object_id "
        "WHERE c.is_computed = 0 AND c.system_type_id <> ? ORDER BY t.name, c.column_id"
    )
    columns: dict[str, list[Column]] = {}
    with _standing_in(driver, database), closing(driver.cursor()) as cursor:
        cursor.execute(asked, (_ROWVERSION,))
        for table, name, kind, *how, collation, nullable, counted in cursor.fetchall():
            collate = f" COLLATE {collation}" if kind in _TEXTS else ""
            made = f"{_q(name)} {_typed(kind, *how)}{collate}{' IDENTITY' if counted else ''}"
            made += f" {'' if nullable else 'NOT '}NULL"
            columns.setdefault(table, []).append(Column(_q(name), made, bool(counted)))
    return [Table(table, tuple(listed)) for table, listed in columns.items()]


def _typed(kind: str, length: int, precision: int, scale: int) -> str:
    """Write a type as a column's definition has it."""
    if kind in _LENGTHS:
        return f"{kind}({'max' if length < 0 else length // _LENGTHS[kind]})"
    if kind in ("decimal", "numeric"):
        return f"{kind}({precision}, {scale})"
    return f"{kind}({scale})" if kind in ("datetime2", "datetimeoffset", "time") else kind


def _kept(table: Table, source: str) -> list[str]:
    """Make a table that holds another's rows and nothing more; not every server takes INTO from another database."""
    made = ", ".join(column.made for column in table.listed)
    return [f"CREATE TABLE dbo.{_q(table.name)} ({made})", *_copied(table, source)]


def _copied(table: Table, source: str) -> list[str]:
    name = f"dbo.{_q(table.name)}"
    insert = f"INSERT INTO {name} ({table.columns}) SELECT {table.columns} FROM {_q(source)}.{name}"  # noqa: S608 - quoted names
    if not table.counted:
        return [insert]
    return [f"SET IDENTITY_INSERT {name} ON", insert, f"SET IDENTITY_INSERT {name} OFF"]


def _take_apart(way: Way, connection: sa.Connection) -> None:
    """Remove the identity first, then views and tables: SQLAlchemy drops before what ties those together."""
    found = sa.MetaData()
    found.reflect(connection)
    way.step("drop identity")
    if tenancy_identity.name in found.tables:
        found.tables[tenancy_identity.name].drop(connection)
        found.remove(found.tables[tenancy_identity.name])
        connection.commit()
    way.step("drop tables")
    for view in sa.inspect(connection).get_view_names():
        connection.exec_driver_sql(f"DROP VIEW dbo.{_q(view)}")
    found.drop_all(connection)
    connection.commit()


def _copy_rows(way: Way, connection: sa.Connection, tables: dict[str, Table]) -> None:
    """Fill what was rebuilt, parents first; ties that go in a circle are not looked at until all rows are there.

    A table that no migration makes comes back with its rows alone.
    """
    *ordered, (_, circles) = sa.inspect(connection).get_sorted_table_and_fkc_names()
    made = [str(name) for name, _ in ordered]
    for table, tie in circles:
        connection.exec_driver_sql(f"ALTER TABLE dbo.{_q(table)} NOCHECK CONSTRAINT {_q(tie or '')}")
    for name in reversed(made):  # the rows that the rebuilding wrote: its own ledger and version
        connection.exec_driver_sql(f"DELETE FROM dbo.{_q(name)}")  # noqa: S608 - a quoted name
    for name in [*(name for name in made if name in tables), *(name for name in tables if name not in made)]:
        way.step(f"copy {name}")
        for statement in (_copied if name in made else _kept)(tables[name], way.point):
            connection.exec_driver_sql(statement)
    for table, tie in circles:
        connection.exec_driver_sql(f"ALTER TABLE dbo.{_q(table)} WITH CHECK CHECK CONSTRAINT {_q(tie or '')}")


def _text(value: str) -> str:
    return "N'" + value.replace("'", "''") + "'"


def _q(name: str) -> str:
    return names.quoted(name, "[]")
