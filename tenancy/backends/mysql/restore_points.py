"""Keep restore points on MySQL and MariaDB: a second database with the same tables and rows.

Nothing there copies a database, and DDL commits itself. But all rows go over in one transaction, the identity row
among them: a point that says whose it is is whole. A tenant's database has no identity row from the first moment it
is taken apart until all its rows are back, so that nobody takes it for a tenant's.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pymysql

from tenancy import names
from tenancy.backends.access import Login
from tenancy.backends.base import Rebuild
from tenancy.backends.server.backend import column, one, run
from tenancy.backends.server.restore_points import LOCK_S, ServerPoints, Way, is_of, raising_epoch, refuse_half
from tenancy.errors import DatabaseExistsError, UnsupportedBackendError
from tenancy.schema.tables import tenancy_identity

_COPYING = "SET SESSION foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'"
"""Rows are copied as they are: in any order, the number 0 included."""

_EVERYTHING = (
    "SELECT table_name <> %s AS late, IF(table_type = 'VIEW', 'VIEW', 'TABLE'), table_name "
    "FROM information_schema.tables WHERE table_schema = DATABASE() "
    "UNION ALL SELECT 2, routine_type, routine_name FROM information_schema.routines WHERE routine_schema = DATABASE() "
    "UNION ALL SELECT 2, 'EVENT', event_name FROM information_schema.events WHERE event_schema = DATABASE() "
    "ORDER BY 1, 2, 3"
)
"""List what stands in a database, the identity first; triggers go with their tables."""


@dataclass(frozen=True)
class Table:
    """Hold a table's name, what makes it, and the columns in which rows are written, quoted."""

    name: str
    made_by: str
    columns: str


class MySQLPoints(ServerPoints):
    """Copy a database table by table."""

    @abstractmethod
    def make_plain_database(self, driver: Any, name: str) -> None: ...

    @abstractmethod
    def end_sessions(self, driver: Any, name: str, own: Login | None = None) -> None: ...

    @abstractmethod
    def give_rights(self, way: Way) -> None:
        """Give the tenant's login its rights on the tables there are."""

    def beside(self, driver: Any, name: str) -> list[str]:
        listed = "SELECT schema_name FROM information_schema.schemata WHERE LEFT(schema_name, CHAR_LENGTH(%s)) = %s"
        return column(driver, listed, (name, name))

    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        """Take the lock that a migration of the database of this name holds too."""
        return bool(one(driver, "SELECT GET_LOCK(CONCAT('unify ', %s), %s)", (name, wait_s)))

    def is_whole(self, way: Way) -> bool:
        """All rows of a point were committed at once, whose it is among them."""
        there = "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s"
        return one(way.driver, there, (way.point,)) is not None and is_of(way.tenant, _whose(way, way.point))

    def make_point(self, way: Way) -> None:
        refuse_half(way.tenant, _whose(way, way.database))
        _refuse_more_than_tables(way)
        way.step("remove earlier point")
        self.drop_database(way.driver, way.point)
        way.step("make point")
        self.make_plain_database(way.driver, way.point)
        tables = _tables(way.driver, way.database)
        _make(way, way.point, tables)
        way.step("copy rows")
        run(way.driver, "START TRANSACTION", _no_writers(way.database))
        _copy_rows(way, way.database, way.point, tables)
        way.step("commit")
        run(way.driver, "COMMIT")

    def return_to(self, way: Way, rebuild: Rebuild) -> None:
        tables = _tables(way.driver, way.point)
        way.check()  # until this session ends nobody opens what is closed: that takes the lock it holds
        way.step("end sessions")
        self.end_sessions(way.driver, way.database, way.access.login)
        _ensure_database(self, way)
        _take_apart(way)
        _make(way, way.database, tables)
        way.step("rights")
        self.give_rights(way)
        way.step("copy rows")
        run(way.driver, "START TRANSACTION")
        _copy_rows(way, way.point, way.database, tables)
        if way.claim is not None:
            run(way.driver, raising_epoch(way.claim, f"{_q(way.database)}.{tenancy_identity.name}"))
        way.step("commit")
        run(way.driver, "COMMIT")


def _whose(way: Way, database: str) -> object:
    """Ask a database whose it is; None where it does not say, or is not there."""
    try:
        return one(way.driver, f"SELECT tenant_id FROM {_q(database)}.{tenancy_identity.name} WHERE id = 1")  # noqa: S608 - a quoted name
    except pymysql.err.ProgrammingError:  # no such table; where there is no database either, that is what is said
        return None


def _no_writers(database: str) -> str:
    """Wait for writers under way, and keep further ones waiting: each locks this row until it commits."""
    return f"SELECT epoch FROM {_q(database)}.{tenancy_identity.name} WHERE id = 1 FOR UPDATE"  # noqa: S608 - a quoted name


def _tables(driver: Any, database: str) -> list[Table]:
    """List the tables of a database."""
    found: dict[str, list[str]] = {}
    with closing(driver.cursor()) as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
            "AND COALESCE(generation_expression, '') = '' ORDER BY table_name, ordinal_position",
            (database,),
        )
        for table, column in cursor.fetchall():
            found.setdefault(table, []).append(_q(column))
        tables = []
        for table, columns in found.items():
            cursor.execute(f"SHOW CREATE TABLE {_q(database)}.{_q(table)}")
            tables.append(Table(table, cursor.fetchone()[1], ", ".join(columns)))
    return tables


def _make(way: Way, database: str, tables: list[Table]) -> None:
    way.driver.select_db(database)  # what makes a table names its parents without their database
    run(way.driver, _COPYING)
    for table in tables:
        way.step(f"make {table.name}")
        run(way.driver, table.made_by)


def _copy_rows(way: Way, source: str, target: str, tables: list[Table]) -> None:
    for table in tables:
        way.step(f"copy {table.name}")
        rows = f"SELECT {table.columns} FROM {_q(source)}.{_q(table.name)}"  # noqa: S608 - quoted names
        run(way.driver, f"INSERT INTO {_q(target)}.{_q(table.name)} ({table.columns}) {rows}")


def _take_apart(way: Way) -> None:
    """Remove the identity first, then everything else; what is no table was made after the point."""
    way.driver.select_db(way.database)
    run(way.driver, _COPYING)
    with closing(way.driver.cursor()) as cursor:
        cursor.execute(_EVERYTHING, (tenancy_identity.name,))
        found = cursor.fetchall()
    for _, kind, name in found:
        way.step(f"drop {name}")
        run(way.driver, f"DROP {kind} IF EXISTS {_q(name)}")


def _ensure_database(points: MySQLPoints, way: Way) -> None:
    try:
        points.make_plain_database(way.driver, way.database)
    except DatabaseExistsError:
        return


def _refuse_more_than_tables(way: Way) -> None:
    """Triggers would fire when rows come back, and rights of views and routines are not ours to give."""
    more = one(
        way.driver,
        "SELECT (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s AND table_type <> 'BASE TABLE')"
        " + (SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = %s)"
        " + (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = %s)"
        " + (SELECT COUNT(*) FROM information_schema.events WHERE event_schema = %s)",
        (way.database,) * 4,
    )
    if more:
        raise UnsupportedBackendError(
            f"the database of user {way.tenant.user_id} holds more than tables (views, triggers or routines): "
            "no restore point can be made of it. Back it up instead.",
            tenant_id=way.tenant.tenant_id,
        )


def _q(name: str) -> str:
    return names.quoted(name, "``")
