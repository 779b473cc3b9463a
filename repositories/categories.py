"""Keep a user's categories; one of them, "Uncategorized", is always there and takes what has no other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa

from repositories import scope, values
from repositories.base_user_scoped_repository import BaseUserScopedRepository, Row
from repositories.errors import ConflictError, RepositoryError
from repositories.schema import (
    CATEGORY_KEY_MAX,
    CATEGORY_NAME_MAX,
    UNCATEGORIZED,
    UNCATEGORIZED_KEY,
    categories,
    events,
    notes,
    tasks,
)
from tenancy.names import fold


@cache
def _uncategorized() -> sa.Select[Any]:
    statement = sa.select(categories.c.id).where(categories.c.name_key == UNCATEGORIZED_KEY)
    return scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))


class CategoryRepository(BaseUserScopedRepository):
    """Read and write categories; two names that differ in case or width only are the same name."""

    table = categories
    fields: ClassVar = {"name": values.line(CATEGORY_NAME_MAX), "color": values.optional(values.color)}
    defaults: ClassVar = {"color": None}
    searched = ("name",)
    referring = frozenset({"name"})

    def uncategorized(self) -> UUID:
        """Give the id of "Uncategorized", which is made again where raw SQL took it away."""
        found = self._find_uncategorized()
        if found is None:
            found = self.create({"name": UNCATEGORIZED})["id"]
        return found

    def update(self, id: Any, changes: Mapping[str, Any], *, if_version: int | None = None) -> Row:
        """Change a category; "Uncategorized" keeps its name (ConflictError)."""
        renamed = self._changes(changes).get("name_key", UNCATEGORIZED_KEY) != UNCATEGORIZED_KEY
        if renamed and self._found_key(id) == self._find_uncategorized():
            raise ConflictError(f"{UNCATEGORIZED} keeps its name.", field="name")
        return super().update(id, changes, if_version=if_version)

    def delete(self, id: Any, *, if_version: int | None = None) -> None:
        """Delete a category after moving its rows to "Uncategorized", which itself stays (ConflictError)."""
        uncategorized, key = self.uncategorized(), self._found_key(id)
        if key == uncategorized:
            raise ConflictError(f"{UNCATEGORIZED} cannot be deleted.", field="id")
        with self._refusals({}):  # a stale version takes the moves back too
            for table in (tasks, notes, events):
                self._move(table, key, uncategorized)
            super().delete(id, if_version=if_version)

    def update_where(self, changes: Mapping[str, Any], **filters: Any) -> int:
        """Change all categories alike, which can never mean their names."""
        if "name" in self._changes(changes):
            raise values.refuse("name", "is unique, so it cannot be the same for many.")
        return super().update_where(changes, **filters)

    def delete_where(self, **filters: Any) -> int:
        """Delete every category but "Uncategorized"; categories have no filters."""
        key = categories.c.id
        statement = self.apply_user_filter(sa.select(key)).where(key != self.uncategorized())
        statement = statement.where(*self._conditions(filters, bulk=True))
        found = self.session.execute(statement).scalars().all()
        for each in found:
            self.delete(each)
        return len(found)

    def _find_uncategorized(self) -> UUID | None:
        found: UUID | None = self.session.execute(_uncategorized(), {"p_owner": self.owner}).scalar()
        return found

    def _move(self, table: sa.Table, source: UUID, target: UUID) -> None:
        statement = self.apply_user_filter(sa.update(table)).where(table.c.category_id == source)
        changed = {"category_id": target, "updated_at": datetime.now(UTC), "version": table.c.version + 1}
        self.session.execute(statement.values(changed))

    def _derived(self, row: Row) -> Row:
        if "name" not in row:
            return row
        name_key = fold(row["name"])
        if not name_key or len(name_key) > CATEGORY_KEY_MAX:
            raise values.refuse("name", "has nothing to tell it by, or too much.")
        return row | {"name_key": name_key}

    def _explain(self, row: Row) -> RepositoryError:
        if "id" in row and self.exists(row["id"]):
            return super()._explain(row)
        if row:
            return ConflictError("There is a category with this name already.", field="name")
        return ConflictError("A row was put into the category meanwhile; try again.", field="id")
