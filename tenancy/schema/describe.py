"""Describe a database's tables as the database tells them, and say how two descriptions differ.

What a database should be is what the chain makes of an empty one of the same product: both are told in the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

Told = tuple[Any, ...]
"""What SQLAlchemy's inspector tells of one thing each, in its own dicts."""


@dataclass(frozen=True)
class Shape:
    """Hold one table: its columns by name, and its rules."""

    columns: dict[str, Any]
    key: tuple[str, ...]
    uniques: Told
    indexes: Told
    checks: Told
    parents: Told


Shapes = dict[str, Shape]


def described(connection: sa.Connection) -> Shapes:
    """Describe all tables of a database, by name."""
    there = sa.inspect(connection)
    keys, parents, indexes = there.get_multi_pk_constraint(), there.get_multi_foreign_keys(), there.get_multi_indexes()
    uniques, checks = _asked(there.get_multi_unique_constraints), _asked(there.get_multi_check_constraints)
    return {
        at[1]: Shape(
            columns={each["name"]: each for each in columns},
            key=tuple(keys[at]["constrained_columns"]) if at in keys else (),
            uniques=tuple(uniques.get(at, ())),
            indexes=tuple(indexes.get(at, ())),
            checks=tuple(checks.get(at, ())),
            parents=tuple(parents.get(at, ())),
        )
        for at, columns in sorted(there.get_multi_columns().items())
    }


def differences(wanted: Shapes, found: Shapes, dialect: sa.Dialect) -> Iterator[str]:
    """Say in words how a database differs from what it should be, table by table."""
    for name in sorted(wanted.keys() - found.keys()):
        yield f"table {name} is missing"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"table {name} is too many"
    for name in sorted(wanted.keys() & found.keys()):
        yield from _of_table(name, wanted[name], found[name], dialect)


def _of_table(name: str, wanted: Shape, found: Shape, dialect: sa.Dialect) -> Iterator[str]:
    for column in sorted(wanted.columns.keys() - found.columns.keys()):
        yield f"column {name}.{column} is missing"
    for column in sorted(found.columns.keys() - wanted.columns.keys()):
        yield f"column {name}.{column} is too many"
    for column in wanted.columns.keys() & found.columns.keys():
        should, is_now = (_column(shape.columns[column], dialect) for shape in (wanted, found))
        if should != is_now:
            yield f"column {name}.{column} is {is_now}, and should be {should}"
    for line in sorted(_rules(wanted) - _rules(found)):
        yield f"{name} lacks {line}"
    for line in sorted(_rules(found) - _rules(wanted)):
        yield f"{name} has {line} too many"


def _rules(shape: Shape) -> set[str]:
    """Give keys, indexes and constraints, each in one line."""
    lines = {f"primary key ({_list(shape.key)})"} if shape.key else set()
    lines |= {_foreign_key(key) for key in shape.parents}
    uniques = {f"unique ({_list(each['column_names'])})" for each in shape.uniques}
    lines |= uniques
    lines |= {line for line in map(_index, shape.indexes) if line.removeprefix("index ") not in uniques}
    return lines | {f"check {' '.join(str(each['sqltext']).split())}" for each in shape.checks}


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
