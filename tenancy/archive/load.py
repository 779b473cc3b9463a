"""Read archives: verify one, or load its rows into a database that nobody uses yet.

Nothing that an archive says is believed before its last byte: the rows go into a staging place, and the caller uses
that only after ``load`` returned. An archive that breaks a rule of the format is refused where that is seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import sqlalchemy as sa

from tenancy.archive.compression import decompressed
from tenancy.archive.encryption import Identities, decrypting
from tenancy.archive.export import Progress, no_progress
from tenancy.archive.format import (
    COLUMNS_MOST,
    TABLES_MOST,
    Contents,
    Header,
    Sums,
    loaded,
    name,
    trailer,
)
from tenancy.archive.lines import Lines
from tenancy.archive.own_tables import Definition
from tenancy.archive.tables import Carried, Schema, own_table
from tenancy.archive.target import Batch, Target
from tenancy.archive.values import Rows
from tenancy.backends.base import Backend
from tenancy.backends.copying import Column, Kind, Table
from tenancy.errors import ArchiveDamagedError, ArchiveHostileError, MigrationError


@contextmanager
def reading(source: BinaryIO, identities: Identities) -> Iterator[Reading]:
    """Open an archive for the block: its header is read, and then it can be verified or loaded, once."""
    with decrypting(source, identities) as pieces:
        yield Reading(Lines(decompressed(pieces)))


class Reading:
    """Read one archive from its beginning to its end."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._whole = hashlib.sha256()
        self._sums = Sums()
        self._seen: set[str] = set()
        self.header = Header.read(self._line())

    def verify(self, progress: Progress = no_progress) -> Contents:
        """Read to the end and check all of it; return what the archive holds."""
        for _ in self.batches(progress):
            pass
        return self._sums.contents

    def load(
        self,
        connection: sa.Connection,
        backend: Backend,
        *,
        schema: Schema,
        owner: int | None = None,
        only: Collection[str] | None = None,
        progress: Progress = no_progress,
    ) -> Contents:
        """Insert the rows into a database that is at the archive's revision and has none; the caller commits.

        With ``owner`` the rows get another owner; with ``only`` the rows of other tables are left out. Returns what
        ``checksums_of`` must find in the database's tables then.
        """
        try:
            with backend.copying.unordered(connection):
                target = Target(connection, backend, schema, owner)
                for batch in self.batches(progress):
                    if only is None or batch.carried.table.name in only:
                        target.take(batch)
                    del batch
                target.end()
        except MigrationError as error:
            raise ArchiveDamagedError(f"the rows of the archive do not fit together: {error.message}") from error
        return target.sums.contents

    def batches(self, progress: Progress = no_progress) -> Iterator[Batch]:
        """Yield the rows of all tables; the iterator ends only if the archive is whole."""
        done = 0
        while (found := loaded(line := self._line())).keys() & {"table"}:
            for batch in self._rows(self._carried(found)):
                done += len(batch.rows)
                progress(done)
                yield batch
                del batch
        self._end(line)

    def _carried(self, found: dict[str, Any]) -> Carried:
        """Read the line that begins a table."""
        table = name(found["table"], "a table")
        if len(self._sums.rows) >= TABLES_MOST:
            raise ArchiveHostileError(f"the archive has more than {TABLES_MOST} tables.")
        if table.casefold() in self._seen:
            raise ArchiveHostileError(f"table {table}: the archive has it twice.")
        self._seen.add(table.casefold())
        columns = _columns(table, found.get("columns"))
        own = Definition.read(table, found["own"]) if "own" in found else None
        if found.keys() - {"table", "columns", "own"} or (own is not None and own_kinds(own) != kinds(columns)):
            raise ArchiveHostileError(f"table {table}: the archive describes it in a way that exports do not use.")
        self._sums.begin(table, tuple(column.name for column in columns))
        return Carried(Table(table, columns), own)

    def _rows(self, carried: Carried) -> Iterator[Batch]:
        table = carried.table
        rows = Rows(table)
        empty = True
        for lines in self._lines.rows():
            found = rows.read(lines)
            self._whole.update(lines)
            self._sums.add(len(found), lines)
            empty = False
            yield Batch(carried, found, lines)
            del found, lines  # long rows need not wait in memory for the next ones
        if empty:
            yield Batch(carried, ())
        if self._line() + b"\n" != self._sums.end():
            raise ArchiveDamagedError(f"table {table.name}: the archive has other rows than its checksum was made of.")

    def _end(self, line: bytes) -> None:
        before = self._before_last.hexdigest()
        if line + b"\n" != trailer(self._sums.contents, before):
            raise ArchiveDamagedError("the archive's trailer does not say what the archive holds.")
        self._lines.expect_end()

    def _line(self) -> bytes:
        """Read a line that is no row."""
        line = self._lines.one()
        self._before_last = self._whole.copy()
        self._whole.update(line + b"\n")
        return line


def _columns(table: str, found: object) -> tuple[Column, ...]:
    if not isinstance(found, list) or not 0 < len(found) <= COLUMNS_MOST:
        raise ArchiveHostileError(f"table {table}: the archive gives it not 1 to {COLUMNS_MOST} columns.")
    columns = []
    for each in found:
        if not isinstance(each, list) or len(each) != 2 or each[1] not in list(Kind):
            raise ArchiveHostileError(f"table {table}: the archive gives it a column of a kind that there is not.")
        columns.append(Column(name(each[0], "a column"), Kind(each[1]), sa.types.NULLTYPE))
    if len({column.name.casefold() for column in columns}) < len(columns):
        raise ArchiveHostileError(f"table {table}: the archive gives it a column twice.")
    return tuple(columns)


def kinds(columns: Iterable[Column]) -> list[tuple[str, Kind]]:
    return [(column.name, column.kind) for column in columns]


def own_kinds(own: Definition) -> list[tuple[str, Kind]]:
    return kinds(own_table(own).columns)
