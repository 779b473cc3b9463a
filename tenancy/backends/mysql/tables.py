"""List what is in a database of MySQL or MariaDB, and the statements that make it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tenancy import names
from tenancy.backends.server.replay import Statement
from tenancy.backends.server.sql import one
from tenancy.backends.server.tables import Table, by_table


def tables_of(driver: Any, database: str) -> list[Table]:
    """List the tables of a database, without the columns that the server computes."""
    with closing(driver.cursor()) as cursor:
        # Not by EXTRA: MySQL 8 fills it with DEFAULT_GENERATED for a column whose default is an expression (its
        # manual, "The INFORMATION_SCHEMA COLUMNS Table"), and such a column holds values like any other.
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
            "AND COALESCE(generation_expression, '') = '' ORDER BY table_name, ordinal_position",
            (database,),
        )
        tables = []
        for table, columns in by_table(cursor.fetchall()).items():
            cursor.execute(f"SHOW CREATE TABLE {q(database)}.{q(table)}")
            tables.append(Table(table, cursor.fetchone()[1], ", ".join(q(column) for (column,) in columns)))
    return tables


def holds_more_than_tables(driver: Any, database: str) -> bool:
    """Say whether views, triggers, routines or events are in a database."""
    more = one(
        driver,
        "SELECT (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s AND table_type <> 'BASE TABLE')"
        " + (SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = %s)"
        " + (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = %s)"
        " + (SELECT COUNT(*) FROM information_schema.events WHERE event_schema = %s)",
        (database,) * 4,
    )
    return bool(more)


def dump(driver: Any) -> list[Statement] | None:
    """Return statements that make the tables and rows of the connection's database; None if it holds more than tables.

    Foreign keys are not checked while they run, so that tables can come in any order.
    """
    database = one(driver, "SELECT DATABASE()")
    if holds_more_than_tables(driver, database):
        return None
    made: list[Statement] = [("SET foreign_key_checks = 0", ())]
    with closing(driver.cursor()) as cursor:
        for table in tables_of(driver, database):
            made.append((table.create.replace("%", "%%"), ()))
            cursor.execute(f"SELECT {table.columns} FROM {q(table.name)}")  # noqa: S608 - quoted names
            marks = ", ".join(["%s"] * len(cursor.description))
            insert = f"INSERT INTO {q(table.name)} ({table.columns}) VALUES ({marks})"  # noqa: S608 - quoted names
            made += [(insert, row) for row in cursor.fetchall()]
    return [*made, ("SET foreign_key_checks = 1", ())]


def q(name: str) -> str:
    return names.quoted(name, "``")
