"""Hold ``unify restore``: put a user's database back to a backup, and undo that again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from utils.output import counted, say, show
from utils.parameters import confirm, on_user, secret
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.archive.encryption import Identities
    from tenancy.models import User


@click.command()
@on_user
@click.argument("backup_id", metavar="[BACKUP]", required=False)
@click.option("--as-new-user", metavar="EMAIL", help="Leave the user alone and make a new account with these rows.")
@click.option("--only-tables", metavar="T", help="Only these tables, with commas between them; the others stay.")
@click.option("--undo", is_flag=True, help="Switch back to the database that the last restore replaced.")
@click.option(
    "--discard-newer", is_flag=True, help="With --undo: although rows were written since; they are kept aside."
)
@click.option("--passphrase-stdin", is_flag=True, help="Read the passphrase of the backup from standard input.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(
    toolbox: Toolbox,
    user: User,
    backup_id: str | None,
    as_new_user: str | None,
    only_tables: str | None,
    undo: bool,
    discard_newer: bool,
    passphrase_stdin: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Put a user's database back to a BACKUP; what is replaced is kept, and --undo brings it back.

    BACKUP is an id, at least 8 of its first digits, or `latest`. `unify backup list --user USER_ID` shows them.
    """
    if undo:
        if backup_id or as_new_user or only_tables:
            raise click.UsageError("--undo takes no backup and no other option than --discard-newer")
        return _undo(toolbox, user, discard_newer, yes, as_json)
    if discard_newer:
        raise click.UsageError("--discard-newer goes with --undo")
    if backup_id is None:
        raise click.UsageError("name a BACKUP, or latest")
    if as_new_user and only_tables:
        raise click.UsageError("--as-new-user takes all tables: leave out --only-tables")
    from tenancy.catalog.backups import BackupFilter

    parts = toolbox.parts
    mine = user.id if parts.manager.multi_tenant else None  # one shared database is nobody's
    found = parts.manager.backups.find(backup_id, BackupFilter(user_id=mine))
    keys = _identities(passphrase_stdin)
    if as_new_user:
        made, done = parts.accounts_from_backups.create(as_new_user, found.id, identities=keys)
        told = f"{made.email} is user {made.id}, with {counted(done.rows, 'row')}; it has no password yet."
        show(as_json, {"user_id": made.id, "rows": done.rows}, lambda: say(told))
        return None
    if not yes:
        deed = f"put the database of {user.email} back to {found.started_at:%Y-%m-%d %H:%M} UTC (undo brings it back)"
        confirm(toolbox, deed)
    tables = [name.strip() for name in (only_tables or "").split(",") if name.strip()]
    restored = parts.manager.restores.restore(user.id, found.id, identities=keys, only_tables=tables)
    document = {"user_id": user.id, "backup_id": str(found.id), "rows": restored.rows}
    document["kept"] = restored.kept.id if restored.kept else None

    def tell() -> None:
        what = f"the rows of {', '.join(tables)}" if tables else f"the {counted(restored.rows, 'row')}"
        say(f"{user.email} has {what} of {found.started_at:%Y-%m-%d %H:%M} UTC again.")
        if restored.kept:
            say(f"What was replaced is kept: `unify restore {user.id} --undo` brings it back.")

    show(as_json, document, tell)
    return None


def _undo(toolbox: Toolbox, user: User, discard_newer: bool, yes: bool, as_json: bool) -> None:
    if not yes:
        confirm(toolbox, f"undo the last restore of {user.email}")
    done = toolbox.parts.manager.restores.undo(user.id, discard_newer=discard_newer)
    document = {"user_id": user.id, "newer_rows": done.written.rows, "tables": list(done.written.tables)}
    aside = (
        f" What was written since is kept aside (at least {counted(done.written.rows, 'row')})."
        if done.written.rows
        else ""
    )
    show(as_json, document, lambda: say(f"{user.email} has the database from before the restore again.{aside}"))


def _identities(passphrase_stdin: bool) -> Identities | None:
    """Return the passphrase that opens the backup, if one is typed; else the settings say what opens it."""
    if not passphrase_stdin:
        return None
    from tenancy.archive.encryption import Identities

    return Identities.by_passphrase(secret("Passphrase", from_stdin=True) or "")
