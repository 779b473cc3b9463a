"""Create a user's database: choose a product, enter where, test the connection, then create it."""

from __future__ import annotations

from typing import Any

from flask import request
from flask.typing import ResponseReturnValue

from tenancy.backends.base import DatabaseFields
from tenancy.errors import TenancyError
from tenancy.models import User
from web.auth.guards import admin_required
from web.ops import metrics
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.pages.console.layout import blueprint, find_user, show, to_tenant
from web.parts import current_parts
from web.schemas import DatabaseInitialize, sent

LONGEST = {"db_host": 255, "db_name": 255, "db_user": 255, "db_password": 1024, "db_path": 500}


@blueprint.get("/users/<int:user_id>/initialize")
@admin_required
def ask_initialize(user_id: int) -> ResponseReturnValue:
    """Show the form for the type in the URL, or for the default type."""
    user = find_user(user_id)
    chosen = _type(request.args.get("db_type"))
    return _form(user, chosen, Form.blank("database", _controls(chosen)))


@blueprint.post("/users/<int:user_id>/initialize")
@admin_required
def initialize(user_id: int) -> ResponseReturnValue:
    """Create the database, or say that it was already ready; "Test connection" only tests what was entered."""
    user = find_user(user_id)
    chosen = _type(request.form.get("db_type"))
    form = Form.posted("database", _controls(chosen), request.form)
    named = {"db_type": chosen["name"]} if chosen and request.form.get("db_type") else {}
    body = form.validate(DatabaseInitialize, **named)
    if body is None:
        return _form(user, chosen, form), 422
    said = sent(body)
    if said.get("db_password") == "":  # left blank, as all fields may be when a registered server is used
        del said["db_password"]
    fields = DatabaseFields(**said)
    if request.form.get("step") == "probe":
        return _form(user, chosen, form, current_parts().manager.probe_database(user.id, fields))
    return _provisioned(user, fields)


def _provisioned(user: User, fields: DatabaseFields) -> ResponseReturnValue:
    try:
        with metrics.provisioning():
            made = current_parts().manager.provision(user.id, fields).created
        say(f"The database of {user.email} {'was created' if made else 'was already ready'}.")
    except TenancyError as error:
        say(f"The database of {user.email} could not be created: {error.message}", "bad")
    return to_tenant(user.id)


def _form(user: User, chosen: dict[str, Any] | None, form: Form, probe: dict[str, Any] | None = None) -> str:
    types = current_parts().manager.reports.database_types()
    return show("users", "initialize", user=user, types=types, chosen=chosen, form=form, probe=probe)


def _type(name: str | None) -> dict[str, Any] | None:
    """Return the type of this name; the default type if there is no such name."""
    known = {each["name"]: each for each in current_parts().manager.reports.database_types()}
    default = current_parts().settings.default_tenant_db_type
    return known.get(name or default) or known.get(default) or next(iter(known.values()), None)


def _controls(chosen: dict[str, Any] | None) -> list[Field]:
    return [_control(asked) for asked in (chosen["fields"] if chosen else ())]


def _control(asked: dict[str, Any]) -> Field:
    """Return the control for one field that a product asks for."""
    number = asked["kind"] == "number"
    return Field(
        asked["name"],
        asked["label"],
        asked["kind"],
        required=asked["required"],
        max_length=None if number else LONGEST.get(asked["name"]),
        hint=asked["help"],
        autocomplete="off" if asked["kind"] != "password" else "new-password",
        initial=asked["default"],
        number=number,
        raw=asked["kind"] == "password",
    )
