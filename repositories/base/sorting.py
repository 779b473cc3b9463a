"""Sort rows and page through them by key (keyset pagination), so a page costs the same however far down it is.

A sort is a list of expressions that are never NULL, because products differ in where NULL sorts, with the row's id
last, so that no two rows are equal. The place where a page ended is these expressions' values as the database returned
them, in JSON, so that it means the same to the database in the next query.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from repositories.base import values
from repositories.base.statements import LIMIT, AnyRowId, read_id
from tenancy.names import storable
from tenancy.types import Timestamp

Row = dict[str, Any]
Rows = list[Row]


class Key(NamedTuple):
    """One expression of a sort, and its direction."""

    by: sa.ColumnElement[Any]
    descending: bool = False


Sort = tuple[Key, ...]


class Page(NamedTuple):
    """Rows, and the place to ask for the next page with: JSON values, None at the end."""

    rows: Rows
    place: list[Any] | None


def up(*keys: sa.ColumnElement[Any]) -> Sort:
    """Return a sort by these expressions, ascending."""
    return tuple(Key(_plain(by)) for by in keys)


def down(*keys: sa.ColumnElement[Any]) -> Sort:
    """Return a sort by these expressions, descending."""
    return tuple(Key(_plain(by), descending=True) for by in keys)


def starting(statement: sa.Select[Any], sort: Sort, after: Sequence[Any] | None) -> sa.Select[Any]:
    """Start an ordered statement after a place."""
    return statement if after is None else statement.where(beyond(sort, _read(sort, after)))


def ordered(statement: sa.Select[Any], sort: Sort) -> sa.Select[Any]:
    """Order a statement, add the columns that the next place is made of, and limit it by the parameter ``p_limit``."""
    shown = [key.by.label(_label(number)) for number, key in enumerate(sort)]
    order = (key.by.desc() if key.descending else key.by for key in sort)
    return statement.add_columns(*shown).order_by(*order).limit(LIMIT)


def cut(rows: Rows, sort: Sort, limit: int) -> Page:
    """Remove the extra row that shows that there are more, and the columns of the place from the others."""
    more = len(rows) > limit
    del rows[limit:]
    places = [[row.pop(_label(number)) for number in range(len(sort))] for row in rows]
    return Page(rows, [_written(value) for value in places[-1]] if more else None)


def beyond(sort: Sort, place: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition for rows after a place; the redundant first half lets every product seek in its index."""
    (by, descending), value = sort[0], sa.literal(place[0], sort[0].by.type)
    past = by < value if descending else by > value
    if len(sort) == 1:
        return past
    not_before = by <= value if descending else by >= value
    return sa.and_(not_before, sa.or_(past, beyond(sort[1:], place[1:])))


def _plain(by: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Read an id column as ``AnyRowId``, which accepts ids that raw SQL wrote in another form."""
    return sa.type_coerce(by, AnyRowId()) if isinstance(by.type, sa.Uuid) else by


def _label(number: int) -> str:
    return f"sort_{number}"


def _written(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return value.hex if isinstance(value, UUID) else value


def _read(sort: Sort, place: Sequence[Any]) -> list[Any]:
    if not isinstance(place, list | tuple) or len(place) != len(sort):
        raise values.refuse("after", "must be the place where a page of this order ended.")
    try:
        return [_value(key.by.type, value) for key, value in zip(sort, place, strict=True)]
    except (TypeError, ValueError):
        raise values.refuse("after", "must be the place where a page of this order ended.") from None


def _value(kind: sa.types.TypeEngine[Any], value: Any) -> Any:
    if isinstance(kind, Timestamp):
        return datetime.fromisoformat(value).astimezone(UTC)
    if isinstance(kind, sa.Date):
        return date.fromisoformat(value)
    if isinstance(kind, sa.Boolean | sa.Integer):
        return bool(value) if isinstance(kind, sa.Boolean) else int(value)
    return read_id(value) if isinstance(kind, AnyRowId) else storable(value, "after")
