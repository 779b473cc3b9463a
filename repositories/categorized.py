"""Add a category to a resource: the owner's own, or "Uncategorized" where none is named."""

from __future__ import annotations

import operator
from typing import Any

from repositories import values
from repositories.base_user_scoped_repository import BaseUserScopedRepository, Position, Row, Rows
from repositories.categories import CategoryRepository
from repositories.errors import InvalidReferenceError, RepositoryError

CATEGORY = values.optional(values.row_id)
IN_CATEGORY = ("category_id", operator.eq)


class CategorizedRepository(BaseUserScopedRepository):
    """Read and write rows that have a category."""

    referring = frozenset({"category_id"})

    def list_with_category(self, *, limit: int = 50, after: Position | None = None, **filters: Any) -> Rows:
        """Give what ``list`` gives, each row with ``category_name`` and ``category_color``, in one statement."""
        return self._listing(limit, after, filters, categorized=True)

    @property
    def _categories(self) -> CategoryRepository:
        return CategoryRepository(self.session, self.owner)

    def _derived(self, row: Row) -> Row:
        if "category_id" in row and row["category_id"] is None:
            return row | {"category_id": self._categories.uncategorized()}
        return row

    def _explain(self, row: Row) -> RepositoryError:
        inserted = "id" in row
        if inserted and self._categories.exists(row["category_id"]):
            return super()._explain(row)
        return InvalidReferenceError("There is no such category.", field="category_id")
