"""Hold API keys to being shown once and ending when they are revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.web.conftest import Browser, Caller, caller

URL = "/api/v1/keys"


def test_a_key_is_shown_once_and_works_until_it_is_revoked(ada: Caller, anonymous: FlaskClient) -> None:
    made = ada.post(URL, json={"name": "laptop"})
    assert made.status_code == 201
    use = {"Authorization": f"Bearer {made.json['key']}"}
    assert anonymous.get("/api/v1/tasks", headers=use).status_code == 200
    shown = ada.get(made.headers["Location"]).json
    assert shown == {name: value for name, value in made.json.items() if name != "key"} | {
        "last_used_at": shown["last_used_at"]
    }
    assert made.json["key"] not in ada.get(URL).text
    assert ada.delete(made.headers["Location"]).status_code == 204
    assert anonymous.get("/api/v1/tasks", headers=use).status_code == 401
    assert ada.get(made.headers["Location"]).status_code == 404
    assert ada.delete(made.headers["Location"]).status_code == 404


def test_a_key_may_expire_but_not_yesterday(ada: Caller) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert ada.post(URL, json={"expires_at": tomorrow, "read_only": True}).json["read_only"] is True
    answer = ada.post(URL, json={"expires_at": "2001-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "expires_at")


def test_a_key_and_a_session_at_once_are_400(browser: Browser, ada: Caller) -> None:
    for key in (ada.key, "unify_wrong", ""):
        answer = browser.get("/api/v1/me", headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json["code"]) == (400, "two_credentials")
    assert browser.get("/api/v1/me").status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer x", "Bearer \xe9", "Basic YTpi", "bearer  x y", "x" * 4000]
)
def test_a_key_that_is_none_is_401(anonymous: FlaskClient, header: str) -> None:
    answer = anonymous.get("/api/v1/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_opens_no_page(app: Flask, ada: Caller) -> None:
    assert ada.get("/tasks").status_code == 302
    assert ada.post("/tasks", data={"title": "x"}).status_code == 400


def test_a_deactivated_users_key_is_401_at_once(app: Flask, ada: Caller) -> None:
    assert ada.get("/api/v1/me").status_code == 200
    app.extensions["unify"].accounts.deactivate(ada.user.id)
    assert ada.get("/api/v1/me").status_code == 401


def test_me_is_the_account_that_asks(app: Flask, ada: Caller) -> None:
    shown = ada.get("/api/v1/me").json
    assert (shown["id"], shown["email"], shown["is_admin"]) == (ada.user.id, "ada@example.org", False)
    assert shown["database"] == {
        "db_type": "sqlite",
        "status": "ready",
        "revision": app.extensions["unify"].manager.head,
    }


def test_ids_that_are_none_are_404(ada: Caller) -> None:
    for key in ("x", "0", uuid4()):
        assert ada.get(f"{URL}/{key}").status_code == 404
        assert ada.delete(f"{URL}/{key}").status_code == 404
    assert caller(ada.client.application, ada.user).get(URL).status_code == 200
