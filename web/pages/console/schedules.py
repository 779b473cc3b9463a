"""Show the schedules, which start jobs again and again; add and remove one."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import StringConstraints

from tenancy.catalog.schedules import Schedule
from tenancy.errors import ConfigurationError, ScheduleNotFoundError
from web.auth.guards import admin_required
from web.display import clock
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.pages.console.layout import blueprint, known_id, show
from web.parts import current_parts
from web.schemas import UNSTORABLE, Strict


class ScheduleCreate(Strict):
    """The form that adds a schedule."""

    cron: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=UNSTORABLE)]
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=UNSTORABLE)]
    kind: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=UNSTORABLE)]
    arguments: Annotated[str, StringConstraints(max_length=4000, pattern=UNSTORABLE)] = ""


CONTROL = {"cron": "cron", "zone": "time_zone", "kind": "kind"}
"""The control for an error's field; every other one is a job's argument."""


@blueprint.get("/schedules")
@admin_required
def schedules() -> ResponseReturnValue:
    return _page(Form.blank("schedule", _controls(), time_zone=clock.zone().key))


@blueprint.post("/schedules")
@admin_required
def add_schedule() -> ResponseReturnValue:
    """Add a schedule."""
    form = Form.posted("schedule", _controls(), request.form)
    body = form.validate(ScheduleCreate)
    if body is None:
        return _page(form), 422
    manager, given = current_parts().manager, body
    try:
        values = manager.jobs.kinds.to_schedule(given.kind).read(_words(given.arguments))
        added = manager.schedules.add(given.cron, given.kind, values, given.time_zone)
    except ConfigurationError as error:
        field = CONTROL.get(error.field or "", "arguments")
        return _page(form.refuse(field, f"{error.message[:1].upper()}{error.message[1:]}")), 422
    say(f"Schedule {added.id} has been added.")
    return redirect(url_for("admin.schedules"), 303)


@blueprint.get("/schedules/<int:schedule_id>/remove")
@admin_required
def ask_schedule(schedule_id: int) -> ResponseReturnValue:
    found = current_parts().manager.schedules.get(known_id(schedule_id))
    return show("jobs", "schedule", schedule=found, typed=typed(found))


@blueprint.post("/schedules/<int:schedule_id>/remove")
@admin_required
def remove_schedule(schedule_id: int) -> ResponseReturnValue:
    """Remove a schedule; a job that it has started goes on."""
    try:
        current_parts().manager.schedules.remove(known_id(schedule_id))
    except ScheduleNotFoundError:
        say("This schedule is no longer there.", "warn")
    else:
        say(f"Schedule {schedule_id} has been removed.")
    return redirect(url_for("admin.schedules"), 303)


def typed(schedule: Schedule) -> str:
    """Return the kind of a schedule's jobs and its arguments, as a command has them."""
    words: list[str] = []
    for name, value in schedule.arguments.items():
        option = f"--{name.replace('_', '-')}"
        words.append(option if value is True else f"{option} {shlex.quote(str(value))}")
    return " ".join([schedule.kind, *words])


def _page(form: Form) -> str:
    manager = current_parts().manager
    return show(
        "jobs",
        "schedules",
        rows=[(each, typed(each)) for each in manager.schedules.listed()],
        kinds=manager.jobs.kinds.schedulable(),
        form=form,
        workers=manager.jobs.workers(),
    )


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise ConfigurationError("a quotation mark is missing.", field="arguments") from None


def _controls() -> list[Field]:
    kinds: Any = [(kind.name, kind.name) for kind in current_parts().manager.jobs.kinds.schedulable()]
    return [
        Field("kind", "Job", "select", choices=kinds, required=True),
        Field(
            "arguments", "Arguments", max_length=4000, autocomplete="off", hint="As they are typed after the command."
        ),
        Field(
            "cron",
            "Times",
            required=True,
            max_length=100,
            autocomplete="off",
            hint="Minute, hour, day of the month, month, day of the week. 0 3 * * * is every night at three.",
        ),
        Field(
            "time_zone",
            "Time zone",
            required=True,
            max_length=64,
            autocomplete="off",
            hint="For example Europe/Berlin.",
        ),
    ]
