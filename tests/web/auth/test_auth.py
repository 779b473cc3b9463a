"""Hold sessions to what the server says of them: they end for good, and nobody else's cookie works."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.http import parse_cookie

import web
from tenancy.models import User
from tests.conftest import PASSWORD, make_user
from tests.web.conftest import Browser, browser_of, cookie, statements

if TYPE_CHECKING:
    from compose import Parts

TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


def csrf_of(client: FlaskClient, path: str) -> str:
    found = TOKEN.search(client.get(path).text)
    assert found is not None, path
    return found[1]


def sign_in(client: FlaskClient, email: str, password: str = PASSWORD, **fields: str) -> Any:
    form = {"email": email, "password": password, "csrf_token": csrf_of(client, "/auth/login")} | fields
    return client.post("/auth/login", data=form)


def cookie_header(answer: Any) -> str:
    return next(line for line in answer.headers.getlist("Set-Cookie") if line.startswith("unify_session_"))


def test_signing_in_opens_the_json_calls_too(app: Flask, user: User, anonymous: FlaskClient) -> None:
    answer = sign_in(anonymous, user.email)
    assert answer.status_code == 303
    assert anonymous.get("/api/v1/me").json["email"] == user.email


def test_logout_kills_the_session_and_every_copy_of_its_cookie(app: Flask, user: User, anonymous: FlaskClient) -> None:
    sign_in(anonymous, user.email)
    kept = anonymous.get_cookie(cookie(app))
    assert kept is not None
    token = csrf_of(anonymous, "/auth/logout")
    assert anonymous.post("/auth/logout", data={"csrf_token": token}).status_code == 303
    thief = app.test_client()
    thief.set_cookie(cookie(app), kept.value)
    assert thief.get("/api/v1/me").status_code == 401
    assert anonymous.get("/api/v1/me").status_code == 401


def test_signing_in_replaces_what_the_cookie_held(app: Flask, user: User, anonymous: FlaskClient) -> None:
    before = csrf_of(anonymous, "/auth/login")
    sign_in(anonymous, user.email)
    answer = anonymous.post("/api/v1/tasks", json={"title": "x"}, headers={"X-CSRFToken": before})
    assert (answer.status_code, answer.json["code"]) == (400, "csrf_failed")


def test_remember_is_a_longer_session_and_no_second_cookie(app: Flask, user: User, anonymous: FlaskClient) -> None:
    short, long = sign_in(anonymous, user.email), sign_in(app.test_client(), user.email, remember="1")
    assert "Expires" not in cookie_header(short)
    assert "Expires" in cookie_header(long)
    names = {
        name for answer in (short, long) for line in answer.headers.getlist("Set-Cookie") for name in parse_cookie(line)
    }
    assert "remember_token" not in names


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookies_are_for_this_site_and_where_possible_for_https_alone(app: Flask, user: User, scheme: str) -> None:
    client = app.test_client()
    base = f"{scheme}://localhost"
    page = client.get("/auth/login", base_url=base)
    form = {"email": user.email, "password": PASSWORD, "csrf_token": TOKEN.search(page.text)[1]}
    answer = client.post("/auth/login", data=form, base_url=base, headers={"Referer": f"{base}/auth/login"})
    assert answer.status_code == 303
    for line in answer.headers.getlist("Set-Cookie"):
        assert "HttpOnly" in line
        assert "SameSite=Lax" in line
        assert ("Secure" in line) == (scheme == "https")


def test_the_cookie_holds_no_name_and_only_the_hash_of_its_token_is_kept(
    app: Flask, user: User, parts: Parts, tmp_path: Any
) -> None:
    browser = browser_of(app, user)
    with browser.client.session_transaction() as session:
        assert set(session) == {"_user_id", "_fresh", "csrf_token"}
        token = session["_user_id"]
    assert len(token) >= 32
    browser.get("/api/v1/me")
    for path in tmp_path.rglob("*.db*"):
        assert token.encode() not in path.read_bytes(), path


def test_a_session_of_a_deactivated_user_is_over_at_once(app: Flask, browser: Browser, parts: Parts) -> None:
    assert browser.get("/api/v1/me").status_code == 200
    parts.accounts.deactivate(browser.user.id)
    assert browser.get("/api/v1/me").status_code == 401
    assert browser.get("/tasks").status_code == 302


def test_anonymous_visitors_get_no_row_and_ask_nothing(app: Flask, parts: Parts) -> None:
    client = app.test_client()
    client.get("/auth/login")
    with statements() as sent:
        assert client.get("/auth/login").status_code == 200
    assert sent == []


def test_a_cookie_signed_with_an_earlier_key_goes_on(make_parts: Any, tmp_path: Any) -> None:
    old = "earlier-" + "q8Zt" * 10
    first = make_parts(secret_key=old)
    app, kept_key = web.create(first), first.settings.audit_key
    browser = browser_of(app, make_user(first, "ada@example.org"))
    kept = browser.client.get_cookie(cookie(app))
    assert kept is not None
    for fallback, status in (({"secret_key_fallbacks": old}, 200), ({}, 401)):
        client = web.create(make_parts(audit_key=kept_key, **fallback)).test_client()
        client.set_cookie(cookie(app), kept.value)
        assert client.get("/api/v1/me").status_code == status


@pytest.mark.parametrize("value", ["", "x", "e30.x.y", "eyJfdXNlcl9pZCI6IjEifQ.aaaaaa.bbbb", "\x80" * 40])
def test_a_cookie_that_is_none_is_a_visitor(app: Flask, user: User, value: str) -> None:
    client = app.test_client()
    for name in (cookie(app), "remember_token", cookie(app, "device")):
        client.set_cookie(name, value)
    assert client.get("/api/v1/me").status_code == 401
    assert client.get("/auth/login").status_code == 200


def test_a_browser_that_signed_in_before_keeps_its_own_counter(app: Flask, user: User) -> None:
    known, stranger = app.test_client(), app.test_client()
    sign_in(known, user.email)
    assert known.get_cookie(cookie(app, "device"), path="/auth") is not None
    statuses = [sign_in(stranger, user.email, "wrong password").status_code for _ in range(25)]
    assert statuses[-1] == 429
    known.delete_cookie(cookie(app))
    assert sign_in(known, user.email).status_code == 303


def test_a_device_cookie_is_good_for_its_own_account_alone(app: Flask, user: User, other: User) -> None:
    client = app.test_client()
    with app.test_request_context():
        from web.auth.known_browsers import device_token, remember_device

        answer = app.make_response("")
        remember_device(answer, user.email, "1.abc")
        value = parse_cookie(answer.headers["Set-Cookie"])[cookie(app, "device")]
    with app.test_request_context(headers={"Cookie": f"{cookie(app, 'device')}={value}"}):
        assert device_token("ADA@example.org") == "1.abc"
        assert device_token(other.email) is None
    with app.test_request_context(headers={"Cookie": f"{cookie(app, 'device')}={value}x"}):
        assert device_token(user.email) is None
    assert client.get("/auth/login").status_code == 200


def test_a_csrf_failure_says_what_to_do(app: Flask, browser: Browser) -> None:
    answer = browser.client.post("/api/v1/tasks", json={"title": "x"})
    assert answer.content_type == "application/problem+json"
    assert (answer.status_code, answer.json["code"]) == (400, "csrf_failed")
    page = app.test_client().post("/auth/login", data={"email": "a@b.c", "password": "x"})
    assert page.status_code == 400
    assert "again" in page.text
    assert page.content_type.startswith("text/html")
