"""Ask every route of the URL map for what is not the asker's, in both modes: a new route cannot be forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from flask import Flask
from orjson import dumps, loads
from werkzeug.routing import Rule

from tests.support.products import any_parts_on_sqlite
from tests.support.rows import CATEGORIZED, PAGED, named_by, new_row
from tests.web.conftest import Caller, browser_of, caller, make_admin, users_of

PUBLIC = {
    "static",
    "favicon",
    "ops.healthz",
    "ops.readyz",
    "ops.metrics",
    "openapi.document",
    "auth.login",
    "auth.logout",
    "auth.register",
    "pages.home",
    "api_docs.page",
    "feed.calendar",  # it asks for the secret in its own address
}
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
BODIES: dict[str, dict[str, Any]] = {name: loads(dumps(new_row(name, "x"))) for name in PAGED} | {
    "settings": {"value": "x"},
    "keys": {"name": "x"},
}

if TYPE_CHECKING:
    from compose import Parts


@pytest.fixture
def any_parts(any_parts_on_each: Parts) -> Parts:
    """Run this in each mode on each database product, but where a test says otherwise."""
    return any_parts_on_each


def rules(app: Flask, *prefixes: str) -> list[tuple[Rule, str]]:
    """Give every (rule, method) under the prefixes, HEAD and OPTIONS aside."""
    return [
        (rule, method)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.rule.startswith(prefixes)
    ]


def fill(rule: Rule, **values: object) -> str:
    """Give an address for a rule; what is not named gets an id that nobody has."""
    path = rule.rule
    for name in rule.arguments:
        path = path.replace(f"<int:{name}>", str(values.get(name, 987_654)))
        for written in (f"<{name}>", f"<uuid:{name}>", f"<string:{name}>"):
            path = path.replace(written, str(values.get(name, uuid4())))
    return path


def body_of(rule: Rule) -> dict[str, Any]:
    return BODIES.get(rule.rule.split("/")[3] if rule.rule.startswith("/api/v1/") else "", {})


def make_rows(asker: Caller) -> dict[str, str]:
    """Make one row of each resource and give the ids by resource."""
    made = {}
    for name in (*PAGED, "keys"):
        answer = asker.post(f"/api/v1/{name}", json=BODIES[name])
        assert answer.status_code == 201, answer.json
        made[name] = answer.json["id"]
    assert asker.put("/api/v1/settings/theme", json={"value": "dark"}).status_code == 201
    return made | {"settings": "theme"}


@any_parts_on_sqlite
def test_every_route_is_public_by_name_or_guarded(any_app: Flask) -> None:
    for rule in any_app.url_map.iter_rules():
        guard = getattr(any_app.view_functions[rule.endpoint], "guard", None)
        assert (rule.endpoint in PUBLIC) != (guard is not None), rule.endpoint
        if rule.rule.startswith("/admin"):
            assert guard is not None
            assert guard[1], f"{rule.endpoint} must be for administrators"


@any_parts_on_sqlite
def test_an_anonymous_json_call_is_401_whatever_it_names(any_app: Flask) -> None:
    client = any_app.test_client()
    for rule, method in rules(
        any_app, "/api/v1/", "/admin/user/", "/admin/databases", "/admin/job/", "/admin/schedule/"
    ):
        if rule.endpoint in PUBLIC:
            continue
        answer = client.open(fill(rule, user_id=1), method=method, json=body_of(rule))
        assert (answer.status_code, answer.json["code"]) == (401, "not_authenticated"), rule


@any_parts_on_sqlite
def test_an_anonymous_page_call_leads_to_login_or_stops_at_the_csrf_check(any_app: Flask) -> None:
    client = any_app.test_client()
    for rule, method in rules(any_app, "/"):
        guard = getattr(any_app.view_functions[rule.endpoint], "guard", None)
        if guard is None or guard[0] != "_page_principal":
            continue
        answer = client.open(fill(rule, user_id=1), method=method)
        if method in UNSAFE:
            assert answer.status_code == 400, rule
        else:
            assert answer.status_code == 302, rule
            assert answer.location.startswith("/auth/login")


def test_another_users_row_is_answered_as_one_that_is_not_there(any_app: Flask) -> None:
    owner, stranger = (caller(any_app, user) for user in users_of(any_app.extensions["unify"]))
    rows = make_rows(owner)
    asked = 0
    for rule, method in rules(any_app, "/api/v1/"):
        resource = rule.rule.split("/")[3]
        if not rule.arguments or resource == "settings":
            continue
        body = None if method in ("GET", "DELETE") else {named_by(resource): "y"}
        headers = {} if method == "GET" else {"If-Match": "*"} if resource != "keys" else {}
        foreign, unknown = (
            stranger.open(fill(rule, **dict.fromkeys(rule.arguments, key)), method=method, json=body, headers=headers)
            for key in (rows[resource], uuid4())
        )
        assert foreign.status_code == 404, (rule, method, foreign.json)
        assert without_id(foreign.data) == without_id(unknown.data)
        assert dict(foreign.headers).keys() == dict(unknown.headers).keys()
        asked += 1
    assert asked >= 14
    assert stranger.get("/api/v1/settings/theme").status_code == 404
    assert stranger.delete("/api/v1/settings/theme").status_code == 404
    for name, key in rows.items():
        assert owner.get(f"/api/v1/{name}/{key}").status_code == 200


def test_lists_hold_their_owners_rows_alone(any_app: Flask) -> None:
    owner, stranger = (caller(any_app, user) for user in users_of(any_app.extensions["unify"]))
    rows = make_rows(owner)
    for name, key in rows.items():
        if name == "settings":
            continue
        assert key in [row["id"] for row in owner.get(f"/api/v1/{name}").json["items"]]
        assert key not in [row["id"] for row in stranger.get(f"/api/v1/{name}").json["items"]]


def test_another_users_category_is_refused_as_an_unknown_one(any_app: Flask) -> None:
    owner, stranger = (caller(any_app, user) for user in users_of(any_app.extensions["unify"]))
    foreign = make_rows(owner)["categories"]
    for name in CATEGORIZED:
        answers = [
            stranger.post(f"/api/v1/{name}", json=BODIES[name] | {"category_id": str(key)})
            for key in (foreign, uuid4())
        ]
        assert [answer.status_code for answer in answers] == [422, 422]
        assert answers[0].json["errors"] == answers[1].json["errors"]
        assert answers[0].json["errors"][0]["field"] == "category_id"


@any_parts_on_sqlite
def test_admin_calls_are_403_to_others_for_existing_and_missing_users_alike(any_app: Flask) -> None:
    user, other = users_of(any_app.extensions["unify"])
    asker = caller(any_app, user)
    for rule, method in rules(any_app, "/admin/user/", "/admin/databases", "/admin/job/", "/admin/schedule/"):
        answers = [
            asker.open(fill(rule, user_id=key), method=method) for key in (user.id, other.id, 9999, 0, -1, "1;drop")
        ]
        assert {answer.status_code for answer in answers} == {403}, rule
        assert len({without_id(answer.data) for answer in answers}) == 1


@any_parts_on_sqlite
def test_admin_pages_are_403_to_others(any_app: Flask) -> None:
    user, other = users_of(any_app.extensions["unify"])
    browser = browser_of(any_app, user)
    for rule, method in rules(any_app, "/admin"):
        guard = getattr(any_app.view_functions[rule.endpoint], "guard", None)
        if guard is not None and guard[0] == "_page_principal":
            assert browser.open(fill(rule, user_id=other.id), method=method).status_code == 403, rule


def test_an_administrator_is_a_stranger_to_users_rows(any_app: Flask) -> None:
    parts = any_app.extensions["unify"]
    owner = caller(any_app, users_of(parts)[0])
    root = make_admin(parts)
    parts.manager.provision(root.id)
    rows, admin = make_rows(owner), caller(any_app, root)
    for name, key in rows.items():
        assert admin.get(f"/api/v1/{name}/{key}").status_code == 404


def test_a_read_only_key_reads_and_does_not_write(any_app: Flask) -> None:
    user, _ = users_of(any_app.extensions["unify"])
    rows, reader = make_rows(caller(any_app, user)), caller(any_app, user, read_only=True)
    for rule, method in rules(any_app, "/api/v1/"):
        if rule.endpoint in PUBLIC:
            continue
        key = rows.get(rule.rule.split("/")[3], "")
        answer = reader.open(
            fill(rule, **dict.fromkeys(rule.arguments, key)),
            method=method,
            json=body_of(rule) if method in UNSAFE else None,
        )
        assert answer.status_code == (403 if method in UNSAFE else 200), (rule, method)
        if method in UNSAFE:
            assert answer.json["code"] == "read_only_key"


@any_parts_on_sqlite
@pytest.mark.parametrize("token", [None, "", "forged"])
def test_a_session_writes_nothing_without_its_csrf_token(any_app: Flask, token: str | None) -> None:
    user, _ = users_of(any_app.extensions["unify"])
    browser = browser_of(any_app, user)
    headers = {} if token is None else {"X-CSRFToken": token}
    for rule, method in rules(any_app, "/"):
        if method not in UNSAFE:
            continue
        answer = browser.client.open(fill(rule, user_id=user.id), method=method, headers=headers)
        # An administrator's call is refused for the missing right or for the missing token, whichever comes first.
        assert answer.status_code in ((400, 403) if rule.rule.startswith("/admin") else (400,)), (rule, method)


def without_id(data: bytes) -> bytes:
    """Give a problem document without the one member that always differs."""
    problem = json.loads(data)
    del problem["request_id"]
    return json.dumps(problem).encode()
