"""Define what a storage of backups can do: write a file once, read it, list and delete files.

A key is a file's name with ``/`` between its parts. What the storage cannot do raises one of our own errors, whose
message never has a secret. A file may be kept in several pieces (see ``piece``): object storages write only small
files with "create only", and only those can be written again after a lost answer.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO, Protocol

from tenancy.errors import BackupNotFoundError

PIECE_BYTES = 8 << 20
"""A file of at least this size may go on in further pieces; every piece but the last has exactly this size."""

READ_BYTES = 1 << 20
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_PIECE = re.compile(r"(.+)\.[0-9]{6}")


@dataclass(frozen=True)
class Stored:
    """Describe a file in a storage."""

    key: str
    size_bytes: int
    modified_at: datetime


class Source(Protocol):
    """Read bytes from the beginning, in portions of any size; no bytes are the end."""

    def read(self, most: int, /) -> bytes: ...


class Readable(Source, Protocol):
    """A source that has to be closed."""

    def close(self) -> None: ...


class Storage(ABC):
    """Keep files under keys; ``place`` says for people where, without secrets."""

    place: str
    can_delete: bool
    """False once the storage refused to delete."""

    @abstractmethod
    def create(self, key: str, source: Source) -> None:
        """Write a file, durably and as a whole, or raise BackupExistsError; one that is there is never replaced."""

    @abstractmethod
    def open_piece(self, key: str) -> Readable:
        """Open one file to read, or raise BackupNotFoundError."""

    @abstractmethod
    def size_of_piece(self, key: str) -> int | None:
        """Return one file's size in bytes; None if there is none."""

    @abstractmethod
    def list_pieces(self, prefix: str) -> Iterator[Stored]:
        """List the files in the folder ``prefix`` (empty: all) and below it, in the order of their keys."""

    @abstractmethod
    def delete_piece(self, key: str) -> None:
        """Delete one file; one that is not there is no error."""

    def open(self, key: str) -> BinaryIO:
        """Open a file to read, with all of its pieces, or raise BackupNotFoundError."""
        return stream(_Joined(self, key))

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """List the files in a folder and below it, in the order of their keys; pieces are counted with their file."""
        whole: Stored | None = None
        for found in self.list_pieces(prefix):
            if whole is not None and is_piece_of(found.key, whole.key):
                size = whole.size_bytes + found.size_bytes
                whole = replace(whole, size_bytes=size, modified_at=max(whole.modified_at, found.modified_at))
                continue
            if whole is not None:
                yield whole
            whole = found
        if whole is not None:
            yield whole

    def delete(self, key: str) -> None:
        """Delete a file and its pieces, the last one first: what an interrupted call leaves can be deleted again."""
        number, pieces = 0, []
        while (size := self.size_of_piece(piece(key, number))) is not None:
            pieces.append(piece(key, number))
            number += 1
            if size != PIECE_BYTES:
                break
        for name in reversed(pieces):
            self.delete_piece(name)


def stream(source: Readable) -> BinaryIO:
    """Return a file object over what can be read and closed."""
    return io.BufferedReader(_Raw(source), READ_BYTES)


class _Raw(io.RawIOBase):
    def __init__(self, source: Readable) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # all that BufferedReader gives
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


class _Joined:
    """Read the pieces of a file one after the other."""

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._number = 0
        self._read_bytes = 0
        self._piece: Readable | None = storage.open_piece(key)

    def read(self, most: int, /) -> bytes:
        while self._piece is not None:
            if data := self._piece.read(most):
                self._read_bytes += len(data)
                return data
            self.close()
            self._go_on()
        return b""

    def close(self) -> None:
        if self._piece is not None:
            self._piece.close()
            self._piece = None

    def _go_on(self) -> None:
        """Open the next piece, if there may be one: only behind one of the full size."""
        if self._read_bytes == PIECE_BYTES:
            self._read_bytes = 0
            self._number += 1
            with suppress(BackupNotFoundError):  # the file ended with a full piece
                self._piece = self._storage.open_piece(piece(self._key, self._number))


def piece(key: str, number: int) -> str:
    """Return the key of a file's piece; the first one, number 0, has the file's own."""
    return key if number == 0 else f"{key}.{number:06d}"


def is_piece_of(key: str, whole: str) -> bool:
    """Return whether a key is that of a further piece of the file ``whole``."""
    found = _PIECE.fullmatch(key)
    return found is not None and found.group(1) == whole


def checked(key: str) -> str:
    """Return a key that our own code made; anything else (``..``, a blank part) is a mistake of ours."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key")
    return key
