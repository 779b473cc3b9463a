"""Read what operators type: who a user is, secrets that never stand on a command line, and ``--json``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tenancy.models import User
    from utils.toolbox import Toolbox

SECRET_MAX_BYTES = 4096


class CommandGroup(click.Group):
    """List commands in the order in which they stand in their module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class UserRef(click.ParamType[int | str]):
    """Take a user's integer id or e-mail address."""

    name = "user_id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        from tenancy import names
        from tenancy.errors import ConfigurationError

        try:
            return value if isinstance(value, int) else names.user_reference(str(value))
        except ConfigurationError as error:
            self.fail(error.message, param, ctx)


class UserRefs(click.ParamType[list[int | str]]):
    """Take several of them, with commas between."""

    name = "users"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int | str]:
        from tenancy import names
        from tenancy.errors import ConfigurationError

        try:
            return value if isinstance(value, list) else names.user_references(str(value))
        except ConfigurationError as error:
            self.fail(error.message, param, ctx)


USER = UserRef()
USERS = UserRefs()

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def find_user(toolbox: Toolbox, ref: int | str) -> User:
    """Give the account that an id or an e-mail address names."""
    user: User = toolbox.parts.accounts.find(ref)
    return user


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
        confirmation_prompt="The same again",
        err=True,
    )
    return typed or None


def _first_line(what: str) -> str:
    line = sys.stdin.buffer.readline(SECRET_MAX_BYTES + 2).rstrip(b"\r\n")
    if not line:
        raise click.UsageError(f"{what}: standard input is empty; write it there, for example with `< file`.")
    if len(line) > SECRET_MAX_BYTES:
        raise click.UsageError(f"{what}: the line on standard input is over {SECRET_MAX_BYTES} bytes.")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{what}: standard input is not UTF-8.") from None
