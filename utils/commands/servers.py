"""Hold ``unify servers``: the database servers on which users' databases are placed."""

from __future__ import annotations

from typing import Any

import click

from utils.output import Failed, address, say, show, table
from utils.parameters import CommandGroup, WholeNumber, answering, secret
from utils.toolbox import Toolbox

TYPES = ("postgresql", "mysql", "sqlserver")
NONE = "No server is registered. To register one: `unify servers add NAME --type T --url-stdin`."


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
    "--weight",
    type=WholeNumber(1, 1000),
    default=1,
    show_default=True,
    metavar="W",
    help="Relative share: a server of weight 2 gets twice as many databases as one of weight 1.",
)
@answering
def add(toolbox: Toolbox, /, name: str, db_type: str, url_stdin: bool, as_json: bool, **limits: Any) -> None:
    """Register a server after connecting to it; its login must be able to create databases and logins."""
    url = secret("URL of the server", from_stdin=url_stdin)
    if not url:
        raise click.UsageError("the URL is missing: provide it on standard input and add --url-stdin.")
    heard: list[list[str]] = []
    made = toolbox.parts.manager.servers.add(name, db_type, url, **limits, notify=lambda *what: heard.extend(what))
    done, remarks = heard

    def tell() -> None:
        say(f"Server {made['name']} is registered: {made['db_type']} on {address(made)}.")
        say(f"Rights on the server: {'; '.join(done) or 'nothing was changed'}.")
        _remark(remarks)

    show(as_json, made, tell)


@servers.command("list")
@answering
def list_(toolbox: Toolbox, as_json: bool) -> None:
    """List the servers and how many databases are on each."""
    found = toolbox.parts.manager.servers()

    def tell() -> None:
        headings = ("name", "type", "host", "state", "databases", "kept ready", "limit", "weight")
        table(headings, map(_row, found), none=NONE)

    show(as_json, {"items": found}, tell)


@servers.command()
@click.argument("name", metavar="NAME")
@answering
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
@answering
def tidy(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Remove unused templates, and keep tenants' logins out of the server's own databases."""
    found = toolbox.parts.manager.servers.tidy(name)

    def tell() -> None:
        say(f"Server {found['name']}: {'; '.join(found['done']) or 'there was nothing to do'}.")
        _remark(found["remarks"])

    show(as_json, found, tell)


@servers.command()
@click.argument("name", metavar="[NAME]", required=False)
@answering
def fill(toolbox: Toolbox, name: str | None, as_json: bool) -> None:
    """Create the databases to keep ready (PENDING_TENANTS) on one server or on all, and retire unusable ones."""
    found = toolbox.parts.manager.pool.fill(name)

    def tell() -> None:
        headings = ("name", "wanted", "ready", "created now", "retired now", "")
        names = ("name", "wanted", "ready", "made", "retired")
        table(headings, [[*(row[each] for each in names), _hindered(row)] for row in found], none=NONE)

    show(as_json, {"items": found}, tell)
    failed = [row["name"] for row in found if row["error"]]
    if failed:
        raise Failed(f"{len(failed)} of {len(found)} pools could not be filled: {', '.join(failed)}.")


@servers.command()
@click.argument("name", metavar="NAME")
@answering
def drain(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Place no new databases on a server; those on it stay."""
    _print_server(as_json, toolbox.parts.manager.servers.drain(name))


@servers.command()
@click.argument("name", metavar="NAME")
@answering
def accept(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Place new databases on a drained server again."""
    _print_server(as_json, toolbox.parts.manager.servers.accept(name))


@servers.command("set-password")
@click.argument("name", metavar="NAME")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of a terminal.")
@answering
def set_password(toolbox: Toolbox, name: str, password_stdin: bool, as_json: bool) -> None:
    """Store the new password of a server's login, after connecting with it."""
    password = secret("New password", from_stdin=password_stdin)
    if password is None:
        raise click.UsageError("the password is missing: provide it on standard input and add --password-stdin.")
    made = toolbox.parts.manager.servers.set_password(name, password)
    show(as_json, made, lambda: say(f"The new password of server {made['name']} has been stored."))


@servers.command()
@click.argument("name", metavar="NAME")
@answering
def remove(toolbox: Toolbox, name: str, as_json: bool) -> None:
    """Remove a server that holds no user's database from the list, and drop the databases kept ready there."""
    heard: list[list[str]] = []
    toolbox.parts.manager.servers.remove(name, notify=lambda *what: heard.extend(what))
    done, remarks = heard

    def tell() -> None:
        on_it = f" On it: {'; '.join(done)}." if done else ""
        say(f"Server {name} has been removed.{on_it}")
        _remark(remarks)

    show(as_json, {"name": name, "removed": True}, tell)


def _row(server: dict[str, Any]) -> list[Any]:
    where, most = address(server), server["max_tenants"] or ""
    pool = f"{server['pending']}{' (failing)' if server['pool_error'] else ''}"
    return [server["name"], server["db_type"], where, server["state"], server["tenants"], pool, most, server["weight"]]


def _remark(remarks: list[str]) -> None:
    for remark in remarks:
        say(f"Note: {remark}")


def _hindered(row: dict[str, Any]) -> str:
    return row["error"] or ("another process is filling it" if row["busy"] else "")


def _print_server(as_json: bool, server: dict[str, Any]) -> None:
    said = f"Server {server['name']} is {server['state']}; databases there: {server['tenants']}."
    show(as_json, server, lambda: say(said))
