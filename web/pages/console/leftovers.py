"""Show the databases that were left behind; remove one, or take it off the list if an operator knows that it is gone.

No account uses them any more, but they may still exist (``tenancy/lifecycle/leftovers.py``). ``unify db leftovers``
does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from flask import redirect, url_for
from flask.typing import ResponseReturnValue

from tenancy.errors import TenantNotFoundError
from tenancy.models import Leftover
from tenancy.names import MAX_USER_ID
from web.auth.guards import admin_required
from web.http.errors import NOT_THERE, Problem
from web.pages.common import paging
from web.pages.common.flash import say
from web.pages.console.layout import PRODUCTS, blueprint, key, known_id, show
from web.parts import current_parts

PAGE = 50
REASONS = {
    "replaced": "Its user has another database now.",
    "forgotten": "An operator gave it up because it could not be reached.",
    "half_made": "Its creation was interrupted.",
    "kept": "A restore replaced it. Undoing the restore needs it.",
}


@dataclass(frozen=True)
class Action:
    """One action on a database that was left behind."""

    name: str
    label: str
    question: str
    command: str


ACTIONS = {
    "remove": Action(
        "remove",
        "Remove",
        "The database is deleted with everything in it and taken off the list. If it cannot be reached, it stays on "
        "the list with the reason.",
        "unify db leftovers --remove",
    ),
    "confirm": Action(
        "confirm",
        "Confirm gone",
        "The database is taken off the list. It is neither deleted nor checked, so do this only if you know that it "
        "is gone. Its password, if one is stored here, is deleted.",
        "unify db leftovers --confirm {id}",
    ),
}


@blueprint.get("/leftovers")
@admin_required
def leftovers() -> ResponseReturnValue:
    """Show one page of the list, oldest first."""
    after = key("after")
    found = current_parts().manager.leftovers.listed(min(after, MAX_USER_ID), PAGE + 1)
    rows, more = found[:PAGE], len(found) > PAGE
    return show(
        "health",
        "leftovers",
        rows=[(left, place(left)) for left in rows],
        reasons=REASONS,
        actions=ACTIONS.values(),
        **paging.links(partial(url_for, "admin.leftovers"), after, after=rows[-1].id if more else None),
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
    """Delete the database, if it can be reached."""
    left = _find(leftover_id)
    if left is None:
        return _gone_already()
    if current_parts().manager.leftovers.clear([left]):
        after = _find(leftover_id) or left
        say(f"{place(left)} could not be removed: {after.last_error or 'the reason is not known.'}", "bad")
    else:
        say(f"{place(left)} has been removed.")
    return redirect(url_for("admin.leftovers"), 303)


@blueprint.post("/leftovers/<int:leftover_id>/confirm")
@admin_required
def confirm_leftover(leftover_id: int) -> ResponseReturnValue:
    """Take the database off the list."""
    try:
        left = current_parts().manager.leftovers.confirm(known_id(leftover_id))
    except TenantNotFoundError:
        return _gone_already()
    say(f"{place(left)} has been taken off the list.")
    return redirect(url_for("admin.leftovers"), 303)


def place(left: Leftover) -> str:
    """Describe where a database is or was; of a damaged row, say what can be read."""
    if left.db_path:
        return left.db_path
    product = PRODUCTS.get(left.db_type, left.db_type)
    port = f":{left.db_port}" if left.db_port else ""
    return f"{product} database {left.db_name or '?'} on {left.db_host or '?'}{port}"


def _find(leftover_id: int) -> Leftover | None:
    """Return one entry of the list, or None if it is no longer there; 404 if the id is out of range."""
    found = current_parts().manager.leftovers.listed(known_id(leftover_id) - 1, 1)
    return found[0] if found and found[0].id == leftover_id else None


def _gone_already() -> ResponseReturnValue:
    say("This database is no longer on the list.", "warn")
    return redirect(url_for("admin.leftovers"), 303)
