"""Sign the records of backups under BACKUP_SIGNING_KEYS, so that nobody who may only write to a storage can forge one.

A signature is Ed25519 (RFC 8032). The newest key signs, every key verifies. A key's id is taken from its public half.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tenancy.errors import ArchiveSignatureError, ConfigurationError

SETTING = "BACKUP_SIGNING_KEYS"
KEY_ID_LENGTH = 8
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


def generate_signing_key() -> str:
    """Return a new key for BACKUP_SIGNING_KEYS."""
    return base64.urlsafe_b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def check_signing_keys(keys: Sequence[str]) -> None:
    """Refuse mistyped or repeated keys; the error has their position, never their text. There may be none."""
    decoded: list[bytes] = []
    for position, key in enumerate(keys, 1):
        # The decoder skips invalid characters, so a mistyped key would pass as another one.
        raw = base64.urlsafe_b64decode(key) if _KEY.fullmatch(key) else b""
        if len(raw) != 32:
            raise ConfigurationError(
                f"{SETTING}: key {position} is not 32 bytes in url-safe base64: "
                "`unify credentials generate-signing-key` or `signing.generate_signing_key()` makes one.",
                field=SETTING,
            )
        if raw in decoded:
            raise ConfigurationError(f"{SETTING}: key {position} is there twice.", field=SETTING)
        decoded.append(raw)


class SigningKeys:
    """Sign under the newest key, verify under any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        check_signing_keys(keys)
        secrets = [Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(key)) for key in keys]
        self._newest: Ed25519PrivateKey | None = secrets[0] if secrets else None
        self._public: dict[str, Ed25519PublicKey] = {}
        for secret in secrets:
            public = secret.public_key()
            self._public[_key_id(public.public_bytes_raw())] = public
        self.key_ids = tuple(self._public)

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """Return the newest key's id and its signature."""
        if self._newest is None:
            raise ConfigurationError(
                f"{SETTING} is empty, so no backup can be signed: make a key with "
                "`unify credentials generate-signing-key` or `signing.generate_signing_key()`.",
                field=SETTING,
            )
        return self.key_ids[0], self._newest.sign(data)

    def verify(self, key_id: str, signature: bytes, data: bytes) -> None:
        """Raise ArchiveSignatureError unless the key of this id signed these bytes."""
        public = self._public.get(key_id)
        if public is None:
            raise ArchiveSignatureError(
                f"it was signed with the key {key_id[:KEY_ID_LENGTH]!r}, which is not in {SETTING}.", key_id=key_id
            )
        try:
            public.verify(signature, data)
        except InvalidSignature as error:
            raise ArchiveSignatureError(
                "it was changed after it was signed, or never signed with this key.", key_id=key_id
            ) from error


def _key_id(public: bytes) -> str:
    return hashlib.sha256(b"unify signing key id:" + public).hexdigest()[:KEY_ID_LENGTH]
