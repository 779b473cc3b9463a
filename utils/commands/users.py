"""Hold ``unify users``: accounts and their rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from utils.output import Failed, counted, reason, say, show, table
from utils.parameters import CommandGroup, answering, on_user, secret
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.models import User

PAGE = 200

force_option = click.option("--force", is_flag=True, help="Do it even to the only active administrator.")


@click.group(cls=CommandGroup)
def users() -> None:
    """Create accounts and change their rights."""


@users.command()
@click.option("--email", required=True, metavar="E", help="The address the account signs in with.")
@click.option("--name", default="", metavar="N", help="The name shown to the user.")
@click.option("--admin", is_flag=True, help="Make it an administrator.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input. Otherwise ask on a terminal; without a terminal, set none.",
)
@answering
def create(toolbox: Toolbox, email: str, name: str, admin: bool, password_stdin: bool, as_json: bool) -> None:
    """Create an account and its database, as registration does."""
    password = secret("Password", from_stdin=password_stdin)
    accounts, manager = toolbox.parts.accounts, toolbox.parts.manager
    user = accounts.create(email, display_name=name, password=password, is_admin=admin)
    failure = _provision(manager, user)

    def tell() -> None:
        say(f"{_who(user)} created{' as an administrator' if user.is_admin else ''}.")
        if password is None:
            say(f"It has no password yet: `unify users set-password {user.id}` sets one. API keys work without.")
        if failure is None:
            own, shared = "Its database is ready.", "Its rows are in the database that all users share."
            say(own if manager.multi_tenant else shared)

    show(as_json, user.to_dict() | {"password_set": password is not None, "database_ready": failure is None}, tell)
    if failure is not None:
        raise failure


@users.command("list")
@click.option("--query", metavar="TEXT", help="Only addresses and names that contain this text.")
@answering
def list_(toolbox: Toolbox, query: str | None, as_json: bool) -> None:
    """List accounts by id."""
    found: list[User] = []
    while page := toolbox.parts.accounts.list(after=found[-1].id if found else 0, limit=PAGE, query=query):
        found += page

    def tell() -> None:
        headings = ("id", "e-mail", "name", "administrator", "active", "created", "last seen")
        rows = ((u.id, u.email, u.display_name, u.is_admin, u.is_active, u.created_at, u.last_seen_at) for u in found)
        table(headings, rows, none="No accounts." if query is None else "No account matches.")

    show(as_json, {"items": [user.to_dict() for user in found]}, tell)


@users.command()
@on_user
def promote(toolbox: Toolbox, user: User, as_json: bool) -> None:
    """Make an account an administrator."""
    _print_user(as_json, toolbox.parts.accounts.promote(user.id), "is now an administrator.")


@users.command()
@force_option
@on_user
def demote(toolbox: Toolbox, user: User, force: bool, as_json: bool) -> None:
    """Make an administrator an ordinary account."""
    _print_user(as_json, toolbox.parts.accounts.demote(user.id, force=force), "is no longer an administrator.")


@users.command("set-password")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of a terminal.")
@on_user
def set_password(toolbox: Toolbox, user: User, password_stdin: bool, as_json: bool) -> None:
    """Set a new password for an account, and end its sessions."""
    password = secret("New password", from_stdin=password_stdin)
    if not password:
        raise click.UsageError("no password was given: type it on a terminal, or add --password-stdin.")
    toolbox.parts.accounts.set_password(user.id, password)
    _print_user(as_json, user, "has a new password; its sessions have ended.")


@users.command("sign-out")
@on_user
def sign_out(toolbox: Toolbox, user: User, as_json: bool) -> None:
    """End every session of an account; its API keys stay."""
    ended = toolbox.parts.accounts.end_sessions(user.id)
    told = f"{_who(user)}: {counted(ended, 'session')} ended."
    show(as_json, {"user_id": user.id, "ended": ended}, lambda: say(told))


@users.command()
@force_option
@on_user
def deactivate(toolbox: Toolbox, user: User, force: bool, as_json: bool) -> None:
    """Deactivate an account; its sessions and keys end with the next request."""
    changed = toolbox.parts.accounts.deactivate(user.id, force=force)
    _print_user(as_json, changed, "has been deactivated; its data stays.")


@users.command()
@on_user
def activate(toolbox: Toolbox, user: User, as_json: bool) -> None:
    """Activate a deactivated account."""
    _print_user(as_json, toolbox.parts.accounts.activate(user.id), "has been activated.")


def _provision(manager: Any, user: User) -> Failed | None:
    """Create the account's database; on failure return the error to end with, as the account stays."""
    try:
        manager.provision(user.id)
    except Exception as error:  # noqa: BLE001 - whatever it was, the caller ends the command with it
        return Failed(
            f"The account {user.id} ({user.email}) was created, but its database was not: {reason(error)} "
            f"Try again with: unify db init {user.id}"
        )
    return None


def _print_user(as_json: bool, user: User, what: str) -> None:
    show(as_json, user.to_dict(), lambda: say(f"{_who(user)} {what}"))


def _who(user: User) -> str:
    return f"Account {user.id} ({user.email})"
