"""Find which tables of a database an archive holds, and what their columns hold.

The schema says what the columns of its tables hold. The tables of ``tenancy`` itself and the version table are left
out: a database that an archive is loaded into has its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from tenancy.archive.format import TABLES_MOST
from tenancy.backends.base import Backend
from tenancy.backends.copying import Column, Kind, Table
from tenancy.errors import ArchiveError
from tenancy.schema.chain import Chain
from tenancy.schema.tables import tenancy_tables
from tenancy.types import Timestamp

_KINDS: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
    (sa.Boolean, Kind.BOOLEAN),
    (sa.Uuid, Kind.UUID),
    (sa.Integer, Kind.INTEGER),
    (sa.Float, Kind.FLOAT),
    (sa.Numeric, Kind.DECIMAL),
    (sa.DateTime, Kind.MOMENT),
    (sa.Date, Kind.DATE),
    (sa.Enum, Kind.TEXT),
    (sa.String, Kind.TEXT),
    (sa.LargeBinary, Kind.BYTES),
)
_ALIKE = {
    Kind.UUID: {Kind.UUID, Kind.TEXT},
    Kind.BOOLEAN: {Kind.BOOLEAN, Kind.INTEGER},
    Kind.TEXT: {Kind.TEXT, Kind.BYTES},
    Kind.FLOAT: {Kind.FLOAT, Kind.DECIMAL},
    Kind.DECIMAL: {Kind.DECIMAL, Kind.FLOAT},
}
"""What the type of a column in a database may look like, beside its kind, where the schema says what it holds."""


@dataclass(frozen=True)
class Schema:
    """Say which tables the application has: its metadata, and the chain of revisions that makes them."""

    metadata: sa.MetaData
    chain: Chain

    @property
    def house(self) -> frozenset[str]:
        """The tables that hold no rows of the tenant's."""
        return frozenset({*tenancy_tables.tables, self.chain.version_table})


def kind_of(declared: TypeEngine[Any]) -> Kind | None:
    """Return what a column of a declared type holds; None for a type that archives do not know."""
    if isinstance(declared, Timestamp):
        return Kind.MOMENT
    plain = declared.impl_instance if isinstance(declared, TypeDecorator) else declared
    return next((kind for base, kind in _KINDS if isinstance(plain, base)), None)


def tables_of(connection: sa.Connection, backend: Backend, schema: Schema) -> list[Table]:
    """List the tables whose rows an archive holds, parents before children and then by name.

    Raises ArchiveError for a table that cannot be carried: nothing is left out without a word.
    """
    found = backend.copying.tables(connection)
    here = schema.chain.current(connection)
    names = [name for name in found if name not in schema.house]
    if len(names) > TABLES_MOST:
        raise ArchiveError(f"the database has {len(names)} tables; an archive holds at most {TABLES_MOST}.")
    tables = {}
    for name in names:
        known = schema.metadata.tables.get(name)
        if known is None:
            raise ArchiveError(f"table {name} is not the application's.", table=name)
        tables[name] = (
            _declared(known, found[name])
            if here == schema.chain.head and set(found[name]) == set(known.columns.keys())
            else _reflected(connection, known, found[name])
        )
    parents = {name: parents_in(schema.metadata.tables[name]) for name in tables}
    return [tables[name] for name in ordered(parents)]


def parents_in(table: sa.Table) -> set[str]:
    return {key.column.table.name for key in table.foreign_keys}


def ordered(parents: Mapping[str, Collection[str]]) -> list[str]:
    """Sort tables so that parents come before their children and else by name; a circle is cut at its first name."""
    done: dict[str, None] = {}

    def visit(name: str, above: frozenset[str]) -> None:
        if name in done or name in above or name not in parents:
            return
        for parent in sorted(parents[name]):
            visit(parent, above | {name})
        done[name] = None

    for name in sorted(parents):
        visit(name, frozenset())
    return list(done)


def _declared(known: sa.Table, names: Iterable[str]) -> Table:
    return _table(known.name, known.primary_key.columns.keys(), (_column(known, name, None) for name in names))


def _reflected(connection: sa.Connection, known: sa.Table, names: Iterable[str]) -> Table:
    """Describe a table at another revision than the newest: by what is there, and by the schema where that agrees."""
    there = sa.inspect(connection)
    types = {column["name"]: column["type"] for column in there.get_columns(known.name)}
    key = there.get_pk_constraint(known.name)["constrained_columns"]
    return _table(known.name, key, (_column(known, name, types[name]) for name in names))


def _column(known: sa.Table, name: str, found: TypeEngine[Any] | None) -> Column:
    declared = known.columns[name].type if name in known.columns else found
    kind = None if declared is None else kind_of(declared)
    if found is not None and kind is not None and kind_of(found) not in _ALIKE.get(kind, {kind}):
        declared, kind = found, kind_of(found)
    if declared is None or kind is None:
        raise ArchiveError(f"table {known.name}, column {name}: archives do not know its type.", table=known.name)
    return Column(name, kind, declared)


def _table(name: str, key: Collection[str], columns: Iterable[Column]) -> Table:
    """Put the columns of the key first and the others in alphabetical order, as products add columns differently."""
    by_name = {column.name: column for column in columns}
    others = sorted(by_name.keys() - set(key))
    return Table(str(name), tuple(by_name[each] for each in (*key, *others)), tuple(map(str, key)))


def described(table: Table) -> Iterator[tuple[str, str]]:
    return ((column.name, str(column.kind)) for column in table.columns)
