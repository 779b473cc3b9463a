"""Read lists of catalog rows so that a damaged row is named and does not hide the others.

SQLite returns whatever bytes a column contains. A flipped bit can leave invalid UTF-8, bytes instead of text, or an
invalid timestamp, and then reading a list with that row fails as a whole. Here a list is first read at once. If that
fails, or a value has the wrong type, each row is read by itself, and a damaged row column by column. Unreadable values
are replaced, and the log names the row and its columns.
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
"""Replaces a text that cannot be read; values of other types become None."""

_AT_ONCE = 1000
_DAMAGE = (DBAPIError, ValueError, TypeError, AttributeError)

Checks = Mapping[str, Callable[[Any], Any]]


class Read(NamedTuple):
    """Hold a row's values in the order of the query's columns, and the names of columns that could not be read."""

    values: Sequence[Any]
    damaged: tuple[str, ...] = ()


def read(connection: sa.Connection, query: sa.Select[Any], checks: Checks | None = None) -> list[Read]:
    """Return the rows of an ordered query.

    ``checks`` maps names of columns to functions that raise ValueError for a value that the column cannot have.
    """
    check = _TypeCheck(query, checks or {})
    try:
        rows = connection.execute(query).all()
        if all(map(check.row, rows)):
            return [Read(row) for row in rows]
    except _DAMAGE as error:
        _raise_if_disconnected(error)
        log.warning("a list of the catalog is read row by row: %s", type(error).__name__)
    ones: sa.Select[Any] = query.with_only_columns(sa.literal_column("1"), maintain_column_froms=True)
    number = len(connection.execute(ones).all())
    return [_one(connection, query.limit(1).offset(place), check) for place in range(number)]


def pages(
    connection: sa.Connection, query: sa.Select[Any], key: sa.ColumnElement[int], checks: Checks | None = None
) -> Iterator[Read]:
    """Yield rows in the order of ``key``, which must be the query's last column, reading some at a time."""
    after = 0
    while found := read(connection, query.where(key > after).order_by(key).limit(_AT_ONCE), checks):
        yield from found
        after = found[-1].values[-1]


def dicts(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    """Return the rows of an ordered query as dictionaries; unreadable values are UNREADABLE or None."""
    names = [column.key or "" for column in query.selected_columns]
    return [dict(zip(names, row.values, strict=True)) for row in read(connection, query)]


def first(connection: sa.Connection, statement: sa.Select[Any], asked: Mapping[str, Any] | None = None) -> Any:
    """Return the first row, or None; raise CatalogDamagedError if it cannot be read."""
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


class _TypeCheck:
    """Check whether the values of a query's rows have the types of their columns."""

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


def _one(connection: sa.Connection, query: sa.Select[Any], check: _TypeCheck) -> Read:
    """Read the single row of a query; column by column if it is damaged."""
    try:
        row = connection.execute(query).one()
        if check.row(row):
            return Read(row)
    except _DAMAGE as error:
        _raise_if_disconnected(error)
        log.debug("a row cannot be read at once")
    values: list[Any] = []
    damaged = []
    for place, column in enumerate(check.columns):
        try:
            alone = query.with_only_columns(column, maintain_column_froms=True)
            value = connection.execute(alone).scalar_one()
            good = check.value(place, value)
        except _DAMAGE as error:
            _raise_if_disconnected(error)
            value, good = None, False
        if not good:
            damaged.append(column.key or "")
            value = UNREADABLE if check.kinds[place] is str else None
        values.append(value)
    if damaged:
        where = f"{getattr(check.columns[0], 'element', check.columns[0])} {values[0]}"
        log.error("the row of the catalog with %s is damaged: %s cannot be read", where, ", ".join(damaged))
    return Read(values, tuple(damaged))


def _raise_if_disconnected(error: Exception) -> None:
    """Re-raise the error if the connection was lost: then no row is damaged."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        raise error


def _kind(kind: sa.types.TypeEngine[Any]) -> type | None:
    """Return the Python class of a column's values; None if there is no single one."""
    plain = kind.impl_instance if isinstance(kind, sa.types.TypeDecorator) else kind
    try:
        return plain.python_type
    except NotImplementedError:
        return None
