"""Write the rows of an archive into a database that nobody uses yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tenancy.archive.format import Sums
from tenancy.archive.own_tables import Definition
from tenancy.archive.tables import Carried, Schema, own_table, tables_of
from tenancy.archive.values import Rows
from tenancy.backends.base import Backend
from tenancy.backends.copying import Kind, Row, Table
from tenancy.errors import ArchiveError, ArchiveHostileError, BackendError

OWNER = "user_id"
"""The column that names the owner of a row, in every table of an application."""


@dataclass(frozen=True)
class Batch:
    """Hold some rows of a table, in the order of the archive; a table without rows has one empty batch."""

    carried: Carried
    rows: Sequence[Row]
    lines: bytes = b""


class Target:
    """Take batches in the order of the archive, and add up what the database must hold then.

    Tables of the tenant's own are made when their first batch comes. Their foreign keys follow once all rows are there,
    where a product can add them to a table that exists.
    """

    def __init__(self, connection: sa.Connection, backend: Backend, schema: Schema, owner: int | None) -> None:
        self._connection = connection
        self._backend = backend
        self._schema = schema
        self._owner = owner
        self._there = {each.table.name: each for each in tables_of(connection, backend, schema)}
        self._taken = {name.casefold() for name in (*self._there, *schema.house)}
        self._table = _NO_TABLE
        self._owned: tuple[int, ...] = ()
        self.sums = Sums()

    def take(self, batch: Batch) -> None:
        if batch.carried.table.name != self._table.name:
            self._begin(batch.carried)
        if not batch.rows:
            return
        rows, lines = self._with_owner(batch)
        self.sums.add(len(rows), lines)
        try:
            with self._backend.explained():
                self._backend.copying.insert(self._connection, self._table, rows)
        except BackendError as error:
            error.message = f"table {self._table.name} of the archive cannot be loaded: {error.message}"
            raise

    def end(self) -> None:
        """End the table that was taken last."""
        if self._table is not _NO_TABLE:
            self.sums.end()
            self._backend.copying.counted_on(self._connection, self._table)
        self._table = _NO_TABLE

    def _begin(self, carried: Carried) -> None:
        self.end()
        self._table = self._make(carried.own) if carried.own is not None else self._found(carried.table)
        self._writer = Rows(self._table)
        self._owned = self._owner_places(carried)
        self.sums.begin(self._table.name, tuple(column.name for column in self._table.columns))

    def _found(self, given: Table) -> Table:
        there = self._there.get(given.name)
        if there is None:
            raise ArchiveError(f"table {given.name} of the archive is not in the schema of its revision.")
        if _described(there.table) != _described(given):
            raise ArchiveError(f"table {given.name} has other columns in the archive than at its revision.")
        return there.table

    def _make(self, own: Definition) -> Table:
        """Make a table of the tenant's own, unless its name is taken: by the application, or by this very archive."""
        if own.name.casefold() in self._taken or own.name in self._schema.metadata.tables:
            raise ArchiveHostileError(f"table {own.name} of the archive has the name of a table of the application's.")
        self._taken.add(own.name.casefold())
        made = own.made(self._schema.metadata)
        keys = list(own.keys(made))
        with self._backend.explained():
            if self._connection.dialect.supports_alter:
                for key in keys:
                    made.constraints.discard(key)
                self._backend.copying.afterwards(self._connection, lambda: self._add_keys(keys))
            made.create(self._connection)
        return own_table(own)

    def _add_keys(self, keys: list[sa.ForeignKeyConstraint]) -> None:
        with self._backend.explained():
            for key in keys:
                self._connection.execute(sa.schema.AddConstraint(key))

    def _owner_places(self, carried: Carried) -> tuple[int, ...]:
        """Return the places of the columns that name the owner: in the tenant's own tables by their foreign keys."""
        if self._owner is None:
            return ()
        named = {OWNER} if carried.own is None else carried.own.owner_columns(OWNER, self._schema.metadata)
        return tuple(place for place, column in enumerate(self._table.columns) if column.name in named)

    def _with_owner(self, batch: Batch) -> tuple[Sequence[Row], bytes]:
        """Return the rows as they are written, and their lines."""
        if not self._owned:
            return batch.rows, batch.lines
        rows: list[list[Any]] = list(map(list, batch.rows))
        for row in rows:
            for place in self._owned:
                row[place] = None if row[place] is None else self._owner
        return rows, self._writer.lines(rows)


_NO_TABLE = Table("", ())


def _described(table: Table) -> list[tuple[str, Kind]]:
    return [(column.name, column.kind) for column in table.columns]
