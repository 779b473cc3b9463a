"""Help to test what is shown and done with backups: rows of the catalog, and kinds of jobs that only say they ran."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenancy.archive.backup_settings import BackupSettings
from tenancy.archive.encryption import generate_identity
from tenancy.archive.records import Record
from tenancy.catalog import backups
from tenancy.catalog.backups import CATALOG, TENANT, Backup, BackupState
from tenancy.credentials.signing import generate_signing_key
from tenancy.jobs.kinds import Argument, Kind, Kinds
from tenancy.types import new_id

if TYPE_CHECKING:
    from tenancy import TenantManager


def keep_backup(manager: TenantManager, user_id: int | None, *, hours: float = 0.0, **changed: Any) -> Backup:
    """Let the catalog know a backup that began so many hours ago, of a user or (None) of itself; no file is made."""
    place = manager.tenant_of(user_id) if user_id is not None else None
    at = datetime.now(UTC) - timedelta(hours=hours, seconds=1)
    found = Backup(
        id=new_id(),
        kind=TENANT if place else CATALOG,
        tenant_id=place.tenant_id if place else None,
        user_id=user_id,
        epoch=place.epoch if place else 0,
        db_type="sqlite",
        started_at=at,
        state=BackupState.GOOD,
        revision="0002",
        app_version="0.4",
        finished_at=at + timedelta(seconds=1),
        size_bytes=5_000_000,
        row_count=1234,
        checksum="ab" * 32,
        plain_checksum="cd" * 32,
        key_ids="12345678,abcdef01",
        signed_by="87654321",
        installation="7e5800",
    )
    found = replace(found, **changed)
    with manager.catalog.writing() as connection:
        backups.add(connection, found)
    return found


def store_backup(
    manager: TenantManager, *, catalog: bool = False, state: str = BackupState.GOOD, **changed: Any
) -> Record:
    """Put a backup with its signed record into the storage, and into the catalog; its archive is none."""
    settings, content, at = manager.services.backups, b"an archive", datetime.now(UTC) - timedelta(seconds=1)
    record = Record(
        backup_id=new_id(),
        kind=CATALOG if catalog else TENANT,
        tenant_id=None if catalog else new_id(),
        user_id=None if catalog else 7,
        epoch=1,
        db_type="sqlite",
        revision="0002",
        app_version="0.4",
        started_at=at,
        finished_at=at,
        size_bytes=len(content),
        checksum=hashlib.sha256(content).hexdigest(),
        plain_checksum="ab" * 32,
        rows={},
        checksums={},
        key_ids=settings.encrypt_to().key_ids,
        imprint=None,
        installation="7e5800",
    )
    record = settings.store().add(replace(record, **changed), io.BytesIO(content))
    with manager.catalog.writing() as connection:
        backups.add(connection, replace(record.backup(), state=state))
    return record


def with_keys(manager: TenantManager, folder: Path, **changed: Any) -> BackupSettings:
    """Give a manager the settings of backups in a folder, with fresh keys; return them."""
    public, secret = generate_identity()
    identity = folder / "identity.txt"
    identity.write_text(f"{secret}\n")
    given: dict[str, Any] = {"url": str(folder / "backups"), "recipients": (public,), "identity_file": identity}
    manager.services.backups = BackupSettings(**given | {"signing_keys": (generate_signing_key(),)} | changed)
    return manager.services.backups


def know_kinds(kinds: Kinds) -> None:
    """Let jobs of these kinds be added where their handlers are not: here they end at once."""
    for name, arguments in ARGUMENTS.items():
        kinds.register(Kind(name, f"Do {name}.", lambda run, given: {}, arguments))


def _texts(*names: str) -> tuple[Argument, ...]:
    return tuple(Argument(name, f"The {name}.") for name in names)


def _switches(*names: str) -> tuple[Argument, ...]:
    return tuple(Argument(name, f"The {name}.", "switch") for name in names)


ARGUMENTS = {
    "backup": (*_texts("user"), *_switches("all", "catalog")),
    "verify": (*_texts("backup"), *_switches("by_restoring")),
    "prune": _texts("keep"),
    "restore": _texts("user", "backup", "only_tables", "as_new_user"),
    "undo": (*_texts("user"), *_switches("discard_newer")),
}


def key_pair(folder: Path) -> dict[str, str]:
    """Make a pair of keys for backups, and give the settings of a server that has both halves."""
    public, secret = generate_identity()
    file = folder / "identity.txt"
    file.write_text(f"{secret}\n")
    return {"backup_recipients": public, "backup_identity_file": str(file)}
