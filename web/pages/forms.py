"""Turn a posted form into typed values, and keep the typed text and the errors for showing it again.

A form is declared as a row of ``Field``; its text becomes a JSON document that goes through the same pydantic
model as the JSON API's bodies (``web/schemas.py``), so that both refuse and accept the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, cast

import orjson
from pydantic import BaseModel

from web.schemas import FieldErrors, read_json

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
    "int_parsing": "This is not a whole number.",
    "int_type": "This is not a whole number.",
    "greater_than_equal": "The smallest value is {number}.",
    "less_than_equal": "The largest value is {number}.",
    "ends_at must not be before starts_at": "The end must not be before the start.",
}
_NUMBER = re.compile(r"\d+")


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
        return "UTC" if self.kind == "datetime-local" else ""

    def read(self, text: str | None) -> object:
        """Give the value of one posted text as a JSON document has it; an empty text is no value."""
        if self.kind == "checkbox":
            return bool(text)
        if text is None or (not text.strip() and not self.raw):
            return None
        if self.raw:
            return text
        if self.kind == "datetime-local":
            return text.strip() + ("Z" if _is_naive(text.strip()) else "")
        if self.number and text.strip().lstrip("-").isascii() and text.strip().lstrip("-").isdigit():
            return int(text) if len(text) < 10 else text
        return text

    def show(self, value: object) -> str:
        """Give a stored value as the text its control takes."""
        if value is None or value is False:
            return ""
        if self.kind == "checkbox":
            return "1"
        if self.kind == "datetime-local":
            return cast("datetime", value).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")
        return str(value)


@dataclass
class Form:
    """Hold one form on a page: its controls, the text in them and what is wrong with it."""

    name: str
    fields: Sequence[Field]
    values: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    categories: Choices = ()

    @classmethod
    def blank(cls, name: str, fields: Sequence[Field], **values: str) -> Form:
        return cls(name, fields, {spec.name: spec.initial for spec in fields if spec.initial} | values)

    @classmethod
    def stored(cls, name: str, fields: Sequence[Field], row: Mapping[str, Any], **values: str) -> Form:
        return cls(name, fields, {spec.name: spec.show(row.get(spec.name)) for spec in fields} | values)

    @classmethod
    def posted(cls, name: str, fields: Sequence[Field], form: Mapping[str, str], *hidden: str) -> Form:
        """Keep what was typed (browsers end lines with CR LF; the rest of the system with LF)."""
        names = [spec.name for spec in fields] + list(hidden)
        return cls(name, fields, {key: form[key].replace("\r\n", "\n") for key in names if key in form})

    @property
    def general(self) -> str:
        """Give the error that belongs to no control on the page, if there is one."""
        names = {spec.name for spec in self.fields}
        return " ".join(text for name, text in self.errors.items() if name not in names)

    def choices(self, spec: Field) -> Choices:
        return self.categories if spec.kind == "category" else spec.choices

    def document(self) -> dict[str, object]:
        return {spec.name: spec.read(self.values.get(spec.name)) for spec in self.fields}

    def validate(self, model: type[Model], *, keep_empty: bool = False, **extra: object) -> Model | None:
        """Give the validated model, or None and ``errors``.

        A field left empty takes the model's default; with ``keep_empty`` it is sent as null, which clears it.
        """
        document = self.document() | extra
        if not keep_empty:
            document = {name: value for name, value in document.items() if value is not None}
        try:
            return read_json(model, orjson.dumps(document))
        except FieldErrors as error:
            for problem in error.errors:
                self.errors.setdefault(problem["field"], _say(problem))
            return None

    def refuse(self, name: str | None, message: str) -> Form:
        """Put an error found later (a taken name, a wrong password) beside its control."""
        self.errors[name or ""] = message
        return self


def _is_naive(text: str) -> bool:
    """Tell whether a moment lacks its zone, as browsers send it."""
    return "T" in text and not text.endswith(("Z", "z")) and "+" not in text and "-" not in text.partition("T")[2]


def _say(problem: Mapping[str, str]) -> str:
    """Put a problem in words for whoever typed it."""
    text = problem["message"]
    known = _MESSAGES.get(problem["code"]) or _MESSAGES.get(text)
    if known:
        number = _NUMBER.search(text)
        return known.format(number=number[0] if number else "")
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
