"""Turn a posted form into typed values, and keep the typed text and the errors so that it can be shown again.

A form is declared as a list of ``Field``. Its text becomes a JSON document that is validated by the same pydantic
model as the bodies of the JSON API (``web/schemas.py``), so both accept and refuse the same input.

Date-times are shown and read in the viewer's time zone, to the minute or second. The stored value travels beside its
control in a hidden field (``<name>.was``): if the text was not edited, saving writes that value back, microseconds
included. Times of all-day events are calendar days without a time zone.
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
from web.pages.common import form_times
from web.pages.common.form_times import WAS
from web.schemas import NAME_MAX, FieldErrors, read_json

Model = TypeVar("Model", bound=BaseModel)
Choices = Sequence[tuple[str, str]]

_MESSAGES = {
    "missing": "This field is required.",
    "string_type": "This field is required.",
    "string_too_short": "This field is required.",
    "string_too_long": "This is too long: at most {number} characters.",
    "string_pattern_mismatch": "This contains characters that cannot be stored.",
    "date_type": "This field is required.",
    "datetime_type": "This field is required.",
    "timezone_aware": "Enter a date and time such as 2025-12-31 18:30.",
    "date_from_datetime_parsing": "Enter a date such as 2025-12-31.",
    "date_from_datetime_inexact": "Enter a date such as 2025-12-31.",
    "date_parsing": "Enter a date such as 2025-12-31.",
    "datetime_parsing": "Enter a date and time such as 2025-12-31 18:30.",
    "datetime_from_date_parsing": "Enter a date and time such as 2025-12-31 18:30.",
    "uuid_type": "Choose one from the list.",
    "uuid_parsing": "Choose one from the list.",
    "literal_error": "Choose one from the list.",
    "time_format": "Enter a time such as 17:30.",
    "int_parsing": "Enter a whole number.",
    "int_type": "Enter a whole number.",
    "greater_than_equal": "The smallest value is {number}.",
    "less_than_equal": "The largest value is {number}.",
    "ends_at must not be before starts_at": "The end must not be before the start.",
    "due_time needs a due_date": "A time needs a date: fill in “Due” too.",
}
_NUMBER = re.compile(r"\d+")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
NONE = ".none"
"""Suffix of the "No colour" checkbox beside a colour input, whose value browsers never leave empty."""


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
        """Name the time zone of a date-time control; empty for other kinds."""
        return clock.zone().key if self.kind == "datetime-local" else ""

    def read(self, text: str | None, zone: ZoneInfo | None = None) -> object:
        """Convert one posted text to its JSON value; an empty text is None.

        Raises clock.NoSuchTime for a time that clocks skip in ``zone`` (by default the viewer's).
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
        """Convert a stored value to the text of its control."""
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
"""Replaces the list of categories when there are too many to list."""


@dataclass(frozen=True)
class Categories:
    """The categories to choose from; with ``more`` there are too many to list, and the user types a name instead."""

    choices: Choices = ()
    more: bool = False

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], more: bool) -> Categories:
        return cls([(str(row["id"]), row["name"]) for row in rows], more)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.choices)


@dataclass
class Form:
    """One form on a page: its controls, the text in them, and the errors."""

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
        """Fill a form from a stored row; ``was`` holds its date-times to the microsecond."""
        zone = _zone(row.get("all_day"))
        was = {spec.name + WAS: str(row[spec.name]) for spec in fields if isinstance(row.get(spec.name), datetime)}
        shown = {spec.name: spec.show(row.get(spec.name), zone) for spec in fields}
        without = {spec.name + NONE: "1" for spec in fields if spec.kind == "color" and not shown[spec.name]}
        return cls(name, fields, shown | without | values, was=was)

    @classmethod
    def posted(cls, name: str, fields: Sequence[Field], form: Mapping[str, str], *hidden: str) -> Form:
        """Fill a form with what was typed; the CR LF that browsers send at line ends becomes LF."""
        typed = [TYPED_CATEGORY.name for spec in fields if spec.kind == "category"]
        without = [spec.name + NONE for spec in fields if spec.kind == "color"]
        names = [spec.name for spec in fields] + typed + without + list(hidden)
        was = {key: form[key] for spec in fields if (key := spec.name + WAS) in form and spec.kind == "datetime-local"}
        return cls(name, fields, {key: form[key].replace("\r\n", "\n") for key in names if key in form}, was=was)

    def offer(self, categories: Categories) -> Form:
        """Offer these categories in the form."""
        self.categories = categories
        return self

    @property
    def fields(self) -> Sequence[Field]:
        """Return the controls; a category is typed when there are too many to choose from."""
        if not self.categories.more:
            return self.specs
        return [TYPED_CATEGORY if spec.kind == "category" else spec for spec in self.specs]

    @property
    def general(self) -> str:
        """Return the errors that belong to no control on the page, joined; empty if there are none."""
        names = {spec.name for spec in self.fields}
        return " ".join(text for name, text in self.errors.items() if name not in names)

    def choices(self, spec: Field) -> Choices:
        return self.categories.choices if spec.kind == "category" else spec.choices

    def document(self) -> dict[str, object]:
        """Return what was typed as a JSON document; a time that clocks skip becomes an error of its field."""
        zone = _zone(self.values.get("all_day"))
        return {spec.name: self._read(spec, zone) for spec in self.specs}

    def validate(self, model: type[Model], *, keep_empty: bool = False, **extra: object) -> Model | None:
        """Return the validated model, or None with the reasons in ``errors``.

        A field left empty gets the model's default; with ``keep_empty`` it is null, which clears the stored value.
        """
        wrong = form_times.convert(self.values, self.was, self._times)
        if wrong:
            self.errors |= wrong
            return None
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

    @property
    def _times(self) -> list[str]:
        return [spec.name for spec in self.specs if spec.kind == "datetime-local"]

    def refuse(self, name: str | None, message: str) -> Form:
        """Add an error found after validation (a taken name, a wrong password) to its control."""
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
    """Return the time zone of a form's date-times: UTC for all-day events, otherwise the viewer's (None)."""
    return clock.zone_of("UTC") if whole_days else None


def _shows(spec: Field, was: str, text: str, zone: ZoneInfo | None) -> bool:
    """Tell whether the text in a control still shows the stored moment."""
    try:
        stored = datetime.fromisoformat(was)
    except ValueError:
        return False
    shown = spec.show(stored, zone) if stored.tzinfo else ""
    return text in (shown, f"{shown}:00")


def _moment(text: str, zone: ZoneInfo | None) -> str:
    """Convert a date-time without zone, as browsers send it, to UTC; the model refuses anything else.

    For all-day events a date alone is enough.
    """
    text = f"{text}T00:00" if zone and _DAY.fullmatch(text) else text
    try:
        shown = datetime.fromisoformat(text) if _MOMENT.match(text) else None
    except ValueError:
        return text
    return text if shown is None or shown.tzinfo else clock.utc(shown, zone).isoformat()


def explain(problem: Mapping[str, str]) -> str:
    """Explain a validation error to the user who typed the value."""
    text = problem["message"]
    known = _MESSAGES.get(problem["code"]) or _MESSAGES.get(text)
    if known:
        number = _NUMBER.search(text)
        return known.format(number=number[0] if number else "")
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
