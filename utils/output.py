"""Print for people and for programs: answers on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from tenancy.errors import TenancyError

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress, TaskID

FOLDED_ROWS = 1000
"""Rows of a table whose lines are folded for a terminal: each takes a millisecond to lay out."""

LINE_EVERY_S = 2.0
"""How often progress is printed when standard error is not a terminal."""


class Failed(click.ClickException):
    """End a command with one line on standard error and exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        complain(f"Error: {self.message}")


_LIBRARY_CALL = re.compile(
    r",? or (?:call )?`(?:manager|Accounts|encryption|keyring|signing)\.[^`]*`| \(`force=True`\)"
)
"""What messages of ``tenancy`` name after the command, for programs that embed it: no use to somebody at a shell."""


def plain(value: object) -> str:
    """Return a value as one line of text for a terminal, without control characters, whoever wrote it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    text = _LIBRARY_CALL.sub("", " ".join(str(value).split()))
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 database``, ``2 databases``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Print an outcome on standard output."""
    click.echo(plain(text))


def complain(text: str) -> None:
    """Print one line on standard error."""
    click.echo(plain(text), err=True)


def reason(error: Exception) -> str:
    """Return one line for an error; of an unexpected one only the type, because its text may contain secrets."""

    if isinstance(error, TenancyError):
        holder, place = error.fields.get("runner"), error.fields.get("place")
        if holder:
            return f"{error.message} (held by {holder}: host, process, thread)"
        return f"{error.message} ({error.field}: {place})" if place else error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    return f"unexpected {type(error).__name__}. Run the command again with LOG_LEVEL=DEBUG to see where it comes from."


def show(as_json: bool, document: Any, tell: Callable[[], None]) -> None:
    """Print one JSON document for a program, or call ``tell`` to print for a person."""
    if as_json:
        click.echo(json.dumps(document, default=_jsonable, indent=2))
    else:
        tell()


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, none: str = "") -> None:
    """Print rows under their headings; if there are no rows, print the sentence ``none`` instead.

    Lines are folded where they would be wider than the terminal; nowhere else, as a program may read them.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    if none and not cells:
        return say(none)
    if sys.stdout.isatty() and len(cells) <= FOLDED_ROWS:
        return _folded(headings, cells)
    from rich.cells import cell_len, set_cell_size  # a character may take two columns

    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    lines = ("   ".join(map(set_cell_size, row, widths)).rstrip() for row in (headings, *cells))
    click.echo(next(lines))
    click.echo("─" * (sum(widths) + 3 * (len(widths) - 1)))
    for line in lines:
        click.echo(line)


def _folded(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*headings, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in cells:
        grid.add_row(*map(Text, row))
    Console(file=sys.stdout, highlight=False).print(grid)


def place(info: dict[str, Any]) -> str:
    """Describe where a database is, in a few words."""
    if info["db_path"]:
        return str(info["db_path"])
    return f"{info['db_type']} database {info['db_name']} on {address(info)}"


def address(info: dict[str, Any]) -> str:
    """Return host and port of a database or a server as in a URL."""
    host = f"[{info['db_host']}]" if ":" in (info["db_host"] or "") else info["db_host"]
    return f"{host}:{info['db_port']}" if info["db_port"] else str(host)


def columns(rows: Iterable[dict[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    """Return the values of these names from each row, in their order."""
    return [[row[name] for name in names] for row in rows]


def pairs(values: dict[str, Any]) -> None:
    """Print names and values, one pair per line."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {plain(value)}")


class Progress:
    """Show the progress of long work on standard error: a bar on a terminal, otherwise a line now and then."""

    def __init__(self, what: str, total: int, *, later: bool = False) -> None:
        """With ``later`` the bar starts at the first ``reach``: it runs a thread, and the caller must fork first."""
        self.what = what
        self.total = total
        self.done = 0
        self._later = later
        self._bar: tuple[RichProgress, TaskID] | None = None
        self._told_at = time.monotonic()

    def __enter__(self) -> Self:
        if not self._later:
            self._begin()
        return self

    def _begin(self) -> None:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as RichProgress

            bar = RichProgress(console=Console(file=sys.stderr), transient=True)
            self._bar = (bar, bar.add_task(self.what, total=self.total))
            bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()
        elif kind is None:
            self._tell()

    def step(self) -> None:
        """Count one more as done."""
        self.reach(self.done + 1, max(self.total, self.done + 1))

    def reach(self, done: int, total: int) -> None:
        """Set how much is done, and the total."""
        if self._later:
            self._later = False
            self._begin()
        self.done, self.total = done, total
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=self.done, total=self.total)
        elif time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._tell()

    def complain(self, text: str) -> None:
        """Print one failure without breaking the bar."""
        if self._bar is None:
            complain(text)
        else:
            self._bar[0].console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        complain(f"{self.what}: {self.done} of {self.total}")


def _jsonable(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
