"""Know the kinds of jobs: the handler of each, its arguments, and how often it is tried.

A kind is registered by the part of the program whose work it is. Its arguments are declared, so that commands, forms
and programs all give them alike and a wrong one is refused when the job is added.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tenancy.errors import ConfigurationError, RunNotFoundError, TenancyError, TenantNotFoundError, UserNotFoundError
from tenancy.jobs.run import JobRun

Handler = Callable[[JobRun, dict[str, Any]], Mapping[str, Any] | None]
TEXT_MAX = 4000
FINAL: tuple[type[TenancyError], ...] = (ConfigurationError, RunNotFoundError, TenantNotFoundError, UserNotFoundError)
"""Errors that the next attempt would meet again: a job ends with them at once."""


@dataclass(frozen=True)
class Argument:
    """Describe one argument: typed as an option (``--keep daily=7``), a switch (``--all``), or by its place."""

    name: str
    meaning: str
    type: Literal["text", "number", "switch"] = "text"
    positional: bool = False
    required: bool = False

    @property
    def word(self) -> str:
        """The argument as it is typed."""
        shown = self.name.upper() if self.positional else f"--{self.name.replace('_', '-')}"
        return shown if self.positional or self.type == "switch" else f"{shown} {self.name.upper()}"


@dataclass(frozen=True)
class Kind:
    """Describe a kind of job.

    ``check`` is given the arguments when a job or a schedule is added, and raises ConfigurationError for what cannot
    be. ``schedulable`` tells whether schedules may start it.
    """

    name: str
    meaning: str
    handler: Handler
    arguments: tuple[Argument, ...] = ()
    most_attempts: int = 5
    final: tuple[type[TenancyError], ...] = FINAL
    schedulable: bool = True
    check: Callable[[dict[str, Any]], None] = lambda arguments: None

    @property
    def words(self) -> str:
        """How the kind and its arguments are typed."""
        shown = (arg.word if arg.required else f"[{arg.word}]" for arg in self.arguments)
        return " ".join([self.name, *shown])

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that were given, or raise ConfigurationError that names the wrong one."""
        known = {argument.name: argument for argument in self.arguments}
        for name in given:
            if name not in known:
                raise self._refused(name, f"has no argument {name[:40]!r}: it is typed {self.words!r}")
        values = {
            name: self._value(known[name], value)
            for name, value in given.items()
            if value is not None and value is not False
        }
        for argument in self.arguments:
            if argument.required and argument.name not in values:
                raise self._refused(argument.name, f"needs {argument.word}: it is typed {self.words!r}")
        self.check(values)
        return values

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """Read arguments as a command has them: options, switches, and the rest by its place."""
        options = {f"--{arg.name.replace('_', '-')}": arg for arg in self.arguments if not arg.positional}
        places = [argument for argument in self.arguments if argument.positional]
        values: dict[str, Any] = {}
        left = list(words)
        while left:
            word, has_value, value = left.pop(0).partition("=")
            option = options.get(word)
            if option is None and not word.startswith("--") and places:
                values[places.pop(0).name] = word + has_value + value
            elif option is None or (option.type == "switch" and has_value) or option.name in values:
                raise self._refused(word, f"takes no {word[:40]!r} here: it is typed {self.words!r}")
            elif option.type == "switch":
                values[option.name] = True
            elif has_value or left:
                values[option.name] = value if has_value else left.pop(0)
            else:
                raise self._refused(option.name, f"needs something after {word}: it is typed {self.words!r}")
        return self.checked(values)

    def _value(self, argument: Argument, value: Any) -> Any:
        if argument.type == "switch" and value is True:
            return True
        if argument.type == "number":
            if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
                return int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            raise self._refused(argument.name, f"takes a whole number for {argument.word}")
        if argument.type == "text" and isinstance(value, str) and 0 < len(value) <= TEXT_MAX and "\x00" not in value:
            return value
        raise self._refused(argument.name, f"cannot take this for {argument.word}")

    def _refused(self, field: str, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name} {what}.", field=field)


class Kinds:
    """Hold the kinds that this process knows."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._kinds = {kind.name: kind for kind in kinds}

    def register(self, kind: Kind) -> None:
        """Add a kind, or replace the one of its name."""
        self._kinds[kind.name] = kind

    def names(self) -> list[str]:
        return sorted(self._kinds)

    def schedulable(self) -> list[Kind]:
        """List the kinds that schedules may start, by name."""
        return [self._kinds[name] for name in self.names() if self._kinds[name].schedulable]

    def knows(self, name: str) -> bool:
        return name in self._kinds

    def get(self, name: str) -> Kind:
        """Return a kind, or raise ConfigurationError that says which there are."""
        if name not in self._kinds:
            raise _unknown(name, self.names())
        return self._kinds[name]

    def to_schedule(self, name: str) -> Kind:
        """Return a kind that schedules may start, or raise ConfigurationError that says which there are."""
        kind = self._kinds.get(name)
        if kind is None or not kind.schedulable:
            raise _unknown(name, [kind.name for kind in self.schedulable()])
        return kind


def _unknown(name: str, known: list[str]) -> ConfigurationError:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (is {close[0]} meant?)" if close else ""
    there = ", ".join(known) or "none yet"
    return ConfigurationError(f"there is no job {name[:40]!r}{hint}. There is: {there}.", field="kind")
