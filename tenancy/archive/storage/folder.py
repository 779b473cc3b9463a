"""Keep backups in a folder of this machine: files 0600, folders 0700, nothing ever replaced.

A file is written under a temporary name and synced; then it gets its own name by a hard link, which fails where the
name is taken. What a killed process leaves has a temporary name, which no list shows; ``tidy`` deletes it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tenancy.archive.storage.base import READ_BYTES, Readable, Source, Storage, Stored, checked
from tenancy.errors import (
    ArchiveError,
    BackupExistsError,
    BackupNotFoundError,
    StorageRefusedError,
    StorageUnavailableError,
)

_DRAFT = ".draft-"
_ABANDONED_S = 86_400.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class FolderStorage(Storage):
    """Keep files below one folder, which the first file creates."""

    can_delete = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = str(folder)

    def create(self, key: str, source: Source) -> None:
        path = self._path(key)
        with self.explained(key):
            self._make_folders(path.parent)
            draft = path.parent / f"{_DRAFT}{uuid.uuid4().hex}"
            try:
                _write(draft, source)
                _give_name(draft, path)
            finally:
                draft.unlink(missing_ok=True)
            _sync(path.parent)

    def open_piece(self, key: str) -> Readable:
        with self.explained(key):
            return _File(self, key, self._path(key))

    def size_of_piece(self, key: str) -> int | None:
        with self.explained(key):
            try:
                return self._path(key).stat().st_size
            except FileNotFoundError:
                return None

    def list_pieces(self, prefix: str) -> Iterator[Stored]:
        top = self._path(prefix) if prefix else self.folder
        with self.explained(prefix):
            yield from self._listed(top, f"{prefix}/" if prefix else "")

    def delete_piece(self, key: str) -> None:
        path = self._path(key)
        with self.explained(key):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _sync(path.parent)

    def tidy(self) -> int:
        """Delete drafts that were abandoned for a day; return how many."""
        gone = 0
        with self.explained(""):
            for draft in self.folder.rglob(f"{_DRAFT}*"):
                with suppress(FileNotFoundError):  # another process tidies too
                    if time.time() - draft.lstat().st_mtime > _ABANDONED_S:
                        draft.unlink()
                        gone += 1
        return gone

    def _path(self, key: str) -> Path:
        return self.folder / checked(key)

    def _make_folders(self, folder: Path) -> None:
        """Create a folder and what is missing above it, up to the storage's own, and sync their entries."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            with suppress(FileExistsError):  # another process creates it too
                each.mkdir(mode=0o700)
            _sync(each.parent)

    def _listed(self, folder: Path, before: str) -> Iterator[Stored]:
        """List a folder in the order of keys, in which a folder's name counts with the ``/`` behind it."""
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda each: f"{each.name}/" if _is_folder(each) else each.name)
        except FileNotFoundError:
            return
        for entry in found:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield from self._listed(Path(entry.path), f"{before}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # it was deleted since the folder was read
                    seen = entry.stat(follow_symlinks=False)
                    yield Stored(f"{before}{entry.name}", seen.st_size, datetime.fromtimestamp(seen.st_mtime, UTC))

    @contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Turn what the file system refuses into our own errors."""
        try:
            yield
        except OSError as error:
            raise self._named(key, error) from error

    def _named(self, key: str, error: OSError) -> ArchiveError:
        what = f"{key or 'the folder'} in {self.place}"
        if isinstance(error, FileExistsError):
            return BackupExistsError(f"{what} exists already and is never written over.", key=key)
        if isinstance(error, FileNotFoundError):
            return BackupNotFoundError(f"there is no {what}.", key=key)
        reason = error.strerror or type(error).__name__
        if error.errno in _REFUSED:
            return StorageRefusedError(f"this process may not use {what}: {reason}.", key=key)
        if error.errno in _FULL:
            return StorageUnavailableError(f"the disk that holds {self.place} is full.", key=key)
        return StorageUnavailableError(f"{what} cannot be used: {reason}.", key=key)


class _File:
    """Read a file; what goes wrong meanwhile is our own error."""

    def __init__(self, storage: FolderStorage, key: str, path: Path) -> None:
        self._storage = storage
        self._key = key
        self._handle = os.open(path, _READ)
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            os.close(self._handle)
            raise StorageRefusedError(f"{key} in {storage.place} is not a file.", key=key)

    def read(self, most: int) -> bytes:
        with self._storage.explained(self._key):
            return os.read(self._handle, most)

    def close(self) -> None:
        os.close(self._handle)


_READ = os.O_RDONLY
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # a pipe would be waited for; Windows lacks most
    _READ |= getattr(os, _flag, 0)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _write(path: Path, source: Source) -> None:
    """Write a new file, readable by this user alone, and sync it."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600)
    try:
        while data := source.read(READ_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _give_name(draft: Path, path: Path) -> None:
    """Give a finished draft its name, or raise FileExistsError.

    On file systems without hard links the name is reserved with an empty file, which the rename then replaces.
    """
    if os.name == "nt":
        draft.rename(path)  # on Windows a rename fails if the name is taken
        return
    try:
        os.link(draft, path)
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        draft.replace(path)
    except BaseException:
        path.unlink()
        raise


def _sync(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot sync a folder, and does not need to
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
