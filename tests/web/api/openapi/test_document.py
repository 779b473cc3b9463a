"""Hold the document to the routes, and the application to the document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson
import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings as bounds
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks as openapi

import web
from tests.web.conftest import caller, make_admin, users_of
from web.api.openapi import document as openapi_document, words
from web.schemas import read_json

if TYPE_CHECKING:
    from compose import Parts

URL = "/api/v1/openapi.json"
EXAMPLES = 12


def test_every_json_route_is_described_and_nothing_else(app: Flask) -> None:
    described = {
        (path, method.upper()) for path, item in app.test_client().get(URL).json["paths"].items() for method in item
    }
    served = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(("api.", "admin_api."))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served


def test_the_document_is_openapi_3_1_and_public(app: Flask) -> None:
    answer = app.test_client().get(URL)
    assert answer.status_code == 200
    assert answer.json["openapi"] == "3.1.0"
    assert set(answer.json["components"]["securitySchemes"]) == {"key", "session"}
    task = answer.json["components"]["schemas"]["TaskCreate"]
    assert task["additionalProperties"] is False
    assert task["required"] == ["title"]


def test_every_field_and_parameter_is_described_in_words(app: Flask) -> None:
    document = app.test_client().get(URL).json
    for name, shape in document["components"]["schemas"].items():
        for field, member in shape["properties"].items():
            assert member["description"].endswith("."), (name, field)
    for item in document["paths"].values():
        for call in item.values():
            assert call["tags"][0] in {tag["name"] for tag in document["tags"]}
            for parameter in call["parameters"]:
                assert parameter["description"], (call["operationId"], parameter["name"])


def test_every_word_describes_something_that_is_there(app: Flask) -> None:
    document = app.test_client().get(URL).json
    shapes = document["components"]["schemas"]
    calls = [call for item in document["paths"].values() for call in item.values()]
    fields = {f"{name}.{field}" for name, shape in shapes.items() for field in shape["properties"]}
    fields |= {f"{call['tags'][0]}.{each['name']}" for call in calls for each in call["parameters"]}
    plain = {name.partition(".")[2] for name in fields}
    assert set(words.FIELDS) <= fields | plain
    assert set(words.BODIES) <= set(shapes)
    assert set(words.GROUPS) == {call["tags"][0] for call in calls}


def test_every_example_of_a_body_is_one_that_is_taken() -> None:
    for operation in openapi_document.operations().values():
        if operation.body is not None:
            example = words.BODIES[operation.body.__name__]
            assert read_json(operation.body, orjson.dumps(example)).model_fields_set == set(example)


CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.negative_data_rejection,
    openapi.unsupported_method,
    openapi.ignored_auth,
]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_generated_request_breaks_the_promise_of_the_document(parts: Parts, mode: GenerationMode) -> None:
    """Send what the document allows, and what it forbids, with an administrator's key."""
    app, root = web.create(parts), make_admin(parts)
    users_of(parts)
    parts.manager.provision(root.id)
    headers = {"Authorization": f"Bearer {caller(app, root).key}"}
    schema = schemathesis.openapi.from_wsgi(URL, app)
    rejections = schema.config.checks.negative_data_rejection
    rejections.expected_statuses = [*rejections.expected_statuses, "412", "413", "414", "431"]
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @bounds(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
        def hold(case: Case) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        hold()
