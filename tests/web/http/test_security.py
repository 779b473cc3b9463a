"""Hold every answer to its headers and every request to its limits."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

import web
from tests.web.conftest import Browser, Caller
from web.http.security import ROOM_BYTES
from web.http.wsgi import HEADERS
from web.schemas import TEXT_MAX

PATHS = ["/auth/login", "/healthz", "/api/v1/tasks", "/api/v1/nothing", "/nothing", "/api/v1/openapi.json", "/tasks"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_headers(anonymous: FlaskClient, path: str) -> None:
    answer = anonymous.get(path)
    for name, value in HEADERS:
        assert answer.headers.getlist(name) == [value]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "Cookie, Authorization"
    assert "Strict-Transport-Security" not in answer.headers
    assert len(answer.headers["X-Request-ID"]) == 16


def test_the_policy_is_strict(anonymous: FlaskClient) -> None:
    policy = anonymous.get("/auth/login").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(("setting", "scheme", "told"), [("true", "http", True), ("false", "https", False)])
def test_the_setting_decides_where_the_scheme_cannot_be_seen(
    make_parts: Any, setting: str, scheme: str, told: bool
) -> None:
    client = web.create(make_parts(cookie_secure=setting)).test_client()
    answer = client.get("/auth/login", base_url=f"{scheme}://localhost")
    assert ("Strict-Transport-Security" in answer.headers) == told
    assert ("Secure" in answer.headers["Set-Cookie"]) == told


def test_over_https_browsers_are_told_to_stay_there(anonymous: FlaskClient) -> None:
    assert "Strict-Transport-Security" in anonymous.get("/healthz", base_url="https://localhost").headers


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost@evil", "", "[::2]"])
def test_another_host_is_400(anonymous: FlaskClient, host: str) -> None:
    for path in ("/auth/login", "/api/v1/tasks"):
        assert anonymous.get(path, headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:8000", "[::1]:5000"])
def test_our_own_names_are_taken(anonymous: FlaskClient, host: str) -> None:
    assert anonymous.get("/healthz", headers={"Host": host}).status_code == 200


def test_forwarded_headers_count_only_behind_as_many_proxies(make_parts: Any) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.org", "X-Request-ID": "edge-1"}
    direct = web.create(make_parts()).test_client().get("/healthz", headers=forwarded)
    assert "Strict-Transport-Security" not in direct.headers
    assert direct.headers["X-Request-ID"] != "edge-1"
    behind = web.create(make_parts(trusted_proxy_count=1, trusted_hosts="app.example.org")).test_client()
    answer = behind.get("/healthz", headers=forwarded)
    assert answer.status_code == 200
    assert "Strict-Transport-Security" in answer.headers
    assert answer.headers["X-Request-ID"] == "edge-1"
    assert behind.get("/healthz", headers=forwarded | {"X-Request-ID": "a b\tc"}).headers["X-Request-ID"] != "a b\tc"


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a_body_beyond_the_limit_is_413(ada: Caller, anonymous: FlaskClient, content_type: str) -> None:
    large = b'{"title": "' + b"x" * 1_100_000 + b'"}'
    answer = ada.post("/api/v1/tasks", data=large, content_type="application/json")
    assert (answer.status_code, answer.json["code"]) == (413, "request_entity_too_large")
    assert anonymous.post("/auth/login", data=large, content_type=content_type).status_code in (400, 413)


@pytest.mark.parametrize(
    ("path", "more_bytes", "status"),
    [("/auth/login", 0, 400), ("/auth/login", ROOM_BYTES, 413), ("/auth/register", 0, 413)],
)
def test_the_login_form_alone_may_be_longer_as_it_may_carry_another(
    anonymous: FlaskClient, path: str, more_bytes: int, status: int
) -> None:
    body = b"email=" + b"x" * (1_048_576 + more_bytes)
    answer = anonymous.post(path, data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == status


def test_a_gigabyte_is_refused_unread(ada: Caller) -> None:
    class Untouched(BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body was read")

        readline = read

    environ = {"CONTENT_LENGTH": str(2**30), "CONTENT_TYPE": "application/json", "wsgi.input": Untouched()}
    answer = ada.post("/api/v1/tasks", environ_overrides=environ)
    assert answer.status_code == 413


def test_a_chunked_body_beyond_the_limit_is_413(ada: Caller) -> None:
    chunked = {
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_TYPE": "application/json",
        "wsgi.input": BytesIO(b'{"title": "' + b"x" * 2_000_000 + b'"}'),
        "wsgi.input_terminated": True,
    }
    assert ada.post("/api/v1/tasks", environ_overrides=chunked).status_code == 413


@pytest.mark.parametrize("length", ["-1", "x", "1e3", ""])
def test_a_length_that_is_none_is_no_error_of_ours(ada: Caller, length: str) -> None:
    answer = ada.post("/api/v1/tasks", environ_overrides={"CONTENT_LENGTH": length, "CONTENT_TYPE": "application/json"})
    assert 400 <= answer.status_code < 500


def test_an_address_beyond_4096_is_414(ada: Caller, anonymous: FlaskClient) -> None:
    for client in (ada, anonymous):
        for path in ("/api/v1/tasks?q=" + "x" * 4096, "/api/v1/" + "x" * 4096):
            answer = client.get(path)
            assert (answer.status_code, answer.content_type) == (414, "application/problem+json")
    assert anonymous.get("/" + "x" * 5000).status_code == 414


def test_headers_beyond_32_kib_are_431(ada: Caller) -> None:
    answer = ada.get("/api/v1/tasks", headers={f"X-Filler-{number}": "x" * 4000 for number in range(9)})
    assert (answer.status_code, answer.content_type) == (431, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/api/v1/tasks", 405),
        ("POST", "/api/v1/me", 405),
        ("TRACE", "/api/v1/tasks", 405),
        ("BREW", "/api/v1/tasks", 405),
        ("DELETE", "/admin/databases", 405),
        ("GET", "/admin/user/1/database/initialize", 405),
        ("POST", "/healthz", 405),
        ("GET", "/api/v1/tasks/", 404),
        ("GET", "/api/v1/../v1/tasks", 404),
        ("GET", "/api/v1/%ff", 404),
        ("GET", "/api/v1/tasks/%00", 401),
        ("GET", "/admin/user/1/nothing", 404),
        ("GET", "/api", 404),
    ],
)
def test_what_is_not_served_is_a_problem_too(anonymous: FlaskClient, method: str, path: str, status: int) -> None:
    answer = anonymous.open(path, method=method)
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
    assert (answer.json["status"], answer.json["request_id"]) == (status, answer.headers["X-Request-ID"])
    assert status != 405 or answer.headers["Allow"]


def test_a_doubled_slash_is_another_address(anonymous: FlaskClient) -> None:
    answer = anonymous.get("/", environ_overrides={"PATH_INFO": "/api//v1/tasks"})
    assert answer.status_code == 404


def test_people_get_a_page(anonymous: FlaskClient) -> None:
    answer = anonymous.get("/nothing")
    assert answer.status_code == 404
    assert answer.content_type.startswith("text/html")
    assert answer.headers["X-Request-ID"] in answer.text


def test_an_unforeseen_error_says_its_id_and_nothing_else(app: Flask) -> None:
    def fail() -> str:
        raise RuntimeError("postgresql://user:secret@host/db")

    app.add_url_rule("/api/v1/fail", "fail", fail)
    app.add_url_rule("/fail", "fail_page", fail)
    for path in ("/api/v1/fail", "/fail"):
        answer = app.test_client().get(path)
        assert answer.status_code == 500
        assert answer.headers["X-Request-ID"] in answer.text
        assert "secret" not in answer.text


# The longest text that may be kept, of letters that take one, three and four bytes, and of line ends.
LONGEST = ["x" * TEXT_MAX, "\u8bed" * TEXT_MAX, "\U0001f389" * TEXT_MAX, "\n" * (TEXT_MAX - 1) + "x"]


def in_parts(**fields: str) -> bytes:
    """Write a form as ``multipart/form-data``; the test client would do so by way of a file."""
    head = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return ("".join(head.format(name, text) for name, text in fields.items()) + "--b--\r\n").encode()


@pytest.mark.parametrize("text", LONGEST)
def test_what_may_be_stored_may_be_sent_by_every_way_in(ada: Caller, browser: Browser, text: str) -> None:
    sent = [
        ada.post("/api/v1/notes", json={"title": "JSON with escapes", "body": text}),
        ada.post("/api/v1/notes", data=orjson.dumps({"title": "plain", "body": text}), content_type="application/json"),
        browser.post("/notes", data={"title": "form", "body": text.replace("\n", "\r\n")}),
        browser.post("/notes", data=in_parts(title="parts", body=text), content_type="multipart/form-data; boundary=b"),
        ada.put("/api/v1/settings/a", json={"value": text}),
        browser.post("/settings", data={"key": "b", "value": text}),
    ]
    assert [answer.status_code for answer in sent] == [201, 201, 303, 303, 201, 303]
    assert [note["body"] == text for note in ada.get("/api/v1/notes").json["items"]] == [True] * 4


@pytest.mark.parametrize("letter", ["x", "\u8bed", "\U0001f389"])
def test_a_field_that_is_longer_than_its_own_limit_is_told_so_by_the_page(browser: Browser, letter: str) -> None:
    text = letter * (TEXT_MAX + 1)
    answer = browser.post("/notes", data={"title": "x", "body": text})
    assert answer.status_code == 422
    assert f"at most {TEXT_MAX} characters" in answer.text
    assert text in answer.text, "what was written is not lost"


def test_the_encoding_is_all_that_may_be_longer(ada: Caller, browser: Browser, anonymous: FlaskClient) -> None:
    """Send what is too long itself, and what would be too long even as the longest text is written."""
    for text in ("x" * 1_048_577, "\u8bed" * 349_526, "\u8bed" * 700_000):
        assert browser.post("/notes", data={"title": "x", "body": text}).status_code == 413
        assert anonymous.post("/auth/register", data={"email": text}).status_code == 413
        raw = orjson.dumps({"title": "x", "body": text})
        assert ada.post("/api/v1/notes", data=raw, content_type="application/json").status_code == 413
    assert ada.post("/api/v1/notes", json={"title": "x", "body": text}).status_code == 413
