"""Hold ``unify fleet new-revision``, for people who change the tables."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from utils.output import say, show
from utils.parameters import answering
from utils.toolbox import Toolbox


@click.command("new-revision")
@click.argument("message")
@answering
def new_revision(toolbox: Toolbox, message: str, as_json: bool) -> None:
    """Write the next revision of users' databases from the models, and say what to check in it.

    It is tried on a scratch database: up, down and up again. No user's database is touched and no file is overwritten.
    Changes that the previous version of the application could not work with are marked destructive.
    """
    from tenancy.schema import new_revision as revisions

    manager = toolbox.parts.manager
    made = revisions.new_revision(manager.chain, manager.schema.metadata, message, tidy=_laid_out)
    found = {
        "revision": made.revision,
        "path": str(made.path),
        "checksum": made.checksum,
        "destructive": made.destructive,
        "breaks": made.breaks,
        "look_at": made.look_at,
    }
    show(as_json, found, lambda: _tell(found))


def _tell(found: dict[str, Any]) -> None:
    say(f"Revision {found['revision']} is {found['path']}, SHA-256 {found['checksum']}.")
    if found["destructive"]:
        say(f"It is marked destructive, because it {'; '.join(found['breaks'])}.")
    for line in found["look_at"]:
        say(f"Check {line}")
    if find_spec("ruff") is None:
        say("ruff is not installed here: format the file before you commit it.")
    say("Read it, and test it on every product: make test. See also docs/how-to/migrations.md.")


def _laid_out(path: Path, text: str) -> str:
    """Format a file as the project's others are, where the tool for that is installed."""
    if find_spec("ruff") is None:
        return text
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=False)
    return done.stdout if done.returncode == 0 else text
