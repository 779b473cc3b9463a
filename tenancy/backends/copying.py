"""State how every product hands out all rows of a database, and takes them in: what archives are made with.

``tenancy/archive`` calls this through ``backend.copying``. Rows travel as the values that an archive holds, the same
from every product: numbers, texts, bytes and None, with moments and dates as texts. Each product's ``copying.py`` says
in SQL how a column is read, sorted and written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.access import Access
from tenancy.models import Tenant
from tenancy.types import KeyText

if TYPE_CHECKING:
    from tenancy.backends.base import Backend

BATCH_ROWS = 1_000
BATCH_BYTES = 2**20
"""How much is read or written at once; one long row may be more."""

SHORT = 1_000
"""Columns of texts that may be longer than this many characters count towards ``BATCH_BYTES``."""


class Kind(StrEnum):
    """List what a column of an archive can hold."""

    INTEGER = "int"
    TEXT = "text"
    UUID = "uuid"
    BOOLEAN = "bool"
    MOMENT = "timestamp"
    DATE = "date"
    DECIMAL = "decimal"
    FLOAT = "float"
    BYTES = "bytes"


@dataclass(frozen=True)
class Column:
    """Describe a column: what it holds, and the type that the schema or the database declares."""

    name: str
    kind: Kind
    type: sa.types.TypeEngine[Any]

    @property
    def is_folded(self) -> bool:
        """Say whether it is a ``KeyText``, which SQL Server keeps as bytes."""
        return isinstance(self.type, KeyText)

    @property
    def is_long(self) -> bool:
        length = getattr(self.type, "length", None)
        return self.kind in (Kind.TEXT, Kind.BYTES) and (length is None or length > SHORT)


@dataclass(frozen=True)
class Table:
    """Describe a table to copy; ``key`` names the columns of its primary key, and may be empty."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @cached_property
    def order(self) -> tuple[Column, ...]:
        """The columns that rows are sorted by: those of the key, or all."""
        return tuple(column for name in self.key for column in self.columns if column.name == name) or self.columns

    @cached_property
    def long(self) -> tuple[int, ...]:
        """The places of the columns whose values may be long."""
        return tuple(place for place, column in enumerate(self.columns) if column.is_long)


Row = Sequence[Any]
Found = dict[str, tuple[str, ...]]
"""Tables by name, each with the names of its columns in their order."""


class Copying(ABC):
    """Read and write whole databases."""

    quotes = '""'
    mark = "%s"

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    # --- reading ----------------------------------------------------------------------------------------

    def snapshot(self, tenant: Tenant, access: Access) -> AbstractContextManager[sa.Connection]:
        """Read one state of a tenant's database for the block, while others write to it; the login may read all."""
        return self.frozen(self.backend.connect_to_migrate(tenant, access))

    def catalog_snapshot(self, engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
        """Read one state of the catalog that an engine leads to, over a connection of its own."""
        proxied = engine.raw_connection()
        driver = proxied.driver_connection
        proxied.detach()
        return self.frozen(driver)

    @abstractmethod
    def frozen(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Read one state of a database over an open DBAPI connection, which is closed at the end."""

    @abstractmethod
    def tables(self, connection: sa.Connection) -> Found:
        """List all tables of a database, without the product's own and without computed columns."""

    def peculiar(self, connection: sa.Connection) -> dict[str, str]:
        """Say of tables what they have that no other product could copy: "has triggers", by table."""
        return {}

    def rows(self, connection: sa.Connection, table: Table) -> Iterator[list[Row]]:
        """Yield all rows in batches, sorted alike on every product; memory does not grow with the table."""
        with closing(self.cursor(connection, table)) as cursor:
            cursor.execute(self.selecting(table))
            yield from self.batches(cursor, table)

    def batches(self, cursor: Any, table: Table) -> Iterator[list[Row]]:
        """Read a cursor in batches of ``BATCH_ROWS`` rows or, with long values, about ``BATCH_BYTES``."""
        if not table.long:
            while found := cursor.fetchmany(BATCH_ROWS):
                yield self.decoded(found, table)
            return
        for some in by_size(cursor, table.long):
            yield self.decoded(some, table)

    def cursor(self, connection: sa.Connection, table: Table) -> Any:
        """Open a cursor that does not fetch the whole answer."""
        driver: Any = connection.connection.dbapi_connection
        return driver.cursor()

    def decoded(self, rows: list[Row], table: Table) -> list[Row]:
        """Turn what the driver gave into an archive's values, where ``read`` could not."""
        return rows

    def selecting(self, table: Table) -> str:
        columns = ", ".join(map(self.read, table.columns))
        order = ", ".join(self.sorted(column, table) for column in table.order)
        return f"SELECT {columns} FROM {self.q(table.name)} ORDER BY {order}"  # noqa: S608 - quoted names

    @abstractmethod
    def read(self, column: Column) -> str:
        """Write the expression that gives a column as an archive's value."""

    def sorted(self, column: Column, table: Table) -> str:
        """Write what sorts by a column, NULL first; texts by their bytes in UTF-8. Columns of a key hold no NULL."""
        return self.q(column.name)

    # --- writing ----------------------------------------------------------------------------------------

    @contextmanager
    def loading(self, tenant: Tenant, access: Access) -> Iterator[sa.Connection]:
        """Open a database that nobody uses yet, to fill it; the caller commits."""
        with self.backend.migrating(self.backend.connect_to_migrate(tenant, access)) as connection:
            yield connection

    @contextmanager
    def unordered(self, connection: sa.Connection) -> Iterator[None]:
        """Let rows come before those that their foreign keys name; at the end of the outermost block all are checked.

        Raises MigrationError if a row names none.
        """
        if "unordered" in connection.info:
            yield
            return
        if not connection.in_transaction():
            connection.begin()  # rows are written beneath SQLAlchemy, which else would find nothing to commit
        connection.info["unordered"] = later = [partial(self.tighten, connection)]
        try:
            self.loosen(connection)
            yield
            for work in later:
                work()
        finally:
            del connection.info["unordered"]

    @staticmethod
    def afterwards(connection: sa.Connection, work: Callable[[], None]) -> None:
        """Do something at the end of ``unordered``, when all rows are there and checked."""
        connection.info["unordered"].append(work)

    @abstractmethod
    def loosen(self, connection: sa.Connection) -> None:
        """Stop checking foreign keys, as far as they are checked."""

    @abstractmethod
    def tighten(self, connection: sa.Connection) -> None:
        """Check all foreign keys, and go on checking them."""

    def insert(self, connection: sa.Connection, table: Table, rows: Sequence[Row]) -> None:
        """Write rows of an archive's values."""
        driver: Any = connection.connection.dbapi_connection
        with closing(driver.cursor()) as cursor:
            cursor.executemany(self.inserting(table), self.encoded(rows, table))

    def inserting(self, table: Table) -> str:
        columns = ", ".join(self.q(column.name) for column in table.columns)
        marks = ", ".join([self.mark] * len(table.columns))
        return f"INSERT INTO {self.q(table.name)} ({columns}) VALUES ({marks})"  # noqa: S608 - quoted names

    def encoded(self, rows: Sequence[Row], table: Table) -> Sequence[Row]:
        """Turn an archive's values into what the driver takes."""
        return rows

    def counted_on(self, connection: sa.Connection, table: Table) -> None:  # noqa: B027 - most count on by themselves
        """Make the next number of a numbered column follow those that were written."""

    def q(self, name: str) -> str:
        return names.quoted(name, self.quotes)


def by_size(rows: Iterable[Row], long: Sequence[int]) -> Iterator[list[Row]]:
    """Gather rows until they are many, or their values at the places ``long`` are large together."""
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        for place in long:
            if row[place] is not None:
                size += len(row[place])
        if size >= BATCH_BYTES or len(some) >= BATCH_ROWS:
            yield some
            some, size = [], 0
    if some:
        yield some


def converted(
    rows: Sequence[Row], table: Table, change: Callable[[Column], Callable[[Any], Any] | None]
) -> Sequence[Row]:
    """Change the values of some columns: ``change`` gives the function for a column, or None."""
    changes = [(place, found) for place, column in enumerate(table.columns) if (found := change(column)) is not None]
    if not changes or not rows:
        return rows
    columns: list[Any] = list(zip(*rows, strict=True))
    for place, work in changes:
        columns[place] = [None if value is None else work(value) for value in columns[place]]
    return list(zip(*columns, strict=True))
