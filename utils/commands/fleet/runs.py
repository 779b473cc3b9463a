"""Hold ``unify fleet migrate`` and what is done with the runs it makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

import tenancy
from tenancy.fleet import rollout_rules
from utils.commands.db import TYPES
from utils.output import Failed, Progress, columns, counted, plain, say, show, table
from utils.parameters import USERS, Text, WholeNumber, answering, confirm, find_user
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.catalog.runs import Rules, Run, Selection

NO_RUN = "There has been no fleet run yet."
SHOWN = 20
LEFT = ("failed", "offline", "skipped")
PAGE = 500
LOOK_S = 0.3
SHARE = Text("number or percentage", rollout_rules.share)
WAVES = Text("percentages", rollout_rules.waves)


def on_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do as ``answering``, and hand the command the run that its argument names, or else the newest."""

    @wraps(command)
    def with_run(toolbox: Toolbox, /, run_id: int | None, **given: Any) -> Any:
        return command(toolbox, _chosen(toolbox, run_id), **given)

    return click.argument("run_id", type=WholeNumber(1), metavar="[RUN]", required=False)(answering(with_run))


workers_option = click.option(
    "--workers", type=WholeNumber(1, 256), metavar="N", help="Number of processes; by default one per core."
)
limit_option = click.option(
    "--time-limit", type=WholeNumber(1, 86400), metavar="S", help="Seconds that one tenant may take; 600 by default."
)


@click.command()
@click.option("--to", "target", metavar="REV", help="The revision to migrate to; head by default.")
@click.option(
    "--only", type=USERS, metavar="USERS", help="Only these users' databases: ids or addresses, separated by commas."
)
@click.option("--server", metavar="S", help="Only databases on this registered server.")
@click.option(
    "--type", "db_type", type=click.Choice(TYPES), metavar="T", help=f"Only databases of this type: {', '.join(TYPES)}."
)
@click.option("--canary", type=WholeNumber(1), metavar="N", help="Try N tenants first; halt if one of them fails.")
@click.option("--waves", type=WAVES, metavar="P,P,...", help="Go in waves, such as 1%,10%,100% of all tenants.")
@click.option("--halt-after-failures", "halt", type=SHARE, metavar="N|P%", help="Halt after this many failures.")
@click.option("--snapshot", is_flag=True, help="Create a restore point of each tenant, for rolling back.")
@click.option("--no-restore-points", "bare", is_flag=True, help="Create none, not even before a destructive revision.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@workers_option
@limit_option
@answering
def migrate(toolbox: Toolbox, /, target: str | None, dry_run: bool, as_json: bool, **asked: Any) -> None:
    """Migrate databases to a revision; run it again to finish what was interrupted.

    If a database fails, it is named and left as it was, nothing in it is lost, and the others go on.
    """
    fleet = _fleet(toolbox)
    selection = _selection(toolbox, asked)
    if dry_run:
        return _tell_plan(fleet.plan(selection, target), as_json)
    run = fleet.start(selection, _rules(asked), target)
    _work(toolbox, run, as_json, workers=asked["workers"], time_limit=asked["time_limit"])


@click.command("runs")
@click.option(
    "--limit", type=WholeNumber(1, 1000), default=SHOWN, metavar="N", help="List at most N runs; 20 by default."
)
@answering
def runs(toolbox: Toolbox, limit: int, as_json: bool) -> None:
    """List the fleet runs, newest first."""
    found = [run.to_dict() for run in _fleet(toolbox).recent(limit)]
    headings = ("id", "kind", "state", "target", "total", "done", "failed", "began", "ended")
    rows = ([*_summary(run), run["created_at"], run["ended_at"]] for run in found)
    show(as_json, {"items": found}, lambda: table(headings, rows, none=NO_RUN))


@click.command("show")
@click.option("--all", "everyone", is_flag=True, help="Also list the tenants that succeeded.")
@on_run
def show_run(toolbox: Toolbox, run: Run, everyone: bool, as_json: bool) -> None:
    """Show a run (by default the newest) and the tenants that it has not migrated."""
    states = () if everyone or as_json else (*LEFT, "running")
    found = list(_items(toolbox, run.id, states))

    def tell() -> None:
        say(_outcome(run))
        if found:
            headings = ("user", "email", "state", "from", "to", "ms", "reason")
            names = ("user_id", "email", "state", "from_revision", "to_revision", "duration_ms", "error")
            table(headings, columns(found, names))

    show(as_json, run.to_dict() | {"items": found}, tell)


@click.command()
@on_run
def watch(toolbox: Toolbox, run: Run, as_json: bool) -> None:
    """Follow a run until it ends, is paused or halts."""
    with Progress(f"Run {run.id}", run.total) as progress:
        while run.state == "running":
            progress.reach(run.finished, run.total)
            time.sleep(LOOK_S)  # another process does the work; its record is all there is to look at
            run = _fleet(toolbox).get(run.id)
        progress.reach(run.finished, run.total)
    show(as_json, run.to_dict(), lambda: say(_outcome(run)))


@click.command()
@on_run
def pause(toolbox: Toolbox, run: Run, as_json: bool) -> None:
    """Let a run's workers finish what is in progress and start no more, until `unify fleet resume`."""
    run = _fleet(toolbox).pause(run.id)
    told = f"Run {run.id} is paused: {run.finished} of {run.total} tenants are finished."
    show(as_json, run.to_dict(), lambda: say(told))


@click.command()
@workers_option
@limit_option
@on_run
def resume(toolbox: Toolbox, run: Run, as_json: bool, **crew: Any) -> None:
    """Continue a run with the tenants that wait, and retry those that failed, were offline or were skipped."""
    _work(toolbox, _fleet(toolbox).resume(run.id), as_json, **crew)


@click.command()
@workers_option
@limit_option
@on_run
def retry(toolbox: Toolbox, run: Run, as_json: bool, **crew: Any) -> None:
    """Retry only the tenants of a run that failed."""
    _work(toolbox, _fleet(toolbox).resume(run.id, failed_only=True), as_json, **crew)


@click.command()
@workers_option
@on_run
def cancel(toolbox: Toolbox, run: Run, as_json: bool, **crew: Any) -> None:
    """Cancel what a run has not started; what is in progress is finished."""
    _work(toolbox, _fleet(toolbox).cancel(run.id), as_json, well=("done", "cancelled"), **crew)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
@workers_option
@limit_option
@on_run
def rollback(toolbox: Toolbox, run: Run, yes: bool, as_json: bool, **crew: Any) -> None:
    """Undo exactly what a run did, tenant by tenant, by downgrading or by the restore point if there is one.

    A restore point brings all rows back as they were: what was written since then is lost.
    """
    done = run.counts.get("done", 0)
    if done and not yes:
        confirm(toolbox, f"undo what run {run.id} did to {counted(done, 'database')}")
    _work(toolbox, _fleet(toolbox).rollback(run.id), as_json, **crew)


@click.command()
@on_run
def discard(toolbox: Toolbox, run: Run, as_json: bool) -> None:
    """Delete the restore points of a run: it can no longer be rolled back with them."""
    removed = _fleet(toolbox).discard(run.id)
    told = f"Restore points of run {run.id} deleted: {removed or 'none, because it has none'}."
    show(as_json, {"run": run.id, "removed": removed}, lambda: say(told))


COMMANDS = (migrate, runs, show_run, watch, pause, resume, retry, cancel, rollback, discard)


def _fleet(toolbox: Toolbox) -> Any:
    manager = toolbox.parts.manager
    if not manager.multi_tenant:
        raise Failed("Users share one database (MULTI_TENANT_MODE=false): unify db create-config-table migrates it.")
    return manager.fleet


def _selection(toolbox: Toolbox, asked: dict[str, Any]) -> Selection:

    server_id = toolbox.parts.manager.servers.get(asked["server"])["id"] if asked["server"] else None
    users = {find_user(toolbox, user).id for user in asked["only"] or ()}
    return tenancy.Selection(tuple(sorted(users)), server_id, asked["db_type"])


def _rules(asked: dict[str, Any]) -> Rules:

    canary, waves, (after, percent) = asked["canary"] or 0, asked["waves"] or (100.0,), asked["halt"] or (None, False)
    return tenancy.Rules(canary, waves, after, percent, asked["snapshot"], asked["bare"])


def _chosen(toolbox: Toolbox, run_id: int | None) -> Run:
    fleet = _fleet(toolbox)
    newest: list[Run] = fleet.recent(1) if run_id is None else [fleet.get(run_id)]
    if not newest:
        raise Failed(NO_RUN)
    return newest[0]


def _work(toolbox: Toolbox, run: Run, as_json: bool, *, well: tuple[str, ...] = ("done",), **crew: Any) -> None:
    """Work on a run with a progress bar, and end by saying how it went."""
    if run.state == "running":
        run = _worked(toolbox, run, **crew)
    left = list(_items(toolbox, run.id, LEFT))
    show(as_json, run.to_dict() | {"left": left}, lambda: say(_outcome(run)))
    if run.state in well:
        return
    named = [f"user {item['user_id']} ({item['email']}): {plain(item['error']).rstrip('.')}" for item in left[:SHOWN]]
    if len(left) > SHOWN:
        named.append(f"and {len(left) - SHOWN} more")
    why = f" ({run.reason})" if run.reason else ""
    raise Failed(
        f"Run {run.id} is {run.state}{why}. {'; '.join(named)}{'. ' if named else ''}"
        f"Continue with `unify fleet resume {run.id}`."
    )


def _worked(toolbox: Toolbox, run: Run, *, workers: int | None, time_limit: int | None = None) -> Run:
    import compose

    limits = {} if time_limit is None else {"time_limit_s": float(time_limit)}
    crew = compose.crew(toolbox.settings, workers, **limits)
    with Progress(f"Run {run.id}", run.total, later=True) as progress:
        return tenancy.work_in_processes(
            toolbox.parts.manager.fleet, run.id, crew, lambda now: progress.reach(now.finished, now.total)
        )


def _items(toolbox: Toolbox, run_id: int, states: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    after = 0
    while rows := _fleet(toolbox).items(run_id, states=states, after=after, limit=PAGE):
        yield from rows
        after = rows[-1]["user_id"]


def _summary(run: dict[str, Any]) -> list[object]:
    names = ("id", "kind", "state", "target", "total")
    return [run[name] for name in names] + [run["counts"].get(state, 0) for state in ("done", "failed")]


def _outcome(run: Run) -> str:
    if not run.total and run.reverts is not None:
        return f"Run {run.id}: nothing to roll back, because run {run.reverts} changed no database."
    if not run.total:
        return f"Run {run.id}: nothing to do, {counted(run.already, 'tenant')} already at {run.target}."
    counts = ", ".join(f"{number} {state}" for state, number in sorted(run.counts.items()))
    already = f"; {run.already} were already at {run.target}" if run.already else ""
    what = f"to {run.target}" if run.kind == "migrate" else f"rolling back run {run.reverts}"
    return f"Run {run.id} ({what}) is {run.state}: {counts}{already}."


def _tell_plan(plan: dict[str, Any], as_json: bool) -> None:
    tenants = plan["tenants"]

    def tell() -> None:
        estimate = "there is no earlier run to estimate the time from"
        if plan["estimate_s"] is not None:
            estimate = f"about {plan['estimate_s']:.1f} s of work, judging by earlier runs"
        say(
            f"{counted(len(tenants), 'tenant')} would be migrated to {plan['target']}, "
            f"{plan['already']} already there; {estimate}."
        )
        if tenants:
            rows = ((t["user_id"], t["db_type"], t["state"], t["from"], " ".join(t["revisions"])) for t in tenants)
            table(("user", "type", "state", "at", "revisions"), rows)

    show(as_json, plan, tell)
