"""Seal (encrypt and bind) the passwords of tenants' databases under TENANT_CREDENTIAL_KEYS.

Fernet has no associated data, so the payload contains the fields of the row that the secret belongs to (the binding).
A ciphertext that was copied to another row, or whose row was edited, is refused. A sealed value is
``<key id>.<Fernet token>``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from cryptography.fernet import Fernet, InvalidToken

from tenancy.errors import ConfigurationError, TamperedCredentialError, UnknownKeyError

SETTING = "TENANT_CREDENTIAL_KEYS"
KEY_ID_LENGTH = 8
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+={0,2}")

Binding = Mapping[str, object]


def generate_key() -> str:
    """Return a new key for TENANT_CREDENTIAL_KEYS."""
    return Fernet.generate_key().decode()


def check_keys(keys: Sequence[str]) -> None:
    """Refuse missing, short or repeated keys; the error has their position, never their text."""
    if not keys:
        raise ConfigurationError(
            f"{SETTING} is empty: make a key with `unify credentials generate-key` or `keyring.generate_key()`.",
            field=SETTING,
        )
    decoded: list[bytes] = []
    for position, key in enumerate(keys, 1):
        # The decoder skips invalid characters, so a mistyped key would pass as another one.
        raw = base64.urlsafe_b64decode(key) if _KEY.fullmatch(key) else b""
        if len(raw) != 32:
            raise ConfigurationError(
                f"{SETTING}: key {position} is not 32 bytes in url-safe base64: "
                "`unify credentials generate-key` or `keyring.generate_key()` makes one.",
                field=SETTING,
            )
        if raw in decoded:
            raise ConfigurationError(f"{SETTING}: key {position} is there twice.", field=SETTING)
        decoded.append(raw)


def _key_id(key: str) -> str:
    return hashlib.sha256(b"unify key id:" + base64.urlsafe_b64decode(key.encode())).hexdigest()[:KEY_ID_LENGTH]


class Keyring:
    """Seal under the newest key, open under any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        check_keys(keys)
        self._fernets = {_key_id(key): Fernet(key) for key in keys}
        self.key_ids = tuple(self._fernets)

    @property
    def newest(self) -> str:
        return self.key_ids[0]

    def seal(self, secret: str, binding: Binding) -> str:
        """Return the sealed form of ``secret`` for the row that ``binding`` describes."""
        payload = json.dumps({"binding": dict(binding), "secret": secret}, sort_keys=True)
        return f"{self.newest}.{self._fernets[self.newest].encrypt(payload.encode()).decode()}"

    def open(self, sealed: str, binding: Binding) -> str:
        """Return the secret, or raise UnknownKeyError or TamperedCredentialError."""
        key_id, _, token = sealed.partition(".")
        fernet = self._fernets.get(key_id)
        if fernet is None:
            raise UnknownKeyError(f"a stored credential needs key {key_id[:8]!r}, which is not in {SETTING}.")
        try:
            # The decoder accepts other spellings of the same bytes, and skips invalid characters.
            if not _TOKEN.fullmatch(token):
                raise InvalidToken
            payload = json.loads(fernet.decrypt(token.encode()))
        except (InvalidToken, ValueError) as error:
            raise TamperedCredentialError("a stored credential was changed after it was sealed.") from error
        if not isinstance(payload, dict) or payload.get("binding") != json.loads(json.dumps(dict(binding))):
            raise TamperedCredentialError("a stored credential belongs to another row or to other connection fields.")
        secret: str = payload["secret"]
        return secret

    @staticmethod
    def key_of(sealed: str) -> str:
        """Return the id of the key that a sealed value needs."""
        return sealed.partition(".")[0]
