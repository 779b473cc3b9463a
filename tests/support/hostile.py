"""Make archives that break the format's rules, for whoever holds the public keys: they decrypt, and must be refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import zstandard

from tenancy.archive.encryption import decrypting, encrypt
from tenancy.archive.format import Sums, dumped, trailer
from tests.support.archives import header, identities, recipients

MIB = 2**20
COLUMNS = [["a", "int"], ["b", "int"], ["c", "text"]]
PLAIN = [{"name": name, "kind": kind, "null": True} for name, kind in COLUMNS]
OWN: dict[str, Any] = {"columns": PLAIN, "key": [], "uniques": [], "indexes": [], "parents": []}


def packed(plain: Iterable[bytes]) -> bytes:
    """Compress as exports do."""
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=False).compressobj()
    return b"".join([*map(packer.compress, plain), packer.flush()])


def sealed(packed: bytes) -> bytes:
    """Encrypt as exports do."""
    sink = io.BytesIO()
    encrypt([packed], sink, recipients())
    return sink.getvalue()


def table(name: str = "things", columns: Any = COLUMNS, **more: Any) -> bytes:
    return dumped({"table": name, "columns": columns, **more})


def archive(tables: Iterable[tuple[bytes, list[bytes]]], *, head: bytes | None = None) -> Iterator[bytes]:
    """Give the pieces of an archive with right counts and checksums, whatever its tables and rows are."""
    whole, sums = hashlib.sha256(), Sums()

    def said(piece: bytes) -> bytes:
        whole.update(piece)
        return piece

    yield said(header().line() if head is None else head)
    for line, rows in tables:
        found = orjson.loads(line)
        columns = found.get("columns")
        names = [str(column[0]) for column in columns] if isinstance(columns, list) else []
        sums.begin(str(found["table"]), tuple(names))
        yield said(line)
        for text in rows:
            sums.add(text.count(b"\n"), text)
            yield said(text)
        yield said(sums.end())
    yield trailer(sums.contents, whole.hexdigest())


def one_table(*rows: bytes, line: bytes | None = None) -> bytes:
    return packed(archive([(table() if line is None else line, list(rows))]))


def row(*values: Any) -> bytes:
    return dumped(list(values))


GOOD = row(1, 1, "good")


def changed(old: bytes, new: bytes) -> bytes:
    """Give an archive of one row with one place of its text changed."""
    text = b"".join(archive([(table(), [GOOD])]))
    assert old in text
    return packed([text.replace(old, new, 1)])


def _zeros(count: int) -> Iterator[bytes]:
    piece = bytes(MIB)
    for _ in range(count):
        yield piece


def _rows_without_end() -> Iterator[bytes]:
    yield from archive([(table("t", [["n", "int"]]), [b"[1]\n" * 2**18] * 2**10)])


def _tables_without_end() -> Iterator[bytes]:
    """Give a million tables, of which only the first have right ends: nobody reads as far as the others."""
    yield from list(archive((table(f"t{n}"), []) for n in range(1_100)))[:-1]
    for n in range(10**6):
        yield b'{"table":"u%d","columns":[["a","int"]]}\n' % n


def _wide_window() -> bytes:
    wide = zstandard.ZstdCompressionParameters(
        window_log=27, write_checksum=True, write_content_size=False, enable_ldm=True
    )
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    return b"".join([*map(packer.compress, archive([(table(), [GOOD])])), packer.flush()])


def _two_frames() -> bytes:
    whole = b"".join(archive([(table(), [GOOD])]))
    return packed([whole[:200]]) + packed([whole[200:]])


def _made_twice(*lines: bytes) -> bytes:
    return packed(archive([(line, [GOOD]) for line in lines]))


CASES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: packed([]),
    "no header": lambda: packed([b"".join(archive([(table(), [GOOD])])).partition(b"\n")[2]]),
    "a header with other fields": lambda: changed(b'"kind"', b'"kinds"'),
    "a header of a later format": lambda: changed(b'"unify_archive":1', b'"unify_archive":2'),
    "a header with a float as version": lambda: changed(b'"unify_archive":1', b'"unify_archive":1.0'),
    "a header of another kind": lambda: changed(b'"kind":"tenant"', b'"kind":"server"'),
    "a header with a user id of 2^64": lambda: changed(b'"user_id":1', b'"user_id":18446744073709551616'),
    "a header with duplicate keys": lambda: changed(b'"kind":"tenant"', b'"kind":"catalog","kind":"tenant"'),
    "a header with blanks": lambda: changed(b'"kind":', b'"kind": '),
    "a header of 1 MiB": lambda: packed(archive([], head=header(owner="x" * MIB).line())),
    "the header twice": lambda: packed([header().line(), *archive([])]),
    "rows before a table": lambda: packed([header().line(), GOOD, *list(archive([]))[1:]]),
    "rows after the trailer": lambda: packed([*archive([(table(), [GOOD])]), GOOD]),
    "two trailers": lambda: packed([*archive([]), list(archive([]))[-1]]),
    "no trailer": lambda: packed(list(archive([(table(), [GOOD])]))[:-1]),
    "a trailer with another count": lambda: changed(b'{"things":[1,', b'{"things":[2,'),
    "a trailer of another archive": lambda: packed([*list(archive([(table(), [GOOD])]))[:-1], list(archive([]))[-1]]),
    "a table with another count": lambda: changed(b'"end":"things","rows":1', b'"end":"things","rows":2'),
    "a row changed": lambda: changed(b'"good"', b'"evil"'),
    "a table's end missing": lambda: packed(list(archive([(table(), [GOOD])]))[:3]),
    "a million tables": lambda: packed(_tables_without_end()),
    "a table twice": lambda: _made_twice(table(), table()),
    "a table twice in other letters": lambda: _made_twice(table(), table("THINGS")),
    "a column twice": lambda: one_table(line=table(columns=[*COLUMNS, ["A", "int"]])),
    "ten thousand columns": lambda: one_table(line=table(columns=[[f"c{n}", "int"] for n in range(10**4)])),
    "no columns": lambda: one_table(line=table(columns=[])),
    "columns that are no list": lambda: one_table(line=table(columns={"a": "int"})),
    "a column of an unknown kind": lambda: one_table(line=table(columns=[["a", "sql"]])),
    "a table with more to say": lambda: one_table(line=table(sql="DROP TABLE things")),
    "a quoted name": lambda: one_table(line=table('things"; DROP TABLE notes; --')),
    "a column with a quoted name": lambda: one_table(line=table(columns=[["a`b", "int"]])),
    "an empty name": lambda: one_table(line=table("")),
    "a name of 10,000 characters": lambda: one_table(line=table("t" * 10**4)),
    "a name with a NUL": lambda: one_table(line=table("thi\0ngs")),
    "a path as a name": lambda: one_table(line=table("../../etc/passwd")),
    "a row with too many values": lambda: one_table(row(1, 1, "a", "b")),
    "a row with too few values": lambda: one_table(row(1, 1)),
    "a row that is an object": lambda: one_table(dumped({"a": 1})),
    "two rows in a line": lambda: one_table(b'[1,1,"a"],[1,2,"b"]\n'),
    "a row over two lines": lambda: one_table(b'[1,1,"a\n","b"]\n'),
    "a text for a number": lambda: one_table(row("1", 1, "a")),
    "a flag for a number": lambda: one_table(row(True, 1, "a")),
    "a float for a number": lambda: one_table(row(1.0, 1, "a")),
    "a number for a text": lambda: one_table(row(1, 1, 1)),
    "a list for a text": lambda: one_table(row(1, 1, ["a"])),
    "2^63": lambda: one_table(row(2**63, 1, "a")),
    "-2^63-1": lambda: one_table(b'[-9223372036854775809,1,"a"]\n'),
    "a number of a million digits": lambda: one_table(b'[%b,1,"a"]\n' % (b"9" * 10**6)),
    "NaN": lambda: one_table(b'[NaN,1,"a"]\n'),
    "a NUL in a text": lambda: one_table(row(1, 1, "a\0b")),
    "a lone surrogate": lambda: one_table(b'[1,1,"\\ud800"]\n'),
    "a lone surrogate in bytes": lambda: one_table(b'[1,1,"\xed\xa0\x80"]\n'),
    "bytes that are no UTF-8": lambda: one_table(b'[1,1,"\xff"]\n'),
    "deep nesting": lambda: one_table(b"[" * 4 * MIB + b"]" * 4 * MIB + b"\n"),
    "a line of 1 GiB": lambda: packed([header().line(), table(), b"[", *_zeros(1024)]),
    "1 GiB of zeros": lambda: packed(_zeros(1024)),
    "1 GiB of rows": lambda: packed(_rows_without_end()),
    "1 GiB of line ends": lambda: packed(b"\n" * MIB for _ in range(1024)),
    "a window of 128 MiB": _wide_window,
    "two frames": _two_frames,
    "a frame after the archive": lambda: one_table(GOOD) + packed([b"more"]),
    "bytes after the archive": lambda: one_table(GOOD) + b"more",
    "a skippable frame": lambda: b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + one_table(GOOD),
    "no zstd": lambda: b"".join(archive([(table(), [GOOD])])),
    "a moment that there is not": lambda: one_table(
        row("2026-02-30 00:00:00.000000"), line=table(columns=[["a", "timestamp"]])
    ),
    "a moment with a zone": lambda: one_table(
        row("2026-02-03T00:00:00.000000Z"), line=table(columns=[["a", "timestamp"]])
    ),
    "a date that there is not": lambda: one_table(row("2026-13-01"), line=table(columns=[["a", "date"]])),
    "a decimal with an exponent": lambda: one_table(row("1e9"), line=table(columns=[["a", "decimal"]])),
    "bytes that are no base64": lambda: one_table(row("a b="), line=table(columns=[["a", "bytes"]])),
    "base64 of two forms": lambda: one_table(row("QR=="), line=table(columns=[["a", "bytes"]])),
    "a UUID in capital letters": lambda: one_table(row("A" * 32), line=table(columns=[["a", "uuid"]])),
    "an own table with SQL as default": lambda: one_table(
        line=table(own=OWN | {"columns": [PLAIN[0] | {"default": {"sql": "now()"}}, *PLAIN[1:]]})
    ),
    "an own table with a CHECK": lambda: one_table(line=table(own=OWN | {"checks": ["1=1"]})),
    "an own table with other columns": lambda: one_table(line=table(own=OWN | {"columns": PLAIN[:2]})),
    "an own table with a key that there is not": lambda: one_table(line=table(own=OWN | {"key": ["x"]})),
    "an own table that deletes in SQL": lambda: one_table(
        line=table(
            own=OWN
            | {"parents": [{"columns": ["a"], "table": "x", "to": ["id"], "on_delete": "CASCADE; DROP TABLE x"}]}
        )
    ),
    "an own table with a quoted parent": lambda: one_table(
        line=table(own=OWN | {"parents": [{"columns": ["a"], "table": 'x"', "to": ["id"]}]})
    ),
}
"""Compressed texts by what is wrong with them; ``sealed`` encrypts them."""


def smuggled(*names: str) -> dict[str, bytes]:
    """Give whole archives of tables that an archive must not make; only a load can see that."""
    return {name: sealed(one_table(GOOD, line=table(name, own=OWN))) for name in names}


def opened(archive: bytes) -> bytes:
    """Decrypt and decompress an archive, without a look at what it says."""
    with decrypting(io.BytesIO(archive), identities()) as pieces:
        return zstandard.ZstdDecompressor().decompressobj().decompress(b"".join(pieces))
