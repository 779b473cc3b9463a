"""Hold ``unify schedule``: jobs that are started again and again."""

from __future__ import annotations

import click

from utils.output import say, show, table
from utils.parameters import CommandGroup, WholeNumber, answering
from utils.toolbox import Toolbox


@click.group(cls=CommandGroup)
def schedule() -> None:
    """Start jobs again and again, by the clocks of a time zone."""


@schedule.command(context_settings={"ignore_unknown_options": True})
@click.argument("cron")
@click.argument("kind")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--zone", default="UTC", show_default=True, metavar="ZONE", help="The time zone, such as Europe/Berlin.")
@answering
def add(toolbox: Toolbox, cron: str, kind: str, arguments: tuple[str, ...], zone: str, as_json: bool) -> None:
    """Add a schedule: five fields of cron in quotes, then a kind of job and its arguments.

    For example `unify schedule add "0 3 * * *" KIND --zone Europe/Berlin`. A time that the clocks pass over is due at
    the first moment after it, a time that comes twice is due once; with `*` as its hour a schedule goes by elapsed
    time. What was missed while no worker ran is made up for once.
    """
    manager = toolbox.parts.manager
    values = manager.jobs.kinds.to_schedule(kind).read(arguments)
    added = manager.schedules.add(cron, kind, values, zone)
    told = f"Schedule {added.id} is added: {kind} is due next at {added.next_due_at:%Y-%m-%d %H:%M} UTC."
    show(as_json, added.to_dict(), lambda: say(told))


@schedule.command("list")
@answering
def list_schedules(toolbox: Toolbox, as_json: bool) -> None:
    """List the schedules, when each is due next, and the kinds of jobs that can be scheduled."""
    manager = toolbox.parts.manager
    found, kinds = manager.schedules.listed(), manager.jobs.kinds.schedulable()
    shown = [{"name": kind.name, "words": kind.words, "meaning": kind.meaning} for kind in kinds]

    def tell() -> None:
        rows = [(s.id, s.cron, s.zone, s.kind, _text(s.arguments), s.next_due_at, s.last_job_id) for s in found]
        headings = ("id", "schedule", "zone", "kind", "arguments", "next", "last job")
        table(headings, rows, none="No schedules.")
        if shown:
            table(("kind", "what it does"), [(each["words"], each["meaning"]) for each in shown])

    show(as_json, {"items": [each.to_dict() for each in found], "kinds": shown}, tell)


@schedule.command()
@click.argument("schedule_id", type=WholeNumber(1), metavar="SCHEDULE")
@answering
def remove(toolbox: Toolbox, schedule_id: int, as_json: bool) -> None:
    """Remove a schedule; a job that it has started goes on."""
    removed = toolbox.parts.manager.schedules.remove(schedule_id)
    show(as_json, removed.to_dict(), lambda: say(f"Schedule {removed.id} ({removed.kind}) is removed."))


def _text(arguments: dict[str, object]) -> str:
    return " ".join(name if value is True else f"{name}={value}" for name, value in arguments.items())
