"""Hold ``unify fleet``: what concerns all tenants at once. One file a group of its commands."""

from __future__ import annotations

import click

from utils.commands.fleet import revisions, runs, status, verify
from utils.parameters import CommandGroup


@click.group(cls=CommandGroup)
def fleet() -> None:
    """Migrate all databases, see which are behind, and verify them."""


for command in (*runs.COMMANDS, status.status, verify.verify, revisions.new_revision):
    fleet.add_command(command)
