"""Hold ``unify credentials``: the keys that seal passwords of databases, and those of backups."""

from __future__ import annotations

import sys
from typing import Any

import click

import tenancy
from utils.output import Failed, Progress, complain, counted, say, show, table
from utils.parameters import CommandGroup, answering, json_option
from utils.toolbox import Toolbox


@click.group(cls=CommandGroup)
def credentials() -> None:
    """Create and change the keys that seal database passwords, and make those of backups."""


@credentials.command("generate-key")
@json_option
def generate_key(as_json: bool) -> None:
    """Print a fresh key; put it first in TENANT_CREDENTIAL_KEYS."""

    key = tenancy.generate_key()
    show(as_json, {"key": key}, lambda: click.echo(key))


@credentials.command("generate-signing-key")
@json_option
def generate_signing_key(as_json: bool) -> None:
    """Print a fresh key that signs the records of backups; put it first in BACKUP_SIGNING_KEYS."""
    from tenancy.credentials import signing

    key = signing.generate_signing_key()
    show(as_json, {"key": key}, lambda: click.echo(key))


@credentials.command("generate-identity")
@json_option
def generate_identity(as_json: bool) -> None:
    """Print a fresh pair of keys for backups, as a file of the age format: send it to a file that stays elsewhere.

    Its public half, age1..., goes into BACKUP_RECIPIENTS. Its secret half opens the backups; a machine that only makes
    them does not need it.
    """
    from tenancy.archive import encryption

    public, secret = encryption.generate_identity()

    def tell() -> None:
        click.echo(f"# public key: {public}\n{secret}")
        if not sys.stdout.isatty():
            complain(f"BACKUP_RECIPIENTS={public}")
        complain("Whoever has the secret key opens the backups, and without it nobody does: keep it elsewhere, twice.")

    show(as_json, {"public": public, "secret": secret}, tell)


@credentials.command()
@answering
def rotate(toolbox: Toolbox, as_json: bool) -> None:
    """Seal every stored password under the newest key; if it is stopped, run it again to finish."""
    from tenancy.credentials import rotation

    catalog, keyring = toolbox.parts.catalog, toolbox.parts.manager.keyring
    waiting = rotation.status(catalog, keyring)["to_rotate"]
    with Progress("Sealing again", waiting) as progress:
        done = rotation.rotate(catalog, keyring, on_step=lambda name: progress.step())

    def tell() -> None:
        say(f"{counted(done['rotated'], 'password')} sealed under the newest key, {done['changed_meanwhile']} changed.")
        _tell_unneeded(done)

    show(as_json, done, tell)
    if done["failed"]:
        named = ", ".join(f"{_whose(row)} ({row['code']})" for row in done["failed"][:20])
        raise Failed(f"{counted(len(done['failed']), 'secret')} could not be opened and left unchanged: {named}.")


@credentials.command()
@answering
def status(toolbox: Toolbox, as_json: bool) -> None:
    """Show which keys stored passwords need, and which are no longer needed."""
    from tenancy.credentials import rotation

    found = rotation.status(toolbox.parts.catalog, toolbox.parts.manager.keyring)

    def tell() -> None:
        columns = ("key_id", "newest", "used_by", "needed")
        table(("key", "newest", "seals", "needed"), [[key[name] for name in columns] for key in found["keys"]])
        for key_id, count in found["unknown_keys"].items():
            say(f"{counted(count, 'password')} sealed under key {key_id}: put it back into TENANT_CREDENTIAL_KEYS.")
        if found["unreadable"]:
            say(f"{counted(found['unreadable'], 'password')} cannot be read: unify credentials rotate names them.")
        if found["to_rotate"]:
            say(f"{counted(found['to_rotate'], 'password')} under older keys: run unify credentials rotate.")
        _tell_unneeded(found)

    show(as_json, found, tell)


def _tell_unneeded(found: dict[str, Any]) -> None:
    unneeded = [key["key_id"] for key in found["keys"] if not key["needed"]]
    if unneeded:
        say(f"No longer needed in TENANT_CREDENTIAL_KEYS: {', '.join(unneeded)}.")


def _whose(row: dict[str, Any]) -> str:
    if "server" in row:
        return f"server {row['server']}"
    if "job_id" in row:
        return f"job {row['job_id']}"
    return "the shared database" if row["user_id"] is None else f"user {row['user_id']}"
