"""Bring tenants back to a recovered catalog, one after another: keep what is there, restore what is missing.

No database that is there is written over. One that is newer than the catalog is closed in the catalog until somebody
decides (``read_only``, so that no other operation opens it unawares), or taken as it is where that was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tenancy.archive.backup_store import BackupStore, Unreadable
from tenancy.archive.encryption import Identities
from tenancy.archive.records import Record
from tenancy.catalog import recovery, tenants
from tenancy.catalog.claims import Claim
from tenancy.errors import (
    ArchiveDamagedError,
    BackupNotFoundError,
    DatabaseUnreachableError,
    StorageUnavailableError,
    code_and_message,
)
from tenancy.fleet.adoption import Adoption
from tenancy.fleet.backup_survey import order
from tenancy.fleet.standing import Look, Looking, Standing
from tenancy.lifecycle.operation import Operation, Services
from tenancy.lifecycle.restore import Restores
from tenancy.models import State, Tenant

log = logging.getLogger(__name__)

_RESTING = (State.READY, State.SUSPENDED)
_TAKE = "`unify recover --adopt` or `manager.recovery.run(adopt=True)` takes it as it is"


class Outcome(StrEnum):
    """List what became of a tenant."""

    KEPT = "kept"
    RESTORED = "restored"
    ADOPTED = "adopted"
    UNMADE = "unmade"
    ARCHIVED = "archived"
    NEWER = "newer"
    REPLACED = "replaced"
    OLDER = "older"
    LOST = "lost"
    """Its database is missing, and so is a backup of it."""

    UNREACHABLE = "unreachable"
    FAILED = "failed"


@dataclass(frozen=True)
class Result:
    """Say what became of one tenant, or in a dry run what would; ``why`` is empty where there is nothing to say."""

    tenant: Tenant
    outcome: Outcome
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        whose = {"user_id": self.tenant.user_id, "tenant_id": str(self.tenant.tenant_id)}
        return whose | {"outcome": str(self.outcome), "why": self.why}


class TenantRecovery(Operation):
    """Look at the tenants of a recovered catalog, and bring back those that are missing."""

    def __init__(self, services: Services, store: BackupStore, identities: Identities, *, adopt: bool) -> None:
        super().__init__(services)
        self._looking = Looking(services)
        self._adoption = Adoption(services)
        self._store = store
        self._identities = identities
        self._restores = Restores(services)
        self._adopt = adopt

    def would(self) -> Iterator[Result]:
        """Yield what ``each`` would do; nothing is changed."""
        for tenant in self._tenants():
            if tenant.state is State.ARCHIVED:
                yield Result(tenant, Outcome.ARCHIVED)
                continue
            look = self._looking.look(tenant)
            outcome = Outcome(look.standing) if look.standing in list(map(str, Outcome)) else Outcome.LOST
            if look.standing in (Standing.MISSING, Standing.UNMADE) and any(self._candidates(tenant)):
                outcome = Outcome.RESTORED
            elif look.standing is Standing.NEWER and self._adopt:
                outcome = Outcome.ADOPTED
            yield Result(tenant, outcome, look.why)

    def each(self, claim: Claim) -> Iterator[Result]:
        """Bring back tenant after tenant while the recovery's claim is held; yield what became of each."""
        for tenant in self._tenants():
            claim.check()
            yield self._recovered(tenant)

    def _tenants(self) -> Iterator[Tenant]:
        with self.catalog.reading() as connection:
            found = list(tenants.every(connection))
        yield from found

    def _recovered(self, tenant: Tenant) -> Result:
        if tenant.state is State.ARCHIVED:
            return Result(tenant, Outcome.ARCHIVED, "it was being deleted")
        look = self._looking.look(tenant)
        try:
            return self._settled(tenant, look)
        except Exception as error:  # noqa: BLE001 - it is told with the tenant; the others go on
            _, message = code_and_message(error)
            log.error("tenant %s of user %s could not be recovered: %s", tenant.tenant_id, tenant.user_id, message)
            away = isinstance(error, (DatabaseUnreachableError, StorageUnavailableError))
            return Result(tenant, Outcome.UNREACHABLE if away else Outcome.FAILED, message)

    def _settled(self, tenant: Tenant, look: Look) -> Result:
        match look.standing:
            case Standing.KEPT:
                self._open(tenant, look)
            case Standing.MISSING | Standing.UNMADE:
                return self._brought_back(tenant, look)
            case Standing.NEWER if self._adopt:
                self._adoption.adopt(tenant, look)
                return Result(tenant, Outcome.ADOPTED, look.why)
            case Standing.NEWER | Standing.REPLACED:
                why = _why(look)
                self._close(tenant, why)
                return Result(tenant, Outcome(look.standing), why)
            case _:
                pass
        return Result(tenant, Outcome(look.standing), look.why)

    def _open(self, tenant: Tenant, look: Look) -> None:
        """Open what an earlier run closed; what an operation was at work on is left to who settles those."""
        with self.catalog.writing() as connection:
            if tenant.state is State.READ_ONLY:
                state = State.SUSPENDED if look.state == State.SUSPENDED else State.READY
                tenants.change(connection, tenant, state=state, last_error=None, last_error_code=None)
            elif tenant.state not in _RESTING or look.state != tenant.state:
                recovery.lapse(connection, tenant.tenant_id)

    def _close(self, tenant: Tenant, why: str) -> None:
        with self.catalog.writing() as connection:
            tenants.change(connection, tenant, state=State.READ_ONLY, last_error=why, last_error_code="recovered")

    def _brought_back(self, tenant: Tenant, look: Look) -> Result:
        """Restore a tenant from its newest backup that is whole; one that was never finished may have none."""
        damaged = []
        for record in self._candidates(tenant):
            try:
                self._restores.restore(tenant.user_id or 0, record.backup_id, identities=self._identities)
            except (ArchiveDamagedError, BackupNotFoundError) as error:
                damaged.append(f"backup {record.backup_id}: {error.message}")
                continue
            return Result(tenant, Outcome.RESTORED, "; ".join([f"backup {record.backup_id}", *damaged]))
        if look.standing is Standing.UNMADE:
            with self.catalog.writing() as connection:
                tenants.change(connection, tenant, state=State.FAILED)
            return Result(tenant, Outcome.UNMADE, "it was never finished")
        return Result(
            tenant, Outcome.LOST, "; ".join([look.why or "it is gone, and no backup of it is good", *damaged])
        )

    def _candidates(self, tenant: Tenant) -> list[Record]:
        """List the backups of a tenant, the newest first."""
        found = [each for each in self._store.records(tenant.tenant_id) if not isinstance(each, Unreadable)]
        return sorted(found, key=order, reverse=True)


def _why(look: Look) -> str:
    if look.standing is Standing.NEWER:
        where = f" ({look.why})" if look.why else ""
        return f"its database is newer than the recovered catalog{where}: {_TAKE}."
    return (
        f"its database was closed ({look.state}) by an operation that the recovered catalog does not know: its rows "
        "may be in another database. `unify restore` or `manager.restores.restore()` brings back a backup."
    )
