"""The numbered menu: ask for what is needed, line by line, and run the corresponding command.

Entries 0 to 5 keep their numbers for good. Prompts are plain lines of text, so the menu works in every terminal, over
a pipe, and with a screen reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from utils.cli import unify
from utils.commands.servers import TYPES
from utils.parameters import KEY, USER, WholeNumber
from utils.toolbox import Toolbox


@dataclass(frozen=True)
class Question:
    """One question; ``option`` goes before the answer. An empty answer to a ``needed`` one returns to the menu."""

    text: str
    type: click.ParamType[object] = click.STRING
    option: str | None = None
    needed: bool = True

    def words(self, answer: str) -> list[str]:
        if not answer:
            return []
        return [answer] if self.option is None else [f"{self.option}={answer}"]


@dataclass(frozen=True)
class YesNo(Question):
    """Ask whether to add ``option``."""

    def words(self, answer: str) -> list[str]:
        return [self.option] if self.option and answer in ("y", "yes") else []


@dataclass(frozen=True)
class Entry:
    """One line of the menu, with the words of its command and the questions it asks first."""

    title: str
    words: tuple[str, ...]
    questions: tuple[Question, ...] = ()
    options: tuple[str, ...] = ()


WHO = Question("User id or e-mail", USER)
"""The one question that the fixed entries ask."""

SERVER = Question("Name of the server")

ENTRIES = (
    Entry("Create the configuration table", ("db", "create-config-table")),
    Entry("Initialize one user's database", ("db", "init"), (WHO,)),
    Entry("Initialize all users' databases", ("db", "init-all")),
    Entry("Test a user's connection", ("db", "test"), (WHO,)),
    Entry("Status of all databases", ("db", "status")),
    Entry("List users", ("users", "list")),
    Entry(
        "Create a user",
        ("users", "create"),
        (
            Question("E-mail", option="--email"),
            Question("Name (Enter for none)", option="--name", needed=False),
            YesNo("Administrator? (y/N)", option="--admin", needed=False),
        ),
    ),
    Entry("Make a user an administrator", ("users", "promote"), (WHO,)),
    Entry("Deactivate a user", ("users", "deactivate"), (WHO,)),
    Entry("Activate a user", ("users", "activate"), (WHO,)),
    Entry("Show a user's database", ("db", "info"), (WHO,)),
    Entry("List databases", ("db", "list")),
    Entry("Sizes of all databases", ("db", "stats")),
    Entry("Delete a user's database", ("db", "delete"), (WHO,)),
    Entry(
        "Create an API key",
        ("keys", "create"),
        (
            Question("User id or e-mail", USER, "--user"),
            Question("What it is for (Enter for none)", option="--name", needed=False),
        ),
    ),
    Entry("List a user's API keys", ("keys", "list"), (Question("User id or e-mail", USER, "--user"),)),
    Entry("Revoke an API key", ("keys", "revoke"), (Question("Id of the key", KEY),)),
    Entry("Status of the credential keys", ("credentials", "status")),
    Entry("Seal all passwords under the newest credential key", ("credentials", "rotate")),
    Entry("Verify the audit log", ("audit", "verify")),
    Entry("Suspend a user's database", ("db", "suspend"), (WHO,)),
    Entry("Resume a suspended database", ("db", "resume"), (WHO,)),
    Entry("List database servers", ("servers", "list")),
    Entry("Test a database server", ("servers", "test"), (SERVER,)),
    Entry("Drain a database server", ("servers", "drain"), (SERVER,)),
    Entry("Let a drained server take databases again", ("servers", "accept"), (SERVER,)),
    Entry("Remove a database server", ("servers", "remove"), (SERVER,)),
    Entry(
        "Register a database server",
        ("servers", "add"),
        (
            SERVER,
            Question("Type (postgresql, mysql, sqlserver)", click.Choice(TYPES), "--type"),
            Question("Limit of databases (Enter for none)", WholeNumber(1), "--max-tenants", needed=False),
            Question("Weight (Enter for 1)", WholeNumber(1), "--weight", needed=False),
        ),
    ),
    Entry("Status of the fleet: who is behind", ("fleet", "status")),
    Entry("Migrate all databases", ("fleet", "migrate")),
    Entry("Show the newest fleet run", ("fleet", "show")),
    Entry("Verify all databases", ("fleet", "verify")),
    Entry("Give up a database that cannot be reached", ("db", "delete"), (WHO,), ("--forget",)),
    Entry("List databases that were left behind", ("db", "leftovers")),
    Entry("Try to remove what was left behind", ("db", "leftovers"), (), ("--remove",)),
    Entry(
        "Take a database that is gone off that list",
        ("db", "leftovers"),
        (Question("Id in the list", WholeNumber(1)),),
        ("--confirm",),
    ),
    Entry("Release a database whose operation's process is gone", ("db", "release"), (WHO,)),
)
"""The menu in its order; the first five are fixed by the public interface."""


class Leave(Exception):  # noqa: N818 - it ends the menu, nothing failed
    """Leave the menu: standard input has ended, or the user pressed Ctrl-C at a question."""


def run(toolbox: Toolbox | None = None) -> None:
    """Show the menu and run what is chosen, until 0, the end of standard input, or Ctrl-C."""
    toolbox = toolbox or Toolbox()
    toolbox.asks = True
    try:
        _show()
        while entry := _choose():
            _do(entry, toolbox)
            # Showing the menu again at once would push the command's output off the screen.
            click.echo("\nPress Enter to show the menu.")
    except Leave:
        click.echo()
    click.echo("Goodbye.")


def _show() -> None:
    click.echo("\nUnify: users and their databases")
    for number, entry in enumerate(ENTRIES, 1):
        click.echo(f"{number:>3}  {entry.title}")
    click.echo("  0  Exit")


def _choose() -> Entry | None:
    while True:
        typed = _ask("Choice")
        if typed == "0":
            return None
        if not typed:
            _show()
            continue
        if typed.isascii() and typed.isdigit() and len(typed) <= 4 and 0 < int(typed) <= len(ENTRIES):
            return ENTRIES[int(typed) - 1]
        click.echo(f"{typed!r} is not in the menu: type a number from 1 to {len(ENTRIES)}, or 0 to leave.")


def _do(entry: Entry, toolbox: Toolbox) -> None:
    words = _words(entry.questions)
    if words is None:
        click.echo("Nothing was done.")
        return
    try:
        unify.main(args=[*entry.words, *entry.options, *words], prog_name="unify", obj=toolbox)
    except SystemExit:
        # The command has already printed its outcome; the menu continues after a failure.
        return


def _words(questions: Sequence[Question]) -> list[str] | None:
    """Ask each question; return the words to add to the command, or None if the user went back."""
    words: list[str] = []
    for question in questions:
        answer = _answer(question)
        added = question.words(answer)
        if question.needed and not added:
            return None
        words += added
    return words


def _answer(question: Question) -> str:
    while True:
        typed = _ask(question.text)
        if not typed:
            return typed
        if isinstance(question, YesNo):
            if typed.lower() in ("y", "yes", "n", "no"):
                return typed.lower()
            click.echo(f"{typed!r} is not an answer: type y or n.")
            continue
        try:
            question.type.convert(typed, None, None)
        except click.BadParameter as wrong:
            click.echo(f"{wrong.message} Press Enter to go back.")
            continue
        return typed


def _ask(text: str) -> str:
    try:
        return input(f"{text}: ").strip()
    except UnicodeDecodeError:
        return "?"
    except (EOFError, KeyboardInterrupt):
        raise Leave from None
