"""Show one fleet run and its progress, and pause, resume, retry, cancel or roll it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.catalog.runs import LEFT, UNFINISHED, ItemState, Run, RunState
from tenancy.errors import TenancyError, UserNotFoundError
from tenancy.fleet.fleet import Fleet
from tenancy.fleet.runs import MIGRATE
from tenancy.jobs import fleet_kinds
from web.auth.guards import admin_required
from web.pages.common import paging
from web.pages.common.flash import say
from web.pages.common.htmx import fragment, wants_fragment
from web.pages.console.layout import blueprint, choice, key, known_id, show
from web.parts import current_parts

PAGE = 50
STATES = ("failed", "offline", "skipped", "running", "waiting", "done", "cancelled", "undone")


@dataclass(frozen=True)
class Action:
    """One action on a run; ``suits`` tells whether to offer it, ``does`` performs it and returns the run to show."""

    name: str
    label: str
    question: str
    suits: Callable[[Run], bool]
    does: Callable[[Fleet, int], Run]
    works: bool = True
    takes_away: bool = False


def _unfinished(run: Run) -> bool:
    return run.state in UNFINISHED


def _left(run: Run) -> bool:
    return _unfinished(run) or any(run.counts.get(state) for state in (*LEFT, ItemState.CANCELLED))


def _to_take_back(run: Run) -> bool:
    return run.kind == MIGRATE and not _unfinished(run) and bool(run.counts.get(ItemState.DONE))


ACTIONS = (
    Action(
        "pause",
        "Pause",
        "Databases in progress are finished, and no others are started until the run is resumed.",
        lambda run: run.state is RunState.RUNNING,
        lambda fleet, run_id: fleet.pause(run_id),
        works=False,
    ),
    Action(
        "resume",
        "Resume",
        "The run continues with the databases that wait, and retries those that failed, did not answer or were "
        "skipped. If the process that worked on it is gone, another one takes over.",
        _left,
        lambda fleet, run_id: fleet.resume(run_id),
    ),
    Action(
        "retry",
        "Retry failed",
        "The databases that failed are tried again, and no others.",
        lambda run: bool(run.counts.get(ItemState.FAILED)),
        lambda fleet, run_id: fleet.resume(run_id, failed_only=True),
    ),
    Action(
        "cancel",
        "Cancel",
        "Databases that wait are left as they are. Those in progress are finished, and those already done stay done.",
        _unfinished,
        lambda fleet, run_id: fleet.cancel(run_id),
        takes_away=True,
    ),
    Action(
        "rollback",
        "Roll back",
        "A new run undoes exactly what this run did, database by database. Data in tables and columns that this run "
        "added is lost. Where a restore point was created, everything written since then is lost too.",
        _to_take_back,
        lambda fleet, run_id: fleet.rollback(run_id),
        takes_away=True,
    ),
)


@blueprint.get("/fleet/<int:run_id>")
@admin_required
def run(run_id: int) -> ResponseReturnValue:
    """Show a run and its databases; ``?state=`` limits them to one state."""
    found, state, after = _find(run_id), choice("state", STATES), key("after")
    rows = _fleet().items(run_id, states=[state] if state else (), after=after, limit=PAGE + 1)
    kept: dict[str, Any] = {"run_id": run_id} | ({"state": state} if state else {})
    further = rows[PAGE - 1]["user_id"] if len(rows) > PAGE else None
    return show(
        "fleet",
        "run",
        **_about(found),
        actor=_actor(found),
        workers=current_parts().manager.jobs.workers(),
        rows=rows[:PAGE],
        states=STATES,
        chosen=state,
        actions=[action for action in ACTIONS if action.suits(found)],
        **paging.links(partial(url_for, "admin.run", **kept), after, after=further),
    )


@blueprint.get("/fleet/<int:run_id>/progress")
@admin_required
def run_progress(run_id: int) -> ResponseReturnValue:
    """Return the progress of a run to htmx; when its state has changed, tell htmx to reload the whole page."""
    found, was = _find(run_id), request.args.get("was")
    if not wants_fragment():
        return redirect(url_for("admin.run", run_id=run_id), 303)
    about = _about(found)
    answer = fragment("console/run_state.html", **about)
    if was is not None and (was != found.state or not about["live"]):
        answer.headers["HX-Refresh"] = "true"
    return answer


def _ask(action: Action) -> Callable[[int], ResponseReturnValue]:
    @admin_required
    def ask(run_id: int) -> ResponseReturnValue:
        found = _find(run_id)
        command = f"unify fleet {action.name} {found.id}"
        return show("fleet", "run_action", run=found, action=action, command_text=command)

    return ask


def _act(action: Action) -> Callable[[int], ResponseReturnValue]:
    @admin_required
    def act(run_id: int) -> ResponseReturnValue:
        shown = _find(run_id)
        try:
            shown = action.does(_fleet(), run_id)
        except TenancyError as error:
            say(f"Nothing was changed: {error.message}", "bad")
        else:
            say(f"{action.label}: run {shown.id} is {shown.state}.")
            if action.works and shown.state is RunState.RUNNING:
                fleet_kinds.start(current_parts().manager.jobs, shown.id)
        return redirect(url_for("admin.run", run_id=shown.id), 303)

    return act


for _action in ACTIONS:
    _rule = f"/fleet/<int:run_id>/{_action.name}"
    blueprint.add_url_rule(_rule, f"ask_{_action.name}_run", _ask(_action), methods=["GET"])
    blueprint.add_url_rule(_rule, f"{_action.name}_run", _act(_action), methods=["POST"])


def _fleet() -> Fleet:
    return current_parts().manager.fleet


def _find(run_id: int) -> Run:
    """Return the run; 404 if it does not exist or the id is out of range."""
    return _fleet().get(known_id(run_id))


def _about(found: Run) -> dict[str, Any]:
    """Return what the page shows of a run; ``live`` also holds while a paused run finishes what is in progress."""
    counted = [(state, found.counts[state]) for state in STATES if found.counts.get(state)]
    live = found.state is RunState.RUNNING or bool(found.counts.get(ItemState.RUNNING))
    return {"run": found, "counted": counted, "live": live}


def _actor(found: Run) -> dict[str, Any]:
    """Return the account that started a run; its e-mail is None if the account is gone."""
    try:
        email = current_parts().accounts.get(found.actor_id).email if found.actor_id else None
    except UserNotFoundError:
        email = None
    return {"id": found.actor_id, "email": email}
