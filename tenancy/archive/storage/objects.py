"""Keep backups in an object storage, by obstore: S3 and what speaks like it, Google Cloud Storage, Azure.

Every file is written with "create only", in pieces of at most PIECE_BYTES: obstore and most storages know that mode for
files in one request alone, and a request of that size has its time limit and can be made again. So a login suffices
that may neither delete nor replace, and a storage that hangs is given up.

A login is part of the URL (``s3://KEY:SECRET@bucket/folder``, percent-encoded), or what obstore finds by itself: the
usual environment variables (``AWS_ACCESS_KEY_ID`` and so on), or the role of the machine.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tenancy.archive.storage.base import PIECE_BYTES, Readable, Source, Storage, Stored, checked
from tenancy.errors import (
    ArchiveError,
    BackupExistsError,
    BackupNotFoundError,
    ConfigurationError,
    StorageRefusedError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CONNECT_S, REQUEST_S, RETRIES_S = 5.0, 60.0, 60.0
"""How long a connection, a whole request, and a request with its repetitions may take."""

ATTEMPTS = 3
_LISTED_AT_ONCE = 1000
_OPTIONS = {"s3": ("endpoint", "region"), "gs": ("service_account",), "az": ("account", "endpoint")}

_used_in: dict[str, int] = {}
"""The process in which obstore began: in a child that was forked from it afterwards its requests never return."""


class Address:
    """Read a storage URL: kind, bucket, folder in it, options and login."""

    def __init__(self, url: str, field: str) -> None:
        parts = urlsplit(url)
        self.kind, self.bucket, self.folder = parts.scheme.lower(), parts.hostname or "", parts.path.strip("/")
        self.options = dict(parse_qsl(parts.query))
        self.login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        unknown = sorted(set(self.options) - set(_OPTIONS[self.kind]))
        if unknown:
            known = " and ".join(_OPTIONS[self.kind])
            raise ConfigurationError(f"{field}: {self.kind}:// knows {known} after the ?, not more.", field=field)
        if self.login and self.kind == "gs":
            raise ConfigurationError(f"{field}: gs:// takes ?service_account=FILE, and no login.", field=field)

    @property
    def place(self) -> str:
        """Where it is, for people: without login and options."""
        return f"{self.kind}://{self.bucket}/{self.folder}".rstrip("/")


class ObjectStorage(Storage):
    """Keep files in one folder of a bucket; ``delete_url`` is the same folder with a login that may delete."""

    def __init__(self, url: str, delete_url: str | None = None, *, field: str = "BACKUP_URL") -> None:
        self._address = Address(url, field)
        self._deleting = Address(delete_url, "BACKUP_DELETE_URL") if delete_url else self._address
        if self._deleting.place != self._address.place:
            raise ConfigurationError(
                f"BACKUP_DELETE_URL must name the same bucket and folder as {field}.", field="BACKUP_DELETE_URL"
            )
        self.place = self._address.place
        self.can_delete = True
        self._stores: dict[str, ObjectStore] = {}

    def create(self, key: str, source: Source) -> None:
        number = 0
        while True:
            data = _filled(source)
            if data or number == 0:
                self._put(key if number == 0 else f"{key}.{number:06d}", data)
            if len(data) < PIECE_BYTES:
                return
            number += 1
            del data

    def open_piece(self, key: str) -> Readable:
        return _Object(self, key)

    def size_of_piece(self, key: str) -> int | None:
        import obstore

        try:
            with self.explained(key):
                return int(obstore.head(self.reading, self.path(key))["size"])
        except BackupNotFoundError:
            return None

    def list_pieces(self, prefix: str) -> Iterator[Stored]:
        import obstore

        before = f"{self._address.folder}/" if self._address.folder else ""
        with self.explained(prefix):
            top = f"{before}{checked(prefix)}" if prefix else self._address.folder or None
            for some in obstore.list(self.reading, top, chunk_size=_LISTED_AT_ONCE):
                for found in some:
                    yield Stored(found["path"].removeprefix(before), int(found["size"]), found["last_modified"])

    def delete_piece(self, key: str) -> None:
        import obstore

        try:
            with self.explained(key):
                obstore.delete(self._store("delete", self._deleting, retries=ATTEMPTS), self.path(key))
        except BackupNotFoundError:
            return
        except StorageRefusedError as error:
            self.can_delete = False
            raise StorageRefusedError(
                f"this login may not delete in {self.place}: set BACKUP_DELETE_URL to one that may.",
                field="BACKUP_DELETE_URL",
            ) from error

    @property
    def reading(self) -> ObjectStore:
        """The store that reads; it makes a request again that failed."""
        return self._store("read", self._address, retries=ATTEMPTS)

    def path(self, key: str) -> str:
        """Return where a key is in the bucket."""
        return f"{self._address.folder}/{checked(key)}".lstrip("/")

    @contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Turn obstore's errors into our own; their texts are left out, as they show addresses with their options."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise self._named(key, error) from None

    def _put(self, key: str, data: bytes) -> None:
        """Write one piece, again if no answer came; that it is there afterwards may then be our own doing."""
        import obstore

        store = self._store("write", self._address, retries=0)
        for attempt in range(ATTEMPTS):
            try:
                with self.explained(key):
                    obstore.put(store, self.path(key), data, mode="create", use_multipart=False)
                return
            except BackupNotFoundError:
                raise StorageRefusedError(f"there is no {self.place}: create the bucket first.", key=key) from None
            except BackupExistsError:
                if attempt and self._holds(key, data):
                    return
                raise
            except StorageUnavailableError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * 2**attempt)

    def _holds(self, key: str, data: bytes) -> bool:
        stored = self.open_piece(key)
        size, place = self.size_of_piece(key), 0
        while size == len(data) and (some := stored.read(PIECE_BYTES)):
            if data[place : place + len(some)] != some:
                return False
            place += len(some)
        return place == len(data) == size

    def _named(self, key: str, error: Exception) -> ArchiveError:
        from obstore import exceptions

        what = f"{key or 'the files'} in {self.place}"
        if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            return BackupExistsError(f"{what} exists already and is never written over.", key=key)
        if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
            return BackupNotFoundError(f"there is no {what}.", key=key)
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError | PermissionError):
            return StorageRefusedError(f"the login of the storage may not use {what}.", key=key)
        if isinstance(error, exceptions.NotSupportedError):
            return StorageRefusedError(f"the storage cannot write {what} with create only.", key=key)
        status = _status(str(error))
        if status in (401, 403):
            return StorageRefusedError(f"the login of the storage may not use {what}.", key=key)
        if status == 404:  # a list is empty rather than missing
            return StorageRefusedError(f"there is no {self.place}: create the bucket first.", key=key)
        return StorageUnavailableError(f"{what} cannot be used: {_reason(str(error))}.", key=key)

    def _store(self, name: str, address: Address, *, retries: int) -> ObjectStore:
        if _used_in.setdefault("process", os.getpid()) != os.getpid():
            raise StorageRefusedError(
                f"{self.place} was used before this process was forked, and obstore's threads are not in it: "
                "start it as a process of its own."
            )
        if name not in self._stores:
            with self._refusing(address):
                self._stores[name] = _open(address, retries)
        return self._stores[name]

    @contextmanager
    def _refusing(self, address: Address) -> Iterator[None]:
        from obstore.exceptions import BaseError

        field = "BACKUP_URL" if address is self._address else "BACKUP_DELETE_URL"
        try:
            yield
        except (BaseError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{field} cannot be used ({type(error).__name__}): check its options and login.", field=field
            ) from None


class _Object:
    """Read one object, a range at a time, so that each request has its limit however large the object is."""

    def __init__(self, storage: ObjectStorage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._place = 0
        self._size: int | None = None
        self._data = memoryview(b"")
        self._fetch()

    def read(self, most: int, /) -> bytes:
        if not self._data and self._size is not None and self._place < self._size:
            self._fetch()
        some, self._data = bytes(self._data[:most]), self._data[most:]
        return some

    def close(self) -> None:
        self._data = memoryview(b"")

    def _fetch(self) -> None:
        import obstore

        path, end = self._storage.path(self._key), self._place + PIECE_BYTES
        with self._storage.explained(self._key):
            try:
                got = obstore.get(self._storage.reading, path, options={"range": (self._place, end)})
                self._data, self._size = memoryview(bytes(got.bytes())), int(got.meta["size"])
            except FileNotFoundError:
                raise
            except Exception:
                if self._place or int(obstore.head(self._storage.reading, path)["size"]):
                    raise
                self._size = 0  # of an empty object no range can be asked for
        self._place += len(self._data)
        if self._size and not self._data:
            raise StorageUnavailableError(f"{self._key} in {self._storage.place} ends too early.", key=self._key)


def _filled(source: Source) -> bytes:
    """Read a whole piece; only the last one is shorter."""
    some = []
    missing = PIECE_BYTES
    while missing and (data := source.read(missing)):
        some.append(data)
        missing -= len(data)
    return b"".join(some)


def _open(address: Address, retries: int) -> ObjectStore:
    return _KINDS[address.kind](address, retries)


def _client(address: Address) -> dict[str, Any]:
    """Return the time limits; plain HTTP is spoken where the URL says so itself."""
    plain = address.options.get("endpoint", "").lower().startswith("http://")
    seconds = {"connect_timeout": timedelta(seconds=CONNECT_S), "timeout": timedelta(seconds=REQUEST_S)}
    return seconds | ({"allow_http": True} if plain else {})


def _retry(retries: int) -> dict[str, Any]:
    return {"max_retries": retries, "retry_timeout": timedelta(seconds=RETRIES_S)}


def _s3(address: Address, retries: int) -> ObjectStore:
    from obstore.store import S3Store

    named: dict[str, Any] = dict(address.options)
    if address.login:
        named |= {"access_key_id": address.login[0], "secret_access_key": address.login[1]}
    how: Any = {"client_options": _client(address), "retry_config": _retry(retries)}
    return S3Store(address.bucket, **named, **how)


def _gs(address: Address, retries: int) -> ObjectStore:
    from obstore.store import GCSStore

    named: dict[str, Any] = {}
    if "service_account" in address.options:
        named["service_account_path"] = address.options["service_account"]
    how: Any = {"client_options": _client(address), "retry_config": _retry(retries)}
    return GCSStore(address.bucket, **named, **how)


def _az(address: Address, retries: int) -> ObjectStore:
    from obstore.store import AzureStore

    named: dict[str, Any] = {}
    if "account" in address.options:
        named["account_name"] = address.options["account"]
    if "endpoint" in address.options:
        named["endpoint"] = address.options["endpoint"]
    if address.login:
        named |= {"account_name": address.login[0], "account_key": address.login[1]}
    how: Any = {"client_options": _client(address), "retry_config": _retry(retries)}
    return AzureStore(address.bucket, **named, **how)


_KINDS: dict[str, Callable[[Address, int], ObjectStore]] = {"s3": _s3, "gs": _gs, "az": _az}

_STATUS = re.compile(r"status code: ([0-9]{3})")
_REASONS = (
    ("kind: Timeout", "it does not answer in time"),
    ("kind: Connect", "no connection is accepted there"),
    ("dns error", "its host has no address"),
)


def _status(text: str) -> int | None:
    """Return the HTTP status that obstore's first line reports; what follows is the storage's own text."""
    found = _STATUS.search(text.partition("\n")[0])
    return int(found.group(1)) if found else None


def _reason(text: str) -> str:
    """Say in our own words what obstore reports."""
    if status := _status(text):
        return f"it answers with status {status}"
    return next((words for found, words in _REASONS if found in text), "it does not answer as a storage does")
