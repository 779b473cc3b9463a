"""Read archives: verify one, or load its rows into a database that nobody uses yet.

Nothing that an archive says is believed before its last byte: the rows go into a staging place, and the caller uses
that only after ``load`` returned. An archive that breaks a rule of the format is refused where that is seen.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import sqlalchemy as sa

from tenancy.archive.compression import decompressed
from tenancy.archive.encryption import Identities, decrypting
from tenancy.archive.export import Progress, no_progress
from tenancy.archive.format import (
    COLUMNS_MOST,
    LINE_MOST,
    TABLES_MOST,
    Contents,
    Header,
    Sums,
    loaded,
    name,
    trailer,
)
from tenancy.archive.tables import Schema, tables_of
from tenancy.archive.values import Rows
from tenancy.backends.base import Backend
from tenancy.backends.copying import BATCH_BYTES, BATCH_ROWS, Column, Kind, Row, Table
from tenancy.errors import ArchiveDamagedError, ArchiveError, ArchiveHostileError, BackendError

OWNER = "user_id"
"""The column that names the owner of a row, in every table of an application."""


@contextmanager
def reading(source: BinaryIO, identities: Identities) -> Iterator[Reading]:
    """Open an archive for the block: its header is read, and then it can be verified or loaded, once."""
    with decrypting(source, identities) as pieces:
        yield Reading(_Lines(decompressed(pieces)))


@dataclass(frozen=True)
class Batch:
    """Hold some rows of a table, in the order of the archive; a table without rows has one empty batch."""

    table: Table
    rows: Sequence[Row]
    lines: bytes = b""


class Reading:
    """Read one archive from its beginning to its end."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._whole = hashlib.sha256()
        self._sums = Sums()
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
        with backend.copying.unordered(connection):
            target = _Target(connection, backend, schema, owner)
            for batch in self.batches(progress):
                if only is None or batch.table.name in only:
                    target.take(batch)
            target.end()
        return target.sums.contents

    def batches(self, progress: Progress = no_progress) -> Iterator[Batch]:
        """Yield the rows of all tables; the iterator ends only if the archive is whole."""
        done = 0
        while (found := loaded(line := self._line())).keys() & {"table"}:
            table = self._table(found)
            for batch in self._rows(table):
                done += len(batch.rows)
                progress(done)
                yield batch
        self._end(line)

    def _table(self, found: dict[str, Any]) -> Table:
        table = name(found["table"], "a table")
        if len(self._sums.rows) >= TABLES_MOST:
            raise ArchiveHostileError(f"the archive has more than {TABLES_MOST} tables.")
        if table.casefold() in {known.casefold() for known in self._sums.rows}:
            raise ArchiveHostileError("the archive has a table twice.")
        columns = _columns(found.get("columns"))
        if found.keys() != {"table", "columns"}:
            raise ArchiveHostileError("the archive describes a table in a way that exports do not use.")
        self._sums.begin(table, tuple(column.name for column in columns))
        return Table(table, columns)

    def _rows(self, table: Table) -> Iterator[Batch]:
        rows = Rows(table)
        empty = True
        for lines in self._lines.rows():
            found = rows.read(lines)
            text = b"%b\n" % b"\n".join(lines)
            self._whole.update(text)
            self._sums.add(len(found), text)
            empty = False
            yield Batch(table, found, text)
        if empty:
            yield Batch(table, ())
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


def _columns(found: object) -> tuple[Column, ...]:
    if not isinstance(found, list) or not 0 < len(found) <= COLUMNS_MOST:
        raise ArchiveHostileError(f"a table of the archive has not 1 to {COLUMNS_MOST} columns.")
    columns = []
    for each in found:
        if not isinstance(each, list) or len(each) != 2 or each[1] not in list(Kind):
            raise ArchiveHostileError("a table of the archive has a column of a kind that there is not.")
        columns.append(Column(name(each[0], "a column"), Kind(each[1]), sa.types.NULLTYPE))
    if len({column.name.casefold() for column in columns}) < len(columns):
        raise ArchiveHostileError("a table of the archive has a column twice.")
    return tuple(columns)


class _Target:
    """Write batches into a database, and add up what it must then hold."""

    def __init__(self, connection: sa.Connection, backend: Backend, schema: Schema, owner: int | None) -> None:
        self._connection = connection
        self._copying = backend.copying
        self._backend = backend
        self._owner = owner
        self._there = {table.name: table for table in tables_of(connection, backend, schema)}
        self._table = _NO_TABLE
        self._writer = Rows(_NO_TABLE)
        self.sums = Sums()

    def take(self, batch: Batch) -> None:
        if batch.table.name != self._table.name:
            self._begin(batch.table)
        if not batch.rows:
            return
        rows, lines = self._owned(batch)
        self.sums.add(len(rows), lines)
        try:
            with self._backend.explained():
                self._copying.insert(self._connection, self._table, rows)
        except BackendError as error:
            error.message = f"table {self._table.name} of the archive cannot be loaded: {error.message}"
            raise

    def _owned(self, batch: Batch) -> tuple[Sequence[Row], bytes]:
        """Give rows another owner, if there is to be one; return them, and the lines that they are then."""
        places = [place for place, column in enumerate(self._table.columns) if column.name == OWNER]
        if self._owner is None or not places:
            return batch.rows, batch.lines
        rows = []
        for row in map(list, batch.rows):
            row[places[0]] = self._owner
            rows.append(row)
        return rows, self._writer.lines(rows)

    def end(self) -> None:
        if self._table is not _NO_TABLE:
            self.sums.end()
            self._copying.counted_on(self._connection, self._table)
        self._table = _NO_TABLE

    def _begin(self, given: Table) -> None:
        self.end()
        there = self._there.get(given.name)
        if there is None:
            raise ArchiveError(f"table {given.name} of the archive is not in the schema of its revision.")
        if _described(there) != _described(given):
            raise ArchiveError(f"table {given.name} has other columns in the archive than at its revision.")
        self._table, self._writer = there, Rows(there)
        self.sums.begin(there.name, tuple(column.name for column in there.columns))


_NO_TABLE = Table("", ())


def _described(table: Table) -> list[tuple[str, Kind]]:
    return [(column.name, column.kind) for column in table.columns]


class _Lines:
    """Cut decompressed pieces into lines, and refuse long ones before they are in memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ready: deque[bytes] = deque()
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def one(self) -> bytes:
        """Return the next line without its end; ArchiveDamagedError if the archive ends here."""
        while not self._ready:
            if not self._more():
                raise ArchiveDamagedError("the archive is cut off.")
        return self._ready.popleft()

    def rows(self) -> Iterator[list[bytes]]:
        """Yield rows in batches until another line comes."""
        rows: list[bytes] = []
        size = 0
        while True:
            line = self.one()
            if not line.startswith(b"["):
                self._ready.appendleft(line)
                break
            rows.append(line)
            size += len(line)
            if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield rows
                rows, size = [], 0
        if rows:
            yield rows

    def expect_end(self) -> None:
        if self._ready or self._more():
            raise ArchiveHostileError("the archive goes on after its end.")

    def _more(self) -> bool:
        """Read on until there is a further line; False at the end."""
        for piece in self._pieces:
            first, *others = piece.split(b"\n")
            self._rest.append(first)
            self._rest_bytes += len(first)
            if self._rest_bytes > LINE_MOST:
                raise ArchiveHostileError(f"a line of the archive is longer than {LINE_MOST >> 20} MiB.")
            if others:
                self._ready.append(b"".join(self._rest))
                self._ready.extend(others[:-1])
                self._rest, self._rest_bytes = [others[-1]], len(others[-1])
                return True
        if self._rest_bytes:
            raise ArchiveDamagedError("the archive is cut off.")
        return False
