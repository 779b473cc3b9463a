"""Describe tables as restore points copy them, on products where a copy is made table by table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Hold a table's name, the statement that makes a table like it, and the columns whose values can be written.

    ``columns`` are quoted and joined by commas. ``counted`` says that the server numbers one of them itself.
    """

    name: str
    create: str
    columns: str
    counted: bool = False

    def copy(self, source: str, target: str) -> str:
        """Write the INSERT that copies all rows from one table to another; both names are quoted."""
        return f"INSERT INTO {target} ({self.columns}) SELECT {self.columns} FROM {source}"  # noqa: S608 - quoted names


def by_table(rows: Iterable[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Group rows about columns, which begin with their table's name, by table; their order stays."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table, *rest in rows:
        found.setdefault(table, []).append(tuple(rest))
    return found
