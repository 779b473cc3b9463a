"""Keep backups in a storage: the archive first, its signed record last, so that a backup without record is partial.

Keys: ``tenants/{tenant_id}/{backup_id}.age`` and ``.json``, ``catalog/{backup_id}.age`` and ``.json``, and
``deleted/{tenant_id}.json`` for tenants that were deleted on purpose. A record counts only where it lies: a valid one
that was copied to another tenant's or backup's key is refused.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import BinaryIO

from tenancy.archive import records
from tenancy.archive.records import Deletion, Record
from tenancy.archive.storage.base import READ_BYTES, Storage, Stored, stream
from tenancy.catalog.backups import CATALOG
from tenancy.credentials.signing import SigningKeys
from tenancy.errors import (
    ArchiveDamagedError,
    ArchiveSignatureError,
    TenancyError,
)

ARCHIVE, RECORD = ".age", ".json"
_TENANTS, _CATALOG, _DELETED = "tenants", "catalog", "deleted"
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY = re.compile(rf"(?:{_TENANTS}/(?P<tenant>{_ID})|{_CATALOG})/(?P<backup>{_ID})(?P<suffix>\.age|\.json)")
_DELETION_KEY = re.compile(rf"{_DELETED}/(?P<tenant>{_ID})\.json")


@dataclass(frozen=True)
class Place:
    """Say which backup of what; ``tenant_id`` is None for the catalog's own backups."""

    backup_id: uuid.UUID
    tenant_id: uuid.UUID | None = None

    @classmethod
    def of(cls, record: Record) -> Place:
        return cls(record.backup_id, None if record.kind == CATALOG else record.tenant_id)

    @property
    def folder(self) -> str:
        return _CATALOG if self.tenant_id is None else f"{_TENANTS}/{self.tenant_id}"

    def key(self, suffix: str) -> str:
        return f"{self.folder}/{self.backup_id}{suffix}"


@dataclass(frozen=True)
class Unreadable:
    """Name a record that is not believed, and why."""

    key: str
    error: TenancyError


@dataclass(frozen=True)
class Files:
    """Say which files of one backup a storage lists; one without ``record`` is partial, or still being written."""

    place: Place
    archive: Stored | None = None
    record: Stored | None = None


class BackupStore:
    """Write, find and read backups in one storage; ``signing`` signs and verifies their records."""

    def __init__(self, storage: Storage, signing: SigningKeys) -> None:
        self.storage = storage
        self.signing = signing

    def add(self, record: Record, archive: BinaryIO) -> Record:
        """Write an archive and then its record, and return this with ``signed_by``.

        ArchiveDamagedError if the archive is not what the record says, and BackupExistsError if there is one of this id
        already: then no record is written.
        """
        place, seal = Place.of(record), records.sealed(record, self.signing)
        self.storage.create(place.key(ARCHIVE), _Checked(archive, record, place.key(ARCHIVE)))
        self.storage.create(place.key(RECORD), io.BytesIO(seal))
        return replace(record, signed_by=self.signing.key_ids[0])

    def record(self, place: Place) -> Record:
        """Return a backup's record, verified; BackupNotFoundError if there is none."""
        found = self._opened(place.key(RECORD))
        if not isinstance(found, Record) or Place.of(found) != place:
            raise _not_for(place.key(RECORD))
        return found

    def records(self, tenant_id: uuid.UUID | None = None) -> Iterator[Record | Unreadable]:
        """Read all records, or those of one tenant; those that are not believed are given with the reason."""
        for files in self.files(tenant_id):
            if files.record is not None:
                try:
                    yield self.record(files.place)
                except TenancyError as error:
                    if error.retryable:
                        raise
                    yield Unreadable(files.record.key, error)

    def files(self, tenant_id: uuid.UUID | None = None) -> Iterator[Files]:
        """List the files of all backups, or those of one tenant; nothing is read."""
        folders = [f"{_TENANTS}/{tenant_id}"] if tenant_id is not None else [_TENANTS, _CATALOG]
        return (files for folder in folders for files in self._files(folder))

    def files_of(self, place: Place) -> Files:
        """List the files of one backup."""
        return next((files for files in self._files(place.folder) if files.place == place), Files(place))

    def partials(self, tenant_id: uuid.UUID | None = None) -> Iterator[Files]:
        """List archives without record and records without archive; young ones may still be in the writing."""
        return (files for files in self.files(tenant_id) if files.archive is None or files.record is None)

    def open(self, record: Record) -> BinaryIO:
        """Open a backup's archive to read; a wrong size or checksum raises ArchiveDamagedError at its end."""
        key = Place.of(record).key(ARCHIVE)
        return stream(_Checked(self.storage.open(key), record, key))

    def check(self, record: Record) -> None:
        """Read a backup's archive through; ArchiveDamagedError if it is not what the record says."""
        with self.open(record) as archive:
            while archive.read(READ_BYTES):
                continue

    def delete(self, place: Place) -> None:
        """Delete a backup: its record first, so that what an interrupted call leaves is partial, and never good."""
        self.storage.delete(place.key(RECORD))
        self.storage.delete(place.key(ARCHIVE))

    def add_deletion(self, deletion: Deletion) -> None:
        """Write that a tenant was deleted; BackupExistsError if that is known already."""
        key = f"{_DELETED}/{deletion.tenant_id}{RECORD}"
        self.storage.create(key, io.BytesIO(records.sealed(deletion, self.signing)))

    def deletions(self) -> Iterator[Deletion | Unreadable]:
        """Read which tenants were deleted on purpose; records that are not believed are given with the reason."""
        for stored in self.storage.list(_DELETED):
            named = _DELETION_KEY.fullmatch(stored.key)
            if named is None:
                continue
            try:
                found = self._opened(stored.key)
                if not isinstance(found, Deletion) or str(found.tenant_id) != named["tenant"]:
                    raise _not_for(stored.key)
            except TenancyError as error:
                if error.retryable:
                    raise
                yield Unreadable(stored.key, error)
            else:
                yield found

    def newest_user_id(self) -> int:
        """Return the highest user id that any believed record names; 0 if none does."""
        found = chain(self.records(), self.deletions())
        return max((each.user_id or 0 for each in found if not isinstance(each, Unreadable)), default=0)

    def _files(self, folder: str) -> Iterator[Files]:
        """List the files of the backups in a folder and below it; those of one backup stand together."""
        last: Files | None = None
        for stored in self.storage.list(folder):
            named = _KEY.fullmatch(stored.key)
            if named is None:
                continue
            tenant = named["tenant"]
            place = Place(uuid.UUID(named["backup"]), None if tenant is None else uuid.UUID(tenant))
            if last is not None and last.place != place:
                yield last
                last = None
            last = last or Files(place)
            last = replace(last, archive=stored) if named["suffix"] == ARCHIVE else replace(last, record=stored)
        if last is not None:
            yield last

    def _opened(self, key: str) -> Record | Deletion:
        with self.storage.open(key) as stream:
            data = stream.read(records.MOST_BYTES + 1)
        try:
            return records.opened(data, self.signing)
        except ArchiveSignatureError as error:
            raise ArchiveSignatureError(
                f"{key} is not believed: {error.message}", **error.fields | {"key": key}
            ) from error


class _Checked:
    """Read an archive; its end is only given if size and checksum are those of the record."""

    def __init__(self, source: BinaryIO, record: Record, key: str) -> None:
        self._source = source
        self._record = record
        self._key = key
        self._size = 0
        self._sum = hashlib.sha256()

    def read(self, most: int, /) -> bytes:
        data = self._source.read(most)
        self._sum.update(data)
        self._size += len(data)
        expected = self._record.size_bytes
        if self._size > expected:
            raise self._damaged(f"it is longer than the {expected} bytes of its record")
        if not data and self._size < expected:
            raise self._damaged(f"it has {self._size} of the {expected} bytes of its record")
        if not data and self._sum.hexdigest() != self._record.checksum:
            raise self._damaged("its bytes are not those of its record")
        return data

    def close(self) -> None:
        self._source.close()

    def _damaged(self, how: str) -> ArchiveDamagedError:
        return ArchiveDamagedError(f"the archive {self._key} is damaged: {how}.", key=self._key)


def _not_for(key: str) -> ArchiveSignatureError:
    return ArchiveSignatureError(f"{key} is not believed: it was signed for another backup.", key=key)
