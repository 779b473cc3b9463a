"""Show the databases that were left behind, remove one, or take an operator's word that it is gone.

They belong to nobody any more and may still be there (``tenancy/lifecycle/leftovers.py``); ``unify db leftovers``
does the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import redirect, url_for
from flask.typing import ResponseReturnValue

from tenancy.errors import TenantNotFoundError
from tenancy.models import Leftover
from web.auth.guards import admin_required
from web.http.errors import NOT_THERE, Problem
from web.pages.common.flash import say
from web.pages.console.layout import PRODUCTS, blueprint, key, show
from web.parts import current_parts

PAGE = 50
LARGEST_ID = 2**31 - 1
REASONS = {
    "replaced": "Its user has another one.",
    "forgotten": "An operator let go of it: it could not be reached.",
    "half_made": "The attempt to make it was broken off.",
}


@dataclass(frozen=True)
class Action:
    """Describe what can be done about one of them."""

    name: str
    label: str
    question: str
    command: str


ACTIONS = {
    "remove": Action(
        "remove",
        "Remove",
        "It is deleted with everything in it, and goes off the list. If it cannot be reached, it stays on the list "
        "with what stood in the way.",
        "unify db leftovers --remove",
    ),
    "confirm": Action(
        "confirm",
        "Confirm gone",
        "It goes off the list on your word: nothing is deleted, and nobody looks whether it is gone. If its password "
        "was kept here, it is forgotten.",
        "unify db leftovers --confirm {id}",
    ),
}


@blueprint.get("/leftovers")
@admin_required
def leftovers() -> ResponseReturnValue:
    """Show one page of the list, oldest first."""
    after = key("after")
    found = current_parts().manager.leftovers.listed(min(after, LARGEST_ID), PAGE + 1)
    rows, more = found[:PAGE], len(found) > PAGE
    return show(
        "health",
        "leftovers",
        rows=[(left, place(left)) for left in rows],
        reasons=REASONS,
        actions=ACTIONS.values(),
        next_url=url_for("admin.leftovers", after=rows[-1].id) if more else None,
        first_url=url_for("admin.leftovers") if after else None,
    )


@blueprint.get("/leftovers/<int:leftover_id>/remove", defaults={"action": "remove"})
@blueprint.get("/leftovers/<int:leftover_id>/confirm", defaults={"action": "confirm"})
@admin_required
def ask_leftover(leftover_id: int, action: str) -> ResponseReturnValue:
    left = _find(leftover_id)
    if left is None:
        raise Problem(404, "not_found", NOT_THERE)
    return show("health", "leftover", left=left, where=place(left), reasons=REASONS, action=ACTIONS[action])


@blueprint.post("/leftovers/<int:leftover_id>/remove")
@admin_required
def remove_leftover(leftover_id: int) -> ResponseReturnValue:
    """Delete the database, where it can be reached."""
    left = _find(leftover_id)
    if left is None:
        return _gone_already()
    if current_parts().manager.leftovers.clear([left]):
        after = _find(leftover_id) or left
        say(f"{place(left)} could not be removed: {after.last_error or 'nothing is known of why.'}", "bad")
    else:
        say(f"{place(left)} is removed.")
    return redirect(url_for("admin.leftovers"), 303)


@blueprint.post("/leftovers/<int:leftover_id>/confirm")
@admin_required
def confirm_leftover(leftover_id: int) -> ResponseReturnValue:
    """Take the database off the list."""
    if not 0 < leftover_id <= LARGEST_ID:
        raise Problem(404, "not_found", NOT_THERE)
    try:
        left = current_parts().manager.leftovers.confirm(leftover_id)
    except TenantNotFoundError:
        return _gone_already()
    say(f"{place(left)} is off the list.")
    return redirect(url_for("admin.leftovers"), 303)


def place(left: Leftover) -> str:
    """Say where a database is, or was, in a few words; of a damaged row what can be read."""
    if left.db_path:
        return left.db_path
    product = PRODUCTS.get(left.db_type, left.db_type)
    port = f":{left.db_port}" if left.db_port else ""
    return f"{product} database {left.db_name or '?'} on {left.db_host or '?'}{port}"


def _find(leftover_id: int) -> Leftover | None:
    """Give one of the list, or None where it is not there any more; 404 for what can be no number of one."""
    if not 0 < leftover_id <= LARGEST_ID:
        raise Problem(404, "not_found", NOT_THERE)
    found = current_parts().manager.leftovers.listed(leftover_id - 1, 1)
    return found[0] if found and found[0].id == leftover_id else None


def _gone_already() -> ResponseReturnValue:
    say("This database is off the list already.", "warn")
    return redirect(url_for("admin.leftovers"), 303)
