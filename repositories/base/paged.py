"""Add to a resource what pages do with it: sorted pages, the words of a search, and deleting into the bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa

from repositories.base import bin_storage, search, statements, values
from repositories.base.repository import BaseUserScopedRepository, Conditions
from repositories.base.sorting import Page, Row, Rows, Sort
from repositories.base.statements import AnyRowId, Filter
from tenancy.types import new_id

IDS_MAX = 200
CHUNK = 500


def row_ids(value: object, field: str) -> list[UUID]:
    """Take up to ``IDS_MAX`` ids."""
    if not isinstance(value, list | tuple | set | frozenset) or len(value) > IDS_MAX:
        raise values.refuse(field, f"must be a list of at most {IDS_MAX} ids.")
    return [values.row_id(each, field) for each in value]


AMONG = Filter("id", lambda column, ids: column.in_(ids), row_ids)
"""The filter ``ids``: somebody else's among them are rows that are not there."""


class PagedRepository(BaseUserScopedRepository):
    """Read rows page by page in one of several orders, and discard rows so that they can come back."""

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
        """Give up to ``limit`` rows in an order, and the place to give as ``after`` for the next ones; one statement.

        ``sort`` is one of ``sorts``; ``text`` and the filters narrow, and None is none of them. The place (None at
        the end) is a list of plain JSON values, good for the same sort alone; it holds what the rows are sorted by,
        so with long titles it is up to 2 KB of text. Rows are whole, with ``category_name`` and ``category_color``
        where they have a category.
        """
        statement = self._narrowed(text, filters)
        return self._page(statement, self._sort(sort), limit, after)

    def found(self, text: str, *, limit: int = 50) -> Rows:
        """Give the rows that hold the words of a text (``search.py``), whole and best first; one statement.

        Best are those whose titles (names) hold most of the words, then the newest. Blank text finds nothing.
        """
        conditions = search.holds(self._searched, text)
        if not conditions:
            return []
        hits = [search.title_hits(self._searched[0], text).desc()] if search.words(text) else []
        order = *hits, self.table.c.created_at.desc(), self.table.c.id.desc()
        statement = self._shown().where(*conditions)
        return self._rows(statement.order_by(*order).limit(self._limit(limit)))

    def discard(self, id: Any, *, batch: Any = None, if_version: int | None = None) -> UUID:
        """Delete a row into the bin, and give the batch by which ``restore`` brings it back.

        ``if_version`` as in ``update``. What lies in the bin for too long goes for good on the way.
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
        """Delete all rows that the filters leave into the bin; give their batch and how many there were.

        Four statements for each 500 rows.
        """
        chosen, count = self._batch(batch), 0
        statement = self._whole().where(*self._conditions(filters, bulk=True), *self._discardable())
        with self._refusals({}):
            while rows := self._rows(statement.limit(CHUNK).with_for_update()):
                self._throw_away(rows, chosen)
                count += len(rows)
        bin_storage.purge(self)
        return chosen, count

    # What a resource may refine.

    def _shown(self) -> sa.Select[Any]:
        """Select what a page shows of the owner's rows."""
        return statements.whole(self.table)

    def _matching(self, text: str) -> Conditions:
        """Say what holds of the rows that a text finds."""
        return search.holds(self._searched, text)

    def _discardable(self) -> Conditions:
        """Say which rows may be discarded, of those that the filters leave."""
        return []

    def _leaving(self, rows: Rows) -> Sequence[bin_storage.Members]:
        """Let go of what holds rows that are about to be deleted; give what was held by each."""
        return [{}] * len(rows)

    # What the verbs are made of.

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
        """Select all that is kept of a row in the bin."""
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
