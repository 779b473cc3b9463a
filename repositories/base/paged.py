"""Add sorted pages, word search and deletion into the bin to a resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa

from repositories.base import bin_storage, search, sorting, statements, values
from repositories.base.repository import BaseUserScopedRepository, Conditions
from repositories.base.sorting import Page, Row, Rows, Sort
from repositories.base.statements import AnyRowId, Filter, Shape
from tenancy.types import new_id

IDS_MAX = 200
CHUNK = 500


def row_ids(value: object, field: str) -> list[UUID]:
    """Check a list of up to ``IDS_MAX`` ids."""
    if not isinstance(value, list | tuple | set | frozenset) or len(value) > IDS_MAX:
        raise values.refuse(field, f"must be a list of at most {IDS_MAX} ids.")
    return [values.row_id(each, field) for each in value]


@lru_cache(512)
def _ordered(shown: sa.Select[Any], table: sa.Table, filters: Shape, sort: Sort) -> sa.Select[Any]:
    """Build a page's statement once for each set of filters, so that a request only fills in parameters."""
    return sorting.ordered(statements.narrowed(shown, table, filters), sort)


AMONG = Filter("id", lambda column, ids: column.in_(ids), row_ids)
"""The filter ``ids``; ids of other users' rows match nothing."""


class PagedRepository(BaseUserScopedRepository):
    """Read rows page by page in one of several orders, and move rows to the bin."""

    sorts: ClassVar[Mapping[str, Sort]] = {}

    def page(
        self,
        *,
        sort: str,
        limit: int = 50,
        after: Sequence[Any] | None = None,
        text: str | None = None,
        **filters: Any,
    ) -> Page:
        """Return up to ``limit`` rows and the place to pass as ``after`` for the next page; one statement.

        ``sort`` is one of ``sorts``; ``text`` and the filters narrow the rows, unless None. The place (None at the end)
        is a list of JSON values, valid for the same sort only. It contains the sorted values, so with long titles it is
        up to 2 KB of text. Rows have all columns, and ``category_name`` and ``category_color`` if they have a category.
        """
        order, used = self._sort(sort), self._used(filters)
        shape = tuple((name, rule) for name, (rule, _) in used.items())
        statement = sorting.starting(_ordered(self._shown(), self.table, shape, order), order, after)
        if text is not None:
            statement = statement.where(*self._matching(text))
        return self._page(statement, order, limit, **{f"f_{name}": value for name, (_, value) in used.items()})

    def found(self, text: str, *, limit: int = 50) -> Rows:
        """Return the rows that contain the words of a text (``search.py``), the best first; one statement.

        Rows with the most words in their titles (names) are best, then the newest. Blank text finds nothing.
        """
        conditions = search.holds(self._searched, text)
        if not conditions:
            return []
        hits = [search.title_hits(self._searched[0], text).desc()] if search.words(text) else []
        order = *hits, self.table.c.created_at.desc(), self.table.c.id.desc()
        statement = self._shown().where(*conditions)
        return self._rows(statement.order_by(*order).limit(self._limit(limit)))

    def discard(self, id: Any, *, batch: Any = None, if_version: int | None = None) -> UUID:
        """Move a row to the bin; return the batch, by which ``BinRepository.restore`` restores it.

        ``if_version`` is as in ``update``. Some expired entries of the bin are deleted on this occasion.
        """
        key = statements.key_of(self.table)
        statement = self._whole().where(key == self._found_key(id)).with_for_update()
        rows = self._rows(statement)
        if not rows:
            raise self._missing()
        self._at_version(rows[0], if_version)
        chosen = self._batch(batch)
        with self._refusals({}):
            self._throw_away(rows, chosen)
        bin_storage.purge(self)
        return chosen

    def discard_where(self, *, batch: Any = None, **filters: Any) -> tuple[UUID, int]:
        """Move all matching rows to the bin; return their batch and how many there were.

        Four statements per 500 rows.
        """
        chosen, count = self._batch(batch), 0
        statement = self._whole().where(*self._conditions(filters, bulk=True), *self._discardable())
        with self._refusals({}):
            while rows := self._rows(statement.limit(CHUNK).with_for_update()):
                self._throw_away(rows, chosen)
                count += len(rows)
        bin_storage.purge(self)
        return chosen, count

    # --- for resources to override ------------------------------------------------------------------------

    def _shown(self) -> sa.Select[Any]:
        """Select the columns of a page, from the owner's rows."""
        return statements.whole(self.table)

    def _matching(self, text: str) -> Conditions:
        """Return the conditions for rows that a text finds."""
        return search.holds(self._searched, text)

    def _discardable(self) -> Conditions:
        """Return further conditions for rows that ``discard_where`` may move."""
        return []

    def _leaving(self, rows: Rows) -> Sequence[bin_storage.Members]:
        """Release the rows that refer to rows about to be deleted; return them for each, as members."""
        return [{}] * len(rows)

    # --- parts of the methods above -----------------------------------------------------------------------

    @property
    def _searched(self) -> Sequence[sa.Column[Any]]:
        return [self.table.c[name] for name in self.searched]

    def _narrowed(self, text: str | None, filters: Row) -> sa.Select[Any]:
        statement = self._shown().where(*self._conditions(filters))
        return statement if text is None else statement.where(*self._matching(text))

    def _sort(self, name: str) -> Sort:
        if name not in self.sorts:
            raise values.refuse("sort", f"must be one of {', '.join(self.sorts)}.")
        return self.sorts[name]

    def _whole(self) -> sa.Select[Any]:
        """Select all columns that the bin stores."""
        return self.apply_user_filter(sa.select(*statements.columns(self.table, without=frozenset({"user_id"}))))

    def _batch(self, batch: Any) -> UUID:
        return new_id() if batch is None else values.row_id(batch, "batch")

    def _throw_away(self, rows: Rows, batch: UUID) -> None:
        members = self._leaving(rows)
        key = sa.type_coerce(statements.key_of(self.table), AnyRowId())
        deletion = self.apply_user_filter(sa.delete(self.table)).where(key.in_([row["id"] for row in rows]))
        if self._execute(deletion) != len(rows):
            raise self._explain_missed({})
        bin_storage.keep(self, rows, members, batch)
