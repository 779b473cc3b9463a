"""Recover the whole system on an empty machine: the catalog from its newest backup, then each tenant.

What cannot be reached is named, and the others go on: running it again finishes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from tenancy.archive.backup_settings import BackupSettings
from tenancy.archive.backup_store import BackupStore, Unreadable
from tenancy.catalog import backups, claims, leftovers, recovery, users
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.catalog.recovery import Recovered
from tenancy.errors import ClaimedError, ConfigurationError
from tenancy.fleet.backup_survey import Survey, survey
from tenancy.fleet.catalog_recovery import CatalogRecovery
from tenancy.fleet.standing import Looking
from tenancy.fleet.tenant_recovery import Outcome, Result, TenantRecovery
from tenancy.lifecycle.leftovers import Leftovers
from tenancy.lifecycle.operation import Operation, Services
from tenancy.models import Leftover
from tenancy.schema.chain import Chain

AT_ONCE = 200
WELL = frozenset({Outcome.KEPT, Outcome.RESTORED, Outcome.ADOPTED})
AGAIN = frozenset({Outcome.UNREACHABLE, Outcome.FAILED})
"""What another run may be able to do better."""


@dataclass
class Report:
    """Say what a recovery found and did; in a dry run, what it would do.

    ``catalog`` says from which backup the catalog came, the last head of its audit log, and what was taken from it.
    ``unknown`` lists tenants that have backups and that the catalog does not know. ``ignored`` are files that are not
    believed, ``silent`` servers that did not answer.
    """

    catalog: dict[str, Any] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    highest_user: int = 0
    dry_run: bool = False

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(str(result.outcome) for result in self.results))

    @property
    def ended(self) -> bool:
        """Whether another run has nothing left to do."""
        return not self.silent and not any(result.outcome in AGAIN for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        left = [result.to_dict() for result in self.results if result.outcome not in WELL]
        rest = {name: getattr(self, name) for name in ("unknown", "ignored", "silent", "highest_user", "dry_run")}
        return {"catalog": self.catalog, "tenants": self.counts, "left": left, "ended": self.ended, **rest}


OnTenant = Callable[[Result], None]


def _silent(result: Result) -> None:
    """Ignore what became of a tenant."""


class Recovery(Operation):
    """Serve as ``manager.recovery``."""

    def __init__(self, services: Services, catalog_chain: Chain) -> None:
        super().__init__(services)
        self._catalog = CatalogRecovery(services, catalog_chain)

    def status(self) -> Recovered | None:
        """Return from which backup this catalog was recovered, and what was left to do; None if it never was."""
        with self.catalog.reading() as connection:
            return recovery.find(connection)

    def run(self, *, adopt: bool = False, dry_run: bool = False, on_tenant: OnTenant = _silent) -> Report:
        """Recover the catalog if it is empty, and then each tenant whose database is not in its place.

        With ``adopt`` databases that are newer than the catalog are taken as they are. With ``dry_run`` nothing is
        written, but for a copy of the catalog that is deleted again. ``on_tenant`` is called with what became of each.
        """
        self._refuse_shared()
        known, claim = self._catalog.found(), None
        work = _Work(self.services.backups, adopt, on_tenant, Report(dry_run=dry_run))
        if known is None:
            with self._catalog.staged(work.found, work.store, work.identities) as staged:
                work.begin(staged.disarmed, beside := replace(self.services, catalog=staged.catalog))
                if dry_run:
                    return work.would(beside)
                claim = self._catalog.load(staged, work.report.highest_user)
        else:
            work.begin(known.report.get("catalog", {}), self.services)
        return work.would(self.services) if dry_run else self._recovered(work, claim or self._catalog.alone())

    def _recovered(self, work: _Work, claim: Claim) -> Report:
        """Bring the tenants back under the recovery's claim, and keep what came of it in the catalog."""
        report = work.report
        with self._catalog.held(claim), claims.beating(self.catalog, [claim]):
            self._keep_ids(report.highest_user)
            self._learn(work.store)
            work.bring_back(self.services, claim)
            left = self._clear(work.found)
        with claim.ending() as connection:
            recovery.keep(connection, report.to_dict(), ended=report.ended)
            detail = {"tenants": report.counts, "unknown": len(report.unknown), "left": left, "ended": report.ended}
            self.catalog.audit.append(connection, "catalog.recover_tenants", detail=detail)
        return report

    def _learn(self, store: BackupStore) -> None:
        """Let the catalog know the backups that were made after its own."""
        believed = (each.backup() for each in store.records() if not isinstance(each, Unreadable))
        while some := list(islice(believed, AT_ONCE)):
            with self.catalog.writing() as connection:
                backups.learn(connection, some)

    def _keep_ids(self, highest: int) -> None:
        with self.catalog.writing() as connection:
            users.skip_ids(connection, self._catalog.backend, highest)

    def _clear(self, found: Survey) -> int:
        """Remove what recoveries that were cut off had begun to make, and what is left of deleted databases.

        Returns how many stay on the list.
        """
        with self.catalog.reading() as connection:
            left = leftovers.every(connection)
        cleared = Leftovers(self.services)
        staying = cleared.clear(each for each in left if each.tenant_id in found.deleted)
        for each in left:
            if each.reason == Reason.HALF_MADE:
                staying += self._cleared_alone(each, cleared)
        return len(staying)

    def _cleared_alone(self, left: Leftover, cleared: Leftovers) -> list[Leftover]:
        """Remove a database in the making, unless somebody is making it now."""
        with suppress(ClaimedError):
            with self.catalog.writing() as connection:
                claim = self.claim(connection, left, "clear")
            with self.abandoned(left, claim, "clear"), claims.beating(self.catalog, [claim]):
                staying = cleared.clear([left])
            with claim.ending():
                return staying
        return []

    def _refuse_shared(self) -> None:
        if not self.catalog.multi_tenant:
            raise ConfigurationError(
                "users share one database (MULTI_TENANT_MODE=false), which is not recovered: restore it and the "
                "catalog with the tools of their server.",
                field="MULTI_TENANT_MODE",
            )


class _Work:
    """Hold what one run of a recovery works with: what the storage says, and the report."""

    def __init__(self, settings: BackupSettings, adopt: bool, on_tenant: OnTenant, report: Report) -> None:
        self.store, self.identities = settings.store(), settings.identities()
        self.found, self.report = survey(self.store), report
        report.ignored = self.found.ignored
        self._adopt, self._on_tenant = adopt, on_tenant

    def begin(self, catalog: dict[str, Any], services: Services) -> None:
        """Find out which user ids were given out, before the catalog gives out any."""
        self.report.catalog = catalog
        highest, self.report.silent = Looking(services).highest_user()
        self.report.highest_user = max(highest, self.found.highest_user)

    def would(self, services: Services) -> Report:
        return self._told(services, self._tenants(services).would())

    def bring_back(self, services: Services, claim: Claim) -> Report:
        return self._told(services, self._tenants(services).each(claim))

    def _tenants(self, services: Services) -> TenantRecovery:
        return TenantRecovery(services, self.store, self.identities, adopt=self._adopt)

    def _told(self, services: Services, results: Iterator[Result]) -> Report:
        known = set(self.found.deleted)
        for result in results:
            known.add(result.tenant.tenant_id)
            self.report.results.append(result)
            self._on_tenant(result)
        for tenant_id, record in self.found.newest.items():
            if tenant_id not in known:
                about = {"tenant_id": str(tenant_id), "user_id": record.user_id}
                last = {"backup_id": str(record.backup_id), "made_at": record.started_at.isoformat()}
                self.report.unknown.append(about | last)
        return self.report
