"""Make backups of a catalog and of tenants, and start on an empty machine with nothing but them and the keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tenancy import TenantManager
from tenancy.archive.encryption import generate_identity
from tenancy.archive.records import Deletion
from tenancy.catalog import tenants
from tenancy.credentials.signing import generate_signing_key

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


def note_deletion(manager: TenantManager, user_id: int) -> None:
    """Write into the storage that a user's database was deleted."""
    with manager.catalog.reading() as connection:
        tenant = tenants.get(connection, user_id)
    deletion = Deletion(tenant.tenant_id, user_id, datetime.now(UTC), "")
    manager.services.backups.store().add_deletion(deletion)
