"""Take a key out of a setting in ``.env``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import settings as ours
from utils.output import Failed

if TYPE_CHECKING:
    from settings import Settings

NEEDED = ("TENANT_CREDENTIAL_KEYS",)
"""Settings that may not be empty."""


def key_ids(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the keys of each setting that has a list of them, by their ids."""
    from tenancy.archive.encryption import key_id
    from tenancy.credentials.keyring import Keyring
    from tenancy.credentials.signing import SigningKeys

    sealing, signing = settings.tenant_credential_keys, settings.backup_signing_keys
    return {
        "TENANT_CREDENTIAL_KEYS": dict(zip(Keyring(sealing).key_ids, sealing, strict=True)),
        "BACKUP_SIGNING_KEYS": dict(zip(SigningKeys(signing).key_ids, signing, strict=True)),
        "BACKUP_RECIPIENTS": {key_id(key): key for key in settings.backup_recipients},
    }


def take_out(setting: str, wanted: str, settings: Settings) -> None:
    """Write the setting's line in ``.env`` without this key; the other lines stay as they are.

    Where the environment gives the setting, nothing is written, and the error says what to do there.
    """
    from dotenv import set_key

    keys = key_ids(settings)[setting]
    rest = [key for each, key in keys.items() if each != wanted]
    place = f"{list(keys).index(wanted) + 1} of {len(keys)}"
    if not rest and setting in NEEDED:
        raise Failed(f"{setting} may not be empty: put a fresh key in front first, and restart.")
    if setting in ours.given(dotenv=None) or setting not in ours.given({}, ours.DOTENV):
        raise Failed(f"{setting} is not from .env but from the environment: take out key {place} there.")
    set_key(ours.DOTENV, setting, ",".join(rest), quote_mode="never")
