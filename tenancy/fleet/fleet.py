"""Define ``manager.fleet``: fleet runs, the work on them, status and verification."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tenancy.catalog import tenants
from tenancy.catalog.runs import Run, Selection
from tenancy.errors import TenancyError
from tenancy.fleet.orphans import Orphans
from tenancy.fleet.repair import Repair
from tenancy.fleet.restore_points import RestorePoints
from tenancy.fleet.runner import PER_SERVER, Runner
from tenancy.fleet.runs import Runs
from tenancy.fleet.status import Status
from tenancy.fleet.verify import Finding, Verification
from tenancy.models import Tenant


@dataclass(frozen=True)
class Checked:
    """Describe the check of one tenant, or (None) of something without a tenant; ``mended`` are repaired codes."""

    tenant: Tenant | None
    found: list[Finding]
    mended: list[str]
    compared: bool = True


class Fleet(Runs, Status):
    """Operate on all tenants."""

    def work(self, run_id: int, *, alive: Callable[[], bool] = lambda: True, per_server: int = PER_SERVER) -> Run:
        """Work on a run in this process until it ends, is paused or halts; other processes may work on it too."""
        Runner(self.services).work(run_id, alive=alive, per_server=per_server)
        return self.get(run_id)

    def verify(self, selection: Selection, *, repair: bool = False, orphans: bool = True) -> Iterator[Checked]:
        """Open tenants' databases one after another and yield the problems of each; at the end, orphans.

        Orphans are looked for only with ``orphans`` and if all tenants are selected; databases of another installation
        on the same server look like orphans. With ``repair`` safe problems are repaired, and those that remain after a
        second check are yielded.
        """
        looking = Verification(self.services)
        for tenant in looking.tenants(selection):
            found = looking.look(tenant)
            mended, found = self._repaired(looking, tenant, found) if repair else ([], found)
            yield Checked(tenant, found, mended, tenant.user_id not in looking.not_compared)
        if orphans and selection == Selection():
            yield from self._orphans(repair)

    def count(self, selection: Selection) -> int:
        """Count the selected tenants."""
        with self.catalog.reading() as connection:
            return tenants.count(connection, selection.conditions())

    def _repaired(self, looking: Verification, tenant: Tenant, found: list[Finding]) -> tuple[list[str], list[Finding]]:
        if not any(each.repairable for each in found):
            return [], found
        try:
            mended = Repair(self.services).mend(tenant.user_id or 0, looking)
        except TenancyError as error:
            return [], [*found, Finding(error.code, error.message, tenant.user_id, str(tenant.tenant_id))]
        with self.catalog.reading() as connection:
            fresh = tenants.get(connection, tenant.user_id or 0)
        return mended, looking.look(fresh)

    def _orphans(self, repair: bool) -> Iterator[Checked]:
        for found in Orphans(self.services).found():
            mended: list[str] = []
            if repair and found.repairable and found.user_id is not None:
                with suppress(TenancyError):
                    mended = Repair(self.services).clear_drafts(found.user_id)
            yield Checked(None, [] if mended else [found], mended)

    def discard(self, run_id: int) -> int:
        """Delete a run's restore points; return how many there were."""
        return RestorePoints(self.services).delete(run_id)
