"""Show the state of the user's own database and what it means, and set the database up on request."""

from __future__ import annotations

from typing import Any

from flask import redirect, url_for
from flask.typing import ResponseReturnValue

from tenancy.deadline import unhurried
from tenancy.errors import TenancyError
from tenancy.models import Principal, State, Tenant
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.http import advice
from web.ops import metrics
from web.pages.account.layout import blueprint, show
from web.pages.common.flash import say
from web.parts import current_parts

PRODUCTS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "sqlserver": "SQL Server"}
ABSENT = advice.CODES["tenant_not_found"].means
BACK = "Your pages will be back when that is done."
HERE: dict[str, str] = {
    State.PROVISIONING: "If this does not finish by itself, set it up again.",
    State.MIGRATING: BACK,
    State.MOVING: BACK,
    State.FAILED: "Setting it up again is safe: nothing is overwritten.",
    State.ARCHIVED: "Once it is gone, you can create a new one here.",
}
"""What to expect or do on this page, after what a state means."""

MEANINGS: dict[str, str] = {
    State.READY: "Everything works.",
    "not usable": "Your database should be ready, but it cannot be opened. This page says why while that is so.",
    "absent": ABSENT,
} | {state: f"{told.means} {HERE.get(state, '')}".rstrip() for state, told in advice.STATES.items()}
CAN_RETRY = frozenset({State.PROVISIONING, State.FAILED})


@blueprint.get("/database")
@page_login_required
def database() -> ResponseReturnValue:
    """Show what is known of the database, and what it says itself if it answers."""
    manager = current_parts().manager
    shown = {"meanings": MEANINGS, "head": manager.head, "may_bring": manager.own_databases.allowed}
    return show("database", database=_database(signed_in()), **shown)


@blueprint.post("/database")
@page_login_required
def provision() -> ResponseReturnValue:
    """Set up the user's own database if that failed or was never done."""
    try:
        with metrics.provisioning(), unhurried():
            current_parts().manager.provision(signed_in().user.id)
        say("Your database is ready.")
    except TenancyError as error:
        means, do = advice.to_person(error, signed_in().tenant)
        say(f"Your database could not be set up. {means} {do}", "bad")
    return redirect(url_for("settings.database"), 303)


def database_status(principal: Principal) -> dict[str, Any]:
    """Return state, problem and whether a retry makes sense, from what the sign-in check already read."""
    place = principal.tenant
    if place is None:
        return {"status": "absent", "problem": ABSENT, "retry": True}
    shown = {"status": str(place.state), "problem": None, "retry": place.state in CAN_RETRY}
    if place.state == State.FAILED:
        return shown | {"problem": advice.of_failure(place)}
    return shown | ({} if place.state == State.READY else {"problem": MEANINGS.get(place.state)})


def _database(principal: Principal) -> dict[str, Any]:
    """Return ``database_status`` and, if the database answers, its size and revision."""
    shown, place = database_status(principal), principal.tenant
    if place is None:
        return shown
    try:
        told = current_parts().manager.reports.info(principal.user.id)
        told |= shown | {"product": PRODUCTS.get(place.db_type, place.db_type)}
        return told | ({} if place.state != State.READY else _tried(principal.user.id, place))
    except TenancyError as error:
        return shown | {"problem": " ".join(advice.to_person(error, place))}


def _tried(user_id: int, place: Tenant) -> dict[str, Any]:
    """Open a database that should be ready; ``problem`` is None if it works."""
    found = current_parts().manager.reports.test(user_id)
    problem = None if found["ok"] else " ".join(advice.of_code(found["code"], found["message"], place))
    return {"problem": problem}
