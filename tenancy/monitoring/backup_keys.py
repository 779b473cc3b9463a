"""Tell which stored backups need which key, and which of those keys the settings no longer have.

A backup needs the key that signed its record, and one of the keys that open its archive. A backup of the catalog needs
one more: passwords in it are sealed under the credential keys of its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from tenancy.archive.encryption import BY_PASSPHRASE, key_id
from tenancy.catalog import backups
from tenancy.catalog.backups import CATALOG, Backup, BackupFilter, BackupState
from tenancy.catalog.tables import audit_log
from tenancy.credentials import rotation
from tenancy.errors import TenancyError
from tenancy.lifecycle.operation import Services

ROTATION = "credential.rotate"
SHOWN = 20


@dataclass(frozen=True)
class KeyUse:
    """Say what needs a key: how many stored backups, the newest of them, and how many sealed passwords."""

    setting: str
    key_id: str
    backups: int
    newest: Sequence[Backup] = field(default=(), repr=False)
    passwords: int = 0

    @property
    def needed(self) -> bool:
        return bool(self.backups or self.passwords)

    def to_dict(self) -> dict[str, Any]:
        shown = [{"id": each.id, "user_id": each.user_id, "started_at": each.started_at} for each in self.newest]
        return {
            "setting": self.setting,
            "key_id": self.key_id,
            "backups": self.backups,
            "newest": shown,
            "passwords": self.passwords,
        }


class BackupKeys:
    """Compare the keys of the settings with what the catalog knows of backups."""

    def __init__(self, services: Services) -> None:
        self._catalog = services.catalog
        self._settings = services.backups
        self._keyring = services.keyring

    def missing(self) -> list[KeyUse]:
        """List the keys that stored backups need and that the settings do not have.

        Of the keys that open a backup one suffices; all of them are listed if none is there.
        """
        with self._catalog.reading() as connection:
            signers, openers = backups.keys_in_use(connection)
            here, openable = set(self._settings.signing().key_ids), self._openable()
            unsigned = [_of_signer(connection, key, signers[key]) for key in sorted(signers) if key not in here]
            closed = [keys for keys in sorted(openers) if not openable.intersection(keys)]
            return unsigned + [_of_openers(connection, keys, openers[keys]) for keys in closed]

    def uses(self) -> list[KeyUse]:
        """Return what needs each of the keys of backups that the settings have."""
        with self._catalog.reading() as connection:
            signers, openers = backups.keys_in_use(connection)
            found = [_of_signer(connection, key, signers[key]) for key in self._settings.signing().key_ids]
            return found + [self._of_recipient(connection, each, openers) for each in self._recipients()]

    def use(self, wanted: str) -> KeyUse | None:
        """Return what needs one of the settings' keys, by its id; None if the settings have no such key."""
        found = next((each for each in self.uses() if each.key_id == wanted), None)
        if found is not None or wanted not in self._keyring.key_ids:
            return found
        with self._catalog.reading() as connection:
            return self._of_credentials(connection, wanted)

    def _recipients(self) -> list[str]:
        return [key_id(each) for each in self._settings.recipients]

    def _of_recipient(self, connection: sa.Connection, wanted: str, openers: Mapping[tuple[str, ...], int]) -> KeyUse:
        """Count the backups that would have no key left."""
        rest = self._openable() - {wanted}
        only = {keys: count for keys, count in openers.items() if wanted in keys and not rest.intersection(keys)}
        some = [each for keys in only for each in _newest(connection, BackupFilter(key_ids=",".join(keys)))]
        return KeyUse("BACKUP_RECIPIENTS", wanted, sum(only.values()), some[:SHOWN])

    def _of_credentials(self, connection: sa.Connection, wanted: str) -> KeyUse:
        """Count sealed passwords, and the catalog's backups from before the last rotation, which are full of them."""
        passwords = rotation.keys_in_use(connection)[wanted]
        rotated = sa.select(sa.func.max(audit_log.c.at)).where(audit_log.c.action == ROTATION)
        last = connection.execute(rotated).scalar()
        found = [
            each
            for each in backups.every(connection, BackupFilter(kind=CATALOG, state=BackupState.GOOD))
            if wanted == self._keyring.newest or last is None or each.started_at <= last
        ]
        return KeyUse("TENANT_CREDENTIAL_KEYS", wanted, len(found), found[:SHOWN], passwords)

    def _openable(self) -> set[str]:
        """Return the ids of keys whose archives somebody can open, as far as the settings say."""
        found = set(self._recipients())
        if self._settings.passphrase:
            found.add(BY_PASSPHRASE)
        try:
            found.update(self._settings.identities().key_ids if self._settings.identity_file else ())
        except TenancyError:
            return found  # its own check says what is wrong with the file
        return found


def _of_signer(connection: sa.Connection, key: str, count: int) -> KeyUse:
    newest = _newest(connection, BackupFilter(signed_by=key)) if count else []
    return KeyUse("BACKUP_SIGNING_KEYS", key, count, newest)


def _of_openers(connection: sa.Connection, keys: tuple[str, ...], count: int) -> KeyUse:
    setting = "BACKUP_PASSPHRASE" if keys == (BY_PASSPHRASE,) else "BACKUP_RECIPIENTS"
    return KeyUse(setting, ",".join(keys), count, _newest(connection, BackupFilter(key_ids=",".join(keys))))


def _newest(connection: sa.Connection, wanted: BackupFilter) -> list[Backup]:
    there = (BackupState.GOOD, BackupState.DAMAGED)
    found = backups.page(connection, wanted, limit=SHOWN * 3)
    return [each for each in found if each.state in there][:SHOWN]
