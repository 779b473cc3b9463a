"""Report on backups: how well all databases are backed up, the list of all, and the backups of one user.

Only the catalog is read. Ages are counted from when a backup began, since it holds the rows of that moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from tenancy.catalog import Catalog, backups, users
from tenancy.catalog.backups import Backup, BackupFilter, BackupState, Place

Rows = list[dict[str, Any]]


class BackupReports:
    """Report on backups, as ``manager.reports.backups``; one older than ``warn_hours`` is late."""

    def __init__(self, catalog: Catalog, warn_hours: int = 48) -> None:
        self.warn_hours = warn_hours
        self._catalog = catalog

    def standing(self, connection: sa.Connection | None = None) -> dict[str, Any]:
        """Count the databases whose last good backup is late or missing; tell the oldest, and that of the catalog."""
        if connection is None:
            with self._catalog.reading() as opened:
                return self.standing(opened)
        since = self._late_before()
        found = backups.summary(connection, since, multi_tenant=self._catalog.multi_tenant)
        return {
            "warn_hours": self.warn_hours,
            "databases": found.tenants,
            "late": found.stale,
            "never": found.never,
            "oldest_at": found.oldest_at,
            "oldest_late": self.is_late(found.oldest_at) if found.tenants else False,
            "catalog_at": found.catalog_at,
            "catalog_late": self.is_late(found.catalog_at),
            "failed": found.failed,
        }

    def is_late(self, at: datetime | None) -> bool:
        """Return whether a last good backup of this moment, or none at all, is a reason to warn."""
        return at is None or at < self._late_before()

    def get(self, backup_id: UUID) -> Backup:
        """Return one backup, or raise BackupNotFoundError."""
        with self._catalog.reading() as connection:
            return backups.get(connection, backup_id)

    def page(
        self,
        *,
        limit: int = 50,
        after: Place | None = None,
        user_id: int | None = None,
        kind: str | None = None,
        state: str | None = None,
    ) -> Rows:
        """List backups, newest first, each with the address of its user; ``after`` is the place of the last one."""
        with self._catalog.reading() as connection:
            wanted = BackupFilter(user_id=user_id, kind=kind, state=state)
            return _described(connection, backups.page(connection, wanted, limit=limit, after=after))

    def described(self, found: Sequence[Backup]) -> Rows:
        """Return backups as rows of a list, each with the address of its user."""
        with self._catalog.reading() as connection:
            return _described(connection, found)

    def of_tenant(self, tenant_id: UUID, *, limit: int = 10, after: Place | None = None) -> dict[str, Any]:
        """List a tenant's backups, newest first, and tell when its last good one began and whether that is late."""
        with self._catalog.reading() as connection:
            found = backups.page(connection, BackupFilter(tenant_id=tenant_id), limit=limit, after=after)
            good = next((each for each in found if each.state == BackupState.GOOD), None) if after is None else None
            if good is None and found:  # further down the list
                good = backups.last_good_of(connection, [tenant_id]).get(tenant_id)
        at = good.started_at if good else None
        return {"rows": found, "last_at": at, "late": self.is_late(at)}

    def _late_before(self) -> datetime:
        return datetime.now(UTC) - timedelta(hours=self.warn_hours)


def shown(backup: Backup) -> dict[str, Any]:
    """Return a backup for pages and programs; the ids of the keys that open it are a list."""
    keys = [key for key in backup.key_ids.split(",") if key]
    return asdict(backup) | {"key_ids": keys}


def _described(connection: sa.Connection, found: Sequence[Backup]) -> Rows:
    addresses = users.addresses(connection, {each.user_id for each in found if each.user_id is not None})
    return [shown(each) | {"email": addresses.get(each.user_id or 0)} for each in found]
