"""Hold ``unify db leftovers``: databases that no user has any more and that may still be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from utils.output import Failed, place, say, show, table
from utils.parameters import WholeNumber, answering
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy import TenantManager
    from tenancy.models import Leftover

WHY = {
    "replaced": "its user has another database",
    "forgotten": "an operator gave it up",
    "half_made": "its creation was interrupted",
    "kept": "a restore replaced it; undoing that needs it",
}
"""What each reason means; a new one is shown by its own name."""


@click.command()
@click.option("--remove", is_flag=True, help="Try to remove each of them now, but those that a restore keeps.")
@click.option("--kept", is_flag=True, help="With --remove: also those, so that no restore can be undone any more.")
@click.option(
    "--confirm", type=WholeNumber(1), metavar="ID", help="Take this one off the list: you know that it is gone."
)
@answering
def leftovers(toolbox: Toolbox, remove: bool, kept: bool, confirm: int | None, as_json: bool) -> None:
    """List databases that no user has any more and that may still exist."""
    if kept and not remove:
        raise click.UsageError("--kept goes with --remove")
    manager = toolbox.parts.manager
    done = []
    if confirm is not None:
        done.append(f"Taken off the list: {_named(manager.leftovers.confirm(confirm))}.")
    if remove:
        found = [left for left in _listed(manager) if kept or left.reason != "kept"]
        there = {left.id for left in manager.leftovers.clear(found)}
        done += [f"Removed: {_named(left)}." for left in found if left.id not in there]
    rows: list[dict[str, Any]] = [{"id": left.id, "reason": left.reason} | left.to_dict() for left in _listed(manager)]

    def tell() -> None:
        for line in done:
            say(line)
        cells = [
            (r["id"], r["user_id"], r["db_type"], WHY.get(r["reason"], r["reason"]), r["last_error"], place(r))
            for r in rows
        ]
        headings = ("id", "user", "type", "why nobody uses it", "why it is still there", "where")
        table(headings, cells, none="No databases are left behind.")

    show(as_json, {"items": rows}, tell)
    staying = [row for row in rows if kept or row["reason"] != "kept"]
    if remove and staying:
        raise Failed(
            f"{len(staying)} of the databases left behind could not be removed; the list says why. "
            "If you know that one of them is gone: unify db leftovers --confirm ID"
        )


def _listed(manager: TenantManager) -> Iterator[Leftover]:
    after = 0
    while page := manager.leftovers.listed(after):
        yield from page
        after = page[-1].id


def _named(left: Leftover) -> str:
    return f"the database of user {left.user_id}, {place(left.to_dict())}"
