"""Hold ``unify credentials``: the keys that seal passwords of databases, and those of backups."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

import tenancy
from utils.output import Failed, Progress, complain, counted, plain, say, show, table
from utils.parameters import CommandGroup, answering, json_option
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.catalog.backups import Backup


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
    """Show which keys stored passwords and backups need, and which are no longer needed."""
    from tenancy.credentials import rotation

    found = rotation.status(toolbox.parts.catalog, toolbox.parts.manager.keyring)
    uses = toolbox.parts.manager.doctor.keys.uses()

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
        if uses:
            rows = [(use.key_id, use.setting, use.backups) for use in uses]
            table(("key", "setting", "backups that need it"), rows)

    show(as_json, found | {"backup_keys": [use.to_dict() for use in uses]}, tell)


@credentials.command("remove-key")
@click.argument("key_id")
@click.option("--force", is_flag=True, help="Remove it although stored backups or passwords need it.")
@answering
def remove_key(toolbox: Toolbox, key_id: str, force: bool, as_json: bool) -> None:
    """Take a key out of .env, unless stored backups or passwords need it: it lists those and refuses.

    KEY_ID is the id of one of TENANT_CREDENTIAL_KEYS, BACKUP_SIGNING_KEYS or BACKUP_RECIPIENTS, as status shows it.
    """
    from utils import key_settings

    use = toolbox.parts.manager.doctor.keys.use(key_id)
    if use is None:
        known = ", ".join(key for keys in key_settings.key_ids(toolbox.settings).values() for key in keys)
        raise Failed(f"there is no key {key_id} in the settings; there are: {known}.")
    if use.needed:
        for backup in use.newest:
            complain(f"backup {backup.id} of {_of(backup)} from {plain(backup.started_at)}")
        needs = f"{counted(use.backups, 'stored backup')} and {counted(use.passwords, 'stored password')} need"
        if not force:
            raise Failed(f"{needs} key {key_id}: without it they are lost. It stays in {use.setting}. See --force.")
        complain(f"{needs} key {key_id}, and are lost without it.")
    key_settings.take_out(use.setting, key_id, toolbox.settings)
    outcome = f"Key {key_id} was taken out of {use.setting} in .env; restart what runs."
    show(as_json, use.to_dict(), lambda: say(outcome))


def _of(backup: Backup) -> str:
    return "the catalog" if backup.user_id is None else f"user {backup.user_id}"


def _tell_unneeded(found: dict[str, Any]) -> None:
    unneeded = [key["key_id"] for key in found["keys"] if not key["needed"]]
    if unneeded:
        say(f"No longer needed in TENANT_CREDENTIAL_KEYS: {', '.join(unneeded)}.")
        say("Backups of the catalog from before the rotation need them: unify credentials remove-key says so.")


def _whose(row: dict[str, Any]) -> str:
    if "server" in row:
        return f"server {row['server']}"
    if "job_id" in row:
        return f"job {row['job_id']}"
    return "the shared database" if row["user_id"] is None else f"user {row['user_id']}"
