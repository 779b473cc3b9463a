"""Add a category to a resource; it is "Uncategorized" if none is given."""

from __future__ import annotations

import operator
from typing import Any

import sqlalchemy as sa

from repositories.base import statements, values
from repositories.base.paged import PagedRepository
from repositories.base.sorting import Row
from repositories.base.statements import Filter
from repositories.categories import CategoryRepository
from repositories.errors import InvalidReferenceError, RepositoryError

CATEGORY = values.optional(values.row_id)
IN_CATEGORY = Filter("category_id", operator.eq)


class CategorizedRepository(PagedRepository):
    """Read and write rows that have a category."""

    referring = frozenset({"category_id"})

    def _shown(self) -> sa.Select[Any]:
        return statements.with_category(self.table)

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
