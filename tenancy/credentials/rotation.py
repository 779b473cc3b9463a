"""Re-seal every stored credential under the newest key while the application runs.

Each row is updated WHERE it still has the old ciphertext (compare-and-set), so a password changed meanwhile is never
overwritten. An interrupted rotation is completed by running it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Step
from tenancy.catalog import Catalog, damage, jobs as job_rows, leftovers, pending, servers, tenants as tenant_rows
from tenancy.catalog.tables import (
    database_servers,
    jobs,
    leftover_databases,
    pending_databases,
    shared_database,
    user_database_configs,
)
from tenancy.credentials.keyring import KEY_ID_LENGTH, Keyring
from tenancy.errors import CatalogDamagedError, CredentialError
from tenancy.models import Leftover, Pending, Server, Tenant

log = logging.getLogger(__name__)


_HOLDERS = (user_database_configs, shared_database, database_servers, pending_databases, leftover_databases)
_SEALED = (*(table.c.db_password for table in _HOLDERS), jobs.c.secrets)


def keys_in_use(connection: sa.Connection) -> Counter[str]:
    """Count the stored credentials by the id of their key; only ids are read, no ciphertexts."""
    keys = (sa.select(_key_id(column).label("key_id")).where(column.is_not(None)) for column in _SEALED)
    # Group by a subquery's column: SQL Server treats equal expressions with parameters as different (error 8120).
    sealed = sa.union_all(*keys).subquery("sealed")
    counted = sa.select(sealed.c.key_id, sa.func.count()).group_by(sealed.c.key_id)
    used: Counter[str] = Counter()
    for row in damage.read(connection, counted.order_by(sealed.c.key_id)):
        key_id, count = row.values
        used[key_id] += count
    return used


def _key_id(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.func.substring(column, 1, KEY_ID_LENGTH, type_=sa.Unicode())


def status(catalog: Catalog, keyring: Keyring) -> dict[str, Any]:
    """Return how many stored credentials need each key, and which keys no credential needs."""
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
    unreadable = used.pop(damage.UNREADABLE, 0)
    unknown = {key: count for key, count in used.items() if key not in keyring.key_ids}
    left = sum(used.values()) + unreadable - used[keyring.newest]
    return {"keys": keys, "unknown_keys": unknown, "unreadable": unreadable, "to_rotate": left}


def rotate(catalog: Catalog, keyring: Keyring, on_step: Step | None = None) -> dict[str, Any]:
    """Re-seal what an older key sealed; return counts, and which credentials could not be opened, with error codes."""
    rotated, changed_meanwhile, failed = 0, 0, []
    with catalog.reading() as connection:
        old = [each for each in _sealed(connection) if keyring.key_of(each.sealed_password or "") != keyring.newest]
    for holder in old:
        if on_step is not None:
            on_step(f"rotate {_name(holder)}")
        try:
            done = _rotate_one(catalog, keyring, holder)
        except (CredentialError, CatalogDamagedError) as error:
            log.error("%s: %s", _name(holder), error.message)
            failed.append(_to_row(holder) | {"code": error.code})
            continue
        rotated += done
        changed_meanwhile += not done
    rotated += _rotate_jobs(catalog, keyring, failed)
    with catalog.writing() as connection:
        detail = {"rotated": rotated, "failed": len(failed), "key_id": keyring.newest}
        catalog.audit.append(connection, "credential.rotate", detail=detail)
    return {"rotated": rotated, "changed_meanwhile": changed_meanwhile, "failed": failed, **status(catalog, keyring)}


def _rotate_one(catalog: Catalog, keyring: Keyring, holder: Tenant | Server) -> bool:
    if holder.damaged:
        raise CatalogDamagedError(f"its row is damaged ({', '.join(holder.damaged)}).")
    sealed = holder.sealed_password or ""
    fresh = keyring.seal(keyring.open(sealed, holder.binding), holder.binding)
    if isinstance(holder, Server | Leftover):
        table = database_servers if isinstance(holder, Server) else leftover_databases
        mine = table.c.id == holder.id
    else:
        if isinstance(holder, Pending):
            table = pending_databases
        else:
            table = shared_database if holder.user_id is None else user_database_configs
        mine = table.c.tenant_id == holder.tenant_id
    with catalog.writing() as connection:
        unchanged = table.update().where(mine, table.c.db_password == sealed)
        return connection.execute(unchanged, {"db_password": fresh}).rowcount == 1


def _rotate_jobs(catalog: Catalog, keyring: Keyring, failed: list[dict[str, Any]]) -> int:
    """Re-seal the secrets of jobs that have not ended; those that end meanwhile have none any more."""
    with catalog.reading() as connection:
        found = job_rows.sealed(connection)
    rotated = 0
    for job_id, sealed in found:
        if keyring.key_of(sealed) == keyring.newest:
            continue
        binding = job_rows.binding(job_id)
        try:
            fresh = keyring.seal(keyring.open(sealed, binding), binding)
        except CredentialError as error:
            log.error("job %d: %s", job_id, error.message)
            failed.append({"job_id": job_id, "code": error.code})
            continue
        with catalog.writing() as connection:
            rotated += job_rows.replace_sealed(connection, job_id, sealed, fresh)
    return rotated


def _sealed(connection: sa.Connection) -> list[Tenant | Server]:
    """List all that has a credential: tenants, the shared, pending and leftover databases, registered servers."""
    shared = tenant_rows.shared_listed(connection)
    tenants = [*tenant_rows.every(connection), *shared, *pending.every(connection), *leftovers.every(connection)]
    return [tenant for tenant in tenants if tenant.sealed_password is not None] + servers.every(connection)


def _name(holder: Tenant | Server) -> str:
    return f"server {holder.name}" if isinstance(holder, Server) else f"tenant {holder.tenant_id}"


def _to_row(holder: Tenant | Server) -> dict[str, Any]:
    if isinstance(holder, Server):
        return {"server": holder.name}
    return {"user_id": holder.user_id, "tenant_id": str(holder.tenant_id)}
