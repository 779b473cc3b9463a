"""Scope a statement to its owner: the only place where a query gets its ``user_id`` predicate.

Every statement of every repository passes through ``owned``, which refuses those that it cannot scope.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.expression import FromClause, Join

from tenancy.errors import ScopeError

OWNER = "user_id"
Statement = TypeVar("Statement", "sa.Select[Any]", sa.Update, sa.Delete)


def owned(statement: Statement, owner: int | sa.BindParameter[int]) -> Statement:
    """Add the owner's predicate for each table that the statement reads from or writes to.

    Raises ScopeError if that is impossible: without a table that has an owner, for a union, and for an outer join
    whose ON clause does not name the owner. Subqueries inside expressions must be scoped by their author.
    """
    froms = _froms(statement)
    columns = [from_.c[OWNER] for each in froms for from_ in _with_owner(each)]
    if not columns:
        raise ScopeError("The statement reads from no table that has an owner, so it cannot be scoped to one.")
    return statement.where(*(column == owner for column in columns))


def _froms(statement: Any) -> list[FromClause]:
    if isinstance(statement, sa.Select):
        return list(statement.get_final_froms())
    if isinstance(statement, sa.Update | sa.Delete):
        return [statement.table]
    raise ScopeError("Only SELECT, UPDATE and DELETE can be scoped to an owner.")


def _with_owner(from_: FromClause) -> Iterator[FromClause]:
    """Yield the tables that need a predicate; an outer-joined one must be scoped by its ON clause instead."""
    if not isinstance(from_, Join):
        if OWNER not in from_.c:
            raise ScopeError("The statement reads from something that has no owner, so it cannot be scoped to one.")
        yield from_
        return
    yield from _with_owner(from_.left)
    if not from_.isouter:
        yield from _with_owner(from_.right)
    elif from_.full or not _names_owner(from_.onclause, from_.right):
        raise ScopeError("The ON clause of an outer join must name the owner of both sides.")


def _names_owner(clause: Any, side: FromClause) -> bool:
    return any(element is side.c.get(OWNER) for element in visitors.iterate(clause))
