"""Count what a request sends to databases: goals.md P10."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flask import Flask

import web
from tests.web.conftest import browser_of, caller, statements, users_of

if TYPE_CHECKING:
    from compose import Parts


@pytest.mark.parametrize("query", ["", "?limit=3&status=todo"])
def test_listing_tasks_is_one_catalog_and_one_tenant_statement(any_parts_on_each: Parts, query: str) -> None:
    user, _ = users_of(any_parts_on_each)
    app = web.create(any_parts_on_each)
    for asker in (caller(app, user), browser_of(app, user)):
        asker.get(f"/api/v1/tasks{query}")
        with statements() as sent:
            assert asker.get(f"/api/v1/tasks{query}").status_code == 200
        assert len(sent) == 2, sent
        assert "users" in sent[0][1]
        assert "FROM tasks" in sent[1][1].replace("\n", " ")


def test_reading_one_row_is_one_statement_each(app: Flask, parts: Parts) -> None:
    asker = caller(app, users_of(parts)[0])
    key = asker.post("/api/v1/notes", json={"title": "x"}).json["id"]
    with statements() as sent:
        assert asker.get(f"/api/v1/notes/{key}").status_code == 200
    assert len(sent) == 2, sent


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/openapi.json", "/api/v1/tasks", "/api/v1/nothing"])
def test_the_anonymous_cost_no_catalog_statement(app: Flask, path: str) -> None:
    client = app.test_client()
    with statements() as sent:
        client.get(path)
    assert sent == []
