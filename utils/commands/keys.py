"""Hold ``unify keys``: API keys, which are shown once and kept as hashes, and held after a recovery."""

from __future__ import annotations

import sys
import uuid

import click

from utils.output import columns, complain, counted, say, show, table
from utils.parameters import KEY, USER, CommandGroup, WholeNumber, answering, find_user
from utils.toolbox import Toolbox

DAYS_MAX = 3650


@click.group(cls=CommandGroup)
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@click.option("--user", type=USER, required=True, metavar="E", help="Whose key it is: e-mail address or id.")
@click.option("--name", default="", metavar="N", help="What the key is for.")
@click.option("--read-only", is_flag=True, help="Allow the key to read but not to write.")
@click.option(
    "--expires", type=WholeNumber(1, DAYS_MAX), metavar="DAYS", help="Let the key expire after this many days."
)
@answering
def create(toolbox: Toolbox, user: int | str, name: str, read_only: bool, expires: int | None, as_json: bool) -> None:
    """Create a key and print it once."""
    owner = find_user(toolbox, user)
    row, key = toolbox.parts.accounts.issue_key(owner.id, name, read_only=read_only, expires_days=expires)
    show(as_json, row | {"key": key}, lambda: click.echo(key))
    if sys.stdout.isatty() and not as_json:
        complain("Store it now: it is not shown again.")


@keys.command("list")
@click.option("--user", type=USER, required=True, metavar="E", help="Whose keys: e-mail address or id.")
@answering
def list_(toolbox: Toolbox, user: int | str, as_json: bool) -> None:
    """List a user's keys, without the keys themselves."""
    owner = find_user(toolbox, user)
    found = toolbox.parts.accounts.keys(owner.id)

    def tell() -> None:
        names = ("id", "prefix", "name", "read_only", "created_at", "expires_at", "last_used_at", "held")
        headings = ("id", "begins with", "name", "read-only", "created", "expires", "last used", "held")
        table(headings, columns(found, names), none=f"Account {owner.id} ({owner.email}) has no keys.")

    show(as_json, {"items": found}, tell)


@keys.command()
@click.argument("key_id", type=KEY, metavar="KEY_ID")
@answering
def revoke(toolbox: Toolbox, key_id: uuid.UUID, as_json: bool) -> None:
    """Revoke a key; the next request with it is refused. `unify keys list` shows KEY_ID."""
    toolbox.parts.accounts.revoke_key_by_id(key_id)
    show(as_json, {"id": key_id, "revoked": True}, lambda: say(f"Key {key_id} has been revoked."))


@keys.command()
@click.argument("key_id", type=KEY, metavar="[KEY_ID]", required=False)
@click.option("--user", type=USER, metavar="E", help="Confirm all keys of this account: e-mail address or id.")
@click.option("--all", "everybody", is_flag=True, help="Confirm all keys of everybody.")
@answering
def confirm(toolbox: Toolbox, key_id: uuid.UUID | None, user: int | str | None, everybody: bool, as_json: bool) -> None:
    """Let keys that a recovery held give access again; without KEY_ID or an option, list those that are held."""
    accounts = toolbox.parts.accounts
    if sum((key_id is not None, user is not None, everybody)) > 1:
        raise click.UsageError("Name one key, or --user, or --all.")
    if key_id is not None:
        confirmed = int(accounts.confirm_key(key_id))
    elif user is not None or everybody:
        confirmed = accounts.confirm_keys(None if user is None else find_user(toolbox, user).id)
    else:
        return _show_held(toolbox, as_json)
    show(as_json, {"confirmed": confirmed}, lambda: say(f"{counted(confirmed, 'key')} confirmed."))


def _show_held(toolbox: Toolbox, as_json: bool) -> None:
    found = toolbox.parts.accounts.held_keys()

    def tell() -> None:
        names = ("id", "email", "purpose", "prefix", "name", "created_at", "last_used_at")
        headings = ("id", "account", "for", "begins with", "name", "created", "last used")
        table(headings, columns(found, names), none="No keys are held.")

    show(as_json, {"items": found}, tell)
