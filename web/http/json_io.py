"""Read JSON bodies strictly, and write JSON responses.

What a lenient parser would accept is refused before a model sees it: other media types, malformed JSON, duplicate
members, deep nesting, a top level that is not an object, and text that some database cannot store. The model then
parses the same bytes again (``schemas.read_json``), because strict types would refuse dates and UUIDs that are already
parsed to strings.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, TypeVar

import orjson
from flask import Response, request
from pydantic import BaseModel
from werkzeug.exceptions import RequestEntityTooLarge

from web.http.errors import Problem
from web.parts import current_parts
from web.schemas import FieldErrors, read_json

MAX_DEPTH = 64
INT_DIGITS = 20
OPTIONS = orjson.OPT_UTC_Z
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
OPENING = frozenset(b"[{")
SURROGATE = re.compile("[\ud800-\udfff]")
TOO_LARGE = object()
ACCEPTABLE = ("application/json", "application/*", "*/*")
"""The media ranges of an ``Accept`` header that include JSON; the most specific one given decides."""

Model = TypeVar("Model", bound=BaseModel)


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return data as a JSON response; times are written in UTC with a Z."""
    return Response(orjson.dumps(data, option=OPTIONS), status, headers, content_type="application/json")


def require_json_accepted() -> None:
    """Refuse a client that does not accept JSON with 406."""
    accepted = request.environ.get("HTTP_ACCEPT")
    if not accepted or accepted == "*/*" or accepted == "application/json":
        return
    wanted: dict[str, float] = {}
    for value, quality in request.accept_mimetypes:
        name = value.partition(";")[0].strip().lower()  # parameters, such as a charset, make no difference here
        wanted[name] = max(quality, wanted.get(name, 0))
    if next((wanted[name] for name in ACCEPTABLE if name in wanted), 0) <= 0:
        raise Problem(406, "not_acceptable", "Answers here are application/json.")


def body(model: type[Model]) -> Model:
    """Read the request's body as ``model``, or stop with 400, 413, 415 or 422."""
    if request.mimetype != "application/json" or request.mimetype_params.get("charset", "utf-8").lower() != "utf-8":
        raise Problem(415, "media_type_unsupported", "Send the body as application/json in UTF-8.")
    raw = request.get_data()
    refuse_large(raw, current_parts().settings.max_body_bytes, rb"\u", 4)
    check(raw)
    return read_json(model, raw)


def optional_body(model: type[Model]) -> Model:
    """Read the body as ``model``; an empty body is a model with default values."""
    return body(model) if request.get_data() else model()


def refuse_large(raw: bytes, longest: int, escape: bytes, added: int) -> None:
    """Refuse a body that is too long without what its encoding adds: ``added`` bytes with each ``escape``.

    MAX_BODY_BYTES is about what is sent, so that the same text may be sent as a form, as JSON and as ASCII-only JSON.
    """
    if len(raw) > longest and len(raw) - added * raw.count(escape) > longest:
        raise RequestEntityTooLarge


def check(raw: bytes) -> None:
    """Refuse bytes that are not a JSON object, or that contain what cannot be stored."""
    _refuse_depth(raw)
    found = _parsed(raw)
    if not isinstance(found, dict):
        raise Problem(400, "not_an_object", "The top level of the body must be an object.")
    errors: list[dict[str, str]] = []
    _find_unstorable(found, "", errors)
    if errors:
        raise FieldErrors(errors)


def _refuse_depth(raw: bytes) -> None:
    """Count brackets outside of strings, without recursion; an unterminated string extends to the end."""
    depth = 0
    for bracket in STRING.sub(b"", raw).translate(None, NOT_BRACKETS):
        depth += 1 if bracket in OPENING else -1
        if depth > MAX_DEPTH:
            raise Problem(400, "nesting_too_deep", f"The body nests deeper than {MAX_DEPTH} levels.")


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_int=_bounded, parse_constant=_refuse_constant
        )
    except ValueError:
        raise Problem(400, "malformed_json", "The body is not well-formed JSON in UTF-8.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Problem(400, "duplicate_key", "An object of the body names a member twice.")
    return members


def _bounded(digits: str) -> Any:
    """Do not convert very long numbers: Python raises an error of its own for thousands of digits."""
    if len(digits) > INT_DIGITS:
        return TOO_LARGE
    number = int(digits)
    return number if -(2**63) <= number < 2**63 else TOO_LARGE


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _find_unstorable(value: Any, path: str, errors: list[dict[str, str]]) -> None:
    """Name the fields that hold half characters, NUL or numbers beyond 64 bits; nesting is bounded already."""
    if value is TOO_LARGE:
        errors.append({"field": path, "code": "number_too_large", "message": "does not fit in 64 bits"})
    elif isinstance(value, str):
        errors.extend(_unstorable_text(value, path))
    elif isinstance(value, dict):
        for name, member in value.items():
            shown = SURROGATE.sub("\ufffd", name)
            errors.extend(_unstorable_text(name, shown))
            _find_unstorable(member, f"{path}.{shown}" if path else shown, errors)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _find_unstorable(item, f"{path}.{index}", errors)


def _unstorable_text(text: str, path: str) -> list[dict[str, str]]:
    if SURROGATE.search(text):
        return [{"field": path, "code": "text_invalid", "message": "holds half of a character (a lone surrogate)"}]
    if "\x00" in text:
        return [{"field": path, "code": "text_invalid", "message": "holds a NUL character"}]
    return []
