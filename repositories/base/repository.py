"""Give every resource the same methods, each of which works on the rows of one owner.

A repository runs SQLAlchemy Core statements in the session of a unit of work (``manager.session``), which commits or
rolls back; a refused write leaves that session usable. Rows are dicts from column name to value, with ``version``
and without ``user_id``. Values are checked by ``values.py``, statements are scoped by ``scope.py``.

Every method raises NoTenantError without an owner, and ConfigurationError(field=...) for an invalid value, column or
filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa

from repositories.base import scope, search, statements, values
from repositories.base.scoped import ScopedRepository
from repositories.base.sorting import Row, Rows
from repositories.base.statements import HIDDEN, Filter, Shape
from repositories.base.values import Check
from repositories.errors import ConflictError, RepositoryError, StaleVersionError
from tenancy import names
from tenancy.errors import ConfigurationError
from tenancy.types import new_id

Position = tuple[datetime, UUID | str]
"""Where a page of ``list`` ended: ``created_at`` and key of its last row."""

Conditions = list[sa.ColumnElement[bool]]


class BaseUserScopedRepository(ScopedRepository):
    """Read and write the rows of one owner in one table; a subclass defines table, columns and filters."""

    fields: ClassVar[Mapping[str, Check]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    filters: ClassVar[Mapping[str, Filter]] = {}
    searched: ClassVar[tuple[str, ...]] = ()
    referring: ClassVar[frozenset[str]] = frozenset()
    """Columns whose new value may violate a constraint."""

    def list(self, *, limit: int = 50, after: Position | None = None, **filters: Any) -> Rows:
        """Return up to ``limit`` rows after a position, ordered by ``created_at`` and key.

        Rows have the columns that ``/api/v1`` lists; ``get`` returns all. A filter that is None is ignored.
        ``..._after`` includes its value, ``..._before`` does not.
        """
        parameters: Row = {"p_limit": self._limit(limit)}
        shape: Shape = ()
        if filters:
            used = self._used(filters)
            shape = tuple((name, rule) for name, (rule, _) in used.items())
            parameters |= {f"f_{name}": value for name, (_, value) in used.items()}
        if after is not None:
            parameters |= self._position(after)
        return self._rows(statements.listing(self.table, shape, after=after is not None), parameters)

    def get(self, id: Any) -> Row:
        """Return the row with this key, or raise NotFoundError."""
        rows = self._rows(statements.one(self.table), {"p_key": self._found_key(id)})
        if not rows:
            raise self._missing()
        return rows[0]

    def create(self, values: Mapping[str, Any]) -> Row:
        """Insert a row and return it; raise ConflictError if its key or name is taken.

        ``id`` may be given; by default the row gets a new one. ``created_at`` is taken from this process's clock.
        """
        given = self.set_user_id(values)
        given.pop("user_id")
        key = self._new_key(given)
        now = datetime.now(UTC)
        row = key | {**self.defaults, **self._checked(given)}
        self._require(row)
        row = self._derived(row) | self._history(now)
        with self._refusals(row):
            self.session.execute(sa.insert(self.table), self.set_user_id(row))
        return {str(column.name): row[column.name] for column in self.table.columns if column.name not in HIDDEN}

    def update(self, id: Any, changes: Mapping[str, Any], *, if_version: int | None = None) -> Row:
        """Change a row and return it; its ``version`` grows by one.

        ``if_version`` is compared in the UPDATE itself; if it differs, StaleVersionError is raised.
        """
        checked = self._changes(changes)
        if not checked:
            return self._at_version(self.get(id), if_version)
        statement = self._only(sa.update(self.table), id, if_version).where(*self._allowing(checked))
        if not self._change(statement, checked):
            raise self._missed(id, if_version, checked)
        return self.get(id)

    def delete(self, id: Any, *, if_version: int | None = None) -> None:
        """Delete a row; ``if_version`` is as in ``update``."""
        if not self._execute(self._only(sa.delete(self.table), id, if_version)):
            raise self._missed(id, if_version, {})

    def count(self, **filters: Any) -> int:
        statement = self.apply_user_filter(sa.select(sa.func.count()).select_from(self.table))
        return int(self.session.execute(statement.where(*self._conditions(filters))).scalar_one())

    def exists(self, id: Any) -> bool:
        key = statements.key_of(self.table)
        statement = self.apply_user_filter(sa.select(key)).where(key == self._found_key(id))
        return self.session.execute(statement).first() is not None

    def search(self, text: str, *, limit: int = 50) -> Rows:
        """Return up to ``limit`` rows that contain the text, ignoring case, oldest first; blank text finds every row.

        ``search.py`` describes how case is ignored beyond ASCII.
        """
        statement = self.apply_user_filter(sa.select(*statements.listed(self.table)))
        wanted = values.text(search.SEARCH_MAX)(text, "text").strip()
        if wanted:
            columns = [self.table.c[name] for name in self.searched]
            statement = statement.where(search.matches(columns, wanted))
        order = self.table.c.created_at, statements.key_of(self.table)
        return self._rows(statement.order_by(*order).limit(self._limit(limit)))

    def update_where(self, changes: Mapping[str, Any], **filters: Any) -> int:
        """Change all the owner's rows that match the filters; return how many there were."""
        checked = self._changes(changes)
        conditions = self._conditions(filters, bulk=True)
        if not checked:
            return self.count(**filters)
        statement = self.apply_user_filter(sa.update(self.table))
        return self._change(statement.where(*conditions, *self._allowing(checked)), checked)

    def delete_where(self, **filters: Any) -> int:
        """Delete all the owner's rows that match the filters; return how many there were."""
        statement = self.apply_user_filter(sa.delete(self.table))
        return self._execute(statement.where(*self._conditions(filters, bulk=True)))

    # --- for resources to override ------------------------------------------------------------------------

    def _new_key(self, given: Row) -> Row:
        """Remove the key from the values and return it, or make one."""
        id = given.pop("id", None)
        return {"id": new_id() if id is None else values.row_id(id, "id")}

    def _found_key(self, id: Any) -> Any:
        """Parse a key; an invalid one is NotFoundError, as if it did not exist."""
        try:
            return values.row_id(id, "id")
        except ConfigurationError:
            raise self._missing() from None

    def _history(self, now: datetime) -> Row:
        """Return the columns that a new row begins with."""
        return {"created_at": now, "updated_at": now, "version": 1}

    def _derived(self, row: Row) -> Row:
        """Add columns that are derived from others."""
        return row

    def _allowing(self, changes: Row) -> Conditions:
        """Return conditions that a row must meet for the changes; they become part of the UPDATE."""
        return []

    def _explain(self, row: Row) -> RepositoryError:
        """Return the error for a row, or changed columns, that violated a constraint; called after the rollback."""
        key = statements.key_of(self.table).name
        return ConflictError(f"A row with this {key} already exists.", field=key)

    def _explain_missed(self, changes: Row) -> Exception:
        """Return the error for an existing row of the right version that the UPDATE did not match."""
        return StaleVersionError("The row was changed in the meantime: read it again.")

    # --- parts of the methods above -----------------------------------------------------------------------

    def _change(self, statement: sa.Update, changes: Row) -> int:
        table = self.table
        statement = statement.values({**changes, "updated_at": datetime.now(UTC), "version": table.c.version + 1})
        if self.referring.isdisjoint(changes):
            return self._execute(statement)
        with self._refusals(changes):
            return self._execute(statement)

    def _only(self, statement: scope.Statement, id: Any, if_version: int | None) -> scope.Statement:
        scoped = self.apply_user_filter(statement).where(statements.key_of(self.table) == self._found_key(id))
        if if_version is None:
            return scoped
        # An impossible version must not reach a driver, which may not be able to send so large a number.
        return scoped.where(self.table.c.version == (if_version if 0 < if_version < 2**31 else 0))

    def _refusals(self, row: Row) -> AbstractContextManager[None]:
        """Roll the block back (savepoint) if a constraint is violated, and raise the row's ``_explain``."""
        return self._undoing(lambda: self._explain(row))

    def _missed(self, id: Any, if_version: int | None, changes: Row) -> Exception:
        row = self._at_version(self.get(id), if_version)
        return self._explain_missed({**row, **changes})

    def _at_version(self, row: Row, if_version: int | None) -> Row:
        if if_version is not None and row["version"] != if_version:
            raise StaleVersionError("The row was changed in the meantime: read it again.", version=row["version"])
        return row

    def _changes(self, changes: Mapping[str, Any]) -> Row:
        given = self.set_user_id(changes)
        given.pop("user_id")
        return self._derived(self._checked(given))

    def _checked(self, given: Mapping[str, Any]) -> Row:
        for name in given:
            if name not in self.fields:
                raise values.refuse(name, f"is not a field of {self.table.name}.")
        return {name: self.fields[name](value, name) for name, value in given.items()}

    def _require(self, row: Row) -> None:
        for name in self.fields:
            if name not in row:
                raise values.refuse(name, "is missing.")

    def _conditions(self, filters: Row, *, bulk: bool = False) -> Conditions:
        if bulk and None in filters.values():
            # Ignored, as when reading, it would change or delete more rows than intended.
            raise ConfigurationError("A filter of None is not allowed where many rows change.", field="filters")
        return [rule.compare(self.table.c[rule.column], value) for rule, value in self._used(filters).values()]

    def _used(self, filters: Row) -> dict[str, tuple[Filter, Any]]:
        """Check the filters and sort them by name, so that equal sets share a cached statement."""
        used: dict[str, tuple[Filter, Any]] = {}
        for name in sorted(filters):
            if name not in self.filters:
                raise values.refuse(name, f"is not a filter of {self.table.name}.")
            rule = self.filters[name]
            if filters[name] is not None:
                used[name] = rule, (rule.check or self.fields[rule.column])(filters[name], name)
        return used

    def _position(self, after: Position) -> Row:
        at, key = after
        if isinstance(key, str):
            names.storable(key, "after")
        elif not isinstance(key, UUID):
            raise values.refuse("after", "must be the position of a row.")
        return {"after_at": values.moment(at, "after"), "after_key": key}
