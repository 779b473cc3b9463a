"""Where backups lie: a folder, or an object storage (S3 and what speaks like it, Google Cloud Storage, Azure).

``open_storage`` makes the one that a URL names; ``base`` says what each can do.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tenancy.archive.storage.base import Storage, Stored
from tenancy.archive.storage.folder import FolderStorage
from tenancy.errors import ConfigurationError

__all__ = ["Storage", "Stored", "check_url", "open_storage"]

OBJECTS = ("s3", "gs", "az")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def open_storage(url: str, delete_url: str | None = None, *, field: str = "BACKUP_URL") -> Storage:
    """Return the storage of a URL; ``delete_url`` is the same place with a login that may delete.

    Nothing is connected to yet. Raise ConfigurationError for a URL that names none.
    """
    scheme = check_url(url, field)
    if scheme not in OBJECTS:
        return FolderStorage(_folder(url))
    from tenancy.archive.storage.objects import ObjectStorage  # obstore is needed only for these

    return ObjectStorage(url, delete_url, field=field)


def check_url(url: str, field: str = "BACKUP_URL") -> str:
    """Return a storage URL's scheme (empty for a folder), or raise ConfigurationError, which never shows the URL."""
    found = _SCHEME.match(url)
    scheme = found.group(1).lower() if found else ""
    if scheme in OBJECTS:
        if not urlsplit(url).hostname:
            raise ConfigurationError(f"{field}: {scheme}:// needs a bucket: {scheme}://bucket/folder.", field=field)
        return scheme
    if scheme not in ("", "file"):
        raise ConfigurationError(f"{field} must be a folder, or begin with s3://, gs:// or az://.", field=field)
    folder = _folder(url)
    if not folder.is_absolute() or folder == Path("/"):
        raise ConfigurationError(f"{field} must name a folder by its whole path.", field=field)
    return ""


def _folder(url: str) -> Path:
    return Path(unquote(urlsplit(url).path)) if url.lower().startswith("file://") else Path(url)
