"""List and restore a user's deleted rows, which the bin keeps for 30 days.

``discard`` and ``discard_where`` of the other repositories move rows into it. Rows that were deleted together are one
batch and are restored together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from repositories.base import bin_storage, sorting, statements, values
from repositories.base.bin_storage import Members
from repositories.base.paged import CHUNK
from repositories.base.scoped import ScopedRepository
from repositories.base.sorting import Page, Rows
from repositories.base.statements import AnyRowId
from repositories.categories import CategoryRepository
from repositories.errors import ConflictError
from repositories.schema import KINDS, bin, categories
from tenancy.errors import ConfigurationError

_NEWEST = sorting.down(bin.c.deleted_at, bin.c.id)
_SHOWN = statements.columns(bin, without=statements.HIDDEN | {"row"})


class BinRepository(ScopedRepository):
    """List deleted rows, restore them, or delete them for good."""

    table = bin

    def page(self, *, limit: int = 50, after: Sequence[Any] | None = None) -> Page:
        """Return entries (``id``, ``batch``, ``kind``, ``title``, ``deleted_at``), newest first, in one statement."""
        statement = sorting.ordered(self._kept(sa.select(*_SHOWN)), _NEWEST)
        return self._page(sorting.starting(statement, _NEWEST, after), _NEWEST, limit)

    def restore(self, batch: Any) -> list[tuple[str, UUID]]:
        """Restore a batch, completely or not at all; return kind and id of each row.

        Raises NotFoundError if there is no such batch, and ConflictError if an id or a name is taken by now, or if this
        version of the application does not know a kind of rows in it. A row whose category no longer exists goes to
        "Uncategorized".
        """
        key = self._known(batch)
        entries = self._rows(self._kept(sa.select(bin.c.kind, bin.c.row)).where(bin.c.batch == key))
        if not entries:
            raise self._missing()
        for entry in entries:
            bin_storage.table_of(entry["kind"])
        restored: list[tuple[str, UUID]] = []
        with self.session.begin_nested():
            for kind in KINDS:
                read = [bin_storage.read(kind, entry["row"]) for entry in entries if entry["kind"] == kind]
                restored += self._put_back(kind, [row for row, _ in read])
                for row, members in read:
                    self._give_back(row["id"], members)
            self.session.execute(self.apply_user_filter(sa.delete(bin)).where(bin.c.batch == key))
        return restored

    def remove(self, id: Any) -> None:
        """Delete one entry for good."""
        if not self._execute(self.apply_user_filter(sa.delete(bin)).where(bin.c.id == self._known(id))):
            raise self._missing()

    def empty(self) -> int:
        """Delete all entries for good; return how many there were."""
        return self._execute(self.apply_user_filter(sa.delete(bin)))

    def _kept(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return self.apply_user_filter(statement).where(bin.c.deleted_at >= bin_storage.kept_since())

    def _known(self, id: Any) -> UUID:
        """Parse an id; an invalid one is NotFoundError, as if it did not exist."""
        try:
            found: UUID = values.row_id(id, "id")
        except ConfigurationError:
            raise self._missing() from None
        return found

    def _put_back(self, kind: str, rows: Rows) -> list[tuple[str, UUID]]:
        table = KINDS[kind]
        if rows and "category_id" in table.c:
            self._recategorize(rows)
        with self._undoing(lambda: _taken(kind)):
            for names, alike in _alike(rows).items():
                insert = sa.insert(table).values({name: _given(table.c[name]) for name in ("user_id", *names)})
                given = [self.set_user_id(row) for row in alike]
                self.session.execute(insert, [{f"v_{name}": value for name, value in row.items()} for row in given])
        return [(kind, row["id"]) for row in rows]

    def _recategorize(self, rows: Rows) -> None:
        """Put rows whose category no longer exists into "Uncategorized"."""
        wanted = {row["category_id"] for row in rows} - {None}
        there: set[UUID] = set()
        for some in _chunks(list(wanted)):
            statement = self.apply_user_filter(sa.select(categories.c.id)).where(categories.c.id.in_(some))
            there.update(self.session.execute(statement).scalars())
        lost = [row for row in rows if row["category_id"] in wanted - there]
        for row in lost:
            row |= {"category_id": self._uncategorized, "version": row["version"] + 1}

    def _give_back(self, category: UUID, members: Members) -> None:
        """Move a category's former rows back into it, except those that were moved elsewhere since."""
        for name, ids in members.items():
            if not ids:
                continue
            table = bin_storage.table_of(name)
            key = sa.type_coerce(table.c.id, AnyRowId())
            for some in _chunks(ids):
                statement = self.apply_user_filter(sa.update(table)).where(
                    table.c.category_id == self._uncategorized, key.in_([statements.read_id(id) for id in some])
                )
                changed = {"category_id": category, "updated_at": datetime.now(UTC), "version": table.c.version + 1}
                self.session.execute(statement.values(changed))

    @cached_property
    def _uncategorized(self) -> UUID:
        return CategoryRepository(self.session, self.owner).uncategorized()


def _given(column: sa.Column[Any]) -> sa.BindParameter[Any]:
    kind = AnyRowId() if isinstance(column.type, sa.Uuid) else column.type
    return sa.bindparam(f"v_{column.name}", type_=kind)


def _alike(rows: Rows) -> dict[tuple[str, ...], Rows]:
    """Group rows by their columns, so that one statement can insert each group."""
    found: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        found.setdefault(tuple(row), []).append(row)
    return found


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def _taken(kind: str) -> ConflictError:
    if kind == categories.name:
        return ConflictError("There is now another category with this name: rename that one first.", field="name")
    return ConflictError("There is already another row with this id.", field="id")
