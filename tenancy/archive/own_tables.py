"""Carry tables that the schema does not know: a tenant's own, made by whoever may change a database beside us.

Such a table is described by what every product has: columns of known kinds, plain defaults, keys, unique columns and
indexes. A table with more than that (rules, triggers, computed columns, other types) is refused with its name, as it
would not be the same table afterwards. A description holds no SQL; it is written into the archive beside the rows.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from tenancy.archive.format import COLUMNS_MOST, name
from tenancy.archive.kinds import kind_of
from tenancy.backends.copying import Kind
from tenancy.errors import ArchiveError, ArchiveHostileError
from tenancy.names import is_storable
from tenancy.types import NAMING, LongText, Timestamp, utc_now

LENGTH_MOST = 1_000_000
DIGITS_MOST = 1_000
INDEXED = 255
"""How many characters of a text of any length MySQL and SQL Server can keep in an index."""

_ON_DELETE = ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")
_NOW = re.compile(
    r"(now|getdate|sysutcdatetime|sysdatetime|current_timestamp|utc_timestamp|localtimestamp)(\(\d?\))?"
    r"|timezone\('utc'(::text)?, *(now|clock_timestamp)\(\)\)|datetime\('now'\)|strftime\('[^']*', *'now'\)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?")
_QUOTED = re.compile(r"[Nn]?'((?:[^'\\\0]|''){0,1000})'(::[a-z ]+(\(\d+\))?)?")
_FLAG = re.compile(r"true|false", re.IGNORECASE)


@dataclass(frozen=True)
class Definition:
    """Describe how a table of the tenant's own is made, as plain values that JSON can hold."""

    name: str
    columns: tuple[Mapping[str, Any], ...]
    key: tuple[str, ...]
    uniques: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    parents: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "columns": [dict(column) for column in self.columns],
            "key": list(self.key),
            "uniques": [list(each) for each in self.uniques],
            "indexes": [list(each) for each in self.indexes],
            "parents": [dict(parent) for parent in self.parents],
        }

    @classmethod
    def read(cls, table: str, found: object) -> Definition:
        """Read what ``to_dict`` gave; ArchiveHostileError for anything else."""
        if not isinstance(found, dict):
            raise _hostile(table)
        try:
            columns = tuple(_read_column(column) for column in found["columns"])
            names = {column["name"] for column in columns}
            made = cls(
                table,
                columns,
                key=_some(found["key"], names),
                uniques=tuple(_some(each, names) for each in found["uniques"]),
                indexes=tuple(_some(each, names) for each in found["indexes"]),
                parents=tuple(_read_parent(parent, names) for parent in found["parents"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _hostile(table) from error
        if made.to_dict() != found or len(columns) > COLUMNS_MOST or len(names) < len(columns):
            raise _hostile(table)
        return made

    @staticmethod
    def type_of(column: Mapping[str, Any]) -> TypeEngine[Any]:
        """Return a type for a column, as far as reading and writing depend on it."""
        return _type(column, indexed=False)

    @property
    def parent_tables(self) -> set[str]:
        return {parent["table"] for parent in self.parents}

    def owner_columns(self, owner: str, schema: sa.MetaData) -> set[str]:
        """Name the columns that hold a row's owner: those whose foreign key names the owner of a known table."""
        return {
            mine
            for parent in self.parents
            for mine, theirs in zip(parent["columns"], parent["to"], strict=True)
            if theirs == owner and parent["table"] in schema.tables
        }

    # --- from a database --------------------------------------------------------------------------------

    @classmethod
    def of(cls, connection: sa.Connection, table: str) -> Definition:
        """Describe a table of a database, or raise ArchiveError with what about it cannot be carried."""
        try:
            with warnings.catch_warnings(record=True) as unread:
                warnings.simplefilter("always", sa.exc.SAWarning)
                found = cls._found(sa.inspect(connection), name(table, "it"))
            if unread:  # SQLAlchemy leaves out what it does not know, an index on an expression or a type, and warns
                raise _Refused(f"it has more than can be described, {unread[0].message}".rstrip("."))
        except (_Refused, ArchiveHostileError) as error:
            raise ArchiveError(
                f"table {table} is not the application's own and cannot be carried: {error}. Nothing was archived.",
                table=table,
            ) from error
        return found

    @classmethod
    def _found(cls, there: sa.Inspector, table: str) -> Definition:
        key = there.get_pk_constraint(table)["constrained_columns"]
        columns = tuple(_described(column, key) for column in there.get_columns(table))
        if _asked(there.get_check_constraints, table):
            raise _Refused("it has a CHECK constraint")
        uniques = {tuple(each["column_names"]) for each in _asked(there.get_unique_constraints, table)}
        more, indexes = _indexes(there.get_indexes(table))
        return cls(
            table,
            columns,
            key=tuple(key),
            uniques=tuple(sorted(uniques | more)),
            indexes=tuple(sorted(indexes - uniques - more)),
            parents=tuple(sorted(map(_parent, there.get_foreign_keys(table)), key=str)),
        )

    # --- into a database --------------------------------------------------------------------------------

    def made(self, schema: sa.MetaData) -> sa.Table:
        """Return the table without its foreign keys."""
        indexed = {column for some in (self.key, *self.uniques, *self.indexes) for column in some}
        indexed |= {column for parent in self.parents for column in parent["columns"]}
        types = {mine: theirs for parent in self.parents for mine, theirs in _types_of(parent, schema)}
        columns = [_column(each, types.get(each["name"]), each["name"] in indexed) for each in self.columns]
        rules: list[Any] = [sa.UniqueConstraint(*each) for each in self.uniques]
        if self.key:
            rules.append(sa.PrimaryKeyConstraint(*self.key))
        rules += [sa.Index(None, *each) for each in self.indexes]
        return sa.Table(self.name, sa.MetaData(naming_convention=NAMING), *columns, *rules)

    def keys(self, made: sa.Table) -> Iterator[sa.ForeignKeyConstraint]:
        """Yield its foreign keys, as constraints of the table that ``made`` gave."""
        for parent in self.parents:
            if parent["table"] not in made.metadata.tables:
                sa.Table(parent["table"], made.metadata, *(sa.Column(each, sa.Integer) for each in parent["to"]))
            key = sa.ForeignKeyConstraint(
                parent["columns"],
                [f"{parent['table']}.{each}" for each in parent["to"]],
                ondelete=parent.get("on_delete"),
            )
            made.append_constraint(key)
            yield key


class _Refused(Exception):  # noqa: N818 - never leaves this file
    """Say what about a table cannot be carried."""


def _asked(ask: Any, table: str) -> Any:
    """Call a method of the inspector that not every product implements."""
    try:
        return ask(table)
    except NotImplementedError:
        return []


def _described(column: Mapping[str, Any], key: Sequence[str]) -> dict[str, Any]:
    declared: Any = column["type"]
    kind = kind_of(declared)
    if kind is None or isinstance(declared, sa.Enum):
        raise _Refused(f"column {column['name']} is of a type that not every product has")
    if column.get("computed"):
        raise _Refused(f"column {column['name']} is computed")
    said: dict[str, Any] = {
        "name": name(column["name"], "a column"),
        "kind": str(kind),
        "null": bool(column["nullable"]) and column["name"] not in key,
    }
    if kind is Kind.TEXT and declared.length is not None and declared.length <= LENGTH_MOST:
        said["length"] = declared.length
    if kind is Kind.DECIMAL and declared.precision is not None:
        said["digits"] = [declared.precision, declared.scale or 0]
    if kind is Kind.MOMENT and getattr(declared, "timezone", False):
        said["zone"] = True
    if _is_counted(column, kind, key):
        said["counted"] = True
    elif column.get("default") is not None:
        said["default"] = _default(column)
    return said


def _is_counted(column: Mapping[str, Any], kind: Kind, key: Sequence[str]) -> bool:
    """Say whether a product numbers the rows by this column; SQLite does where a key is declared as INTEGER."""
    if kind is not Kind.INTEGER or list(key) != [column["name"]]:
        return False
    return column.get("autoincrement") is True or "identity" in column or column.get("primary_key") == 1


def _default(column: Mapping[str, Any]) -> Any:
    """Read a default that every product can say: a number, a text, a flag or the present moment."""
    text = str(column["default"]).strip()
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    if _NOW.fullmatch(text):
        return {"now": True}
    if text.upper() == "NULL":
        return None
    if quoted := _QUOTED.fullmatch(text):
        return quoted[1].replace("''", "'")
    if _NUMBER.fullmatch(text) or _FLAG.fullmatch(text):
        return text.lower()
    raise _Refused(f"column {column['name']} has a default that is no plain value")


def _indexes(found: Sequence[Any]) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """Return the columns of unique indexes and of the others."""
    split: tuple[set[tuple[str, ...]], set[tuple[str, ...]]] = (set(), set())
    for index in found:
        options = index.get("dialect_options", {})
        partial = any(option.endswith("_where") for option, value in options.items() if value is not None)
        if None in index["column_names"] or partial:
            raise _Refused(f"its index {index['name']} is on more than plain columns")
        columns = tuple(each for each in index["column_names"] if each not in index.get("include_columns", ()))
        split[0 if index["unique"] else 1].add(columns)
    return split


def _parent(key: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "columns": list(key["constrained_columns"]),
        "table": key["referred_table"],
        "to": list(key["referred_columns"]),
    }
    action = (key.get("options") or {}).get("ondelete")
    return said | ({"on_delete": action.upper()} if action else {})


_FIELDS = {"name", "kind", "null", "length", "digits", "zone", "counted", "default"}


def _read_column(found: Any) -> Mapping[str, Any]:
    name(found["name"], "a column")
    kind = Kind(found["kind"])
    whole = all(type(found[flag]) is bool for flag in ("null", "zone", "counted") if flag in found)
    length = found.get("length", 1)
    if not whole or "null" not in found or found.keys() - _FIELDS or type(length) is not int:
        raise ValueError
    if not 0 < length <= LENGTH_MOST or ("length" in found and kind is not Kind.TEXT):
        raise ValueError
    for digits in found.get("digits", (1, 0)):
        if type(digits) is not int or not 0 <= digits <= DIGITS_MOST:
            raise ValueError
    default = found.get("default")
    if default not in (None, {"now": True}) and (not isinstance(default, str) or not is_storable(default)):
        raise ValueError
    return dict(found)


def _read_parent(found: Any, names: set[str]) -> Mapping[str, Any]:
    name(found["table"], "a table")
    columns = _some(found["columns"], names)
    to = [name(each, "a column") for each in found["to"]]
    if not columns or len(columns) != len(to) or found.get("on_delete", "CASCADE") not in _ON_DELETE:
        raise ValueError
    if found.keys() - {"columns", "table", "to", "on_delete"}:
        raise ValueError
    return dict(found)


def _some(found: Any, names: set[str]) -> tuple[str, ...]:
    some = tuple(found)
    if not set(some) <= names or len(set(some)) < len(some):
        raise ValueError
    return some


def _hostile(table: str) -> ArchiveHostileError:
    return ArchiveHostileError(f"table {table}: the archive says in a way that exports do not use how it is made.")


def _column(said: Mapping[str, Any], declared: TypeEngine[Any] | None, indexed: bool) -> sa.Column[Any]:
    default: Any = said.get("default")
    if default is not None:
        default = utc_now() if default == {"now": True} else default
        if said["kind"] == Kind.BOOLEAN:
            default = sa.true() if default in ("true", "1") else sa.false()
    return sa.Column(
        said["name"],
        _type(said, indexed) if declared is None else declared,
        nullable=said["null"],
        server_default=default,
        autoincrement=bool(said.get("counted")),
    )


def _types_of(parent: Mapping[str, Any], schema: sa.MetaData) -> Iterator[tuple[str, TypeEngine[Any]]]:
    """Give columns the types of the columns they refer to, where the schema knows them: MySQL wants the very same."""
    known = schema.tables.get(parent["table"])
    for mine, theirs in zip(parent["columns"], parent["to"], strict=True):
        if known is not None and theirs in known.columns:
            yield mine, known.columns[theirs].type


def _type(said: Mapping[str, Any], indexed: bool) -> TypeEngine[Any]:
    """Return a type that keeps a kind on every product."""
    kind = Kind(said["kind"])
    if kind is Kind.TEXT:
        return _text_type(said.get("length"), indexed)
    if kind is Kind.DECIMAL:
        return sa.Numeric(*said["digits"]) if "digits" in said else _ANY_NUMBER
    if kind is Kind.MOMENT and said.get("zone"):
        return Timestamp().with_variant(sa.DateTime(timezone=True), "postgresql")
    return _TYPES[kind]


def _text_type(length: int | None, indexed: bool) -> TypeEngine[str]:
    if length is not None:
        return sa.Unicode(length)
    if not indexed:
        return LongText()
    return sa.UnicodeText().with_variant(sa.Unicode(INDEXED), "mysql", "mariadb", "mssql")


_ANY_NUMBER = (
    sa.Numeric().with_variant(sa.Numeric(65, 30), "mysql", "mariadb").with_variant(sa.Numeric(38, 10), "mssql")
)
"""The most digits that a product keeps, where a column is to keep any number."""

_TYPES: dict[Kind, TypeEngine[Any]] = {
    Kind.INTEGER: sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
    Kind.UUID: sa.Uuid().with_variant(sa.CHAR(32), "mssql"),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.MOMENT: Timestamp(),
    Kind.DATE: sa.Date(),
    Kind.FLOAT: sa.Double(),
    Kind.BYTES: sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"),
}
