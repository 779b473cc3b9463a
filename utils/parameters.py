"""Define parameters of the commands: users, keys, dates, ``--json``, and secrets, which are never arguments."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.types import UUIDParameterType

from tenancy import names
from tenancy.errors import ConfigurationError
from utils.output import complain
from utils.toolbox import Toolbox, pass_toolbox

if TYPE_CHECKING:
    from tenancy.models import User

SECRET_MAX_BYTES = 4096
NUMBER_MAX = 2**31 - 1


class CommandGroup(click.Group):
    """List commands in the order in which their module defines them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Text(click.ParamType[Any]):
    """Take what ``read`` makes of the text; the message of its ConfigurationError says what is wrong."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._read(value) if isinstance(value, str) else value
        except ConfigurationError as error:
            self.fail(error.message, param, ctx)


class WholeNumber(click.IntRange):
    """Take a whole number in a range, which ends where the catalog's numbers do."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number > NUMBER_MAX:
            self.fail(f"{number} is too large.", param, ctx)
        return number


class Moment(click.DateTime):
    """Take a day, or a moment of it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"{value!r} is not a date: type one such as 2026-03-31, or 2026-03-31T14:30:00 (UTC).", param, ctx
            )


class KeyId(UUIDParameterType):
    """Take the id of an API key."""

    name = "key_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not the id of a key: `unify keys list --user E` shows them.", param, ctx)


USER = Text("user_id", names.user_reference)
USERS = Text("users", names.user_references)
KEY = KeyId()

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def answering(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hand a command the run's Toolbox, and say in ``as_json`` whether it is to print a document."""
    return json_option(pass_toolbox(command))


def on_user(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do as ``answering``, and hand the command the account that its argument names."""

    @wraps(command)
    def with_user(toolbox: Toolbox, /, user: int | str, **given: Any) -> Any:
        return command(toolbox, find_user(toolbox, user), **given)

    return click.argument("user", type=USER, metavar="USER_ID")(answering(with_user))


def find_user(toolbox: Toolbox, ref: int | str) -> User:
    """Return the account with this id or e-mail address."""
    user: User = toolbox.parts.accounts.find(ref)
    return user


def confirm(toolbox: Toolbox, deed: str) -> None:
    """Ask for confirmation of something that cannot be undone, and end the command unless it is given."""
    if not (toolbox.asks or sys.stdin.isatty()):
        raise click.UsageError(f"This would {deed}. Add --yes to confirm.")
    question = f"{deed[0].upper()}{deed[1:]}?"
    if not click.confirm(question, prompt_suffix=" (y/N): ", show_default=False, err=True):
        complain("Nothing was done.")
        raise click.exceptions.Exit(1)


def secret(what: str, *, from_stdin: bool) -> str | None:
    """Read a secret from standard input, or ask a person for it without showing it; None where there is none."""
    if from_stdin:
        return _first_line(what)
    if not sys.stdin.isatty():
        return None
    typed: str = click.prompt(
        f"{what} (Enter for none)",
        default="",
        show_default=False,
        hide_input=True,
        confirmation_prompt="Repeat to confirm",
        err=True,
    )
    return typed or None


def _first_line(what: str) -> str:
    # Editors on Windows put a byte order mark before the text; a person who typed the password did not.
    line = sys.stdin.buffer.readline(len(BOM_UTF8) + SECRET_MAX_BYTES + 2).removeprefix(BOM_UTF8).rstrip(b"\r\n")
    if not line:
        raise click.UsageError(f"{what}: standard input is empty; provide it there, for example with `< file`.")
    if len(line) > SECRET_MAX_BYTES:
        raise click.UsageError(f"{what}: the line on standard input is longer than {SECRET_MAX_BYTES} bytes.")
    if b"\x00" in line:
        raise click.UsageError(f"{what}: standard input contains a NUL character; provide the text in UTF-8.")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{what}: standard input is not UTF-8.") from None
