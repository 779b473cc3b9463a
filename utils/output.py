"""Say things to people and to programs: answers on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress, TaskID

WIDE = 1000
"""Columns where standard output is no terminal: nothing is folded that a program may read."""

LINE_EVERY_S = 2.0
"""How often progress is told where standard error is no terminal."""


class Failed(click.ClickException):
    """End a command with one line on standard error and exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        complain(f"Error: {self.message}")


def plain(value: object) -> str:
    """Give a value as one line of text that no terminal takes for a command, whoever wrote it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(value).split()))


def say(text: str) -> None:
    """Tell the outcome on standard output."""
    click.echo(plain(text))


def complain(text: str) -> None:
    """Tell on standard error, in one line."""
    click.echo(plain(text), err=True)


def reason(error: Exception) -> str:
    """Give the one line for an error; what nobody foresaw is named by its type alone, for its text may hold values."""
    from tenancy.errors import TenancyError

    if isinstance(error, TenancyError):
        holder, place = error.fields.get("runner"), error.fields.get("place")
        if holder:
            return f"{error.message} (held by {holder}: host, process, thread)"
        return f"{error.message} ({error.field}: {place})" if place else error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    return (
        f"{type(error).__name__}, which nobody foresaw. Run it again with LOG_LEVEL=DEBUG to see where it comes from."
    )


def show(as_json: bool, document: Any, tell: Callable[[], None]) -> None:
    """Answer a program with one JSON document, or a person with what ``tell`` says."""
    if as_json:
        click.echo(json.dumps(document, default=_jsonable, indent=2))
    else:
        tell()


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their headings."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*headings, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        grid.add_row(*(Text(plain(cell)) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE, highlight=False)
    console.print(grid)


def place(info: dict[str, Any]) -> str:
    """Say where a database lives, in a few words."""
    if info["db_path"]:
        return str(info["db_path"])
    return f"{info['db_type']} database {info['db_name']} on {address(info)}"


def address(info: dict[str, Any]) -> str:
    """Give host and port of a database or a server as they stand in a URL."""
    host = f"[{info['db_host']}]" if ":" in (info["db_host"] or "") else info["db_host"]
    return f"{host}:{info['db_port']}" if info["db_port"] else str(host)


def columns(rows: Iterable[dict[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    """Give of each row the values of these names, in their order."""
    return [[row[name] for name in names] for row in rows]


def pairs(values: dict[str, Any]) -> None:
    """Print names and values, one pair a line."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {plain(value)}")


class Progress:
    """Show on standard error how far long work is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, what: str, total: int, *, later: bool = False) -> None:
        """``later`` begins to show at the first word of how far it is: the bar has a thread, and threads bar a fork."""
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
        """Say how much is done, and of how much."""
        if self._later:
            self._later = False
            self._begin()
        self.done, self.total = done, total
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=self.done, total=self.total)
        elif time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._tell()

    def complain(self, text: str) -> None:
        """Tell of one failure without breaking the bar."""
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
