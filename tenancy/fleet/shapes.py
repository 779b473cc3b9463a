"""Describe a database's tables as the database tells them, and say how two descriptions differ.

What a database should be is what the chain makes of an empty one of the same product: both are told in the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa


@dataclass(frozen=True)
class Shape:
    """Hold one table: what it has, by a name for people."""

    columns: dict[str, str] = field(default_factory=dict)
    rest: frozenset[str] = frozenset()
    """Keys, indexes and constraints, each in one line."""


Shapes = dict[str, Shape]


def described(connection: sa.Connection) -> Shapes:
    """Describe all tables of a database."""
    there = sa.inspect(connection)
    columns = {key[1]: found for key, found in there.get_multi_columns().items()}
    rest: dict[str, set[str]] = {name: set() for name in columns}
    for (_, table), key in there.get_multi_pk_constraint().items():
        rest[table].add(f"primary key ({_list(key['constrained_columns'])})")
    for (_, table), keys in there.get_multi_foreign_keys().items():
        rest[table] |= {_foreign_key(key) for key in keys}
    uniques = _asked(there.get_multi_unique_constraints)
    for (_, table), constraints in uniques.items():
        rest[table] |= {f"unique ({_list(each['column_names'])})" for each in constraints}
    for (_, table), indexes in there.get_multi_indexes().items():
        alike = {f"unique ({_list(each['column_names'])})" for each in uniques.get((_, table), [])}
        rest[table] |= {told for told in map(_index, indexes) if told.removeprefix("index ") not in alike}
    for (_, table), checks in _asked(there.get_multi_check_constraints).items():
        rest[table] |= {f"check {' '.join(str(each['sqltext']).split())}" for each in checks}
    return {
        name: Shape({each["name"]: _column(each, connection.dialect) for each in found}, frozenset(rest[name]))
        for name, found in columns.items()
    }


def differences(wanted: Shapes, found: Shapes) -> Iterator[str]:
    """Say in words how a database differs from what it should be, table by table."""
    for name in sorted(wanted.keys() - found.keys()):
        yield f"table {name} is missing"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"table {name} is too many"
    for name in sorted(wanted.keys() & found.keys()):
        yield from _of_table(name, wanted[name], found[name])


def _of_table(name: str, wanted: Shape, found: Shape) -> Iterator[str]:
    for column in sorted(wanted.columns.keys() - found.columns.keys()):
        yield f"column {name}.{column} is missing"
    for column in sorted(found.columns.keys() - wanted.columns.keys()):
        yield f"column {name}.{column} is too many"
    for column, told in wanted.columns.items():
        if column in found.columns and found.columns[column] != told:
            yield f"column {name}.{column} is {found.columns[column]}, and should be {told}"
    for told in sorted(wanted.rest - found.rest):
        yield f"{name} lacks {told}"
    for told in sorted(found.rest - wanted.rest):
        yield f"{name} has {told} too many"


def _asked(ask: Any) -> Any:
    """Ask for what not every product tells."""
    try:
        return ask()
    except NotImplementedError:
        return {}


def _column(told: Any, dialect: sa.Dialect) -> str:
    try:
        kind = told["type"].compile(dialect=dialect)
    except sa.exc.CompileError:
        kind = str(told["type"])
    default = "" if told.get("default") is None else f" default {told['default']}"
    return f"{kind}{'' if told['nullable'] else ' not null'}{default}"


def _index(told: Any) -> str:
    named = "unique" if told["unique"] else f"index {told['name']}"
    return f"{'index ' if told['unique'] else ''}{named} ({_list(told['column_names'])})"


def _foreign_key(told: Any) -> str:
    of, to = _list(told["constrained_columns"]), _list(told["referred_columns"])
    also = told.get("options", {}).get("ondelete")
    return f"foreign key ({of}) to {told['referred_table']} ({to}){f' on delete {also}' if also else ''}"


def _list(names: Any) -> str:
    return ", ".join(map(str, names))
