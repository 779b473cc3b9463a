"""Describe a database's tables by SQLAlchemy's inspector, and list how two descriptions differ.

The expected description is taken from an empty database of the same product on which the chain was run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

Reflected = tuple[Any, ...]
"""Dicts of SQLAlchemy's inspector."""


@dataclass(frozen=True)
class Shape:
    """Describe one table: its columns by name, and its keys, indexes and constraints."""

    columns: dict[str, Any]
    key: tuple[str, ...]
    uniques: Reflected
    indexes: Reflected
    checks: Reflected
    parents: Reflected


Shapes = dict[str, Shape]


def described(connection: sa.Connection) -> Shapes:
    """Return descriptions of all tables of a database, by name."""
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
    """Yield a line for each difference between a database and what it should be, table by table."""
    for name in sorted(wanted.keys() - found.keys()):
        yield f"table {name} is missing"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"unknown table {name}"
    for name in sorted(wanted.keys() & found.keys()):
        yield from _of_table(name, wanted[name], found[name], dialect)


def _of_table(name: str, wanted: Shape, found: Shape, dialect: sa.Dialect) -> Iterator[str]:
    for column in sorted(wanted.columns.keys() - found.columns.keys()):
        yield f"column {name}.{column} is missing"
    for column in sorted(found.columns.keys() - wanted.columns.keys()):
        yield f"unknown column {name}.{column}"
    for column in wanted.columns.keys() & found.columns.keys():
        should, is_now = (_column(shape.columns[column], dialect) for shape in (wanted, found))
        if should != is_now:
            yield f"column {name}.{column} is {is_now} but should be {should}"
    for line in sorted(_rules(wanted) - _rules(found)):
        yield f"{name} lacks {line}"
    for line in sorted(_rules(found) - _rules(wanted)):
        yield f"{name} has an unknown {line}"


def _rules(shape: Shape) -> set[str]:
    """Return keys, indexes and constraints, each as one line."""
    lines = {f"primary key ({_list(shape.key)})"} if shape.key else set()
    lines |= {_foreign_key(key) for key in shape.parents}
    uniques = {f"unique ({_list(each['column_names'])})" for each in shape.uniques}
    lines |= uniques
    lines |= {line for line in map(_index, shape.indexes) if line.removeprefix("index ") not in uniques}
    return lines | {f"check {' '.join(str(each['sqltext']).split())}" for each in shape.checks}


def _asked(ask: Any) -> Any:
    """Call a method of the inspector that not every product implements."""
    try:
        return ask()
    except NotImplementedError:
        return {}


def _column(column: Any, dialect: sa.Dialect) -> str:
    try:
        kind = column["type"].compile(dialect=dialect)
    except sa.exc.CompileError:
        kind = str(column["type"])
    default = "" if column.get("default") is None else f" default {column['default']}"
    return f"{kind}{'' if column['nullable'] else ' not null'}{default}"


def _index(index: Any) -> str:
    named = "unique" if index["unique"] else f"index {index['name']}"
    return f"{'index ' if index['unique'] else ''}{named} ({_list(index['column_names'])})"


def _foreign_key(key: Any) -> str:
    of, to = _list(key["constrained_columns"]), _list(key["referred_columns"])
    also = key.get("options", {}).get("ondelete")
    return f"foreign key ({of}) to {key['referred_table']} ({to}){f' on delete {also}' if also else ''}"


def _list(names: Any) -> str:
    return ", ".join(map(str, names))
