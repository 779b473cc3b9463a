"""Show the jobs and the workers that take them; cancel and retry a job. ``schedules.py`` shows what starts jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.catalog.jobs import Job, JobState
from tenancy.errors import JobStateError, UserNotFoundError
from tenancy.names import MAX_USER_ID
from web.auth.guards import admin_required
from web.pages.common import paging
from web.pages.common.flash import say
from web.pages.common.htmx import fragment, wants_fragment
from web.pages.console.layout import blueprint, choice, key, known_id, show
from web.parts import current_parts

PAGE = 50
STATES = tuple(str(state) for state in JobState)


@dataclass(frozen=True)
class Action:
    """One action on a job; ``suits`` tells whether to offer it."""

    name: str
    label: str
    question: str
    suits: Callable[[Job], bool]
    takes_away: bool = False


def _waits_or_ended(job: Job) -> bool:
    return job.state is JobState.DUE or (job.state in (JobState.FAILED, JobState.CANCELLED) and not job.had_secrets)


ACTIONS = {
    "cancel": Action(
        "cancel",
        "Cancel",
        "A job that waits is cancelled at once. One that runs stops as soon as its work can be left; what it has begun "
        "is undone or left in order.",
        lambda job: job.unfinished and not job.cancelling,
        takes_away=True,
    ),
    "retry": Action(
        "retry",
        "Retry",
        "The job is due now, and the next free worker takes it. Earlier failures are not counted any more.",
        _waits_or_ended,
    ),
}


@blueprint.get("/jobs")
@admin_required
def jobs() -> ResponseReturnValue:
    """Show one page of jobs, newest first."""
    manager, state, before = current_parts().manager, choice("state", STATES), key("before")
    kind = choice("kind", manager.jobs.kinds.names())
    found = manager.jobs.page(
        PAGE + 1, min(before, MAX_USER_ID) if before else None, states=[state] if state else (), kind=kind
    )
    rows, more = found[:PAGE], len(found) > PAGE
    kept: dict[str, Any] = {name: value for name, value in (("state", state), ("kind", kind)) if value}
    return show(
        "jobs",
        rows=rows,
        states=STATES,
        kinds=manager.jobs.kinds.names(),
        chosen=kept,
        workers=manager.jobs.workers(),
        **paging.links(partial(url_for, "admin.jobs", **kept), before, before=rows[-1].id if more else None),
    )


@blueprint.get("/jobs/<int:job_id>")
@admin_required
def job(job_id: int) -> ResponseReturnValue:
    found = _find(job_id)
    actions = [action for action in ACTIONS.values() if action.suits(found)]
    return show("jobs", "job", job=found, actor=_actor(found), actions=actions)


@blueprint.get("/jobs/<int:job_id>/progress")
@admin_required
def job_progress(job_id: int) -> ResponseReturnValue:
    """Return the progress of a job to htmx; when its state has changed, tell htmx to reload the whole page."""
    found, was = _find(job_id), request.args.get("was")
    if not wants_fragment():
        return redirect(url_for("admin.job", job_id=job_id), 303)
    answer = fragment("console/job_state.html", job=found)
    if was is not None and was != found.state:
        answer.headers["HX-Refresh"] = "true"
    return answer


@blueprint.get("/jobs/<int:job_id>/cancel", defaults={"action": "cancel"})
@blueprint.get("/jobs/<int:job_id>/retry", defaults={"action": "retry"})
@admin_required
def ask_job(job_id: int, action: str) -> ResponseReturnValue:
    return show("jobs", "job_action", job=_find(job_id), action=ACTIONS[action])


@blueprint.post("/jobs/<int:job_id>/cancel", defaults={"action": "cancel"})
@blueprint.post("/jobs/<int:job_id>/retry", defaults={"action": "retry"})
@admin_required
def act_on_job(job_id: int, action: str) -> ResponseReturnValue:
    found, all_jobs = _find(job_id), current_parts().manager.jobs
    try:
        found = all_jobs.cancel(job_id) if action == "cancel" else all_jobs.retry(job_id)
    except JobStateError as error:
        say(f"Nothing was changed: {error.message}", "bad")
    else:
        stops = " It stops as soon as its work can be left." if found.cancelling else ""
        say(f"{ACTIONS[action].label}: job {found.id} is {found.state}.{stops}")
    return redirect(url_for("admin.job", job_id=job_id), 303)


def _find(job_id: int) -> Job:
    """Return the job; 404 if it does not exist or the id is out of range."""
    return current_parts().manager.jobs.get(known_id(job_id))


def _actor(found: Job) -> dict[str, Any]:
    """Return the account that added a job; its e-mail is None if the account is gone."""
    try:
        email = current_parts().accounts.get(found.actor_id).email if found.actor_id else None
    except UserNotFoundError:
        email = None
    return {"id": found.actor_id, "email": email}
