"""Turn a posted form into typed values, and keep the typed text and the errors for showing it again.

A form is declared as a row of ``Field``; its text becomes a JSON document that goes through the same pydantic
model as the JSON API's bodies (``web/schemas.py``), so that both refuse and accept the same.

Moments are shown and read by the viewer's clock, to the minute or second. So that saving moves nothing that was not
touched, a form carries each moment as it is stored beside its control (``<name>.was``); a text that still shows it
means it. The times of something that lasts whole days are days of the calendar, in no zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import orjson
from pydantic import BaseModel

from web.display import clock
from web.schemas import NAME_MAX, FieldErrors, read_json

Model = TypeVar("Model", bound=BaseModel)
Choices = Sequence[tuple[str, str]]

_MESSAGES = {
    "missing": "This is needed.",
    "string_type": "This is needed.",
    "string_too_short": "This is needed.",
    "string_too_long": "This is too long: at most {number} characters.",
    "string_pattern_mismatch": "This holds characters that cannot be kept here.",
    "date_type": "This is needed.",
    "datetime_type": "This is needed.",
    "timezone_aware": "This is not a date and time like 2025-12-31 18:30.",
    "date_from_datetime_parsing": "This is not a date like 2025-12-31.",
    "date_from_datetime_inexact": "This is not a date like 2025-12-31.",
    "date_parsing": "This is not a date like 2025-12-31.",
    "datetime_parsing": "This is not a date and time like 2025-12-31 18:30.",
    "datetime_from_date_parsing": "This is not a date and time like 2025-12-31 18:30.",
    "uuid_type": "Choose one of the list.",
    "uuid_parsing": "Choose one of the list.",
    "literal_error": "Choose one of the list.",
    "time_format": "This is not a time like 17:30.",
    "int_parsing": "This is not a whole number.",
    "int_type": "This is not a whole number.",
    "greater_than_equal": "The smallest value is {number}.",
    "less_than_equal": "The largest value is {number}.",
    "ends_at must not be before starts_at": "The end must not be before the start.",
    "due_time needs a due_date": "A time needs a day: fill in “Due” too.",
}
_NUMBER = re.compile(r"\d+")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
WAS = ".was"
NONE = ".none"
"""Names the box beside a colour that says that there is none; browsers have no empty colour."""


@dataclass(frozen=True)
class Field:
    """Declare one control; ``kind`` is an HTML input type, ``textarea``, ``select`` or ``category``."""

    name: str
    label: str
    kind: str = "text"
    required: bool = False
    max_length: int | None = None
    choices: Choices = ()
    hint: str = ""
    autocomplete: str = ""
    initial: str = ""
    wide: bool = False
    number: bool = False
    raw: bool = False

    @property
    def zone(self) -> str:
        """Name the clock by which the control is read, where it is read by one."""
        return clock.zone().key if self.kind == "datetime-local" else ""

    def read(self, text: str | None, zone: ZoneInfo | None = None) -> object:
        """Give the value of one posted text as a JSON document has it; an empty text is no value.

        Raises clock.NoSuchTime for a time that the clock of the zone (the viewer's) never shows.
        """
        if self.kind == "checkbox":
            return bool(text)
        if text is None or (not text.strip() and not self.raw):
            return None
        if self.raw:
            return text
        if self.kind == "datetime-local":
            return _moment(text.strip(), zone)
        if self.number and text.strip().lstrip("-").isascii() and text.strip().lstrip("-").isdigit():
            return int(text) if len(text) < 10 else text
        return text

    def show(self, value: object, zone: ZoneInfo | None = None) -> str:
        """Give a stored value as the text its control takes."""
        if value is None or value is False:
            return ""
        if self.kind == "checkbox":
            return "1"
        if isinstance(value, datetime):
            shown = clock.local(value, zone)
            return shown.replace(microsecond=0, tzinfo=None).isoformat().removesuffix(":00")
        return str(value)


CATEGORY = Field("category_id", "Category", "category")
TYPED_CATEGORY = Field("category", "Category", max_length=NAME_MAX, hint="The name of one of your categories.")
"""Stands in for the list of categories where there are too many for one."""


@dataclass(frozen=True)
class Categories:
    """Hold the categories to choose from; ``more`` says that there are others, so that one is named by typing."""

    choices: Choices = ()
    more: bool = False

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], more: bool) -> Categories:
        return cls([(str(row["id"]), row["name"]) for row in rows], more)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.choices)


@dataclass
class Form:
    """Hold one form on a page: its controls, the text in them and what is wrong with it."""

    name: str
    specs: Sequence[Field]
    values: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    was: dict[str, str] = field(default_factory=dict)
    categories: Categories = Categories()

    @classmethod
    def blank(cls, name: str, fields: Sequence[Field], **values: str) -> Form:
        return cls(name, fields, {spec.name: spec.initial for spec in fields if spec.initial} | values)

    @classmethod
    def stored(cls, name: str, fields: Sequence[Field], row: Mapping[str, Any], **values: str) -> Form:
        """Show a row: what its controls hold, and its moments to the microsecond beside them."""
        zone = _zone(row.get("all_day"))
        was = {spec.name + WAS: str(row[spec.name]) for spec in fields if isinstance(row.get(spec.name), datetime)}
        shown = {spec.name: spec.show(row.get(spec.name), zone) for spec in fields}
        without = {spec.name + NONE: "1" for spec in fields if spec.kind == "color" and not shown[spec.name]}
        return cls(name, fields, shown | without | values, was=was)

    @classmethod
    def posted(cls, name: str, fields: Sequence[Field], form: Mapping[str, str], *hidden: str) -> Form:
        """Keep what was typed (browsers end lines with CR LF; the rest of the system with LF)."""
        typed = [TYPED_CATEGORY.name for spec in fields if spec.kind == "category"]
        without = [spec.name + NONE for spec in fields if spec.kind == "color"]
        names = [spec.name for spec in fields] + typed + without + list(hidden)
        was = {key: form[key] for spec in fields if (key := spec.name + WAS) in form and spec.kind == "datetime-local"}
        return cls(name, fields, {key: form[key].replace("\r\n", "\n") for key in names if key in form}, was=was)

    def offer(self, categories: Categories) -> Form:
        """Let one of these categories be chosen."""
        self.categories = categories
        return self

    @property
    def fields(self) -> Sequence[Field]:
        """Give the controls; a category is chosen, or typed where there are too many to choose from."""
        if not self.categories.more:
            return self.specs
        return [TYPED_CATEGORY if spec.kind == "category" else spec for spec in self.specs]

    @property
    def general(self) -> str:
        """Give the error that belongs to no control on the page, if there is one."""
        names = {spec.name for spec in self.fields}
        return " ".join(text for name, text in self.errors.items() if name not in names)

    def choices(self, spec: Field) -> Choices:
        return self.categories.choices if spec.kind == "category" else spec.choices

    def document(self) -> dict[str, object]:
        """Give what was typed as a JSON document has it; a time that no clock shows is an error beside its field."""
        zone = _zone(self.values.get("all_day"))
        return {spec.name: self._read(spec, zone) for spec in self.specs}

    def validate(self, model: type[Model], *, keep_empty: bool = False, **extra: object) -> Model | None:
        """Give the validated model, or None and ``errors``.

        A field left empty takes the model's default; with ``keep_empty`` it is sent as null, which clears it.
        """
        document = self.document() | extra
        if self.errors:
            document = {name: value for name, value in document.items() if name not in self.errors}
        if not keep_empty:
            document = {name: value for name, value in document.items() if value is not None}
        try:
            body = read_json(model, orjson.dumps(document))
        except FieldErrors as error:
            for problem in error.errors:
                self.errors.setdefault(problem["field"], explain(problem))
            return None
        return None if self.errors else body

    def refuse(self, name: str | None, message: str) -> Form:
        """Put an error found later (a taken name, a wrong password) beside its control."""
        self.errors[name or ""] = message
        return self

    def _read(self, spec: Field, zone: ZoneInfo | None) -> object:
        if self.values.get(spec.name + NONE):
            return None
        text, was = self.values.get(spec.name), self.was.get(spec.name + WAS, "")
        if was and text and _shows(spec, was, text.strip(), zone):
            return was
        try:
            return spec.read(text, zone)
        except clock.NoSuchTime as error:
            self.errors[spec.name] = str(error)
            return None


def _zone(whole_days: object) -> ZoneInfo | None:
    """Give the clock of a form's moments: that of the viewer (None) unless they are whole days."""
    return clock.zone_of("UTC") if whole_days else None


def _shows(spec: Field, was: str, text: str, zone: ZoneInfo | None) -> bool:
    """Tell whether a control still shows the moment that is stored."""
    try:
        stored = datetime.fromisoformat(was)
    except ValueError:
        return False
    shown = spec.show(stored, zone) if stored.tzinfo else ""
    return text in (shown, f"{shown}:00")


def _moment(text: str, zone: ZoneInfo | None) -> str:
    """Give a moment that was typed without its zone, as browsers send it, in UTC; the model refuses what is none.

    Where whole days are meant, a day alone is its beginning.
    """
    text = f"{text}T00:00" if zone and _DAY.fullmatch(text) else text
    try:
        shown = datetime.fromisoformat(text) if _MOMENT.match(text) else None
    except ValueError:
        return text
    return text if shown is None or shown.tzinfo else clock.utc(shown, zone).isoformat()


def explain(problem: Mapping[str, str]) -> str:
    """Put a problem in words for whoever typed it."""
    text = problem["message"]
    known = _MESSAGES.get(problem["code"]) or _MESSAGES.get(text)
    if known:
        number = _NUMBER.search(text)
        return known.format(number=number[0] if number else "")
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
