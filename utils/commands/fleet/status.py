"""Hold ``unify fleet status``."""

from __future__ import annotations

from typing import Any

import click

from utils.output import Failed, columns, say, show, table
from utils.parameters import answering
from utils.toolbox import Toolbox

SHOWN = 50


@click.command()
@answering
def status(toolbox: Toolbox, as_json: bool) -> None:
    """Show how many databases are at the code's revision, and why the others are not; exit 1 if any is not.

    This reads the catalog and opens no database: `unify fleet verify` does that.
    """
    manager = toolbox.parts.manager
    if not manager.multi_tenant:
        raise Failed("Users share one database (MULTI_TENANT_MODE=false): see unify db status.")
    found = manager.fleet.status()
    needy = manager.fleet.behind(limit=SHOWN)
    show(as_json, found | {"not_at_head": needy}, lambda: _tell(found, needy))
    if found["at_head"] != found["total"]:
        missing = found["total"] - found["at_head"]
        raise Failed(
            f"{missing} of {found['total']} databases are not at {found['head']}. To migrate them: unify fleet migrate"
        )


def _tell(found: dict[str, Any], needy: list[dict[str, Any]]) -> None:
    counts = ", ".join(f"{found[name]} {name}" for name in ("behind", "ahead", "edited", "unknown") if found[name])
    say(f"{found['at_head']} of {found['total']} databases are at {found['head']}{'; ' + counts if counts else ''}.")
    if found["failed"] or found["offline"]:
        say(f"Of these, {found['failed']} failed and {found['offline']} did not answer at the last attempt.")
    if needy:
        names = ("user_id", "email", "db_type", "state", "revision", "behind_by", "standing", "reason")
        headings = ("user", "email", "type", "state", "at", "behind by", "standing", "reason")
        table(headings, columns(needy, names))
    if found["total"] - found["at_head"] > len(needy):
        say(f"The first {len(needy)} are shown.")
