"""Find which tables of a database an archive holds, and what their columns hold.

The schema says what the columns of its tables hold. The tables of ``tenancy`` itself and the version table are left
out: a database that an archive is loaded into has its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from tenancy.archive.format import TABLES_MOST, dumped
from tenancy.archive.kinds import kind_of
from tenancy.archive.own_tables import Definition
from tenancy.backends.base import Backend
from tenancy.backends.copying import Column, Kind, Table
from tenancy.errors import ArchiveError
from tenancy.schema.chain import Chain
from tenancy.schema.tables import tenancy_tables

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
    apart: frozenset[str] = frozenset()
    """Tables of somebody else's in the same database, which are left alone: a shared database may hold the catalog."""

    @property
    def house(self) -> frozenset[str]:
        """The tables that hold no rows of the tenant's."""
        return frozenset({*tenancy_tables.tables, self.chain.version_table}) | self.apart


@dataclass(frozen=True)
class Carried:
    """Describe a table that an archive holds; ``own`` says how it is made, if the schema does not know it."""

    table: Table
    own: Definition | None = None

    def line(self) -> bytes:
        """Write the line that begins a table."""
        said: dict[str, Any] = {
            "table": self.table.name,
            "columns": [[column.name, str(column.kind)] for column in self.table.columns],
        }
        return dumped(said if self.own is None else said | {"own": self.own.to_dict()})


def tables_of(connection: sa.Connection, backend: Backend, schema: Schema) -> list[Carried]:
    """List the tables whose rows an archive holds, parents before children and then by name.

    Raises ArchiveError for a table that cannot be carried: nothing is left out without a word.
    """
    found = {name: columns for name, columns in backend.copying.tables(connection).items() if name not in schema.house}
    if len(found) > TABLES_MOST:
        raise ArchiveError(f"the database has {len(found)} tables; an archive holds at most {TABLES_MOST}.")
    at_head = schema.chain.current(connection) == schema.chain.head
    known = schema.metadata.tables
    carried = {each: _known(connection, known[each], at_head, found[each]) for each in found if each in known}
    own = [each for each in found if each not in known]
    if own:
        carried |= own_of(connection, backend, own)
    parents = {name: _parents(schema, each) for name, each in carried.items()}
    return [carried[name] for name in ordered(parents)]


def own_of(connection: sa.Connection, backend: Backend, names: Iterable[str]) -> dict[str, Carried]:
    """Describe tables that the schema does not know."""
    peculiar = backend.copying.peculiar(connection)
    for name in names:
        if name in peculiar:
            raise ArchiveError(
                f"table {name} is not the application's own and cannot be carried: it {peculiar[name]}. "
                "Nothing was archived.",
                table=name,
            )
    definitions = [Definition.of(connection, name) for name in names]
    return {each.name: Carried(own_table(each), each) for each in definitions}


def own_table(own: Definition) -> Table:
    columns = (Column(each["name"], Kind(each["kind"]), own.type_of(each)) for each in own.columns)
    return canonical(own.name, own.key, columns)


def _parents(schema: Schema, carried: Carried) -> set[str]:
    if carried.own is not None:
        return carried.own.parent_tables
    return {key.column.table.name for key in schema.metadata.tables[carried.table.name].foreign_keys}


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


def _known(connection: sa.Connection, known: sa.Table, at_head: bool, columns: tuple[str, ...]) -> Carried:
    """Describe a table of the schema: by the schema at its newest revision, and else by what is there too."""
    name = str(known.name)
    if at_head and set(columns) == set(known.columns.keys()):
        return _declared(known)
    there = sa.inspect(connection)
    types = {column["name"]: column["type"] for column in there.get_columns(name)}
    key = there.get_pk_constraint(name)["constrained_columns"]
    return Carried(canonical(name, key, (_column(known, each, types[each]) for each in columns)))


@lru_cache(maxsize=TABLES_MOST)
def _declared(known: sa.Table) -> Carried:
    """Describe a table as the schema does; a fleet has the same tables again and again."""
    columns = (_column(known, name, None) for name in map(str, known.columns.keys()))
    return Carried(canonical(str(known.name), known.primary_key.columns.keys(), columns))


def _column(known: sa.Table, name: str, found: TypeEngine[Any] | None) -> Column:
    declared = known.columns[name].type if name in known.columns else found
    kind = None if declared is None else kind_of(declared)
    if found is not None and kind is not None and kind_of(found) not in _ALIKE.get(kind, {kind}):
        declared, kind = found, kind_of(found)
    if declared is None or kind is None:
        raise ArchiveError(f"table {known.name}, column {name}: archives do not know its type.", table=known.name)
    return Column(name, kind, declared)


def canonical(name: str, key: Collection[str], columns: Iterable[Column]) -> Table:
    """Put the columns of the key first and the others in alphabetical order, as products add columns differently."""
    by_name = {column.name: column for column in columns}
    others = sorted(by_name.keys() - set(key))
    return Table(name, tuple(by_name[each] for each in (*key, *others)), tuple(map(str, key)))
