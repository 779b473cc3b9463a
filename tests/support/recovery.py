"""Make backups of a catalog and of tenants, and start on an empty machine with nothing but them and the keys."""

from __future__ import annotations

import hashlib
import io
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenancy import TenantManager
from tenancy.archive.encryption import generate_identity
from tenancy.archive.export import write_archive
from tenancy.archive.format import Contents, Header
from tenancy.archive.records import Deletion, Record
from tenancy.archive.tables import Schema
from tenancy.catalog import tenants
from tenancy.catalog.tables import catalog_metadata
from tenancy.credentials.signing import generate_signing_key
from tenancy.types import new_id

if TYPE_CHECKING:
    pass


def backup_keys(folder: Path) -> dict[str, str]:
    """Give the settings of backups in a folder, with fresh keys."""
    public, secret = generate_identity()
    identity = folder / "identity.txt"
    identity.write_text(f"{secret}\n")
    return {
        "backup_url": str(folder / "backups"),
        "backup_recipients": public,
        "backup_identity_file": str(identity),
        "backup_signing_keys": generate_signing_key(),
    }


def keep_catalog(manager: TenantManager) -> Record:
    """Make a backup of the catalog as it is now."""
    backend = manager.backends.for_url(str(manager.catalog.engine.url), "URL")
    schema = Schema(catalog_metadata, manager.catalog_chain)
    header = Header(uuid.UUID(int=0), None, backend.name, manager.catalog_chain.head, "1", kind="catalog")
    sink = io.BytesIO()
    with manager.catalog.reading() as connection:
        connection.execute(sa.select(1))  # begins the transaction
        held = write_archive(connection, backend, header, sink, manager.services.backups.encrypt_to(), schema=schema)
    return _kept(manager, header, sink.getvalue(), held, tenant_id=None, epoch=0)


def keep_tenant(manager: TenantManager, user_id: int) -> Record:
    """Make a backup of a user's database as it is now."""
    with manager.catalog.reading() as connection:
        tenant = tenants.get(connection, user_id)
    backend, access = manager.backends.get(tenant.db_type), manager.services.access(tenant)
    header = Header(tenant.tenant_id, user_id, backend.name, tenant.revision or "", "1")
    sink = io.BytesIO()
    with backend.copying.snapshot(tenant, access) as connection:
        schema = Schema(manager.schema.metadata, manager.chain)
        held = write_archive(connection, backend, header, sink, manager.services.backups.encrypt_to(), schema=schema)
    return _kept(manager, header, sink.getvalue(), held, tenant_id=tenant.tenant_id, epoch=tenant.epoch)


def note_deletion(manager: TenantManager, user_id: int) -> None:
    """Write into the storage that a user's database was deleted."""
    with manager.catalog.reading() as connection:
        tenant = tenants.get(connection, user_id)
    deletion = Deletion(tenant.tenant_id, user_id, datetime.now(UTC), "")
    manager.services.backups.store().add_deletion(deletion)


def _kept(manager: TenantManager, header: Header, data: bytes, held: Contents, **about: Any) -> Record:
    moment = datetime.now(UTC)
    record = Record(
        backup_id=new_id(),
        kind=header.kind,
        user_id=header.user_id,
        db_type=header.db_type,
        revision=header.revision,
        app_version=header.app_version,
        started_at=moment,
        finished_at=moment,
        size_bytes=len(data),
        checksum=hashlib.sha256(data).hexdigest(),
        plain_checksum=held.checksum,
        rows=held.rows,
        checksums=held.checksums,
        key_ids=(),
        imprint=None,
        installation="",
        **about,
    )
    return manager.services.backups.store().add(record, io.BytesIO(data))
