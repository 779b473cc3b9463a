"""Encrypt archives in the age format, and decrypt them as they are read (age-encryption.org/v1).

An archive is encrypted to public keys, whose secret halves a server need not have, or to a passphrase
(``passphrase.py``). pyrage works from one file-like object to another, so it decrypts in a thread that hands the plain
bytes over a queue.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any, BinaryIO, Protocol

from tenancy.archive import passphrase
from tenancy.errors import (
    ArchiveDamagedError,
    ArchiveHostileError,
    ArchiveKeyError,
    ConfigurationError,
    UnsupportedBackendError,
)

MAKE_KEYS = "run `unify credentials generate-identity` or call `encryption.generate_identity()`"
NO_RECIPIENTS = (
    "no archive can be made: neither BACKUP_RECIPIENTS nor BACKUP_PASSPHRASE says for whom to encrypt it. "
    f"For a pair of keys {MAKE_KEYS}."
)
BY_PASSPHRASE = "passphrase"  # noqa: S105 - the name of a way, not a password
"""The key id of archives that a passphrase opens."""

PASSPHRASE_LEAST = 16
RECIPIENTS_MOST = 50
_HEADER_MOST = 16 * 1024
"""The longest header of an encrypted file: a line or two of it for each recipient. pyrage takes minutes for 1 MiB."""

_QUEUED = 32
"""How many decrypted pieces of 8 KiB wait for their reader at most."""


class Sink(Protocol):
    """Take bytes, as a file that was opened for writing does."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class Recipients:
    """Hold what an archive is encrypted to; ``key_ids`` name the public keys in headers and records."""

    keys: tuple[str, ...]
    key_ids: tuple[str, ...]
    passphrase: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, public_keys: Sequence[str]) -> Recipients:
        """Read public keys (``age1...``); ConfigurationError for what is none, ArchiveKeyError if there is none."""
        if not public_keys:
            raise ArchiveKeyError(NO_RECIPIENTS)
        if len(public_keys) > RECIPIENTS_MOST:
            raise ConfigurationError(
                f"BACKUP_RECIPIENTS may name at most {RECIPIENTS_MOST} keys.", field="BACKUP_RECIPIENTS"
            )
        for key in public_keys:
            _public(key)
        return cls(tuple(public_keys), tuple(map(key_id, public_keys)))

    @classmethod
    def by_passphrase(cls, text: str) -> Recipients:
        """Encrypt to a passphrase, or refuse one that is short: whoever has an archive can try any number of them."""
        if len(text) < PASSPHRASE_LEAST:
            raise ConfigurationError(
                f"BACKUP_PASSPHRASE needs at least {PASSPHRASE_LEAST} characters.", field="BACKUP_PASSPHRASE"
            )
        return cls((), (BY_PASSPHRASE,), text)

    def parsed(self) -> list[Any]:
        return [_public(key) for key in self.keys]


@dataclass(frozen=True)
class Identities:
    """Hold the secret keys, or the passphrase, that open archives."""

    keys: tuple[str, ...] = field(repr=False)
    key_ids: tuple[str, ...] = ()
    passphrase: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, secret_keys: Sequence[str]) -> Identities:
        """Read secret keys (``AGE-SECRET-KEY-1...``); ConfigurationError for what is none."""
        return cls(tuple(secret_keys), tuple(key_id(str(_secret(key).to_public())) for key in secret_keys))

    @classmethod
    def by_passphrase(cls, text: str) -> Identities:
        return cls((), (BY_PASSPHRASE,), text)

    def parsed(self) -> list[Any]:
        return [_secret(key) for key in self.keys]


def generate_identity() -> tuple[str, str]:
    """Make a pair of keys: the public one, for BACKUP_RECIPIENTS, and the secret one, for a file kept elsewhere."""
    made = _pyrage().x25519.Identity.generate()
    return str(made.to_public()), str(made)


def key_id(public_key: str) -> str:
    """Return a short name of a public key."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:16]


def encrypt(pieces: Iterable[bytes], sink: Sink, recipients: Recipients) -> None:
    """Encrypt pieces as they come, into ``sink``; what either side raises is raised here."""
    if recipients.passphrase is not None:
        for piece in passphrase.encrypted(pieces, recipients.passphrase):
            sink.write(piece)
        return
    pyrage = _pyrage()
    source, target = _Pieces(pieces), _Remembering(sink)
    try:
        pyrage.encrypt_io(source, target, recipients.parsed())
    except BaseException as error:  # noqa: BLE001 - the error of whichever side failed is raised
        raise source.error or target.error or error from None


@contextmanager
def decrypting(source: BinaryIO, identities: Identities) -> Iterator[Iterator[bytes]]:
    """Decrypt a stream; the iterator ends only if the stream is whole and nothing follows it.

    Raises ArchiveKeyError if no identity opens it, ArchiveDamagedError if it was changed or cut off, and what reading
    the source raises.
    """
    if identities.passphrase is not None:
        yield passphrase.decrypted(source, identities.passphrase)
        return
    work = _Decryption(source, identities)
    thread = threading.Thread(target=work.run, name="unify-decrypt", daemon=True)
    thread.start()
    try:
        yield work.pieces()
    finally:
        work.stop()
        thread.join()


class _Decryption:
    """Decrypt in a thread that waits while its reader is behind."""

    def __init__(self, source: BinaryIO, identities: Identities) -> None:
        self._source = _Watched(source)
        self._identities = identities.parsed()
        self._queue: Queue[bytes | None] = Queue(_QUEUED)
        self._stopped = False
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            _pyrage().decrypt_io(self._source, self, self._identities)
        except BaseException as error:  # noqa: BLE001 - the reader raises it
            self._error = self._source.error or _explained(error)
        self._queue.put(None)

    def write(self, data: bytes) -> int:
        if self._stopped:
            raise _StoppedError
        self._queue.put(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""

    def pieces(self) -> Iterator[bytes]:
        while (piece := self._queue.get()) is not None:
            yield piece
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the thread: what it waits to hand over finds room, and what comes after that is refused."""
        self._stopped = True
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            return


class _StoppedError(Exception):
    """Raised in the thread when nobody reads on."""


def _explained(error: BaseException) -> BaseException:
    """Turn pyrage's errors into ours."""
    pyrage = _pyrage()
    if isinstance(error, pyrage.DecryptError) and "No matching keys" in str(error):
        return ArchiveKeyError("none of the keys given opens the archive: it was encrypted to others.")
    if isinstance(error, (pyrage.DecryptError, OSError)):
        return ArchiveDamagedError("the archive is damaged or cut off, or is none.")
    return error


class _Watched:
    """Read a source, and remember its error; a header that is too long is refused before pyrage sees it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._begun: bytes | None = None
        self.error: BaseException | None = None

    def read(self, most: int = -1) -> bytes:
        try:
            if self._begun is None:
                self._begun = self._header()
            if self._begun:
                found, self._begun = self._begun[:most], self._begun[most:]
                return found
            return self._source.read(most)
        except BaseException as error:
            self.error = error
            raise

    def _header(self) -> bytes:
        """Read on until the line that ends a header."""
        found = b""
        while _HEADER_END not in found:
            more = self._source.read(_HEADER_MOST)
            found += more
            if len(found) > _HEADER_MOST and _HEADER_END not in found[:_HEADER_MOST]:
                raise ArchiveHostileError("the archive's header has no end, or there is none.")
            if not more:
                break
        return found


_HEADER_END = b"\n--- "


class _Pieces:
    """Let pieces be read as a file is."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, most: int = -1) -> bytes:
        try:
            while not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    return b""
                self._rest = memoryview(piece)
        except BaseException as error:
            self.error = error
            raise
        found, self._rest = self._rest[:most], self._rest[most:]
        return bytes(found)


class _Remembering:
    """Write to a sink, and remember its error: pyrage raises another in its place."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._sink.write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Do nothing: who gave the sink closes it."""


def _public(key: str) -> Any:
    pyrage = _pyrage()
    try:
        return pyrage.x25519.Recipient.from_str(key)
    except pyrage.RecipientError as error:
        raise ConfigurationError(
            "BACKUP_RECIPIENTS holds what is no public key: age1 and 58 characters.", field="BACKUP_RECIPIENTS"
        ) from error


def _secret(key: str) -> Any:
    pyrage = _pyrage()
    try:
        return pyrage.x25519.Identity.from_str(key)
    except pyrage.IdentityError:
        raise ConfigurationError(
            "this is no secret key of age: AGE-SECRET-KEY-1 and 58 characters.", field="BACKUP_IDENTITY_FILE"
        ) from None  # the error may show the key


def _pyrage() -> Any:
    try:
        import pyrage  # optional
    except ImportError as error:
        raise UnsupportedBackendError(
            "archives need packages that are not installed: pip install 'unify[backup]'."
        ) from error
    return pyrage
