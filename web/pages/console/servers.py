"""Show the registered database servers; register, test, drain and remove them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Annotated, Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field as Bound, StringConstraints

from tenancy import hosts
from tenancy.backends import access
from tenancy.backends.access import Login, Options
from tenancy.errors import ConfigurationError, ServerNotFoundError, TenancyError
from web.auth.guards import admin_required
from web.http.errors import NOT_THERE, Problem
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form
from web.pages.console.layout import blueprint, show
from web.parts import current_parts
from web.schemas import UNSTORABLE, Strict

TYPES = (("postgresql", "PostgreSQL"), ("mysql", "MySQL or MariaDB"), ("sqlserver", "SQL Server"))
PORTS = {"postgresql": 5432, "mysql": 3306, "sqlserver": 1433}
MODES = (
    ("prefer", "where the server offers it"),
    ("require", "always"),
    ("verify", "always, and check the certificate"),
    ("off", "never"),
)
ACTIONS = {
    "test": "The server is connected to with its login. Nothing is changed.",
    "drain": "No new databases are placed there. Those that are there stay and keep working.",
    "accept": "New databases are placed there again.",
    "password": "Change the password on the server first. The new one is stored here once it has opened a connection.",
    "remove": "Its address and login are deleted here, and databases kept ready on it are dropped. "
    "This is only possible while no user has a database on it.",
}

BLAMED = {
    "connection_refused": "db_port",
    "database_unreachable": "db_host",
    "database_timeout": "db_host",
    "login_refused": "db_user",
    "access_denied": "db_user",
}
"""The field to blame for each code of a connection error that names no field itself."""

Text = Annotated[str, StringConstraints(max_length=255, pattern=UNSTORABLE)]


class ServerCreate(Strict):
    """The form that registers a server."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=UNSTORABLE)]
    db_type: Text
    db_host: Text
    db_port: Annotated[int, Bound(ge=1, le=65535)] | None = None
    db_user: Text
    db_password: Annotated[str, StringConstraints(max_length=1024, pattern=UNSTORABLE)] = Bound(default="", repr=False)
    tls: Text = "prefer"
    tls_ca: Annotated[str, StringConstraints(max_length=access.CA_MAX, pattern=UNSTORABLE)] = ""
    max_tenants: Annotated[int, Bound(ge=1, le=1_000_000)] | None = None
    weight: Annotated[int, Bound(ge=1, le=1000)] | None = None


CONTROLS = [
    Field("name", "Name", required=True, max_length=64, hint="Name used here and in commands."),
    Field("db_type", "Type", "select", choices=TYPES, required=True),
    Field("db_host", "Host", required=True, max_length=255, autocomplete="off"),
    Field("db_port", "Port", "number", number=True, hint="Leave blank for the default port."),
    Field(
        "db_user", "User", required=True, max_length=255, autocomplete="off", hint="Must be able to create databases."
    ),
    Field("db_password", "Password", "password", max_length=1024, autocomplete="new-password", raw=True),
    Field("tls", "Encryption", "select", choices=MODES, initial="prefer"),
    Field(
        "tls_ca", "CA certificate", "textarea", max_length=access.CA_MAX, hint="PEM, to check the server's certificate."
    ),
    Field("max_tenants", "Limit", "number", number=True, hint="Number of databases. Leave blank for no limit."),
    Field(
        "weight",
        "Weight",
        "number",
        number=True,
        initial="1",
        hint="Relative share: a server of weight 2 gets twice as many databases as one of weight 1.",
    ),
]


@blueprint.get("/servers")
@admin_required
def servers() -> ResponseReturnValue:
    return _page(Form.blank("server", CONTROLS))


@blueprint.post("/servers")
@admin_required
def add_server() -> ResponseReturnValue:
    """Register a server, after connecting to it."""
    form = Form.posted("server", CONTROLS, request.form)
    body = form.validate(ServerCreate)
    if body is None:
        return _page(form), 422
    given: Any = body
    try:
        limits = {"max_tenants": given.max_tenants, "weight": given.weight or 1}
        made = current_parts().manager.servers.add(given.name, given.db_type, _login(given), **limits)
    except TenancyError as error:
        return _page(form.refuse(error.field or BLAMED.get(error.code), error.message)), 422
    say(f"Server {made['name']} is registered.")
    return redirect(url_for("admin.servers"), 303)


@admin_required
def ask_server(name: str, action: str) -> ResponseReturnValue:
    return _asked(_find(name), action)


@admin_required
def act_on_server(name: str, action: str) -> ResponseReturnValue:
    server, manager = _find(name), current_parts().manager
    if action == "test":
        return _asked(server, action, manager.servers.test(server["name"]))
    if action == "password":
        return _new_password(server)
    ways: dict[str, Callable[[str], object]] = {
        "drain": manager.servers.drain,
        "accept": manager.servers.accept,
        "remove": manager.servers.remove,
    }
    done = {"drain": "takes no new databases", "accept": "takes databases again", "remove": "has been removed"}[action]
    try:
        ways[action](server["name"])
        say(f"Server {server['name']} {done}.")
    except TenancyError as error:
        say(f"Nothing was changed: {error.message}", "bad")
    return redirect(url_for("admin.servers"), 303)


def _new_password(server: dict[str, Any]) -> ResponseReturnValue:
    try:
        current_parts().manager.servers.set_password(server["name"], request.form.get("password", ""))
    except TenancyError as error:
        say(f"Nothing was changed: {error.message}", "bad")
        return _asked(server, "password"), 422
    say(f"The new password of server {server['name']} has been stored.")
    return redirect(url_for("admin.servers"), 303)


for _action in ACTIONS:
    _rule, _of = f"/servers/<path:name>/{_action}", {"action": _action}  # a name may hold a slash
    blueprint.add_url_rule(_rule, "ask_server", ask_server, methods=["GET"], defaults=_of)
    blueprint.add_url_rule(_rule, "act_on_server", act_on_server, methods=["POST"], defaults=_of)


def _page(form: Form) -> str:
    opened = bool(form.errors)
    return show("servers", rows=current_parts().manager.servers(), form=form, opened=opened)


def _asked(server: dict[str, Any], action: str, result: dict[str, Any] | None = None) -> str:
    name = shlex.quote(server["name"])  # for a shell
    words = {"password": "set-password --password-stdin"}.get(action, action)
    command = f"unify servers {words} {'-- ' if name.startswith('-') else ''}{name}"
    about = {"server": server, "action": action, "question": ACTIONS[action], "command_text": command}
    return show("servers", "server", **about, result=result)


def _find(name: str) -> dict[str, Any]:
    try:
        return current_parts().manager.servers.get(name)
    except ServerNotFoundError:
        raise Problem(404, "not_found", NOT_THERE) from None


def _login(given: Any) -> Login:
    """Build the login from separate fields; a URL would have to be assembled and quoted."""
    if given.db_type not in PORTS:
        raise ConfigurationError("db_type is not one of the known types.", field="db_type")
    options = {"tls": given.tls} | ({"tls_ca": given.tls_ca} if given.tls_ca.strip() else {})
    try:
        read = Options.of(options)
    except ConfigurationError as error:
        name = "tls_ca" if "tls_ca" in error.message else "tls"
        raise ConfigurationError(error.message.removeprefix("db_options: "), field=name) from None
    return Login(
        host=hosts.host(given.db_host.partition("\\")[0]),
        port=given.db_port or PORTS[given.db_type],
        user=access.user(given.db_user),
        password=access.password(given.db_password),
        options=read,
    )
