"""The ``unify`` command: import only the subcommand that was asked for, and print errors in one line."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from utils.output import Failed, complain, reason
from utils.toolbox import Toolbox

COMMANDS = {
    "users": "utils.commands.users",
    "keys": "utils.commands.keys",
    "db": "utils.commands.db",
    "servers": "utils.commands.servers",
    "fleet": "utils.commands.fleet",
    "serve": "utils.commands.serve",
    "worker": "utils.commands.worker",
    "jobs": "utils.commands.jobs",
    "schedule": "utils.commands.schedule",
    "credentials": "utils.commands.credentials",
    "audit": "utils.commands.audit",
    "backup": "utils.commands.backup",
    "restore": "utils.commands.restore",
    "recover": "utils.commands.recover",
    "doctor": "utils.commands.doctor",
}
"""Each command and the module that holds it, under the same name."""


class LazyGroup(click.Group):
    """Import a command's module when it is used, and print every failure as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), cmd_name)
        return command

    def make_context(self, *args: Any, **how: Any) -> click.Context:
        try:
            with _usage_in_one_line():
                return super().make_context(*args, **how)
        except BrokenPipeError:
            raise
        except OSError as error:  # the help and the version are printed here
            raise _failure(error, None) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _usage_in_one_line():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            raise _failure(error, ctx.find_object(Toolbox)) from error


class WrongUsage(click.UsageError):
    """Report wrong usage in one line, where click prints four."""

    def show(self, file: Any = None) -> None:
        end = "" if self.message.endswith((".", "?")) else "."
        complain(f"Error: {self.message}{end} Help: {self.ctx.command_path if self.ctx else 'unify'} --help")


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise WrongUsage(error.format_message(), error.ctx) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="unify", prog_name="unify")
@click.pass_context
def unify(ctx: click.Context) -> None:
    """Manage Unify: accounts, API keys, users' databases, and the server.

    USER_ID is a whole number or an e-mail address. Settings come from the environment and from .env.
    Commands exit 0 when done, 1 when the operation failed, 2 on wrong usage.
    """
    ctx.call_on_close(ctx.ensure_object(Toolbox).close)


def main() -> None:
    """Run the command line; the entry point of the package."""
    prepare()
    unify(prog_name="unify")


def prepare() -> None:
    """Prepare the process for commands: any text can be printed, and log records do not reach the terminal.

    Standard streams that the caller closed, which Python gives as None, become the null device.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until exit
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal cannot show is replaced instead of failing the command.
            stream.reconfigure(errors="replace")
    # Layers below log errors that they also raise; the command prints those itself, in one line.
    logging.getLogger().addHandler(logging.NullHandler())
    # Warnings about settings are printed by every command.
    logging.getLogger("unify.settings").addHandler(_Complaints())


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def _failure(error: Exception, toolbox: Toolbox | None) -> Failed:
    if toolbox is not None and toolbox.debugging:
        traceback.print_exception(error)
    return Failed(reason(error))


if __name__ == "__main__":
    main()
