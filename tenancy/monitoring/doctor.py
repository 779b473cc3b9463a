"""Examine whether backups can be made now and used when they are needed; nothing but a probe file is written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from tenancy.archive.backup_store import ARCHIVE, BackupStore, Place
from tenancy.catalog import backups, job_workers
from tenancy.catalog.backups import Backup, BackupFilter, BackupState
from tenancy.credentials import rotation
from tenancy.errors import ArchiveDamagedError, BackupExistsError, TenancyError
from tenancy.lifecycle.operation import Services
from tenancy.monitoring.backup_keys import BackupKeys, KeyUse

GOOD, NOTE, WARN, BAD = "good", "note", "warn", "bad"
PROBE = "probe.txt"
_PROBE_TEXT = b"Unify writes this file once, to see whether it may write here.\n"
_VERIFIED = 3

KEEP = (
    "TENANT_CREDENTIAL_KEYS: without it the passwords of databases on servers, which are in the catalog, are lost",
    "AUDIT_KEY: without it nobody can check the audit log",
    "BACKUP_SIGNING_KEYS: without it no backup is believed",
    "the secret keys of BACKUP_RECIPIENTS, or BACKUP_PASSPHRASE: without them no backup can be opened",
)
"""What must be kept elsewhere than on this machine, and not with the backups."""


@dataclass(frozen=True)
class Finding:
    """Say what a check found: ``good``, ``note`` (nothing to do), ``warn`` or ``bad``."""

    check: str
    state: str
    text: str
    keys: list[KeyUse] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"check": self.check, "state": self.state, "text": self.text, "keys": [k.to_dict() for k in self.keys]}


class Doctor:
    """Examine the settings, the storage and the catalog, as ``unify doctor`` shows it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._catalog = services.catalog
        self._settings = services.backups
        self.keys = BackupKeys(services)

    def examine(self) -> list[Finding]:
        """Run all checks; each has one finding, whatever the others found."""
        return list(self._findings())

    def _findings(self) -> Iterator[Finding]:
        checks: dict[str, Callable[[], Finding]] = {
            "signing key": self._signing,
            "recipients": self._recipients,
            "secret key": self._identity,
            "storage": self._storage,
            "newest backups": self._newest,
            "keys of backups": self._backup_keys,
            "keys of passwords": self._credential_keys,
            "age of backups": self._age,
            "workers": self._workers,
        }
        for name, check in checks.items():
            try:
                yield check()
            except TenancyError as error:
                yield Finding(name, BAD, error.message)

    def _signing(self) -> Finding:
        key_id, _ = self._settings.signing().sign(b"")
        return Finding("signing key", GOOD, f"records are signed with key {key_id}.")

    def _recipients(self) -> Finding:
        found = self._settings.encrypt_to()
        return Finding("recipients", GOOD, f"archives are encrypted for {', '.join(found.key_ids)}.")

    def _identity(self) -> Finding:
        if not self._settings.opens:
            text = "this machine has none, so backups are restored where it is."
            return Finding("secret key", NOTE, text)
        mine = set(self._settings.identities().key_ids)
        if not mine.intersection(self._settings.encrypt_to().key_ids):
            text = "it opens none of the backups that are made now: it belongs to no key in BACKUP_RECIPIENTS."
            return Finding("secret key", BAD, text)
        return Finding("secret key", GOOD, f"backups can be opened here with {', '.join(sorted(mine))}.")

    def _storage(self) -> Finding:
        """Write a probe, once for all times: a login that may not delete could not take it away again."""
        storage = self._settings.store().storage
        try:
            storage.create(PROBE, io.BytesIO(_PROBE_TEXT))
        except BackupExistsError:
            with storage.open(PROBE) as stream:
                stream.read()
        list(islice(storage.list(), 1))
        return Finding("storage", GOOD, f"{storage.place} can be written, read and listed.")

    def _newest(self) -> Finding:
        with self._catalog.reading() as connection:
            found = backups.page(connection, BackupFilter(state=BackupState.GOOD), limit=_VERIFIED)
            catalog = backups.last_good_catalog(connection)
        if catalog is not None and catalog not in found:
            found.append(catalog)
        store = self._settings.store()
        for backup in found:
            _compare(store, backup)
        if not found:
            return Finding("newest backups", WARN, "there is no backup yet.")
        return Finding("newest backups", GOOD, f"the {len(found)} newest are there, and their records are signed.")

    def _backup_keys(self) -> Finding:
        missing = self.keys.missing()
        if not missing:
            return Finding("keys of backups", GOOD, "every key that stored backups need is in the settings.")
        named = "; ".join(
            f"key {each.key_id} is no longer in {each.setting}, and stored backups need it ({each.backups})"
            for each in missing
        )
        return Finding("keys of backups", BAD, f"{named}: put it back.", missing)

    def _credential_keys(self) -> Finding:
        found = rotation.status(self._catalog, self._services.keyring)
        unknown = ", ".join(found["unknown_keys"])
        if unknown or found["unreadable"]:
            text = "stored passwords cannot be read: restore the catalog from a backup."
            if unknown:
                text = f"stored passwords need key {unknown}: put it back into TENANT_CREDENTIAL_KEYS."
            return Finding("keys of passwords", BAD, text)
        return Finding("keys of passwords", GOOD, "every stored password can be opened.")

    def _age(self) -> Finding:
        with self._catalog.reading() as connection:
            since = datetime.now(UTC) - self._settings.warn_after
            found = backups.summary(connection, since, multi_tenant=self._catalog.multi_tenant)
        late = found.catalog_at is None or found.catalog_at < since
        hours = self._settings.warn_hours
        if not (found.stale or late):
            return Finding("age of backups", GOOD, f"every database was backed up in the last {hours} hours.")
        who = f"{found.stale} of {found.tenants} databases" + (" and the catalog" if late else "")
        return Finding("age of backups", WARN, f"{who} have no good backup of the last {hours} hours.")

    def _workers(self) -> Finding:
        with self._catalog.reading() as connection:
            alive = job_workers.alive(connection)
        if not alive:
            return Finding("workers", WARN, "no worker runs, so nothing that is scheduled is done.")
        return Finding("workers", GOOD, f"{len(alive)} on {', '.join(sorted({each.host for each in alive}))}.")


def _compare(store: BackupStore, backup: Backup) -> None:
    """Compare a backup with its record, and its archive's size; the archive is not read."""
    place = Place(backup.id, backup.tenant_id if backup.kind == backups.TENANT else None)
    record = store.record(place)
    archive = store.files_of(place).archive
    if record.checksum != backup.checksum or archive is None or archive.size_bytes != record.size_bytes:
        key = place.key(ARCHIVE)
        raise ArchiveDamagedError(f"{key} is missing, or is not what its record or the catalog says.", key=key)
