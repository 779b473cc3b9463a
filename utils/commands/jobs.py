"""Hold ``unify jobs``: what is to be done, what is being done, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from utils.output import complain, say, show, table
from utils.parameters import CommandGroup, WholeNumber, answering
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.catalog.jobs import Job

STATES = ("due", "running", "done", "failed", "cancelled")
SHOWN = 20
NO_WORKER = "No worker takes jobs: `unify worker` runs one, and `unify serve` keeps one unless JOB_WORKER=false."


@click.group(cls=CommandGroup)
def jobs() -> None:
    """Look at jobs, cancel and retry them."""


def on_job(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do as ``answering``, and hand the command the id of the job that its argument names."""

    @wraps(command)
    def with_job(toolbox: Toolbox, /, job_id: int, **given: Any) -> Any:
        return command(toolbox, job_id, **given)

    return click.argument("job_id", type=WholeNumber(1), metavar="JOB")(answering(with_job))


@jobs.command("list")
@click.option("--state", type=click.Choice(STATES), metavar="S", help=f"Only jobs in this state: {', '.join(STATES)}.")
@click.option("--kind", metavar="K", help="Only jobs of this kind.")
@click.option(
    "--limit", type=WholeNumber(1, 1000), default=SHOWN, metavar="N", help="List at most N jobs; 20 by default."
)
@answering
def list_jobs(toolbox: Toolbox, state: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    manager = toolbox.parts.manager
    found = manager.jobs.page(limit, states=[state] if state else (), kind=kind)
    status = manager.jobs.status()
    rows = [(job.id, job.kind, job.state, _progress(job), job.due_at, job.ended_at, job.error) for job in found]
    headings = ("id", "kind", "state", "progress", "due", "ended", "error")
    show(as_json, {"items": [job.to_dict() for job in found]} | status, lambda: table(headings, rows, none="No jobs."))
    if not status["workers"]:
        complain(NO_WORKER)


@jobs.command("show")
@on_job
def show_job(toolbox: Toolbox, job_id: int, as_json: bool) -> None:
    """Show a job: its arguments, its progress, its result or error, and the last lines of its log."""
    job = toolbox.parts.manager.jobs.get(job_id)

    def tell() -> None:
        say(_told(job))
        names = ("arguments", "due_at", "started_at", "ended_at", "runner", "attempt", "failures", "interruptions")
        table(("what", "value"), [(name.replace("_", " "), _text(getattr(job, name))) for name in names])
        if job.result:
            table(("result", "value"), [(name, _text(value)) for name, value in job.result.items()])
        for line in job.log.splitlines():
            say(line)

    show(as_json, job.to_dict(), tell)


@jobs.command()
@on_job
def retry(toolbox: Toolbox, job_id: int, as_json: bool) -> None:
    """Make a job due now that failed, was cancelled, or waits for its next attempt."""
    job = toolbox.parts.manager.jobs.retry(job_id)
    show(as_json, job.to_dict(), lambda: say(f"Job {job.id} is due: the next free worker takes it."))


@jobs.command()
@on_job
def cancel(toolbox: Toolbox, job_id: int, as_json: bool) -> None:
    """Cancel a job: at once where nobody works on it, else as soon as its work can be left."""
    job = toolbox.parts.manager.jobs.cancel(job_id)
    told = "is cancelled" if job.state == "cancelled" else "will be cancelled as soon as its work can be left"
    show(as_json, job.to_dict(), lambda: say(f"Job {job.id} {told}."))


def _told(job: Job) -> str:
    cancelling = ", being cancelled" if job.cancelling else ""
    progress = f", {_progress(job)}" if job.progress.done is not None else ""
    error = f": {job.error}" if job.error else "."
    return f"Job {job.id} ({job.kind}) is {job.state}{cancelling}{progress}{error}"


def _progress(job: Job) -> str:
    done, total, text = job.progress
    counted = "" if done is None else str(done) if total is None else f"{done} of {total}"
    return " ".join(filter(None, (counted, text)))


def _text(value: Any) -> Any:
    return ", ".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, dict) else value
