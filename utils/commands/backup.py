"""Hold ``unify backup``: make, list, check and delete backups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from utils.output import Failed, complain, counted, pairs, say, show, table
from utils.parameters import USER, CommandGroup, WholeNumber, answering, confirm, find_user
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.catalog.backups import Backup
    from tenancy.lifecycle.backup_many import BackupResult
    from tenancy.lifecycle.stored_backups import Verified

STATES = ("good", "failed", "damaged", "gone")
SHOWN = 50


@click.group(cls=CommandGroup)
def backup() -> None:
    """Make, list, check and delete backups; `unify restore` puts one back."""


@backup.command()
@click.argument("user", type=USER, metavar="[USER_ID]", required=False)
@click.option("--all", "everyone", is_flag=True, help="Every user's database; one that fails is named.")
@click.option("--catalog", is_flag=True, help="The catalog itself: users, and where their databases are.")
@answering
def create(toolbox: Toolbox, user: int | str | None, everyone: bool, catalog: bool, as_json: bool) -> None:
    """Back up one user's database, all of them, or the catalog."""
    if [user is not None, everyone, catalog].count(True) != 1:
        raise click.UsageError("name one user, or --all, or --catalog")
    backups = toolbox.parts.manager.backups
    if everyone:
        return _create_all(toolbox, as_json)
    made = backups.create_catalog() if catalog else backups.create(find_user(toolbox, user or 0).id)
    show(
        as_json, _shown(made), lambda: say(f"{_named(made)}: backup {made.id}, {counted(made.row_count or 0, 'row')}.")
    )
    return None


def _create_all(toolbox: Toolbox, as_json: bool) -> None:
    def tell(result: BackupResult) -> None:
        if result.error is not None:
            complain(f"User {result.user_id} ({result.email}): {result.error.message}")

    results = toolbox.parts.manager.backups.create_all(tell)
    failed = [each for each in results if not each.ok]
    document = {
        "created": len(results) - len(failed),
        "failed": [{"user_id": each.user_id, "error": each.error.message} for each in failed if each.error],
    }
    show(as_json, document, lambda: say(f"{counted(len(results) - len(failed), 'backup')} made."))
    if failed:
        raise Failed(f"{counted(len(failed), 'database')} could not be backed up; run the same command again.")


@backup.command("list")
@click.option("--user", type=USER, metavar="U", help="Only backups of this user's databases.")
@click.option("--state", type=click.Choice(STATES), metavar="S", help=f"Only backups that are {', '.join(STATES)}.")
@click.option("--catalog", is_flag=True, help="Only backups of the catalog.")
@click.option(
    "--limit", type=WholeNumber(1, 100_000), default=SHOWN, metavar="N", help="List at most N; 50 by default."
)
@answering
def list_backups(
    toolbox: Toolbox, user: int | str | None, state: str | None, catalog: bool, limit: int, as_json: bool
) -> None:
    """List the backups that the catalog knows, newest first."""
    from tenancy.catalog.backups import BackupFilter

    user_id = None if user is None else find_user(toolbox, user).id
    wanted = BackupFilter(user_id=user_id, state=state, kind="catalog" if catalog else None)
    found = toolbox.parts.manager.backups.listed(wanted, limit=limit)
    rows = [
        (
            each.id,
            _whose(each),
            each.started_at,
            each.state,
            each.row_count,
            each.size_bytes,
            each.verified_at,
            each.error,
        )
        for each in found
    ]
    headings = ("backup", "of", "made", "state", "rows", "bytes", "verified", "error")
    show(as_json, {"items": [_shown(each) for each in found]}, lambda: table(headings, rows, none="No backups."))


@backup.command("show")
@click.argument("backup_id", metavar="BACKUP")
@answering
def show_backup(toolbox: Toolbox, backup_id: str, as_json: bool) -> None:
    """Show a backup: what the catalog knows, and the rows of each table from its record."""
    backups = toolbox.parts.manager.backups
    found = backups.find(backup_id)
    document = _shown(found)
    if found.state in ("good", "damaged"):
        document["tables"] = dict(backups.record(found).rows)

    def tell() -> None:
        pairs({name: value for name, value in document.items() if name != "tables" and value not in (None, "")})
        if "tables" in document:
            table(("table", "rows"), sorted(document["tables"].items()))

    show(as_json, document, tell)


@backup.command()
@click.argument("backup_id", metavar="[BACKUP]", required=False)
@click.option("--all", "again", is_flag=True, help="Also those that were verified before.")
@click.option("--by-restoring", is_flag=True, help="Load each into a scratch database as well; needs the secret key.")
@answering
def verify(toolbox: Toolbox, backup_id: str | None, again: bool, by_restoring: bool, as_json: bool) -> None:
    """Check one backup, or every one that never was checked, from its first byte to its last."""
    backups = toolbox.parts.manager.backups

    def tell(found: Verified) -> None:
        if not as_json:
            why = f" {found.error.message}" if found.error else f" ({found.how})"
            say(f"{found.backup.id}: {'whole' if found.ok else 'damaged:'}{why}")

    if backup_id is not None:
        done = [backups.verify(backups.find(backup_id).id, by_restoring=by_restoring)]
        tell(done[0])
    else:
        done = backups.verify_all(tell, again=again, by_restoring=by_restoring)
    items = [
        {"id": str(each.backup.id), "ok": each.ok, "how": each.how, "error": each.error.message if each.error else None}
        for each in done
    ]
    bad = [each for each in done if not each.ok]
    show(as_json, {"items": items}, lambda: say(f"{counted(len(done) - len(bad), 'backup')} found whole."))
    if bad:
        raise Failed(f"{counted(len(bad), 'backup')} cannot be used any more: make new ones.")


@backup.command()
@click.option("--keep", required=True, metavar="RULE", help="For example daily=7,weekly=4,monthly=12.")
@click.option("--yes", is_flag=True, help="Delete them; without it the command only says what it would delete.")
@answering
def prune(toolbox: Toolbox, keep: str, yes: bool, as_json: bool) -> None:
    """Delete the backups that a rule does not keep; the last good one of a database always stays."""
    found = toolbox.parts.manager.backups.prune(keep, dry_run=not yes)
    document = {
        "dry_run": not yes,
        "backups": [_shown(each) for each in found.backups],
        "partial": [str(each.place.backup_id) for each in found.partial],
        "staying": [{"backup": name, "why": why} for name, why in found.staying],
    }

    def tell() -> None:
        rows = [(each.id, _whose(each), each.started_at, each.state, each.size_bytes) for each in found.backups]
        table(("backup", "of", "made", "state", "bytes"), rows, none="Every backup is kept.")
        if found.partial:
            say(f"{counted(len(found.partial), 'file')} of interrupted backups as well.")
        if not yes and (rows or found.partial):
            say("Nothing was deleted: add --yes to delete these.")

    show(as_json, document, tell)
    if found.staying:
        name, why = found.staying[0]
        raise Failed(f"{counted(len(found.staying), 'backup')} could not be deleted, for example {name}: {why}")


@backup.command()
@click.argument("backup_id", metavar="BACKUP")
@click.option("--force", is_flag=True, help="Even the last good one of a database.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@answering
def delete(toolbox: Toolbox, backup_id: str, force: bool, yes: bool, as_json: bool) -> None:
    """Delete one backup from the storage, for good."""
    backups = toolbox.parts.manager.backups
    found = backups.find(backup_id)
    if not yes:
        confirm(toolbox, f"delete backup {found.id} of {_whose(found)} for good")
    backups.delete(found.id, force=force)
    show(as_json, _shown(found), lambda: say(f"Backup {found.id} is deleted."))


@backup.command()
@answering
def learn(toolbox: Toolbox, as_json: bool) -> None:
    """Read the records in the storage, so that the catalog knows every backup there."""
    learned = toolbox.parts.manager.backups.learn()
    unreadable = [{"key": each.key, "why": each.error.message} for each in learned.unreadable]

    def tell() -> None:
        say(f"{counted(learned.new, 'backup')} new to the catalog; {learned.gone} of those that it knows are gone.")
        for each in unreadable:
            complain(each["why"])

    show(as_json, {"new": learned.new, "gone": learned.gone, "unreadable": unreadable}, tell)
    if unreadable:
        raise Failed(f"{counted(len(unreadable), 'record')} in the storage cannot be believed.")


def _shown(found: Backup) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        name: value if isinstance(value, (int, type(None))) else str(value) for name, value in asdict(found).items()
    }


def _whose(found: Backup) -> str:
    if found.kind == "catalog":
        return "the catalog"
    return "the shared database" if found.user_id is None else f"user {found.user_id}"


def _named(found: Backup) -> str:
    text = _whose(found)
    return text[0].upper() + text[1:]
