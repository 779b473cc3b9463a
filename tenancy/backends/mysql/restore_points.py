"""Keep restore points on MySQL and MariaDB: a second database with the same tables and rows.

No statement there copies a database, and DDL commits itself. So the tables are made one by one, and then all rows are
copied in one transaction, the identity row among them: a point with an identity row is whole. A restore drops the
identity row first and writes it back with all other rows, so that nobody takes a half-restored database for a tenant's.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pymysql

from tenancy.backends.base import Rebuild
from tenancy.backends.mysql.tables import holds_more_than_tables, q, tables_of
from tenancy.backends.restore_points import is_of, raising_epoch
from tenancy.backends.server.restore_points import Copying, ServerRestorePoints, refuse_half
from tenancy.backends.server.sql import one, run
from tenancy.backends.server.tables import Table
from tenancy.errors import DatabaseExistsError, UnsupportedBackendError
from tenancy.schema.tables import tenancy_identity

if TYPE_CHECKING:
    from tenancy.backends.mysql.backend import MySQLBackend

_COPYING = "SET SESSION foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'"
"""Copy rows in any order, and keep a 0 in an AUTO_INCREMENT column, which else becomes the next number."""

_EVERYTHING = (
    "SELECT table_name <> %s AS late, IF(table_type = 'VIEW', 'VIEW', 'TABLE'), table_name "
    "FROM information_schema.tables WHERE table_schema = DATABASE() "
    "UNION ALL SELECT 2, routine_type, routine_name FROM information_schema.routines WHERE routine_schema = DATABASE() "
    "UNION ALL SELECT 2, 'EVENT', event_name FROM information_schema.events WHERE event_schema = DATABASE() "
    "ORDER BY 1, 2, 3"
)
"""List what is in a database, the identity table first; triggers are dropped with their tables."""


class MySQLRestorePoints(ServerRestorePoints):
    """Copy a database table by table."""

    backend: MySQLBackend

    def is_whole(self, work: Copying) -> bool:
        there = "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s"
        return one(work.driver, there, (work.point,)) is not None and is_of(work.tenant, _whose(work, work.point))

    def make_point(self, work: Copying) -> None:
        refuse_half(work.tenant, _whose(work, work.database))
        _refuse_more_than_tables(work)
        work.step("remove earlier point")
        self.backend.drop_database(work.driver, work.point)
        work.step("make point")
        self.backend.make_plain_database(work.driver, work.point)
        tables = tables_of(work.driver, work.database)
        _make(work, work.point, tables)
        work.step("copy rows")
        run(work.driver, "START TRANSACTION", _lock_out_writers(work.database))
        _copy_rows(work, work.database, work.point, tables)
        work.step("commit")
        run(work.driver, "COMMIT")

    def return_to(self, work: Copying, rebuild: Rebuild) -> None:
        tables = tables_of(work.driver, work.point)
        work.check()  # the lock of this session keeps a new holder of the claim from setting the tenant to ready
        work.step("end sessions")
        self.backend.end_sessions(work.driver, work.database, work.access.login)
        self._ensure_database(work)
        _take_apart(work)
        _make(work, work.database, tables)
        work.step("rights")
        self.backend.grant_again(work.driver, work.tenant)
        work.step("copy rows")
        run(work.driver, "START TRANSACTION")
        _copy_rows(work, work.point, work.database, tables)
        if work.claim is not None:
            run(work.driver, raising_epoch(work.claim, f"{q(work.database)}.{tenancy_identity.name}"))
        work.step("commit")
        run(work.driver, "COMMIT")

    def _ensure_database(self, work: Copying) -> None:
        try:
            self.backend.make_plain_database(work.driver, work.database)
        except DatabaseExistsError:
            return


def _whose(work: Copying, database: str) -> object:
    """Read the tenant id of a database's identity row; None if there is no row, no table or no database."""
    try:
        return one(work.driver, f"SELECT tenant_id FROM {q(database)}.{tenancy_identity.name} WHERE id = 1")  # noqa: S608 - a quoted name
    except pymysql.err.ProgrammingError:  # 1146, also for a missing database
        return None


def _lock_out_writers(database: str) -> str:
    """Lock the identity row, which every writing transaction locks until it commits: no writer is left, none begins."""
    return f"SELECT epoch FROM {q(database)}.{tenancy_identity.name} WHERE id = 1 FOR UPDATE"  # noqa: S608 - a quoted name


def _make(work: Copying, database: str, tables: list[Table]) -> None:
    work.driver.select_db(database)  # SHOW CREATE TABLE names the tables of foreign keys without their database
    run(work.driver, _COPYING)
    for table in tables:
        work.step(f"make {table.name}")
        run(work.driver, table.create)


def _copy_rows(work: Copying, source: str, target: str, tables: list[Table]) -> None:
    for table in tables:
        work.step(f"copy {table.name}")
        run(work.driver, table.copy(f"{q(source)}.{q(table.name)}", f"{q(target)}.{q(table.name)}"))


def _take_apart(work: Copying) -> None:
    """Drop the identity table first, then everything else; views and routines were made after the point."""
    work.driver.select_db(work.database)
    run(work.driver, _COPYING)
    with closing(work.driver.cursor()) as cursor:
        cursor.execute(_EVERYTHING, (tenancy_identity.name,))
        found = cursor.fetchall()
    for _, kind, name in found:
        work.step(f"drop {name}")
        run(work.driver, f"DROP {kind} IF EXISTS {q(name)}")


def _refuse_more_than_tables(work: Copying) -> None:
    """Refuse views, triggers, routines and events.

    Triggers would fire when rows are copied back, and views and routines run with the rights of a login (DEFINER) that
    the server's login may not name.
    """
    if holds_more_than_tables(work.driver, work.database):
        raise UnsupportedBackendError(
            f"the database of user {work.tenant.user_id} holds more than tables (views, triggers or routines): "
            "no restore point can be made of it. Back it up instead.",
            tenant_id=work.tenant.tenant_id,
        )
