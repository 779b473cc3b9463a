"""Build the statements that are asked most, once per table and shape, so that a request only fills in values.

A statement is built with its owner as a parameter, through ``scope.owned`` like every other.
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
UNLISTED = frozenset({"position", "due_time"})
"""Columns that pages show and ``/api/v1`` does not have, so that its lists do not read them."""


class Filter(NamedTuple):
    """Name the column a filter looks at, what compares it with the value, and what checks the value.

    Without a check it is the column's own.
    """

    column: str
    compare: Callable[[Any, Any], Any]
    check: Callable[[object, str], Any] | None = None


@lru_cache(4096)
def read_id(text: str | None) -> UUID | str | None:
    """Read an id as a UUID, or leave it the text it is."""
    # Kept, because a page's rows share a few categories and lists are asked again: a look-up costs a tenth.
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return text


class AnyRowId(sa.types.UserDefinedType[Any]):
    """Give a row id as a UUID, and what raw SQL wrote in another form as the text it is.

    One odd row must not make its owner's whole list unreadable.
    """

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return lambda value: value.hex if isinstance(value, UUID) else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return read_id


def key_of(table: sa.Table) -> sa.Column[Any]:
    """Give the column that tells an owner's rows apart: ``id``, or ``key``."""
    return list(table.primary_key.columns)[1]


def columns(table: sa.Table, *, without: frozenset[str] = HIDDEN) -> list[sa.ColumnElement[Any]]:
    """Give the columns of a row, as they are read."""
    return [
        sa.type_coerce(column, AnyRowId()).label(column.name) if isinstance(column.type, sa.Uuid) else column
        for column in table.columns
        if column.name not in without
    ]


def listed(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Give the columns that the lists of ``/api/v1`` show a row with."""
    return columns(table, without=HIDDEN | UNLISTED)


@cache
def one(table: sa.Table) -> sa.Select[Any]:
    """Select the owner's row with a key; parameters ``p_owner`` and ``p_key``."""
    statement = sa.select(*columns(table)).where(key_of(table) == sa.bindparam("p_key"))
    return scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))


@cache
def listing(table: sa.Table, filters: tuple[tuple[str, Filter], ...] = (), *, after: bool = False) -> sa.Select[Any]:
    """Select the owner's rows, oldest first, each filter a parameter ``f_<name>``.

    ``after`` adds the parameters ``after_at`` and ``after_key``.
    """
    statement = scope.owned(sa.select(*listed(table)), sa.bindparam("p_owner", type_=sa.Integer))
    for name, (column, compare, _) in filters:
        statement = statement.where(compare(table.c[column], sa.bindparam(f"f_{name}")))
    if after:
        statement = statement.where(_after(table))
    return statement.order_by(table.c.created_at, key_of(table)).limit(sa.bindparam("p_limit", type_=sa.Integer))


@cache
def whole(table: sa.Table) -> sa.Select[Any]:
    """Select the owner's rows with all that pages show of them; parameter ``p_owner``."""
    return scope.owned(sa.select(*columns(table)), sa.bindparam("p_owner", type_=sa.Integer))


@cache
def with_category(table: sa.Table) -> sa.Select[Any]:
    """Select what ``whole`` does and the category's name and color, which are None for a row without one."""
    same = sa.and_(categories.c.user_id == table.c.user_id, categories.c.id == table.c.category_id)
    labels = categories.c.name.label("category_name"), categories.c.color.label("category_color")
    statement = sa.select(*columns(table), *labels).select_from(table.outerjoin(categories, same))
    return scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))


def _after(table: sa.Table) -> sa.ColumnElement[bool]:
    """Compare with a position; the redundant first half lets every engine start inside its index."""
    key = key_of(table)
    at: sa.BindParameter[Any] = sa.bindparam("after_at")
    later_key = sa.type_coerce(key, AnyRowId()) if isinstance(key.type, sa.Uuid) else key
    created_at = table.c.created_at
    return sa.and_(created_at >= at, sa.or_(created_at > at, later_key > sa.bindparam("after_key")))
