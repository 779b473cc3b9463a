"""Read all that a storage of backups says, once: which backups there are of what, and what was deleted on purpose."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from tenancy.archive.backup_store import BackupStore, Unreadable
from tenancy.archive.records import Deletion, Record
from tenancy.catalog.backups import CATALOG
from tenancy.catalog.recovery import Outlived


@dataclass
class Survey:
    """Hold what a storage says; records that no known key signed are not believed, and only named."""

    catalogs: list[Record] = field(default_factory=list)
    """The backups of the catalog, the newest first."""

    newest: dict[uuid.UUID, Record] = field(default_factory=dict)
    """The newest backup of each tenant; by its epoch first, as clocks may have been wrong."""

    deleted: dict[uuid.UUID, Deletion] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    """What is not believed, and why."""

    highest_user: int = 0
    user_epochs: dict[int, int] = field(default_factory=dict)

    @property
    def outlived(self) -> Outlived:
        epochs = {tenant_id: record.epoch for tenant_id, record in self.newest.items()}
        return Outlived(epochs, self.user_epochs, frozenset(self.deleted))

    def take(self, record: Record) -> None:
        if record.kind == CATALOG:
            self.catalogs.append(record)
        elif record.tenant_id is not None:
            known = self.newest.get(record.tenant_id)
            if known is None or order(known) < order(record):
                self.newest[record.tenant_id] = record
            self.take_user(record.user_id, record.epoch)

    def take_user(self, user_id: int | None, epoch: int = 0) -> None:
        if user_id is not None:
            self.highest_user = max(self.highest_user, user_id)
            self.user_epochs[user_id] = max(self.user_epochs.get(user_id, 0), epoch)


def survey(store: BackupStore) -> Survey:
    """Read all records of a storage."""
    found = Survey()
    for each in store.records():
        if isinstance(each, Unreadable):
            found.ignored.append(f"{each.key}: {each.error.message}")
        else:
            found.take(each)
    for one in store.deletions():
        if isinstance(one, Unreadable):
            found.ignored.append(f"{one.key}: {one.error.message}")
        else:
            found.deleted[one.tenant_id] = one
            found.take_user(one.user_id)
    found.catalogs.sort(key=order, reverse=True)
    return found


def order(record: Record) -> tuple[int, float, str]:
    """Sort backups of one thing by age: epochs only rise, and within one of them the clock decides."""
    return record.epoch, record.started_at.timestamp(), str(record.backup_id)
