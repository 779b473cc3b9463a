"""Hold ``unify audit``: what was done, by whom, and proof that nobody changed the log."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from utils.output import counted, say, show, table
from utils.parameters import USER, CommandGroup, WholeNumber, answering, find_user
from utils.toolbox import Toolbox

_HEAD = re.compile(r"[0-9]{1,19}:[0-9a-fA-F]{16,128}")


@click.group(cls=CommandGroup)
def audit() -> None:
    """Read and check the audit log."""


@audit.command("list")
@click.option("--action", metavar="NAME", help="Only this action, such as tenant.failed.")
@click.option("--user", type=USER, metavar="USER_ID", help="Only what was done to this account.")
@click.option(
    "--limit", type=WholeNumber(1, 10_000), metavar="N", default=50, show_default=True, help="List at most N rows."
)
@answering
def list_(toolbox: Toolbox, action: str | None, user: int | str | None, limit: int, as_json: bool) -> None:
    """List the audit log, newest first: when, what, to which account, by whom, in which request."""
    of = None if user is None else find_user(toolbox, user).id
    rows = toolbox.parts.manager.audit.page(action=action, user_id=of, limit=limit)

    def tell() -> None:
        shown = [
            (row["id"], row["at"], row["action"], row["email"] or row["user_id"], _by(row), row["request_id"], _of(row))
            for row in rows
        ]
        table(("row", "when", "action", "account", "by", "request", "detail"), shown, none="No row matches.")

    show(as_json, {"items": rows}, tell)


@audit.command()
@click.option(
    "--expect",
    metavar="ID:SEAL",
    help="A head noted earlier (the log prints it now and then), to see if rows were cut off.",
)
@answering
def verify(toolbox: Toolbox, expect: str | None, as_json: bool) -> None:
    """Check the seal of every row; name the first broken row."""
    if expect is not None and not _HEAD.fullmatch(expect):
        raise click.BadParameter("type a head as `unify audit verify` prints it, ID:SEAL.", param_hint="'--expect'")
    found = toolbox.parts.manager.audit.verify(expect)
    show(as_json, found, lambda: say(f"{counted(found['rows'], 'row')}, all seals are intact. Head: {found['head']}"))


def _by(row: dict[str, Any]) -> str:
    return ", ".join(str(each) for each in (row["actor_email"] or row["actor_id"], row["actor"]) if each)


def _of(row: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in row["detail"].items()
    )
