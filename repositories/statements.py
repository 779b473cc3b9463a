"""Build the statements that are asked most, once per table and shape, so that a request only fills in values.

A statement is built with its owner as a parameter, through ``scope.owned`` like every other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from repositories import scope
from repositories.schema import categories

HIDDEN = frozenset({"user_id", "name_key"})
Filter = tuple[str, str, Callable[[Any, Any], Any]]
"""Name of the filter, column it looks at, operator that compares the two."""


@lru_cache(4096)
def _read_id(text: str | None) -> UUID | str | None:
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
        return _read_id


def key_of(table: sa.Table) -> sa.Column[Any]:
    """Give the column that tells an owner's rows apart: ``id``, or ``key``."""
    return list(table.primary_key.columns)[1]


def shown(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Give the columns that a row is shown with."""
    return [
        sa.type_coerce(column, AnyRowId()).label(column.name) if isinstance(column.type, sa.Uuid) else column
        for column in table.columns
        if column.name not in HIDDEN
    ]


@cache
def one(table: sa.Table) -> sa.Select[Any]:
    """Select the owner's row with a key; parameters ``p_owner`` and ``p_key``."""
    statement = sa.select(*shown(table)).where(key_of(table) == sa.bindparam("p_key"))
    return scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))


@cache
def listing(
    table: sa.Table, filters: tuple[Filter, ...] = (), *, after: bool = False, categorized: bool = False
) -> sa.Select[Any]:
    """Select the owner's rows, oldest first, each filter a parameter ``f_<name>``.

    ``after`` adds the parameters ``after_at`` and ``after_key``; ``categorized`` adds the columns
    ``category_name`` and ``category_color``.
    """
    statement = with_category(table) if categorized else sa.select(*shown(table))
    statement = scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))
    for name, column, compare in filters:
        statement = statement.where(compare(table.c[column], sa.bindparam(f"f_{name}")))
    if after:
        statement = statement.where(_after(table))
    return statement.order_by(table.c.created_at, key_of(table)).limit(sa.bindparam("p_limit", type_=sa.Integer))


def with_category(table: sa.Table) -> sa.Select[Any]:
    """Select rows together with their category's name and color; both are None for a row without one."""
    same = sa.and_(categories.c.user_id == table.c.user_id, categories.c.id == table.c.category_id)
    labels = categories.c.name.label("category_name"), categories.c.color.label("category_color")
    return sa.select(*shown(table), *labels).select_from(table.outerjoin(categories, same))


def _after(table: sa.Table) -> sa.ColumnElement[bool]:
    """Compare with a position; the redundant first half lets every engine start inside its index."""
    key = key_of(table)
    at: sa.BindParameter[Any] = sa.bindparam("after_at")
    later_key = sa.type_coerce(key, AnyRowId()) if isinstance(key.type, sa.Uuid) else key
    created_at = table.c.created_at
    return sa.and_(created_at >= at, sa.or_(created_at > at, later_key > sa.bindparam("after_key")))
