"""Work on a fleet run as a job that carries the run's id: the run's own rows remain the truth of its progress.

The job is done when the run has ended, was paused or has halted. Cancelling the job pauses the run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tenancy.catalog.jobs import Job, JobState
from tenancy.catalog.runs import Run, RunState
from tenancy.errors import JobCancelledError, RunStateError
from tenancy.fleet.fleet import Fleet
from tenancy.fleet.processes import Crew, work_in_processes
from tenancy.jobs.kinds import FINAL, Argument, Kind
from tenancy.jobs.queue import Jobs
from tenancy.jobs.run import JobRun

FLEET_RUN = "fleet_run"
_RUN_ID = Argument("run_id", "The run to work on.", "number", positional=True, required=True)


class FleetWork:
    """Work on fleet runs; ``crew`` says by how many processes, and without it this process does the work."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.crew: Callable[[], Crew] | None = None

    def kind(self) -> Kind:
        meaning = "Migrate databases, or take a migration back, as a fleet run says."
        return Kind(FLEET_RUN, meaning, self.handle, (_RUN_ID,), final=(*FINAL, RunStateError), schedulable=False)

    def handle(self, run: JobRun, arguments: dict[str, Any]) -> dict[str, Any]:
        run_id: int = arguments["run_id"]
        try:
            worked = self._work(run, run_id)
        except JobCancelledError:
            with suppress(RunStateError):
                self._fleet.pause(run_id)
            raise
        return {"run_id": run_id, "state": str(worked.state), "counts": worked.counts}

    def _work(self, run: JobRun, run_id: int) -> Run:
        def watch(now: Run) -> None:
            run.progress(now.finished, now.total)
            run.check()

        while (worked := self._fleet.get(run_id)).state is RunState.RUNNING:  # again where it was resumed meanwhile
            if self.crew is not None:
                work_in_processes(self._fleet, run_id, self.crew(), watch)
            else:
                self._fleet.work(run_id, alive=lambda: not run.stopping)
            run.check()
        run.progress(worked.finished, worked.total)
        return worked


def start(jobs: Jobs, run_id: int) -> Job:
    """Have a worker work on a run, and return the job; one that waits already is found again.

    One that is running may be about to end, as the run was paused a moment ago: then a second job joins it.
    """
    for key in (f"fleet run {run_id}", f"fleet run {run_id} again"):
        job = jobs.add(FLEET_RUN, {"run_id": run_id}, key=key)
        if job.state is JobState.DUE:
            break
    return jobs.retry(job.id) if job.state is JobState.DUE and job.failures else job
