"""Hold the document to the routes, and the application to the document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks as openapi

import web
from tests.web.conftest import caller, make_admin, users_of

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
