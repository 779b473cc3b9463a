"""Give the tests of archives a storage, the keys of its records, and backups to put there."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tenancy.archive.backup_store import BackupStore
from tenancy.archive.records import Record
from tenancy.archive.storage import open_storage
from tenancy.credentials.signing import SigningKeys, generate_signing_key
from tenancy.types import new_id

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(scope="session")
def signing():
    return SigningKeys([generate_signing_key()])


@pytest.fixture
def storage(tmp_path):
    return open_storage(str(tmp_path / "backups"))


@pytest.fixture
def store(storage, signing):
    return BackupStore(storage, signing)


def record_of(content: bytes = b"an archive", **changed) -> Record:
    """Give a record that fits an archive."""
    found = Record(
        backup_id=new_id(),
        kind="tenant",
        tenant_id=new_id(),
        user_id=7,
        epoch=2,
        db_type="sqlite",
        revision="0002",
        app_version="0.4",
        started_at=MOMENT,
        finished_at=MOMENT,
        size_bytes=len(content),
        checksum=hashlib.sha256(content).hexdigest(),
        plain_checksum="ab" * 32,
        rows={"tasks": 3, "nötes": 0},
        checksums={"tasks": "cd" * 32, "nötes": "ef" * 32},
        key_ids=("12345678", "abcdef01"),
        imprint=None,
        installation="7e5800",
    )
    return replace(found, **changed)


def kept(store, content: bytes = b"an archive", **changed) -> Record:
    """Put a backup into a store, and give its record."""
    return store.add(record_of(content, **changed), io.BytesIO(content))
