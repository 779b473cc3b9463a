"""Hold ``unify fleet verify``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

import tenancy
from utils.commands.db import TYPES
from utils.output import Failed, Progress, counted, plain, say, show, table
from utils.parameters import USER, answering, find_user
from utils.toolbox import Toolbox

if TYPE_CHECKING:
    from tenancy.fleet.fleet import Checked


@click.command()
@click.argument("users", type=USER, nargs=-1, metavar="[USER_ID]...")
@click.option("--server", metavar="S", help="Only databases on this registered server.")
@click.option(
    "--type", "db_type", type=click.Choice(TYPES), metavar="T", help=f"Only databases of this type: {', '.join(TYPES)}."
)
@click.option(
    "--no-orphans", is_flag=True, help="Do not look for files, databases and logins that belong to no tenant."
)
@click.option("--repair", is_flag=True, help="Repair what is safe to repair, and check again.")
@answering
def verify(
    toolbox: Toolbox,
    /,
    users: tuple[int | str, ...],
    server: str | None,
    db_type: str | None,
    no_orphans: bool,
    repair: bool,
    as_json: bool,
) -> None:
    """Open databases and check owner, revision, tables and rows; then look for what belongs to no tenant.

    Exit 1 if anything is found. Nothing is changed without --repair, and no database, login or row is ever removed.
    """

    manager = toolbox.parts.manager
    if not manager.multi_tenant:
        raise Failed("Users share one database (MULTI_TENANT_MODE=false): there is no fleet to verify.")
    ids = tuple(sorted({find_user(toolbox, user).id for user in users}))
    server_id = manager.servers.get(server)["id"] if server else None
    selection = tenancy.Selection(ids, server_id, db_type)
    checked = _looked(
        manager.fleet.verify(selection, repair=repair, orphans=not no_orphans), manager.fleet.count(selection)
    )
    found = [finding.to_dict() for each in checked for finding in each.found]
    mended = [{"user_id": _user(each), "codes": each.mended} for each in checked if each.mended]
    number = sum(each.tenant is not None for each in checked)
    not_compared = [_user(each) for each in checked if not each.compared]
    document = {"checked": number, "findings": found, "mended": mended, "not_compared": not_compared}
    show(as_json, document, lambda: _tell(document))
    if found:
        outside = " and outside of them" if selection == tenancy.Selection() and not no_orphans else ""
        raise Failed(f"{counted(len(found), 'finding')} in {counted(number, 'database')}{outside}.")


def _looked(checks: Iterable[Checked], total: int) -> list[Checked]:
    """Keep what is worth telling: of ten thousand databases most are well."""
    kept: list[Checked] = []
    with Progress("Verifying", total) as progress:
        for each in checks:
            progress.step() if each.tenant is not None else None
            kept.append(each)
            for finding in each.found:
                progress.complain(f"{_who(each)}{plain(finding.what)} ({finding.code})")
    return kept


def _user(each: Checked) -> int | None:
    return each.tenant.user_id if each.tenant is not None else None


def _who(each: Checked) -> str:
    return f"User {each.tenant.user_id}: " if each.tenant is not None else ""


def _tell(document: dict[str, Any]) -> None:
    say(f"{counted(document['checked'], 'database')} verified, {counted(len(document['findings']), 'finding')}.")
    if document["not_compared"]:
        number = len(document["not_compared"])
        say(
            f"The tables of {counted(number, 'database')} could not be compared: no scratch database is possible there."
        )
    if document["mended"]:
        table(("user", "repaired"), ((each["user_id"], ", ".join(each["codes"])) for each in document["mended"]))
    if document["findings"]:
        names = ("user_id", "code", "what", "repairable")
        table(
            ("user", "code", "finding", "repairable"), ([row[name] for name in names] for row in document["findings"])
        )
