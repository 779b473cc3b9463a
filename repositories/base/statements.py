"""Build the most frequent statements once per table and form, so that a request only fills in parameters.

Like all others they pass through ``scope.owned``, with the owner as a parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from repositories.base import scope
from repositories.schema import categories

HIDDEN = frozenset({"user_id", "name_key"})
LIMIT: sa.BindParameter[int] = sa.bindparam("p_limit", type_=sa.Integer)
UNLISTED = frozenset({"position", "due_time"})
"""Columns that only pages show, so the lists of ``/api/v1`` do not read them."""


class Filter(NamedTuple):
    """Describe a filter: its column, the comparison, and the check of the value (by default the column's own)."""

    column: str
    compare: Callable[[Any, Any], Any]
    check: Callable[[object, str], Any] | None = None


Shape = tuple[tuple[str, Filter], ...]
"""The filters of a statement, each with its name and without its value."""


@lru_cache(4096)
def read_id(text: str | None) -> UUID | str | None:
    """Return an id as a UUID, or as text if it is none."""
    # Cached, because a page's rows share few categories and lists are read again; a look-up costs a tenth.
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return text


class AnyRowId(sa.types.UserDefinedType[Any]):
    """Read a row id as a UUID, or as text if raw SQL wrote it in another form.

    Otherwise one odd row would make its owner's whole list unreadable.
    """

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return lambda value: value.hex if isinstance(value, UUID) else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return read_id


def key_of(table: sa.Table) -> sa.Column[Any]:
    """Return the second column of the primary key: ``id``, or ``key``."""
    return list(table.primary_key.columns)[1]


def columns(table: sa.Table, *, without: frozenset[str] = HIDDEN) -> list[sa.ColumnElement[Any]]:
    """Return a table's columns for a SELECT, with ids as ``AnyRowId``."""
    return [
        sa.type_coerce(column, AnyRowId()).label(column.name) if isinstance(column.type, sa.Uuid) else column
        for column in table.columns
        if column.name not in without
    ]


def listed(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return the columns of the lists of ``/api/v1``."""
    return columns(table, without=HIDDEN | UNLISTED)


@cache
def one(table: sa.Table) -> sa.Select[Any]:
    """Select the owner's row with a key; parameters ``p_owner`` and ``p_key``."""
    statement = sa.select(*columns(table)).where(key_of(table) == sa.bindparam("p_key"))
    return scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))


@cache
def listing(table: sa.Table, filters: Shape = (), *, after: bool = False) -> sa.Select[Any]:
    """Select the owner's rows, oldest first, each filter a parameter ``f_<name>``.

    ``after`` adds the parameters ``after_at`` and ``after_key``.
    """
    statement = scope.owned(sa.select(*listed(table)), sa.bindparam("p_owner", type_=sa.Integer))
    statement = narrowed(statement, table, filters)
    if after:
        statement = statement.where(_after(table))
    return statement.order_by(table.c.created_at, key_of(table)).limit(LIMIT)


def narrowed(statement: sa.Select[Any], table: sa.Table, filters: Shape) -> sa.Select[Any]:
    """Narrow a statement by filters, each a parameter ``f_<name>``."""
    for name, (column, compare, _) in filters:
        statement = statement.where(compare(table.c[column], sa.bindparam(f"f_{name}")))
    return statement


@cache
def whole(table: sa.Table) -> sa.Select[Any]:
    """Select the owner's rows with all columns that pages show; parameter ``p_owner``."""
    return scope.owned(sa.select(*columns(table)), sa.bindparam("p_owner", type_=sa.Integer))


@cache
def with_category(table: sa.Table) -> sa.Select[Any]:
    """Select like ``whole``, and also the category's name and color, None for a row without a category."""
    same = sa.and_(categories.c.user_id == table.c.user_id, categories.c.id == table.c.category_id)
    labels = categories.c.name.label("category_name"), categories.c.color.label("category_color")
    statement = sa.select(*columns(table), *labels).select_from(table.outerjoin(categories, same))
    return scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))


def _after(table: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition for rows after a position; its redundant first half lets every product seek in its index."""
    key = key_of(table)
    at: sa.BindParameter[Any] = sa.bindparam("after_at")
    later_key = sa.type_coerce(key, AnyRowId()) if isinstance(key.type, sa.Uuid) else key
    created_at = table.c.created_at
    return sa.and_(created_at >= at, sa.or_(created_at > at, later_key > sa.bindparam("after_key")))
