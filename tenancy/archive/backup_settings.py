"""What backups depend on besides the catalog: where they lie, who can open them, who signs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tenancy.archive.backup_store import BackupStore
from tenancy.archive.encryption import BY_PASSPHRASE, MAKE_KEYS, Identities, Recipients
from tenancy.archive.storage import open_storage
from tenancy.credentials.signing import SigningKeys
from tenancy.errors import ArchiveKeyError, ConfigurationError

IDENTITY_FILE = "BACKUP_IDENTITY_FILE"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class BackupSettings:
    """Hold the settings of backups, and make their parts when they are needed."""

    url: str = field(default="", repr=False)
    """A folder by its whole path, or the URL of an object storage; it may have a login in it."""

    delete_url: str | None = field(default=None, repr=False)
    recipients: tuple[str, ...] = ()
    passphrase: str | None = field(default=None, repr=False)
    identity_file: Path | None = None
    signing_keys: tuple[str, ...] = field(default=(), repr=False)
    warn_hours: int = 48

    @property
    def warn_after(self) -> timedelta:
        """How old the last good backup of a tenant may be."""
        return timedelta(hours=self.warn_hours)

    @property
    def complete(self) -> bool:
        """Whether backups can be made: there is a place, somebody who can open them, and a key that signs."""
        return bool(self.url and self.signing_keys and (self.recipients or self.passphrase))

    def signing(self) -> SigningKeys:
        return SigningKeys(self.signing_keys)

    def store(self) -> BackupStore:
        """Return the backups in the storage; nothing is connected to yet."""
        if not self.url:
            raise ConfigurationError("BACKUP_URL is empty: there is no place for backups.", field="BACKUP_URL")
        return BackupStore(open_storage(self.url, self.delete_url), self.signing())

    def encrypt_to(self) -> Recipients:
        """Return for whom archives are encrypted; ArchiveKeyError, which says how to make a key pair, for nobody."""
        if self.passphrase is not None and not self.recipients:
            return Recipients.by_passphrase(self.passphrase)
        return Recipients.of(self.recipients)

    def identities(self, key_ids: Sequence[str] = ()) -> Identities:
        """Return the secret keys that open archives; ArchiveKeyError where this machine has none.

        The keys of BACKUP_IDENTITY_FILE; without one, or if ``key_ids`` (of a backup) say so, the passphrase.
        """
        by_passphrase = BY_PASSPHRASE in key_ids and self.passphrase is not None
        if self.identity_file is not None and not by_passphrase:
            return Identities.of(read_identities(self.identity_file))
        if self.passphrase is not None:
            return Identities.by_passphrase(self.passphrase)
        raise ArchiveKeyError(
            f"this machine has no secret key that opens backups: set {IDENTITY_FILE}, or do this where the key is. A "
            f"passphrase is taken from BACKUP_PASSPHRASE or by --passphrase-stdin. For a new pair of keys {MAKE_KEYS}.",
            field=IDENTITY_FILE,
        )

    @property
    def opens(self) -> bool:
        """Whether this machine says that it can open backups; the key may still be the wrong one."""
        return self.identity_file is not None or self.passphrase is not None


def read_identities(path: Path) -> list[str]:
    """Read the secret keys of a file in the format of ``age-keygen``: one a line, comments behind ``#``."""
    try:
        with path.open("rb") as stream:
            lines = stream.read(_MOST_BYTES).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(
            f"{IDENTITY_FILE}: {path.name} cannot be read: {reason}.", field=IDENTITY_FILE
        ) from error
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise ConfigurationError(f"{IDENTITY_FILE}: {path.name} has no key in it.", field=IDENTITY_FILE)
    return keys
