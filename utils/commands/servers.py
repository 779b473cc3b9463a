"""Hold ``unify servers``: the database servers on which users' databases are placed."""

from __future__ import annotations

from typing import Any

import click

from utils.output import Failed, address, say, show, table
from utils.parameters import CommandGroup, WholeNumber, json_option, secret
from utils.toolbox import Toolbox, pass_toolbox

TYPES = ("postgresql", "mysql", "sqlserver")


@click.group(cls=CommandGroup)
def servers() -> None:
    """Register, test, drain and remove database servers."""


@servers.command()
@click.argument("name", metavar="NAME")
@click.option("--type", "db_type", type=click.Choice(TYPES), required=True, metavar="T", help=f"{', '.join(TYPES)}.")
@click.option(
    "--url-stdin",
    is_flag=True,
    help="Read the URL from standard input: postgresql://LOGIN:PASSWORD@HOST:PORT/?tls=verify&tls_ca=FILE",
)
@click.option("--max-tenants", type=WholeNumber(1, 1_000_000), metavar="N", help="Place at most N databases there.")
@click.option(
    "--weight", type=WholeNumber(1, 1000), default=1, show_default=True, metavar="W", help="Its share of new databases."
)
@json_option
@pass_toolbox
def add(
    toolbox: Toolbox,
    /,
    name: str,
    db_type: str,
    url_stdin: bool,
    max_tenants: int | None,
    weight: int,
    as_json: bool,
) -> None:
    """Register a server after connecting to it; its login must be able to create databases and logins."""
    url = secret("URL of the server", from_stdin=url_stdin)
    if not url:
        raise click.UsageError("the URL is missing: provide it on standard input and add --url-stdin.")
    heard: list[list[str]] = []
    made = toolbox.parts.manager.servers.add(
        name, db_type, url, max_tenants=max_tenants, weight=weight, notify=lambda *what: heard.extend(what)
    )
    done, remarks = heard

    def tell() -> None:
        say(f"Server {made['name']} is registered: {_place(made)}.")
        say(f"Rights on the server: {_listed(done) or 'nothing was changed'}.")
        _remark(remarks)

    show(as_json, made, tell)


@servers.command("list")
@json_option
@pass_toolbox
def list_(toolbox: Toolbox, as_json: bool) -> None:
    """List the servers and how many databases are on each."""
    found = toolbox.parts.manager.servers()

    def tell() -> None:
        if not found:
            say("No server is registered. To register one: `unify servers add NAME --type T --url-stdin`.")
            return
        headings = ("name", "type", "host", "state", "databases", "kept ready", "limit", "weight")
        table(headings, map(_row, found))

    show(as_json, {"items": found}, tell)


@servers.command()
@click.argument("name", metavar="NAME")
@json_option
@pass_toolbox
def test(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Connect to a server and check that its login may create databases and logins."""
    found = toolbox.parts.manager.servers.test(name)

    def tell() -> None:
        if found["ok"]:
            rights = "; its login may create databases and logins" if found["may_create"] else ""
            say(f"Server {found['name']} answered in {found['latency_ms']:.1f} ms{rights}.")
            _remark(found["remarks"])

    show(as_json, found, tell)
    if not found["ok"]:
        raise Failed(f"Server {found['name']} failed the test: {found['message']}")


@servers.command()
@click.argument("name", metavar="NAME")
@json_option
@pass_toolbox
def tidy(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Remove unused templates, and keep tenants' logins out of the server's own databases."""
    found = toolbox.parts.manager.servers.tidy(name)

    def tell() -> None:
        say(f"Server {found['name']}: {_listed(found['done']) or 'there was nothing to do'}.")
        _remark(found["remarks"])

    show(as_json, found, tell)


@servers.command()
@click.argument("name", metavar="[NAME]", required=False)
@json_option
@pass_toolbox
def fill(toolbox: Toolbox, name: str | None, as_json: bool) -> None:
    """Create the databases to keep ready (PENDING_TENANTS) on one server or on all, and retire unusable ones."""
    found = toolbox.parts.manager.pool.fill(name)

    def tell() -> None:
        if not found:
            say("No server is registered. To register one: `unify servers add NAME --type T --url-stdin`.")
            return
        headings = ("name", "wanted", "ready", "created now", "retired now", "")
        names = ("name", "wanted", "ready", "made", "retired")
        table(headings, [[*(row[each] for each in names), _hindered(row)] for row in found])

    show(as_json, {"items": found}, tell)
    failed = [row["name"] for row in found if row["error"]]
    if failed:
        raise Failed(f"{len(failed)} of {len(found)} pools could not be filled: {', '.join(failed)}.")


@servers.command()
@click.argument("name", metavar="NAME")
@json_option
@pass_toolbox
def drain(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Place no new databases on a server; those on it stay."""
    _print_server(as_json, toolbox.parts.manager.servers.drain(name))


@servers.command()
@click.argument("name", metavar="NAME")
@json_option
@pass_toolbox
def accept(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Place new databases on a drained server again."""
    _print_server(as_json, toolbox.parts.manager.servers.accept(name))


@servers.command("set-password")
@click.argument("name", metavar="NAME")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of a terminal.")
@json_option
@pass_toolbox
def set_password(toolbox: Toolbox, name: str, password_stdin: bool, as_json: bool) -> None:
    """Store the new password of a server's login, after connecting with it."""
    password = secret("New password", from_stdin=password_stdin)
    if password is None:
        raise click.UsageError("the password is missing: provide it on standard input and add --password-stdin.")
    made = toolbox.parts.manager.servers.set_password(name, password)
    show(as_json, made, lambda: say(f"The new password of server {made['name']} has been stored."))


@servers.command()
@click.argument("name", metavar="NAME")
@json_option
@pass_toolbox
def remove(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Remove a server that holds no databases from the list."""
    heard: list[list[str]] = []
    toolbox.parts.manager.servers.remove(name, notify=lambda *what: heard.extend(what))
    done, remarks = heard

    def tell() -> None:
        say(f"Server {name} has been removed.{f' On it: {_listed(done)}.' if done else ''}")
        _remark(remarks)

    show(as_json, {"name": name, "removed": True}, tell)


def _row(server: dict[str, Any]) -> list[Any]:
    most = server["max_tenants"] or ""
    return [
        server["name"],
        server["db_type"],
        address(server),
        server["state"],
        server["tenants"],
        _pool(server),
        most,
        server["weight"],
    ]


def _listed(done: list[str]) -> str:
    return "; ".join(done)


def _remark(remarks: list[str]) -> None:
    for remark in remarks:
        say(f"Note: {remark}")


def _pool(server: dict[str, Any]) -> str:
    return f"{server['pending']}{' (failing)' if server['pool_error'] else ''}"


def _hindered(row: dict[str, Any]) -> str:
    return row["error"] or ("another process is filling it" if row["busy"] else "")


def _print_server(as_json: bool, server: dict[str, Any]) -> None:
    said = f"Server {server['name']} is {server['state']}; databases there: {server['tenants']}."
    show(as_json, server, lambda: say(said))


def _place(server: dict[str, Any]) -> str:
    return f"{server['db_type']} on {address(server)}"
