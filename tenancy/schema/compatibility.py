"""List the changes between two descriptions of the tables that break code written for the first.

A revision that makes one has to be marked ``destructive = True`` (expand first, contract in a later release). What a
revision does to rows is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from tenancy.schema.describe import Shape, Shapes

Rule = tuple[Any, ...]


def backward_incompatible_changes(before: Shapes, after: Shapes) -> list[str]:
    """List what code written for the schema ``before`` can no longer do with ``after``."""
    found: list[str] = []
    for table, old in before.items():
        found += _table(table, old, after[table]) if table in after else [f"drops table {table}"]
    return found


def _unique(shape: Shape) -> frozenset[tuple[str, ...]]:
    """Return the sets of columns that are unique."""
    sets = [*shape.uniques, *(index for index in shape.indexes if index["unique"])]
    return frozenset(tuple(sorted(filter(None, each["column_names"]))) for each in sets)


def _checks(shape: Shape) -> frozenset[str]:
    return frozenset(str(each["sqltext"]) for each in shape.checks)


def _parents(shape: Shape) -> frozenset[Rule]:
    return frozenset(
        (tuple(key["constrained_columns"]), key["referred_table"], tuple(key["referred_columns"]))
        for key in shape.parents
    )


def _table(table: str, old: Shape, new: Shape) -> Iterator[str]:
    for name, column in old.columns.items():
        if name in new.columns:
            yield from _column(f"{table}.{name}", column, new.columns[name])
        else:
            yield f"drops or renames column {table}.{name}"
    for name, column in new.columns.items():
        if name not in old.columns and not column["nullable"] and column["default"] is None:
            yield f"adds column {table}.{name}, which may not be NULL and has no server default"
    yield from _rules(table, old, new)


def _column(name: str, old: Any, new: Any) -> Iterator[str]:
    if not holds(new["type"], old["type"]):
        yield f"narrows or changes the type of column {name} from {old['type']!r} to {new['type']!r}"
    if old["nullable"] and not new["nullable"]:
        yield f"forbids NULL in column {name}"
    if not new["nullable"] and old["default"] is not None and new["default"] is None:
        yield f"takes the server default from column {name}"


def _rules(table: str, old: Shape, new: Shape) -> Iterator[str]:
    if old.key != new.key:
        yield f"changes the primary key of {table} from ({', '.join(old.key)}) to ({', '.join(new.key)})"
    for columns in sorted(_unique(new) - _unique(old)):
        if not any(set(known) <= set(columns) for known in (*_unique(old), old.key) if known):
            yield f"makes {_names(table, columns)} unique"
    for check in sorted(_checks(new) - _checks(old)):
        named = [column for column in old.columns if re.search(rf"\b{re.escape(column)}\b", check)]
        if named:
            yield f"checks column {_names(table, named)} anew: {check}"
    for columns, parent, _ in sorted(_parents(new) - _parents(old)):
        added = [new.columns[column] for column in columns if column not in old.columns]
        left_empty = any(column["nullable"] and column["default"] is None for column in added)
        if set(columns) & old.columns.keys() and not left_empty:  # a foreign key with a NULL in it is not checked
            yield f"holds {_names(table, columns)} to rows of {parent}"


def _names(table: str, columns: Iterable[str]) -> str:
    return ", ".join(f"{table}.{column}" for column in columns)


# --- types ----------------------------------------------------------------------------------------------

_INTEGERS: list[tuple[str, ...]] = [
    ("TINYINT", "BOOLEAN"),
    ("SMALLINT", "SMALL_INTEGER"),
    ("MEDIUMINT",),
    ("INTEGER",),
    ("BIGINT", "BIG_INTEGER"),
]
_TEXTS: dict[str, int] = {"TINYTEXT": 2**8, "TEXT": 2**16, "MEDIUMTEXT": 2**24, "LONGTEXT": 2**32}
_ENDLESS = 2**40


def holds(new: TypeEngine[Any], old: TypeEngine[Any]) -> bool:
    """Return whether a type can store every value of another, and compares texts by the same collation."""
    if repr(new) == repr(old):
        return True
    if isinstance(new, sa.String) and isinstance(old, sa.String):
        return _length(new) >= _length(old) and _collation(new) == _collation(old) and not _loses(new, old)
    if isinstance(new, sa.LargeBinary | sa.VARBINARY) and isinstance(old, sa.LargeBinary | sa.VARBINARY):
        return (new.length or _ENDLESS) >= (old.length or _ENDLESS)
    if isinstance(new, sa.DateTime) and isinstance(old, sa.DateTime):
        return bool(_fraction(new) >= _fraction(old) and new.timezone == old.timezone)
    if type(new) is type(old) and isinstance(new, sa.Numeric) and isinstance(old, sa.Numeric):
        return _digits(new)[0] >= _digits(old)[0] and _digits(new)[1] >= _digits(old)[1]
    ranks = [next((n for n, names in enumerate(_INTEGERS) if _name(kind) in names), None) for kind in (new, old)]
    return ranks[0] is not None and ranks[1] is not None and ranks[0] >= ranks[1] and _signed(new) == _signed(old)


def _name(kind: TypeEngine[Any]) -> str:
    return str(kind.__visit_name__).upper()


def _length(kind: sa.String) -> int:
    """Return the maximum length of a text; MySQL's depends on the type's name, elsewhere TEXT is unlimited."""
    if kind.length is not None:
        return kind.length
    return _TEXTS.get(_name(kind), _ENDLESS) if type(kind).__module__.endswith("mysql.types") else _ENDLESS


def _collation(kind: sa.String) -> str | None:
    return kind.collation


def _loses(new: sa.String, old: sa.String) -> bool:
    """Return whether Unicode text (NVARCHAR) would become text in a code page (SQL Server)."""
    return _name(old).startswith("N") and not _name(new).startswith("N")


def _fraction(kind: sa.DateTime) -> int:
    """Return the digits of fractional seconds: MySQL's ``fsp``, SQL Server's ``precision``, six elsewhere."""
    digits = getattr(kind, "fsp", getattr(kind, "precision", 6))
    return 0 if digits is None else int(digits)


def _digits(kind: sa.Numeric[Any]) -> tuple[int, int]:
    """Return the number of digits before and after the decimal point."""
    if kind.precision is None:
        return _ENDLESS, _ENDLESS
    return kind.precision - (kind.scale or 0), kind.scale or 0


def _signed(kind: TypeEngine[Any]) -> bool:
    return not getattr(kind, "unsigned", False)
