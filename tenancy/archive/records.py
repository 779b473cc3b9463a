"""The small signed files beside archives: what a backup is, and that a tenant was deleted.

The first line is the record as JSON, in one spelling only; the second one has the signature over it. Archives are
encrypted for public keys, so whoever may write to a storage can make one: only the signature tells ours from theirs.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from tenancy.catalog.backups import Backup, BackupState
from tenancy.credentials.signing import SigningKeys
from tenancy.errors import ArchiveSignatureError

VERSION = 1
MOST_BYTES = 4 << 20
"""A record is small: more than this is not read."""

_PURPOSE = b"unify backup record %d\n" % VERSION
_BACKUP, _DELETION = "backup", "deletion"


@dataclass(frozen=True)
class Record:
    """Describe one backup: what of, from when, and what its archive must be like to be believed."""

    backup_id: uuid.UUID
    kind: str
    """``tenant`` or ``catalog``."""

    tenant_id: uuid.UUID | None
    user_id: int | None
    epoch: int
    db_type: str
    revision: str
    app_version: str
    started_at: datetime
    finished_at: datetime
    size_bytes: int
    """Of the archive as it is stored, encrypted."""

    checksum: str
    """SHA-256 of the archive as it is stored."""

    plain_checksum: str
    """SHA-256 of the archive before it was compressed and encrypted."""

    rows: Mapping[str, int]
    checksums: Mapping[str, str]
    key_ids: tuple[str, ...]
    """Of the keys that open the archive; none if a passphrase does."""

    imprint: str | None
    """What the tenant's own database said of its rows, to find out later whether anything changed."""

    installation: str
    signed_by: str = ""
    """The id of the key that signed it; known once it was written or read, and no part of what is signed."""

    def backup(self) -> Backup:
        """Return it as the catalog knows it."""
        return Backup(
            id=self.backup_id,
            state=BackupState.GOOD,
            row_count=sum(self.rows.values()),
            key_ids=",".join(self.key_ids),
            **{name: getattr(self, name) for name in _SAME},
        )


_SAME = (
    *("kind", "tenant_id", "user_id", "epoch", "db_type", "revision", "app_version", "started_at", "finished_at"),
    *("size_bytes", "checksum", "plain_checksum", "imprint", "installation", "signed_by"),
)


@dataclass(frozen=True)
class Deletion:
    """State that a tenant was deleted on purpose: whoever recovers a catalog must not bring it back."""

    tenant_id: uuid.UUID
    user_id: int | None
    deleted_at: datetime
    installation: str


def sealed(record: Record | Deletion, signing: SigningKeys) -> bytes:
    """Return the file of a record, signed by the newest key."""
    kind = _DELETION if isinstance(record, Deletion) else _BACKUP
    document = {"unify": kind, "version": VERSION} | {name: _plain(value) for name, value in asdict(record).items()}
    document.pop("signed_by", None)
    line = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    key_id, signature = signing.sign(_PURPOSE + line)
    seal = {"key_id": key_id, "signature": base64.b64encode(signature).decode()}
    return line + b"\n" + json.dumps(seal, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def opened(data: bytes, signing: SigningKeys) -> Record | Deletion:
    """Return what was signed; ArchiveSignatureError if it was not signed by a known key, or changed since."""
    line, signature, key_id = _parts(data)
    signing.verify(key_id, signature, _PURPOSE + line)
    # From here on it is ours: only a later version can be anything that this code does not know.
    document = json.loads(line)
    kind, version = document.pop("unify"), document.pop("version")
    if version != VERSION or kind not in (_BACKUP, _DELETION):
        raise ArchiveSignatureError(f"it is a record of version {version}, which this version of Unify cannot read.")
    if kind == _DELETION:
        return Deletion(**_values(Deletion, document))
    return Record(**_values(Record, document), signed_by=key_id)


def _parts(data: bytes) -> tuple[bytes, bytes, str]:
    """Take the two lines apart: the record, and its signature with the key's id."""
    lines = data.split(b"\n", 3)
    if len(data) > MOST_BYTES or len(lines) != 3 or lines[2] or len(lines[1]) > 400:
        raise ArchiveSignatureError("it is not signed.")
    try:
        seal = json.loads(lines[1])
        key_id, signature = seal["key_id"], base64.b64decode(seal["signature"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        raise ArchiveSignatureError("it is not signed.") from error
    if not isinstance(key_id, str) or not isinstance(seal, dict) or len(seal) != 2:
        raise ArchiveSignatureError("it is not signed.")
    return lines[0], signature, key_id


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


_READ: dict[str, Callable[[Any], Any]] = {
    "backup_id": uuid.UUID,
    "tenant_id": lambda text: None if text is None else uuid.UUID(text),
    "started_at": datetime.fromisoformat,
    "finished_at": datetime.fromisoformat,
    "deleted_at": datetime.fromisoformat,
    "key_ids": tuple,
}


def _values(kind: type[Record] | type[Deletion], document: Mapping[str, Any]) -> dict[str, Any]:
    """Take the values that this version knows; a later one may have added others."""
    named = [each.name for each in fields(kind) if each.name != "signed_by"]
    return {name: _READ.get(name, lambda same: same)(document[name]) for name in named}
