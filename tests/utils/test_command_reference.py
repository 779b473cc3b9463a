"""Compare docs/reference/commands.md with the click tree and the menu: what one has, the other has."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from utils.cli import unify
from utils.menu import ENTRIES

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "commands.md"


def leaves(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(" ".join(path), command)]
    ctx = click.Context(command, info_name=path[-1])
    found = []
    for name in command.list_commands(ctx):
        child = command.get_command(ctx, name)
        assert child is not None
        found += leaves(child, (*path, name))
    return found


COMMANDS = dict(leaves(unify, ("unify",)))


def section(path: str, command: click.Command) -> str:
    """Write a command's part of the reference, as it has to stand there."""
    ctx = click.Context(command, info_name=path)
    arguments = [p.make_metavar(ctx) for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    described = " ".join((command.help or "").split())
    lines = [f"### `{' '.join([path, *arguments])}`", "", described, ""]
    if options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [
            "| `{}` | {} |".format(*(text.replace("|", r"\|") for text in (term, meaning)))
            for term, meaning in filter(None, (o.get_help_record(ctx) for o in options))
        ]
        lines += [""]
    return "\n".join(lines)


def menu_table() -> str:
    rows = [
        f"| {number} | {entry.title} | `unify {' '.join((*entry.words, *entry.options))}` |"
        for number, entry in enumerate(ENTRIES, 1)
    ]
    return "\n".join(["| number | entry | command |", "|---|---|---|", *rows, "| 0 | Exit | |"])


@pytest.mark.parametrize("path", COMMANDS)
def test_the_reference_describes_every_command_as_the_command_does(path):
    wanted = section(path, COMMANDS[path])
    assert wanted in REFERENCE.read_text(encoding="utf-8"), f"put this into {REFERENCE.name}:\n{wanted}"


def test_the_reference_names_no_command_that_does_not_exist():
    headings = re.findall(r"^### `(unify [a-z -]+[a-z])", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(COMMANDS)


def test_the_reference_shows_the_menu_as_it_is():
    wanted = menu_table()
    assert wanted in REFERENCE.read_text(encoding="utf-8"), f"put this into {REFERENCE.name}:\n{wanted}"


def test_every_menu_entry_is_a_command():
    for entry in ENTRIES:
        assert " ".join(("unify", *entry.words)) in COMMANDS
