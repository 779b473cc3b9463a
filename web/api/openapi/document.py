"""Generate the OpenAPI 3.1 document from the models and declarations that serve the calls.

What applies to every call (errors, headers, authentication) is declared once here. A test checks that the document and
the URL map contain the same calls. ``shapes`` holds the models of the responses, ``words`` the descriptions.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import orjson
from flask import Blueprint, Flask, Response, current_app
from pydantic import BaseModel, create_model
from pydantic.json_schema import models_json_schema

from web import schemas
from web.api.openapi import words
from web.api.openapi.shapes import (
    Account,
    AllBackups,
    Backup,
    DatabaseInfo,
    DatabaseInitialized,
    DatabaseListed,
    DatabaseStats,
    Job,
    JobAdded,
    JobStatus,
    KeyMade,
    KeyShown,
    Problem,
    Schedules,
    SettingShown,
    Shown,
)
from web.api.resources import ALL, Resource

Mode = Literal["validation", "serialization"]
READ_ERRORS = (400, 401, 403, 404, 406, 413, 414, 422, 431, 503)
WRITE_ERRORS = (*READ_ERRORS, 409, 412, 415, 429, 507)
ADMIN_ERRORS = (*WRITE_ERRORS, 502)
JOB_ERRORS = (*READ_ERRORS, 409, 415, 429)

blueprint = Blueprint("openapi", __name__)


@dataclass(frozen=True)
class Operation:
    """One call; ``answers`` maps each status of success to the model of its body."""

    summary: str
    answers: dict[int, type[BaseModel] | None]
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    conditional: bool = False
    tagged: bool = False
    errors: tuple[int, ...] = READ_ERRORS
    admin: bool = False


def init_app(app: Flask) -> None:
    """Serve the document."""
    app.register_blueprint(blueprint)


@blueprint.get("/api/v1/openapi.json")
def document() -> Response:
    """Serve the document, which is the same for everybody and for the life of the process."""
    return Response(orjson.dumps(described()), content_type="application/json")


def described() -> dict[str, Any]:
    """Return the cached document of this application; it must not be changed."""
    kept: dict[str, Any] | None = current_app.extensions.get("unify-openapi")
    if kept is None:
        kept = current_app.extensions["unify-openapi"] = describe(current_app)
    return kept


def operations() -> dict[str, Operation]:
    """Return every documented call by its endpoint."""
    return {name: call for resource in ALL for name, call in _row_operations(resource).items()} | _OTHERS


def describe(app: Flask) -> dict[str, Any]:
    """Build the document for the routes of the application."""
    known = operations()
    references, definitions = _schemas(known)
    paths: dict[str, Any] = {}
    for rule in app.url_map.iter_rules():
        operation = known.get(rule.endpoint)
        if operation is None:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        item = paths.setdefault(path, {})
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            item[method.lower()] = _operation(operation, rule.endpoint, rule.arguments, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Unify", "version": "1", "description": "Tasks, notes and events, a database for each user."},
        "tags": [{"name": name, "description": text} for name, text in words.GROUPS.items()],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": definitions, "securitySchemes": _security(app.config["SESSION_COOKIE_NAME"])},
        "security": [{"key": []}, {"session": []}],
    }


def _security(cookie: str) -> dict[str, Any]:
    return {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, created at /settings/keys or with /api/v1/keys.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": "A browser's session; writes also need the header X-CSRFToken.",
        },
    }


def _page_of(item: type[BaseModel]) -> type[BaseModel]:
    return create_model(f"{item.__name__}List", __base__=Shown, items=(list[item], ...), next_cursor=(str | None, ...))  # type: ignore[valid-type]  # a model made here


def _shown(resource: Resource) -> type[BaseModel]:
    """Derive a response model from the model that creates a row: all fields are present, optional ones may be null."""
    fields: dict[str, Any] = {"id": (UUID, ...)}
    for name, info in resource.create.model_fields.items():
        if name != "id":
            kind = dt.datetime | None if name in ("starts_at", "ends_at") else info.annotation
            fields[name] = (kind, ...)
    fields |= {"created_at": (dt.datetime, ...), "updated_at": (dt.datetime, ...)}
    return create_model(resource.singular.capitalize(), __base__=Shown, **fields)


def _row_operations(resource: Resource) -> dict[str, Operation]:
    shown, many = _shown(resource), resource.name
    one = f"{'an' if resource.singular[0] in 'aeiou' else 'a'} {resource.singular}"
    prefix = f"api.{many}_"
    return {
        prefix + "list": Operation(f"List {many}", {200: _page_of(shown)}, query=resource.query),
        prefix + "create": Operation(
            f"Create {one}", {201: shown}, body=resource.create, tagged=True, errors=WRITE_ERRORS
        ),
        prefix + "read": Operation(f"Read {one}", {200: shown, 304: None}, tagged=True),
        prefix + "change": Operation(
            f"Change {one}", {200: shown}, body=resource.change, conditional=True, tagged=True, errors=WRITE_ERRORS
        ),
        prefix + "delete": Operation(f"Delete {one}", {204: None}, conditional=True, errors=WRITE_ERRORS),
    }


_OTHERS = {
    "api.settings_read": Operation("Read a setting", {200: SettingShown, 304: None}, tagged=True),
    "api.settings_write": Operation(
        "Store a setting",
        {200: SettingShown, 201: SettingShown},
        body=schemas.SettingPut,
        conditional=True,
        tagged=True,
        errors=WRITE_ERRORS,
    ),
    "api.settings_delete": Operation("Delete a setting", {204: None}, conditional=True, errors=WRITE_ERRORS),
    "api.keys_list": Operation("List API keys", {200: _page_of(KeyShown)}),
    "api.keys_create": Operation(
        "Create an API key; it is shown this one time", {201: KeyMade}, body=schemas.KeyCreate, errors=WRITE_ERRORS
    ),
    "api.keys_read": Operation("Read an API key's description", {200: KeyShown}),
    "api.keys_delete": Operation("Revoke an API key", {204: None}, errors=WRITE_ERRORS),
    "api.me_read": Operation("Read your account", {200: Account}),
    "admin_api.database_info": Operation("Read a user's database configuration", {200: DatabaseInfo}, admin=True),
    "admin_api.initialize": Operation(
        "Create a user's database",
        {200: DatabaseInitialized, 201: DatabaseInitialized},
        body=schemas.DatabaseInitialize,
        body_required=False,
        errors=ADMIN_ERRORS,
        admin=True,
    ),
    "admin_api.databases": Operation(
        "List all users' databases", {200: _page_of(DatabaseListed)}, query=schemas.DatabasesQuery, admin=True
    ),
    "admin_api.all_backups": Operation(
        "List all backups, newest first", {200: AllBackups}, query=schemas.BackupsQuery, admin=True
    ),
    "admin_api.backups": Operation(
        "List a user's backups, newest first", {200: _page_of(Backup)}, query=schemas.ListQuery, admin=True
    ),
    "admin_api.back_up": Operation("Back up a user's database", {202: JobAdded}, errors=JOB_ERRORS, admin=True),
    "admin_api.restore": Operation(
        "Restore a user's database from a backup",
        {202: JobAdded},
        body=schemas.RestoreDatabase,
        errors=JOB_ERRORS,
        admin=True,
    ),
    "admin_api.jobs": Operation("List jobs, newest first", {200: _page_of(Job)}, query=schemas.JobsQuery, admin=True),
    "admin_api.job_status": Operation("Read which workers take jobs, and count the jobs", {200: JobStatus}, admin=True),
    "admin_api.job_info": Operation("Read a job", {200: Job}, admin=True),
    "admin_api.job_cancel": Operation("Cancel a job", {200: Job}, errors=JOB_ERRORS, admin=True),
    "admin_api.job_retry": Operation("Retry a job", {200: Job}, errors=JOB_ERRORS, admin=True),
    "admin_api.schedules": Operation("List all schedules", {200: Schedules}, admin=True),
    "admin_api.stats": Operation("Count and measure all databases", {200: DatabaseStats}, admin=True),
}

Reference = dict[tuple[type[BaseModel], Mode], dict[str, Any]]


def _schemas(described: dict[str, Operation]) -> tuple[Reference, dict[str, Any]]:
    used: list[tuple[type[BaseModel], Mode]] = [(Problem, "serialization")]
    for operation in described.values():
        used += [(model, "serialization") for model in operation.answers.values() if model is not None]
        if operation.body is not None:
            used.append((operation.body, "validation"))
    references, found = models_json_schema(used, ref_template="#/components/schemas/{model}")
    for shape, schema in found["$defs"].items():
        for name, member in schema.get("properties", {}).items():
            member["description"] = _words(name, shape)
    return references, found["$defs"]  # type: ignore[return-value]  # pydantic's key type is the same pair


def _words(name: str, place: str) -> str:
    """Return the description of a name in this shape or group, or the general one."""
    return words.FIELDS.get(f"{place}.{name}") or words.FIELDS[name]


def _operation(operation: Operation, endpoint: str, arguments: set[str], references: Reference) -> dict[str, Any]:
    group = endpoint.partition(".")[2].partition("_")[0] if not operation.admin else "admin"
    shown: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": operation.summary,
        "tags": [group],
        "parameters": [_path_parameter(name, group) for name in sorted(arguments)]
        + _query_parameters(operation.query, group),
        "responses": {
            str(status): _success(status, model, operation, references) for status, model in operation.answers.items()
        },
    }
    shown["responses"] |= {str(status): _failure(status, references) for status in sorted(operation.errors)}
    if operation.conditional:
        shown["parameters"].append(_IF_MATCH)
    if 304 in operation.answers:
        shown["parameters"].append(_IF_NONE_MATCH)
    if operation.body is not None:
        example = words.BODIES[operation.body.__name__]
        content = {"application/json": {"schema": references[operation.body, "validation"], "example": example}}
        shown["requestBody"] = {"required": operation.body_required, "content": content}
    return shown


def _parameter(name: str, place: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "description": text, "schema": schema}


_TAGS = {"type": "string", "pattern": r'^(\*|(W/)?"[!#-~]*"(, *(W/)?"[!#-~]*")*)$'}
_IF_MATCH = _parameter(
    "If-Match", "header", "The ETag of the state that was read; 412 if the row has changed since.", _TAGS
)
_IF_NONE_MATCH = _parameter(
    "If-None-Match", "header", "The ETag of the state that the client has; 304 if it is still current.", _TAGS
)
_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "key": {"type": "string", "pattern": "^[a-z][a-z0-9_.-]{0,63}$"},
    "user_id": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "job_id": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
}


def _path_parameter(name: str, group: str) -> dict[str, Any]:
    schema = _PATH_SCHEMAS.get(name, {"type": "string", "format": "uuid"})
    return _parameter(name, "path", _words(name, group), schema) | {"example": words.PATH_EXAMPLES[name]}


def _query_parameters(query: type[BaseModel] | None, group: str) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = query.model_json_schema(mode="validation")
    definitions = schema.get("$defs", {})
    return [
        _parameter(name, "query", _words(name, group), _not_null(member, definitions))
        for name, member in schema["properties"].items()
    ]


def _not_null(member: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Remove null, which a query string cannot express, and inline referenced schemas."""
    choices = [choice for choice in member.get("anyOf", [member]) if choice.get("type") != "null"]
    chosen = dict(choices[0])
    if "$ref" in chosen:
        chosen = dict(definitions[chosen["$ref"].rpartition("/")[2]])
    if chosen.get("default", ...) is None:
        del chosen["default"]
    return chosen


def _success(status: int, model: type[BaseModel] | None, operation: Operation, references: Reference) -> dict[str, Any]:
    descriptions = {200: "Done", 201: "Created", 202: "Begun; a job does it", 204: "Done; no body", 304: "Not modified"}
    shown: dict[str, Any] = {"description": descriptions[status], "headers": dict(_REQUEST_ID)}
    if operation.tagged:
        shown["headers"]["ETag"] = {"schema": {"type": "string"}, "description": "Identifies this state of the row."}
    if model is not None:
        shown["content"] = {"application/json": {"schema": references[model, "serialization"]}}
    return shown


_REQUEST_ID = {"X-Request-ID": {"schema": {"type": "string"}, "description": "Identifies this request in the logs."}}
_FAILURES = {
    400: "Malformed: not JSON, not an object, a duplicate name, or both a key and a session",
    401: "Not authenticated: no key, or one that is revoked or expired",
    403: "Not allowed: the key is read-only, or the call is for administrators",
    404: "Does not exist, or is not yours",
    406: "The client does not accept JSON",
    409: "Conflict: it already exists, or it is still in use",
    412: "Stale: it has changed since the state in If-Match",
    413: "Too large",
    414: "URL too long",
    415: "Wrong media type: the body must be application/json",
    422: "A field is invalid or unknown; errors names it",
    429: "Too many requests; Retry-After says when to try again",
    431: "Headers too large",
    502: "The database server refused the request",
    503: "The database is not ready or cannot be reached; Retry-After says when to try again",
    507: "No disk space left",
}


def _failure(status: int, references: Reference) -> dict[str, Any]:
    headers: dict[str, Any] = dict(_REQUEST_ID)
    if status in (429, 503):
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
    content = {"application/problem+json": {"schema": references[Problem, "serialization"]}}
    return {"description": _FAILURES[status], "headers": headers, "content": content}
