"""Define what an archive consists of: its lines, its limits, and what is known of it at its beginning and end.

An archive is a text of JSON lines: a header, then for each table a line that describes it, its rows and a line that
ends it, and a trailer. ``docs/reference/archives.md`` has an example. Every line is what orjson writes for its value:
a line that says the same in other bytes is refused, and with it duplicate keys and other things that readers take
differently.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tenancy.errors import ArchiveHostileError

VERSION = 1
KINDS = ("tenant", "catalog")

MIB = 2**20
ROW_MOST = 7 * MIB
"""The longest row that is exported: with quotes doubled it still fits into one statement on every product."""

LINE_MOST = 8 * MIB
HEAD_MOST = 64 * 1024
"""The longest header; other lines that are no rows may be longer, as they name tables and columns."""

TABLES_MOST = 1_000
COLUMNS_MOST = 1_000
NAME_MOST = 63
"""PostgreSQL cuts names here (postgresql.org, "Identifiers and Key Words")."""

_NAME = re.compile(r"\w[\w $#-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
INTEGER_MOST = 2**63 - 1


@dataclass(frozen=True)
class Header:
    """Say what an archive holds, as its first line does; ``user_id`` and ``owner`` are missing for a catalog."""

    tenant_id: uuid.UUID
    user_id: int | None
    db_type: str
    revision: str
    app_version: str
    owner: str | None = None
    kind: str = "tenant"
    key_ids: tuple[str, ...] = ()

    def line(self) -> bytes:
        return dumped(
            {
                "unify_archive": VERSION,
                "kind": self.kind,
                "tenant_id": str(self.tenant_id),
                "user_id": self.user_id,
                "owner": self.owner,
                "db_type": self.db_type,
                "revision": self.revision,
                "app_version": self.app_version,
                "key_ids": list(self.key_ids),
            }
        )

    @classmethod
    def read(cls, line: bytes) -> Header:
        """Read the first line; ArchiveHostileError if it is no header, or of a later version of the format."""
        found = loaded(line, HEAD_MOST)
        version = found.get("unify_archive")
        if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
            raise ArchiveHostileError(
                f"the archive is of format {version}, which this version of the application does not know: update it."
            )
        try:
            header = cls(
                tenant_id=uuid.UUID(_text(found, "tenant_id")),
                user_id=None if found["user_id"] is None else _number(found, "user_id"),
                db_type=_text(found, "db_type"),
                revision=_text(found, "revision"),
                app_version=_text(found, "app_version"),
                owner=None if found["owner"] is None else _text(found, "owner"),
                kind=_text(found, "kind"),
                key_ids=tuple(map(_string, found["key_ids"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveHostileError("the archive does not begin with a header.") from error
        if version != VERSION or header.kind not in KINDS or header.line() != line + b"\n":
            raise ArchiveHostileError("the archive does not begin with a header.")
        return header


@dataclass(frozen=True)
class Contents:
    """Sum up the rows of an archive or a database: the number of rows and a checksum for each table, and one of all.

    Equal rows have equal checksums, whatever the product. A table's is the SHA-256 of the line with its columns' names
    and of the lines of its rows.
    """

    rows: Mapping[str, int]
    checksums: Mapping[str, str]

    @property
    def checksum(self) -> str:
        """The SHA-256 of all tables' names, counts and checksums."""
        said = {name: [self.rows[name], self.checksums[name]] for name in sorted(self.rows)}
        return hashlib.sha256(orjson.dumps(said)).hexdigest()

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def only(self, tables: Any) -> Contents:
        """Return what is known of some of the tables."""
        kept = [name for name in self.rows if name in tables]
        return Contents({name: self.rows[name] for name in kept}, {name: self.checksums[name] for name in kept})


@dataclass
class Sums:
    """Add up the contents table by table, while rows are written or read."""

    rows: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    table: str = ""

    def begin(self, table: str, columns: tuple[str, ...]) -> None:
        self.table = table
        self.rows[table] = 0
        self._hash = hashlib.sha256(dumped(list(columns)))

    def add(self, count: int, lines: bytes) -> None:
        self.rows[self.table] += count
        self._hash.update(lines)

    def end(self) -> bytes:
        """End a table; return the line that says so."""
        self.checksums[self.table] = self._hash.hexdigest()
        return end_line(self.table, self.rows[self.table], self.checksums[self.table])

    @property
    def contents(self) -> Contents:
        return Contents(dict(self.rows), dict(self.checksums))


def end_line(table: str, rows: int, checksum: str) -> bytes:
    return dumped({"end": table, "rows": rows, "sha256": checksum})


def trailer(contents: Contents, whole: str) -> bytes:
    """Write the last line; ``whole`` is the SHA-256 of all bytes before it."""
    return dumped(
        {
            "tables": {name: [contents.rows[name], contents.checksums[name]] for name in contents.rows},
            "checksum": contents.checksum,
            "sha256": whole,
        }
    )


def dumped(value: Any) -> bytes:
    """Write a line, with its end."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def loaded(line: bytes, most: int = LINE_MOST) -> dict[str, Any]:
    """Read a line that is no row, written exactly as ``dumped`` writes it."""
    if len(line) > most:
        raise ArchiveHostileError("a line of the archive is too long.")
    try:
        found = orjson.loads(line)
    except ValueError as error:
        raise ArchiveHostileError("a line of the archive is no JSON.") from error
    if not isinstance(found, dict) or orjson.dumps(found) != line:
        raise ArchiveHostileError("a line of the archive is not written as an export writes it.")
    return found


def name(value: object, what: str) -> str:
    """Return a table's or column's name, or refuse one that not every product could have."""
    text = _string(value)
    if len(text) > NAME_MOST or not _NAME.fullmatch(text) or text != text.strip():
        raise ArchiveHostileError(f"{what} has a name that an archive cannot hold.")
    return text


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ArchiveHostileError("the archive has a value of the wrong kind where a text belongs.")
    return value


def _text(found: Mapping[str, Any], key: str) -> str:
    return _string(found[key])


def _number(found: Mapping[str, Any], key: str) -> int:
    value = found[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= INTEGER_MOST:
        raise ArchiveHostileError("the archive has a value of the wrong kind where a number belongs.")
    return value
