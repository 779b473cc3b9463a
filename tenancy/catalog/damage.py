"""Read lists of the catalog's rows so that one damaged row is named and hides no other.

SQLite keeps in a column whatever bytes stand there: a flipped bit can leave text that is no UTF-8, bytes where text
belongs, or a moment that is none, and then reading any list with that row in it fails as a whole. Here a list is read
at once, as always; where that fails, or a value is not of its column's kind, each row is read alone, and of a damaged
one each column. What cannot be read is replaced by a stand-in, and the log names row and columns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenancy.errors import CatalogDamagedError

log = logging.getLogger(__name__)

UNREADABLE = "(unreadable)"
"""Stands where a text belongs that cannot be read; other kinds of values are None."""

_AT_ONCE = 1000
_DAMAGE = (DBAPIError, ValueError, TypeError, AttributeError)

Checks = Mapping[str, Callable[[Any], Any]]


class Read(NamedTuple):
    """Hold one row's values, in the order of the query's columns, and the names of those that are stand-ins."""

    values: Sequence[Any]
    damaged: tuple[str, ...] = ()


def read(connection: sa.Connection, query: sa.Select[Any], checks: Checks | None = None) -> list[Read]:
    """Read an ordered list, at most as long as the query's own limit.

    ``checks`` has for a column, by its name, what raises ValueError where a value is none of its own.
    """
    sound = _Sound(query, checks or {})
    try:
        rows = connection.execute(query).all()
        if all(map(sound.row, rows)):
            return [Read(row) for row in rows]
    except _DAMAGE as error:
        _refuse_loss(error)
        log.warning("a list of the catalog is read row by row: %s", type(error).__name__)
    ones: sa.Select[Any] = query.with_only_columns(sa.literal_column("1"), maintain_column_froms=True)
    number = len(connection.execute(ones).all())
    return [_one(connection, query.limit(1).offset(place), sound) for place in range(number)]


def pages(
    connection: sa.Connection, query: sa.Select[Any], key: sa.ColumnElement[int], checks: Checks | None = None
) -> Iterator[Read]:
    """Read a list of any length in the order of its key, some rows at a time; the key is the query's last column."""
    after = 0
    while found := read(connection, query.where(key > after).order_by(key).limit(_AT_ONCE), checks):
        yield from found
        after = found[-1].values[-1]


def dicts(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    """Read an ordered list as one dictionary a row; what cannot be read is UNREADABLE or None there."""
    names = [column.key or "" for column in query.selected_columns]
    return [dict(zip(names, row.values, strict=True)) for row in read(connection, query)]


def first(connection: sa.Connection, statement: sa.Select[Any], asked: Mapping[str, Any] | None = None) -> Any:
    """Give the first row a statement finds, or None; one that cannot be read is CatalogDamagedError."""
    try:
        return connection.execute(statement, asked or {}).first()
    except (ValueError, TypeError, AttributeError) as error:
        raise broken() from error


def broken(what: str = "a row", **fields: object) -> CatalogDamagedError:
    return CatalogDamagedError(
        f"{what} of the catalog is damaged: `unify db list` or `manager.reports.databases()` names it; "
        "restore the catalog from a backup.",
        **fields,
    )


class _Sound:
    """Say of a query's rows whether their values are of the kinds that their columns have."""

    def __init__(self, query: sa.Select[Any], checks: Checks) -> None:
        self.columns = list(query.selected_columns)
        self.kinds = [_kind(column.type) for column in self.columns]
        self._checks = [checks.get(column.key or "") for column in self.columns]
        self._asked = [place for place, check in enumerate(self._checks) if check]

    def row(self, row: Sequence[Any]) -> bool:
        kinds = zip(row, self.kinds, strict=True)
        whole = all(value is None or kind is None or isinstance(value, kind) for value, kind in kinds)
        return whole and all(self.value(place, row[place]) for place in self._asked)

    def value(self, place: int, value: Any) -> bool:
        kind, check = self.kinds[place], self._checks[place]
        try:
            if check is not None:
                check(value)
        except ValueError:
            return False
        return value is None or kind is None or isinstance(value, kind)


def _one(connection: sa.Connection, query: sa.Select[Any], sound: _Sound) -> Read:
    """Read the one row of a query, column by column where it is damaged."""
    try:
        row = connection.execute(query).one()
        if sound.row(row):
            return Read(row)
    except _DAMAGE as error:
        _refuse_loss(error)
        log.debug("a row cannot be read at once")
    values: list[Any] = []
    damaged = []
    for place, column in enumerate(sound.columns):
        try:
            alone = query.with_only_columns(column, maintain_column_froms=True)
            value = connection.execute(alone).scalar_one()
            good = sound.value(place, value)
        except _DAMAGE as error:
            _refuse_loss(error)
            value, good = None, False
        if not good:
            damaged.append(column.key or "")
            value = UNREADABLE if sound.kinds[place] is str else None
        values.append(value)
    if damaged:
        where = f"{getattr(sound.columns[0], 'element', sound.columns[0])} {values[0]}"
        log.error("the row of the catalog with %s is damaged: %s cannot be read", where, ", ".join(damaged))
    return Read(values, tuple(damaged))


def _refuse_loss(error: Exception) -> None:
    """Pass an error of the connection on: no row is damaged, and nothing more can be read."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        raise error


def _kind(kind: sa.types.TypeEngine[Any]) -> type | None:
    """Give the class of a column's values; None where anything may come."""
    plain = kind.impl_instance if isinstance(kind, sa.types.TypeDecorator) else kind
    try:
        return plain.python_type
    except NotImplementedError:
        return None
