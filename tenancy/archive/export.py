"""Write an archive from one snapshot of a database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import sqlalchemy as sa

from tenancy.archive.compression import compressed
from tenancy.archive.encryption import Recipients, Sink, encrypt
from tenancy.archive.format import Contents, Header, Sums, trailer
from tenancy.archive.tables import Carried, Schema, tables_of
from tenancy.archive.values import Rows
from tenancy.backends.base import Backend
from tenancy.backends.copying import Table

Progress = Callable[[int], None]
"""Called with the number of rows so far."""


def no_progress(rows: int) -> None:
    """Serve as the ``Progress`` of a caller who does not want to know."""


def no_check() -> None:
    """Serve as the check of a caller who holds no claim."""


def write_archive(
    connection: sa.Connection,
    backend: Backend,
    header: Header,
    sink: Sink,
    recipients: Recipients,
    *,
    schema: Schema,
    progress: Progress = no_progress,
    check: Callable[[], None] = no_check,
) -> Contents:
    """Write all rows that a connection sees, which should be of one snapshot, encrypted into ``sink``.

    ``check`` is called for each batch of rows and may raise, to stop; whatever is raised, what the sink then holds is
    no archive.
    """
    export = _Export(connection, backend, progress, check)
    tables = tables_of(connection, backend, schema)
    encrypt(compressed(export.lines(replace(header, key_ids=recipients.key_ids), tables)), sink, recipients)
    return export.sums.contents


def checksums_of(
    connection: sa.Connection,
    backend: Backend,
    *,
    schema: Schema,
    progress: Progress = no_progress,
    check: Callable[[], None] = no_check,
) -> Contents:
    """Return what ``write_archive`` would return, without writing an archive."""
    export = _Export(connection, backend, progress, check)
    for carried in tables_of(connection, backend, schema):
        for _ in export.table(carried.table):
            pass
    return export.sums.contents


class _Export:
    """Read one connection's tables into lines."""

    def __init__(
        self, connection: sa.Connection, backend: Backend, progress: Progress, check: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._copying = backend.copying
        self._progress = progress
        self._check = check
        self._rows = 0
        self.sums = Sums()

    def lines(self, header: Header, tables: list[Carried]) -> Iterator[bytes]:
        """Yield the whole archive, some lines at a time."""
        whole = hashlib.sha256()
        for piece in self._before_trailer(header, tables):
            whole.update(piece)
            yield piece
        yield trailer(self.sums.contents, whole.hexdigest())

    def _before_trailer(self, header: Header, tables: list[Carried]) -> Iterator[bytes]:
        yield header.line()
        for carried in tables:
            yield carried.line()
            yield from self.table(carried.table)

    def table(self, table: Table) -> Iterator[bytes]:
        rows = Rows(table)
        self.sums.begin(table.name, tuple(column.name for column in table.columns))
        for batch in self._copying.rows(self._connection, table):
            self._check()
            lines = rows.lines(batch)
            self.sums.add(len(batch), lines)
            self._rows += len(batch)
            self._progress(self._rows)
            yield lines
        yield self.sums.end()
