"""List the tables of a SQL Server database, with what makes them, and write names and texts into SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from tenancy import names
from tenancy.backends.server.sql import run
from tenancy.backends.server.tables import Table, by_table

_ROWVERSION = 189  # a column of this type, also called timestamp, is written by the server alone (sys.types)
_LENGTHS = {"char": 1, "varchar": 1, "nchar": 2, "nvarchar": 2, "binary": 1, "varbinary": 1}
"""The types that have a length, and how many bytes sys.columns counts for each character."""
_TEXTS = ("char", "varchar", "nchar", "nvarchar", "text", "ntext")


def tables_of(driver: Any, database: str) -> list[Table]:
    """List the tables of a database, without the columns that the server writes itself.

    ``Table.create`` makes the columns and nothing more: no keys, no defaults, no indexes.
    """
    asked = (
        "SELECT t.name, c.name, ISNULL(TYPE_NAME(c.system_type_id), TYPE_NAME(c.user_type_id)), c.max_length,"
        " c.precision, c.scale, c.collation_name, c.is_nullable, c.is_identity "
        "FROM sys.tables t JOIN sys.columns c ON c.object_id = t.object_id "
        "WHERE c.is_computed = 0 AND c.system_type_id <> ? ORDER BY t.name, c.column_id"
    )
    with standing_in(driver, database), closing(driver.cursor()) as cursor:
        cursor.execute(asked, (_ROWVERSION,))
        found = by_table(cursor.fetchall())
    return [
        Table(
            table,
            f"CREATE TABLE dbo.{q(table)} ({', '.join(map(_column, columns))})",
            ", ".join(q(column[0]) for column in columns),
            counted=any(column[-1] for column in columns),
        )
        for table, columns in found.items()
    ]


@contextmanager
def standing_in(driver: Any, database: str) -> Iterator[None]:
    """USE a database for the block, and master afterwards."""
    run(driver, f"USE {q(database)}")
    yield
    run(driver, "USE master")


def _column(found: tuple[Any, ...]) -> str:
    """Write the definition of a column from its row of ``tables_of``."""
    name, kind, length, precision, scale, collation, nullable, counted = found
    collate = f" COLLATE {collation}" if kind in _TEXTS else ""
    identity = " IDENTITY" if counted else ""
    return f"{q(name)} {_typed(kind, length, precision, scale)}{collate}{identity} {'' if nullable else 'NOT '}NULL"


def _typed(kind: str, length: int, precision: int, scale: int) -> str:
    """Write a type as the definition of a column has it."""
    if kind in _LENGTHS:
        return f"{kind}({'max' if length < 0 else length // _LENGTHS[kind]})"
    if kind in ("decimal", "numeric"):
        return f"{kind}({precision}, {scale})"
    return f"{kind}({scale})" if kind in ("datetime2", "datetimeoffset", "time") else kind


def text(value: str) -> str:
    """Write a text as a Unicode literal."""
    return "N'" + value.replace("'", "''") + "'"


def q(name: str) -> str:
    return names.quoted(name, "[]")
