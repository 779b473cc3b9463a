"""Seal every stored credential under the newest key, while the application serves.

Each row is changed by compare-and-set on its old ciphertext: a password changed meanwhile is never
overwritten. It can stop anywhere and is finished by running it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Step
from tenancy.catalog import Catalog, configs
from tenancy.errors import CredentialError
from tenancy.keyring import KEY_ID_LENGTH, Keyring
from tenancy.models import Placement, shared_database, user_database_configs

log = logging.getLogger(__name__)


def keys_in_use(connection: sa.Connection) -> Counter[str]:
    """Count the stored credentials that each key, by its id, has sealed; no credential leaves the catalog."""
    used: Counter[str] = Counter()
    for table in (user_database_configs, shared_database):
        key = sa.func.substring(table.c.db_password, 1, KEY_ID_LENGTH)
        sealed = sa.select(key, sa.func.count()).where(table.c.db_password.is_not(None)).group_by(key)
        for key_id, count in connection.execute(sealed):
            used[key_id] += count
    return used


def status(catalog: Catalog, keyring: Keyring) -> dict[str, Any]:
    """Say how many stored credentials need each key, and which keys no credential needs."""
    with catalog.reading() as connection:
        used = keys_in_use(connection)
    keys = [
        {
            "key_id": key,
            "newest": key == keyring.newest,
            "used_by": used[key],
            "needed": key == keyring.newest or used[key] > 0,
        }
        for key in keyring.key_ids
    ]
    unknown = {key: count for key, count in used.items() if key not in keyring.key_ids}
    return {"keys": keys, "unknown_keys": unknown, "to_rotate": sum(used.values()) - used[keyring.newest]}


def rotate(catalog: Catalog, keyring: Keyring, on_step: Step | None = None) -> dict[str, Any]:
    """Seal anew what an older key sealed; give counts, and the tenants that could not be opened, by code."""
    rotated, changed_meanwhile, failed = 0, 0, []
    with catalog.reading() as connection:
        old = [
            tenant for tenant in _sealed(connection) if keyring.key_of(tenant.sealed_password or "") != keyring.newest
        ]
    for tenant in old:
        if on_step is not None:
            on_step(f"rotate {tenant.tenant_id}")
        try:
            done = _rotate_one(catalog, keyring, tenant)
        except CredentialError as error:
            log.error("tenant %s: %s", tenant.tenant_id, error.message)
            failed.append({"user_id": tenant.user_id, "tenant_id": str(tenant.tenant_id), "code": error.code})
            continue
        rotated += done
        changed_meanwhile += not done
    with catalog.writing() as connection:
        detail = {"rotated": rotated, "failed": len(failed), "key_id": keyring.newest}
        catalog.audit.append(connection, "credential.rotate", detail=detail)
    return {"rotated": rotated, "changed_meanwhile": changed_meanwhile, "failed": failed, **status(catalog, keyring)}


def _rotate_one(catalog: Catalog, keyring: Keyring, tenant: Placement) -> bool:
    sealed = tenant.sealed_password or ""
    fresh = keyring.seal(keyring.open(sealed, tenant.binding), tenant.binding)
    table = shared_database if tenant.user_id is None else user_database_configs
    mine = (table.c.tenant_id == tenant.tenant_id, table.c.db_password == sealed)
    with catalog.writing() as connection:
        return connection.execute(table.update().where(*mine), {"db_password": fresh}).rowcount == 1


def _sealed(connection: sa.Connection) -> list[Placement]:
    shared = configs.shared(connection)
    tenants = [*configs.every(connection), *([shared] if shared else [])]
    return [tenant for tenant in tenants if tenant.sealed_password is not None]
