"""Store a user's categories. "Uncategorized" always exists and has the rows without another category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa

from repositories.base import scope, search, values
from repositories.base.bin_storage import Members
from repositories.base.paged import AMONG, PagedRepository, row_ids
from repositories.base.repository import Conditions
from repositories.base.sorting import Row, Rows, up
from repositories.base.statements import AnyRowId
from repositories.errors import ConflictError, RepositoryError
from repositories.schema import (
    CATEGORY_KEY_MAX,
    CATEGORY_NAME_MAX,
    HOLDING,
    UNCATEGORIZED,
    UNCATEGORIZED_KEY,
    categories,
)
from tenancy.names import fold

LAST_CHARACTER = "\U0010ffff"


@cache
def _uncategorized() -> sa.Select[Any]:
    statement = sa.select(categories.c.id).where(categories.c.name_key == UNCATEGORIZED_KEY)
    return scope.owned(statement, sa.bindparam("p_owner", type_=sa.Integer))


class CategoryRepository(PagedRepository):
    """Read and write categories, whose names are unique regardless of case and width (NFKC)."""

    table = categories
    fields: ClassVar = {"name": values.line(CATEGORY_NAME_MAX), "color": values.optional(values.color)}
    defaults: ClassVar = {"color": None}
    filters: ClassVar = {"ids": AMONG}
    searched = ("name",)
    referring = frozenset({"name"})
    sorts: ClassVar = {"name": up(categories.c.name_key, categories.c.id)}

    def uncategorized(self) -> UUID:
        """Return the id of "Uncategorized"; it is created again if raw SQL deleted it."""
        found = self._find_uncategorized()
        if found is None:
            found = self.create({"name": UNCATEGORIZED})["id"]
        return found

    def by_name(self, name: str) -> Row | None:
        """Return the category of this name, regardless of case and width, or None."""
        plain: str = values.text()(name, "name")
        statement = self._shown().where(categories.c.name_key == fold(plain))
        return next(iter(self._rows(statement)), None)

    def choices(self, *, limit: int = 200) -> tuple[Rows, bool]:
        """Return the first categories by name, for a form to choose from, and whether there are more.

        "Uncategorized" comes first, because it is the default.
        """
        rows, place = self.page(sort="name", limit=limit)
        return sorted(rows, key=lambda row: fold(row["name"]) != UNCATEGORIZED_KEY), place is not None

    def counts(self, ids: Sequence[Any] | None = None) -> dict[UUID, dict[str, int]]:
        """Count the rows of each kind in each category, one statement for each kind; by default in every category.

        A category that does not exist has none.
        """
        among = None if ids is None else row_ids(ids, "ids")
        found: dict[UUID, dict[str, int]] = {id: {table.name: 0 for table in HOLDING} for id in among or ()}
        for table in HOLDING:
            category = sa.type_coerce(table.c.category_id, AnyRowId())
            statement = self.apply_user_filter(sa.select(category, sa.func.count()).select_from(table))
            if among is not None:
                statement = statement.where(table.c.category_id.in_(among))
            for id, count in self.session.execute(statement.group_by(table.c.category_id)):
                found.setdefault(id, {table.name: 0 for table in HOLDING})[table.name] = count
        return found

    def update(self, id: Any, changes: Mapping[str, Any], *, if_version: int | None = None) -> Row:
        """Change a category; "Uncategorized" keeps its name (ConflictError)."""
        renamed = self._changes(changes).get("name_key", UNCATEGORIZED_KEY) != UNCATEGORIZED_KEY
        if renamed and self._found_key(id) == self._find_uncategorized():
            raise ConflictError(f"{UNCATEGORIZED} keeps its name.", field="name")
        return super().update(id, changes, if_version=if_version)

    def delete(self, id: Any, *, if_version: int | None = None) -> None:
        """Delete a category and move its rows to "Uncategorized", which cannot be deleted (ConflictError)."""
        uncategorized, key = self.uncategorized(), self._found_key(id)
        if key == uncategorized:
            raise _stays()
        with self._refusals({}):  # a stale version rolls the moves back too
            for table in HOLDING:
                self._move(table, [key], uncategorized)
            super().delete(id, if_version=if_version)

    def update_where(self, changes: Mapping[str, Any], **filters: Any) -> int:
        """Set the same values in many categories; names are unique, so they cannot be among them."""
        if "name" in self._changes(changes):
            raise values.refuse("name", "is unique, so it cannot be the same for many.")
        return super().update_where(changes, **filters)

    def delete_where(self, **filters: Any) -> int:
        """Delete every matching category except "Uncategorized"."""
        key = categories.c.id
        statement = self.apply_user_filter(sa.select(key)).where(key != self.uncategorized())
        statement = statement.where(*self._conditions(filters, bulk=True))
        found = self.session.execute(statement).scalars().all()
        for each in found:
            self.delete(each)
        return len(found)

    def discard(self, id: Any, *, batch: Any = None, if_version: int | None = None) -> UUID:
        """Move a category to the bin, and its rows to "Uncategorized"; restoring gives them back."""
        if self._found_key(id) == self.uncategorized():
            raise _stays()
        return super().discard(id, batch=batch, if_version=if_version)

    def _matching(self, text: str) -> Conditions:
        """Match names that begin with the text."""
        start = fold(search.checked(text))
        return [categories.c.name_key >= start, categories.c.name_key < start + LAST_CHARACTER] if start else []

    def _discardable(self) -> Conditions:
        return [categories.c.id != self.uncategorized()]

    def _leaving(self, rows: Rows) -> Sequence[Members]:
        keys, uncategorized = [row["id"] for row in rows], self.uncategorized()
        held: dict[UUID, Members] = {key: {table.name: [] for table in HOLDING} for key in keys}
        for table in HOLDING:
            id, category = (sa.type_coerce(column, AnyRowId()) for column in (table.c.id, table.c.category_id))
            statement = self.apply_user_filter(sa.select(id, category)).where(table.c.category_id.in_(keys))
            for member, key in self.session.execute(statement):
                held[key][table.name].append(member.hex if isinstance(member, UUID) else member)
            self._move(table, keys, uncategorized)
        return list(held.values())

    def _find_uncategorized(self) -> UUID | None:
        found: UUID | None = self.session.execute(_uncategorized(), {"p_owner": self.owner}).scalar()
        return found

    def _move(self, table: sa.Table, sources: Sequence[UUID], target: UUID) -> None:
        statement = self.apply_user_filter(sa.update(table)).where(table.c.category_id.in_(sources))
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
            return ConflictError("A category with this name already exists.", field="name")
        return ConflictError("A row was added to the category in the meantime: try again.", field="id")


def _stays() -> ConflictError:
    return ConflictError(f"{UNCATEGORIZED} cannot be deleted.", field="id")
