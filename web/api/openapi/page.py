"""Show the API reference, generated from the OpenAPI document (``document.py``), without scripts or sign-in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue

from web.api.openapi import document as document_module
from web.schemas import UNSTORABLE

blueprint = Blueprint("api_docs", __name__)

Schema = dict[str, Any]

KINDS = {"boolean": "true or false", "integer": "whole number", "number": "number", "object": "object"}
FORMATS = {"uuid": "UUID", "date": "day (2026-03-14)", "date-time": "moment (2026-03-14T18:00:00Z)"}
KEY = "$UNIFY_KEY"
_REF = "#/components/schemas/"


@dataclass(frozen=True)
class Kind:
    """The kind of a value in words; ``shape`` names the object it contains."""

    text: str
    shape: str | None = None


@dataclass(frozen=True)
class Line:
    """A field or a parameter; ``place`` says where a parameter goes."""

    name: str
    kind: Kind
    required: bool
    text: str
    place: str = ""


@dataclass(frozen=True)
class Answer:
    """One successful response."""

    status: str
    text: str
    shape: str | None
    headers: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """One method of one path."""

    id: str
    method: str
    path: str
    summary: str
    parameters: tuple[Line, ...]
    body: str | None
    body_required: bool
    fields: tuple[Line, ...]
    answers: tuple[Answer, ...]
    errors: tuple[str, ...]
    example: str

    def curl(self, server: str) -> str:
        """Return a curl command line that makes the call."""
        return self.example.replace("{server}", server, 1)


@dataclass(frozen=True)
class Group:
    """The calls of one group and the shapes of their responses."""

    name: str
    text: str
    calls: list[Call] = field(default_factory=list)
    shapes: dict[str, tuple[Line, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """The whole document as the page shows it."""

    title: str
    version: str
    groups: tuple[Group, ...]
    errors: dict[str, str]
    problem: dict[str, tuple[Line, ...]]
    sign_in: tuple[str, ...]


@blueprint.get("/api/docs")
def page() -> ResponseReturnValue:
    """Show the page; like the document, it needs no sign-in."""
    kept = current_app.extensions.get("unify-api-docs")
    if kept is None:
        kept = current_app.extensions["unify-api-docs"] = read(document_module.described())
    return render_template("api_docs/page.html", api=kept, server=request.url_root.rstrip("/"))


def read(document: dict[str, Any]) -> Reference:
    """Turn a document into what the page shows."""
    groups = tuple(Group(tag["name"], tag["description"]) for tag in document["tags"])
    by_name = {group.name: group for group in groups}
    errors: dict[str, str] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_name[operation["tags"][0]].calls.append(_call(document, path, method, operation))
            errors |= {
                status: each["description"] for status, each in operation["responses"].items() if status >= "400"
            }
    problem = _with_parts(document, ["Problem"])
    seen = set(problem)
    for group in groups:
        group.calls.sort(key=lambda call: call.path)
        answered = [answer.shape for call in group.calls for answer in call.answers if answer.shape]
        bodies = {call.body for call in group.calls}
        found = _with_parts(document, answered)
        group.shapes.update({name: lines for name, lines in found.items() if name not in seen | bodies})
        seen |= set(found)
    return Reference(
        title=document["info"]["title"],
        version=document["info"]["version"],
        groups=groups,
        errors=dict(sorted(errors.items())),
        problem=problem,
        sign_in=tuple(scheme["description"] for scheme in document["components"]["securitySchemes"].values()),
    )


def _call(document: dict[str, Any], path: str, method: str, operation: Schema) -> Call:
    body = operation.get("requestBody", {})
    shape = _shape(body["content"]["application/json"]["schema"]) if body else None
    return Call(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        parameters=tuple(_parameter(each) for each in operation["parameters"]),
        body=shape,
        body_required=body.get("required", False),
        fields=_lines(document, shape) if shape else (),
        answers=tuple(_answers(operation["responses"])),
        errors=tuple(status for status in operation["responses"] if status >= "400"),
        example=_example(path, method, operation),
    )


def _parameter(parameter: Schema) -> Line:
    return Line(
        parameter["name"], _kind(parameter["schema"]), parameter["required"], parameter["description"], parameter["in"]
    )


def _answers(responses: dict[str, Schema]) -> Iterator[Answer]:
    for status, answer in responses.items():
        if status < "400":
            content = answer.get("content", {}).get("application/json")
            headers = tuple(name for name in answer["headers"] if name != "X-Request-ID")
            yield Answer(status, answer["description"], _shape(content["schema"]) if content else None, headers)


def _example(path: str, method: str, operation: Schema) -> str:
    """Write the call as a curl command; the key comes from the environment, so that it is not in the shell history."""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    words = ["curl" if method == "get" else f"curl -X {method.upper()}", f"{{server}}{path}"]
    lines = [" ".join(words), f'-H "Authorization: Bearer {KEY}"']
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        lines += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(example))}"]
    return " \\\n  ".join(lines)


def _with_parts(document: dict[str, Any], names: list[str]) -> dict[str, tuple[Line, ...]]:
    """Return the fields of these shapes and of all shapes they contain, each once."""
    found: dict[str, tuple[Line, ...]] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = _lines(document, name)
            waiting += [line.kind.shape for line in found[name] if line.kind.shape]
    return found


def _lines(document: dict[str, Any], shape: str) -> tuple[Line, ...]:
    schema = document["components"]["schemas"][shape]
    required = schema.get("required", ())
    return tuple(
        Line(name, _kind(member), name in required, member["description"])
        for name, member in schema["properties"].items()
    )


def _shape(schema: Schema) -> str | None:
    reference = schema.get("$ref")
    return reference.removeprefix(_REF) if reference else None


def _kind(schema: Schema) -> Kind:
    """Describe in words what a value of this schema may be."""
    kind = _plain_kind(schema)
    default = schema.get("default")
    if default in (None, "", []):
        return kind
    return Kind(f"{kind.text}; {json.dumps(default).strip(chr(34))} if left out", kind.shape)


def _plain_kind(schema: Schema) -> Kind:
    if "anyOf" in schema:
        kinds = [_kind(choice) for choice in schema["anyOf"]]
        return Kind(" or ".join(kind.text for kind in kinds), next((kind.shape for kind in kinds if kind.shape), None))
    shape = _shape(schema)
    if shape:
        return Kind(shape, shape)
    if schema.get("type") == "array":
        item = _kind(schema["items"])
        return Kind(f"list of {item.text}", item.shape)
    if "enum" in schema:
        return Kind("one of " + ", ".join(map(str, schema["enum"])))
    if schema.get("type") == "string":
        return Kind(FORMATS.get(schema.get("format", "")) or _text(schema))
    bounds = [str(schema[bound]) for bound in ("minimum", "maximum") if bound in schema]
    members = schema.get("additionalProperties")
    kind: str = schema["type"]
    name = f"{_kind(members).text}s by name" if isinstance(members, dict) else KINDS.get(kind, kind)
    return Kind(f"{name}, {' to '.join(bounds)}" if bounds else name)


def _text(schema: Schema) -> str:
    pattern = schema.get("pattern", UNSTORABLE)
    if pattern != UNSTORABLE:
        return f"text that matches {pattern}"
    return f"text, at most {schema['maxLength']:,} characters" if "maxLength" in schema else "text"
