"""Be what ``manager.fleet`` is: fleet runs, the work on them, and how the fleet stands."""

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
    """Say what was found of one tenant (None: of none), what was mended, and whether its tables were compared."""

    tenant: Tenant | None
    found: list[Finding]
    mended: list[str]
    compared: bool = True


class Fleet(Runs, Status):
    """Work on all tenants at once."""

    def work(self, run_id: int, *, alive: Callable[[], bool] = lambda: True, per_server: int = PER_SERVER) -> Run:
        """Work on a run in this process until it ends, is paused or halts; others may do so at the same time."""
        Runner(self.services).work(run_id, alive=alive, per_server=per_server)
        return self.get(run_id)

    def verify(self, selection: Selection, *, repair: bool = False, orphans: bool = True) -> Iterator[Checked]:
        """Open tenants' databases one after another and say of each what is wrong; then what belongs to nobody.

        What belongs to nobody is only looked for where all tenants are meant, and ``orphans``: another installation's
        databases on the same server look as if they did. With ``repair`` what is safe is mended,
        and looked at again: what is given then is what is left.
        """
        looking = Verification(self.services)
        for tenant in looking.tenants(selection):
            found = looking.look(tenant)
            mended, found = self._repaired(looking, tenant, found) if repair else ([], found)
            yield Checked(tenant, found, mended, tenant.user_id not in looking.not_compared)
        if orphans and selection == Selection():
            yield from self._orphans(repair)

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
        """Remove a run's restore points; give how many there were."""
        return RestorePoints(self.services).delete(run_id)
