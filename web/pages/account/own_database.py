"""Let users test and connect a database of their own, if the operator allows it."""

from __future__ import annotations

from typing import Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from tenancy.backends.base import DatabaseFields
from tenancy.errors import TenancyError
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.http.errors import NOT_THERE, Problem
from web.ops import metrics
from web.pages.account.layout import blueprint, show
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.parts import current_parts
from web.schemas import DatabaseInitialize, sent

TYPES = (("postgresql", "PostgreSQL"), ("mysql", "MySQL or MariaDB"), ("sqlserver", "SQL Server"))
CONTROLS = [
    Field("db_type", "Type", "select", choices=TYPES, required=True),
    Field("db_host", "Host", required=True, max_length=255, autocomplete="off"),
    Field("db_port", "Port", "number", number=True, hint="Leave blank for the default port."),
    Field(
        "db_name",
        "Database",
        max_length=48,
        hint="An existing one must be empty; otherwise it is created. Leave blank to create one.",
    ),
    Field("db_user", "User", required=True, max_length=128, autocomplete="off"),
    Field("db_password", "Password", "password", max_length=1024, autocomplete="new-password", raw=True),
]


@blueprint.get("/database/own")
@page_login_required
def own_database() -> ResponseReturnValue:
    """Show the form."""
    _refuse_unless_allowed()
    return _page(Form.blank("own", CONTROLS))


@blueprint.post("/database/own")
@page_login_required
def connect_own_database() -> ResponseReturnValue:
    """Connect the database described in the form; "Test connection" only tests it."""
    _refuse_unless_allowed()
    form = Form.posted("own", CONTROLS, request.form)
    body = form.validate(DatabaseInitialize)
    if body is None:
        return _page(form), 422
    fields, manager = DatabaseFields(**sent(body)), current_parts().manager
    try:
        if request.form.get("step") == "probe":
            return _page(form, manager.own_databases.probe(signed_in().user.id, fields))
        with metrics.provisioning():
            manager.own_databases.connect(signed_in().user.id, fields)
    except TenancyError as error:
        return _page(form.refuse(error.field, error.message)), 422
    say("Your data is stored in your own database from now on.")
    return redirect(url_for("settings.database"), 303)


def _page(form: Form, probe: dict[str, Any] | None = None) -> str:
    return show("database", "own_database", form=form, probe=probe)


def _refuse_unless_allowed() -> None:
    if not current_parts().manager.own_databases.allowed:
        raise Problem(404, "not_found", NOT_THERE)
