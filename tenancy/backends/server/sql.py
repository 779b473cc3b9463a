"""Run statements on a DBAPI connection to a server, without SQLAlchemy."""

from __future__ import annotations

from contextlib import closing
from typing import Any


def run(driver: Any, *statements: str) -> None:
    """Run statements, one after another."""
    with closing(driver.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement)


def one(driver: Any, statement: str, values: tuple[Any, ...] = ()) -> Any:
    """Return the first column of the first row; None if there is no row."""
    with closing(driver.cursor()) as cursor:
        cursor.execute(statement, values) if values else cursor.execute(statement)
        row = cursor.fetchone()
        return None if row is None else row[0]


def column(driver: Any, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """Return the first column of all rows."""
    with closing(driver.cursor()) as cursor:
        cursor.execute(statement, values) if values else cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]
