"""Hold ``unify audit``: proof that nobody changed the audit log."""

from __future__ import annotations

import re

import click

from utils.output import say, show
from utils.parameters import CommandGroup, json_option
from utils.toolbox import Toolbox, pass_toolbox

_HEAD = re.compile(r"[0-9]{1,19}:[0-9a-fA-F]{16,128}")


@click.group(cls=CommandGroup)
def audit() -> None:
    """Check the audit log."""


@audit.command()
@click.option(
    "--expect", metavar="ID:SEAL", help="A head noted earlier (the log tells it now and then): rows cut off show."
)
@json_option
@pass_toolbox
def verify(toolbox: Toolbox, expect: str | None, as_json: bool) -> None:
    """Check every row's seal; name the first broken row."""
    if expect is not None and not _HEAD.fullmatch(expect):
        raise click.BadParameter("type a head as `unify audit verify` prints it, ID:SEAL.", param_hint="--expect")
    found = toolbox.parts.manager.audit_verify(expect)
    show(as_json, found, lambda: say(f"{found['rows']} rows, every seal holds. Head: {found['head']}"))
