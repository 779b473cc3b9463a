"""Be what ``manager.fleet`` is: fleet runs, the work on them, and how the fleet stands."""

from __future__ import annotations

from collections.abc import Callable

from tenancy.catalog.runs import Run
from tenancy.fleet.points import Points
from tenancy.fleet.runner import PER_SERVER, Runner
from tenancy.fleet.runs import Runs
from tenancy.fleet.status import Status


class Fleet(Runs, Status):
    """Work on all tenants at once."""

    def work(self, run_id: int, *, alive: Callable[[], bool] = lambda: True, per_server: int = PER_SERVER) -> Run:
        """Work on a run in this process until it ends, is paused or halts; others may do so at the same time."""
        Runner(self.bench).work(run_id, alive=alive, per_server=per_server)
        return self.get(run_id)

    def discard(self, run_id: int) -> int:
        """Remove a run's restore points; give how many there were."""
        return Points(self.bench).discard(run_id)
