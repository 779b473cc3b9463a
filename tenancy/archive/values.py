"""Turn rows into lines of an archive and back, and refuse values that not every product can keep.

Products hand out and take values as archives hold them (``backends/copying.py``), so most columns only have to be
looked at. That is done column by column for many rows at once, by few calls: exports and loads spend their time here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import orjson

from tenancy.archive.format import INTEGER_MOST, LINE_MOST, ROW_MOST
from tenancy.backends.copying import Kind, Row, Table
from tenancy.errors import ArchiveError, ArchiveHostileError

Values = Sequence[Any]
Change = Callable[[Values], Values]
"""Look at the values of a column and return them, changed where needed; ValueError, TypeError or KeyError refuses."""

_NONE = type(None)
_UUIDS = re.compile(r"(?:[0-9a-f]{32}\n)*")
_MOMENTS = re.compile(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\n)*", re.ASCII)
_DATES = re.compile(r"(?:\d{4}-\d\d-\d\d\n)*", re.ASCII)
_DECIMALS = re.compile(r"(?:(?:0|-?[1-9]\d*|-?(?:0|[1-9]\d*)\.\d*[1-9])\n)*", re.ASCII)
_FLAGS = {0: False, 1: True, None: None}
_NUL = b"\\u0000"

_dumped = partial(orjson.dumps, option=orjson.OPT_APPEND_NEWLINE)


class Rows:
    """Write and read the rows of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._out = [_OUT[column.kind] for column in table.columns]
        self._in = [_IN[column.kind] for column in table.columns]

    def lines(self, rows: Sequence[Row]) -> bytes:
        """Write rows as a product handed them out; ArchiveError names the column of a value that cannot be kept."""
        rows = self._changed(rows, self._out, ArchiveError)
        try:
            lines = _dumped(rows[0]) if len(rows) == 1 else b"".join(map(_dumped, rows))
        except (TypeError, ValueError) as error:
            raise self._refused(ArchiveError, None) from error
        if len(lines) > ROW_MOST:
            self._refuse_long(rows)
        if _NUL in lines:
            self._refuse_nul(rows, ArchiveError)
        return lines

    def read(self, lines: bytes) -> Sequence[Row]:
        """Read lines into rows as products take them; ArchiveHostileError for lines that ``lines`` would not write."""
        try:
            rows = _loaded(lines)
            if (_dumped(rows[0]) if len(rows) == 1 else b"".join(map(_dumped, rows))) != lines:
                raise self._refused(ArchiveHostileError, None)
        except ValueError as error:
            raise self._refused(ArchiveHostileError, None) from error
        width = len(self.table.columns)
        if any(type(row) is not list or len(row) != width for row in rows):
            raise ArchiveHostileError(f"table {self.table.name}: a row of the archive has not {width} values.")
        if _NUL in lines:
            self._refuse_nul(rows, ArchiveHostileError)
        return self._changed(rows, self._in, ArchiveHostileError)

    def _changed(self, rows: Sequence[Row], changes: list[Change], error: type[ArchiveError]) -> Sequence[Row]:
        columns: list[Values] = list(zip(*rows, strict=True))
        changed = False
        for place, change in enumerate(changes):
            try:
                found = change(columns[place])
            except (ValueError, TypeError, KeyError, ArithmeticError) as cause:
                raise self._refused(error, place) from cause
            if found is not columns[place]:
                columns[place], changed = found, True
        return list(zip(*columns, strict=True)) if changed else rows

    def _refused(self, error: type[ArchiveError], place: int | None) -> ArchiveError:
        if place is None:
            return error(f"table {self.table.name}: a row holds what an archive cannot hold.", table=self.table.name)
        column = self.table.columns[place]
        return error(
            f"table {self.table.name}, column {column.name}: a value is no {column.kind} that every product can keep.",
            table=self.table.name,
            column=column.name,
        )

    def _refuse_long(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if len(_dumped(row)) > ROW_MOST:
                raise ArchiveError(
                    f"table {self.table.name}: the row {self._key(row)} is longer than {ROW_MOST >> 20} MiB, "
                    "more than an archive can hold.",
                    table=self.table.name,
                )

    def _refuse_nul(self, rows: Sequence[Row], error: type[ArchiveError]) -> None:
        for row in rows:
            for column, value in zip(self.table.columns, row, strict=True):
                if isinstance(value, str) and "\0" in value:
                    raise error(
                        f"table {self.table.name}, column {column.name}: the row {self._key(row)} holds a NUL "
                        "character, which not every product can keep.",
                        table=self.table.name,
                        column=column.name,
                    )

    def _key(self, row: Row) -> str:
        """Name a row by its key, without texts of any length."""
        named = [
            str(value)[:64]
            for column, value in zip(self.table.columns, row, strict=True)
            if column.name in self.table.key
        ]
        return f"({', '.join(named)})" if named else "without a key"


def _loaded(lines: bytes) -> list[Any]:
    """Read all lines as one JSON list; a long row, which comes alone, is not copied for that."""
    if lines.count(b"\n") == 1:
        return [orjson.loads(lines)]
    found: list[Any] = orjson.loads(b"[%b]" % lines[:-1].replace(b"\n", b","))
    return found


def _only(*kinds: type) -> Change:
    allowed = {*kinds, _NONE}

    def look(values: Values) -> Values:
        if not set(map(type, values)) <= allowed:
            raise TypeError
        return values

    return look


_texts = _only(str)
_whole = _only(int)
_flags = _only(bool)
_floats = _only(float)


def _integers(values: Values) -> Values:
    _whole(values)
    there = [value for value in values if value is not None] if None in values else values
    if there and not -INTEGER_MOST - 1 <= min(there) <= max(there) <= INTEGER_MOST:
        raise ValueError
    return values


def _shaped(shape: re.Pattern[str]) -> Change:
    """Match the texts of a column at once."""

    def look(values: Values) -> Values:
        there = [value for value in values if value is not None] if None in values else values
        if not shape.fullmatch("\n".join([*there, ""])):
            raise ValueError
        return values

    return look


_uuids, _moments, _dates, _decimals = map(_shaped, (_UUIDS, _MOMENTS, _DATES, _DECIMALS))


def _moments_out(values: Values) -> Values:
    """Take what is written as an archive writes it; raw SQL may have left a date alone or a zone in SQLite."""
    try:
        return _moments(values)
    except (ValueError, TypeError):
        return _moments([None if value is None else _moment(value) for value in values])


def _moment(value: str) -> str:
    found = datetime.fromisoformat(value)
    if found.tzinfo is not None:
        found = found.astimezone(UTC).replace(tzinfo=None)
    return found.isoformat(" ", "microseconds")


def _real_moments(values: Values) -> Values:
    for value in _moments(values):
        if value is not None:
            datetime.fromisoformat(value)
    return values


def _real_dates(values: Values) -> Values:
    for value in _dates(values):
        if value is not None:
            date.fromisoformat(value)
    return values


def _flags_out(values: Values) -> Values:
    return list(map(_FLAGS.__getitem__, values))


def _floats_out(values: Values) -> Values:
    return _finite([value if value is None else float(value) + 0.0 for value in values])


def _finite(values: Values) -> Values:
    """Refuse infinities and what is no number, and -0.0, which few products keep."""
    for value in _floats(values):
        if value is not None and (value - value != 0 or (value == 0 and str(value) != "0.0")):
            raise ValueError
    return values


def _decimals_out(values: Values) -> Values:
    return _decimals([None if value is None else _decimal(value) for value in values])


def _decimal(value: Any) -> str:
    """Write a number without an exponent and without zeros at its end: products pad to a column's scale."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    text = str(value)
    if "e" in text or "E" in text:
        from decimal import Decimal

        text = format(Decimal(text), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _bytes_out(values: Values) -> Values:
    return [None if value is None else base64.b64encode(_raw(value)).decode() for value in values]


def _raw(value: Any) -> bytes:
    if isinstance(value, (str, int, float)):
        raise TypeError
    return bytes(value)


def _bytes_in(values: Values) -> Values:
    return [None if value is None else _unpacked(value) for value in values]


def _unpacked(value: str) -> bytes:
    """Decode base64, written as ``_bytes_out`` writes it: other texts can stand for the same bytes."""
    if type(value) is not str or len(value) > LINE_MOST:
        raise TypeError
    found = binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
    if base64.b64encode(found).decode() != value:
        raise ValueError
    return found


_OUT: dict[Kind, Change] = {
    Kind.INTEGER: _integers,
    Kind.TEXT: _texts,
    Kind.UUID: _uuids,
    Kind.BOOLEAN: _flags_out,
    Kind.MOMENT: _moments_out,
    Kind.DATE: _dates,
    Kind.DECIMAL: _decimals_out,
    Kind.FLOAT: _floats_out,
    Kind.BYTES: _bytes_out,
}
_IN: dict[Kind, Change] = {
    Kind.INTEGER: _integers,
    Kind.TEXT: _texts,
    Kind.UUID: _uuids,
    Kind.BOOLEAN: _flags,
    Kind.MOMENT: _real_moments,
    Kind.DATE: _real_dates,
    Kind.DECIMAL: _decimals,
    Kind.FLOAT: _finite,
    Kind.BYTES: _bytes_in,
}
