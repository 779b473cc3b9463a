"""Delete old backups by a rule: first show which those are, then add the job that deletes them."""

from __future__ import annotations

import shlex
from typing import Annotated

from flask import redirect, request
from flask.typing import ResponseReturnValue
from pydantic import StringConstraints

from tenancy.errors import TenancyError
from tenancy.lifecycle.retention import EXAMPLE
from tenancy.lifecycle.stored_backups import Pruned
from web.auth.guards import admin_required
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.pages.console.backups import added
from web.pages.console.layout import blueprint, show
from web.parts import current_parts
from web.schemas import UNSTORABLE, Strict

SHOWN = 50


class PruneCreate(Strict):
    """The form of a rule."""

    keep: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=UNSTORABLE)]


CONTROLS = [
    Field(
        "keep",
        "Keep",
        required=True,
        max_length=100,
        initial=EXAMPLE,
        autocomplete="off",
        hint="The newest backup of each of so many days, weeks and months. All others are old.",
    )
]


@blueprint.get("/backups/prune")
@admin_required
def prune() -> ResponseReturnValue:
    """Show the form of the rule."""
    return _page(Form.blank("prune", CONTROLS))


@blueprint.post("/backups/prune")
@admin_required
def start_prune() -> ResponseReturnValue:
    """Show which backups a rule would delete; with "Delete them" add the job that does it."""
    form = Form.posted("prune", CONTROLS, request.form)
    body = form.validate(PruneCreate)
    if body is None:
        return _page(form), 422
    manager = current_parts().manager
    try:
        if request.form.get("step") != "delete":
            return _page(form, plan=manager.backups.prune(body.keep, dry_run=True))
        job = manager.backup_jobs.prune(body.keep)
    except TenancyError as error:
        return _page(form.refuse(error.field, error.message)), 422
    message, address = added(job)
    say(message)
    return redirect(address, 303)


def _page(form: Form, plan: Pruned | None = None) -> str:
    keep = form.values.get("keep", "").strip()
    command = f"unify backup prune --keep {shlex.quote(keep)}"
    rows = current_parts().manager.reports.backups.described(plan.backups[:SHOWN]) if plan else []
    return show("backups", "prune", form=form, plan=plan, rows=rows, command_text=command)
