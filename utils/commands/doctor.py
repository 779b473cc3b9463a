"""Hold ``unify doctor``: whether backups can be made now, and used when they are needed."""

from __future__ import annotations

import click

from utils.output import Failed, counted, plain, say, show, table
from utils.parameters import answering
from utils.toolbox import Toolbox


@click.command()
@answering
def doctor(toolbox: Toolbox, as_json: bool) -> None:
    """Check keys, storage, records and workers of backups, and say what must be kept elsewhere; fails if one is bad."""
    from tenancy.monitoring.doctor import BAD, KEEP

    found = toolbox.parts.manager.doctor.examine()

    def tell() -> None:
        table(("check", "result", "what was found"), [(each.check, each.state, each.text) for each in found])
        for key in (key for each in found for key in each.keys):
            say(f"Key {key.key_id} is needed by {counted(key.backups, 'backup')}, the newest:")
            for backup in key.newest:
                say(f"  {backup.id} of {_whose(backup.user_id)} from {plain(backup.started_at)}")
        say("Keep these elsewhere than on this machine, and not with the backups:")
        for line in KEEP:
            say(f"- {line}.")

    show(as_json, {"checks": [each.to_dict() for each in found], "keep": KEEP}, tell)
    bad = [each.check for each in found if each.state == BAD]
    if bad:
        raise Failed(f"{counted(len(bad), 'check')} failed: {', '.join(bad)}.")


def _whose(user_id: int | None) -> str:
    return "the catalog" if user_id is None else f"user {user_id}"
