"""Know clients, sites and prefixes in every spelling that browsers, probes and proxies use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

import web
from tests.web.conftest import Browser, Caller, account, browser_of, caller
from web.http import addresses, rate_limits

LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "::FFFF:7f00:1", "[::1]:5000", "127.0.0.1:5000"]


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_is_this_machine_in_every_spelling(anonymous: FlaskClient, address: str) -> None:
    assert anonymous.get("/metrics", environ_overrides={"REMOTE_ADDR": address}).status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "", "unix", "127.0.0.1.example"])
def test_another_machine_is_not(anonymous: FlaskClient, address: str) -> None:
    assert anonymous.get("/metrics", environ_overrides={"REMOTE_ADDR": address}).status_code == 403


def test_an_address_of_ipv6_counts_as_its_network() -> None:
    assert addresses.network("2001:db8:1:2:3::4") == addresses.network("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert addresses.network("2001:db8:1:3::4") != addresses.network("2001:db8:1:2::4")
    assert addresses.network("::ffff:192.0.2.1") == addresses.network("192.0.2.1") == "192.0.2.1"


def test_registering_is_slowed_down_for_the_whole_network(app: Flask) -> None:
    counters = app.extensions["unify-limits"]
    for _ in range(60):
        counters.hit(rate_limits.REGISTRATION[0], "register", addresses.network("2001:db8:1:2::1"))
    browser = app.test_client()
    token = browser.get("/auth/register").text.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]
    statuses = [
        browser.post(
            "/auth/register", data={"csrf_token": token}, environ_overrides={"REMOTE_ADDR": f"2001:db8:1:{site}::9"}
        ).status_code
        for site in (2, 3)
    ]
    assert statuses == [429, 422]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_may_ask_by_any_address(anonymous: FlaskClient, path: str) -> None:
    assert anonymous.get(path, headers={"Host": "10.42.0.17:5000"}).status_code == 200


def test_the_figures_are_given_under_any_name_to_the_token_alone(make_parts: Any, anonymous: FlaskClient) -> None:
    asked = {"Host": "rebound.example"}
    assert anonymous.get("/metrics", headers=asked).status_code == 400
    guarded = web.create(make_parts(metrics_token="a-long-token")).test_client()
    asked |= {"Authorization": "Bearer a-long-token"}
    assert guarded.get("/metrics", headers=asked).status_code == 200


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("text/html, application/json;charset=UTF-8;q=0.2", 200),
        ("application/*", 200),
        ("application/json;q=0, */*", 406),
        ("text/html; q=1, application/json; charset=utf-8; q=0", 406),
        ("text/html", 406),
    ],
)
def test_what_a_client_accepts_is_json_whatever_its_parameters(ada: Caller, accept: str, status: int) -> None:
    assert ada.get("/api/v1/tasks", headers={"Accept": accept}).status_code == status


def test_two_installations_on_one_host_keep_their_own_cookies(make_parts: Any) -> None:
    parts = [make_parts(), make_parts()]
    assert len({web.create(each).config["SESSION_COOKIE_NAME"] for each in parts}) == 2
    again = web.create(make_parts(audit_key=parts[0].settings.audit_key))
    assert again.config["SESSION_COOKIE_NAME"] == web.create(parts[0]).config["SESSION_COOKIE_NAME"]


HTTPS = {"base_url": "https://localhost"}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 303),
        ({"Origin": "null"}, 303),
        ({"Origin": "https://localhost"}, 303),
        ({"Origin": "https://localhost:443"}, 303),
        ({"Origin": "https://localhost", "Referer": "https://evil.example/"}, 303),
        ({"Referer": "https://localhost/tasks"}, 303),
        ({"Referer": "https://evil.example/"}, 400),
        ({"Origin": "null", "Referer": "https://evil.example/"}, 400),
        ({"Origin": "https://evil.example"}, 400),
        ({"Origin": "https://localhost:8443"}, 400),
        ({"Origin": "http://localhost"}, 400),
        ({"Origin": "https://localhost.evil.example"}, 400),
        ({"Origin": "https://["}, 400),
    ],
)
def test_over_https_the_token_suffices_and_another_site_is_refused(
    app: Flask, sent: dict[str, str], status: int
) -> None:
    browser = browser_of(app, account(app.extensions["unify"], "cy@example.org"))
    form = {"name": "Garden", "csrf_token": browser.csrf}
    answer = browser.client.post("/categories", data=form, headers=sent, **HTTPS)
    assert answer.status_code == status


def test_a_proxy_that_was_not_told_of_does_not_stop_forms(browser: Browser) -> None:
    form = {"name": "Garden", "csrf_token": browser.csrf}
    assert browser.client.post("/categories", data=form, headers={"Origin": "https://localhost"}).status_code == 303


# ---------------------------------------------------------------- below a path


@pytest.fixture
def prefixed(make_parts: Any) -> Browser:
    """Give a browser that sees the application below /unify, through a proxy that says so."""
    parts = make_parts(trusted_proxy_count=1)
    browser = browser_of(web.create(parts), account(parts, "ada@example.org"))
    browser.client.environ_base["HTTP_X_FORWARDED_PREFIX"] = "/unify/"
    return browser


def test_every_link_and_form_of_every_page_stays_below_the_path(prefixed: Browser) -> None:
    from tests.support.browsing import Page

    for title in ("One", "Two"):
        prefixed.client.post("/notes", data={"title": title, "csrf_token": prefixed.csrf})
    pages = ["/", "/tasks", "/notes", "/events", "/categories", "/bin", "/settings", "/settings/keys", "/search?q=One"]
    seen = 0
    for path in pages:
        page = Page(prefixed.client.get(path).text)
        for address in [*page.links, *(form.action for form in page.forms)]:
            if address.startswith("/"):
                seen += 1
                assert address.startswith("/unify/"), (path, address)
    assert seen > 100


def test_redirects_cookies_and_new_rows_stay_below_the_path(prefixed: Browser) -> None:
    answer = prefixed.client.post("/notes", data={"title": "One", "csrf_token": prefixed.csrf, "next": "/unify/tasks"})
    assert answer.location == "/unify/tasks"
    outside = prefixed.client.post("/notes", data={"title": "Two", "csrf_token": prefixed.csrf, "next": "/tasks"})
    assert outside.location == "/unify/notes"
    made = prefixed.post("/api/v1/notes", json={"title": "Three"})
    assert made.headers["Location"].startswith("/unify/api/v1/notes/")
    stranger = prefixed.client.application.test_client()
    asked = stranger.get("/tasks?due=today", headers={"X-Forwarded-Prefix": "/unify", "X-Forwarded-For": "192.0.2.1"})
    assert asked.location == "/unify/auth/login?next=/unify/tasks?due%3Dtoday"
    page = stranger.get("/auth/login", headers={"X-Forwarded-Prefix": "/unify"})
    assert "; Path=/unify" in page.headers["Set-Cookie"]


def test_a_prefix_is_believed_of_a_trusted_proxy_alone(anonymous: FlaskClient) -> None:
    assert anonymous.get("/tasks", headers={"X-Forwarded-Prefix": "/unify"}).location == "/auth/login?next=/tasks"


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "/\\evil.example", "evil.example", "/a b", "https://evil.example"]
)
def test_a_prefix_that_leads_elsewhere_is_refused(make_parts: Any, prefix: str) -> None:
    behind = web.create(make_parts(trusted_proxy_count=1)).test_client()
    answers = [
        behind.get("/tasks", headers={"X-Forwarded-Prefix": prefix}),
        behind.get("/tasks", environ_overrides={"SCRIPT_NAME": prefix}),
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert not any("evil" in str(answer.headers) for answer in answers)


# ---------------------------------------------------------------- what may be kept, what keys may make


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/static/nothing.css", {}),
        ("GET", "/static/../app.py", {}),
        ("POST", "/static/unify.css", {}),
        ("GET", "/static/unify.css", {"Range": "bytes=99999999-"}),
        ("GET", "/static/unify.css", {"Host": "evil.example"}),
    ],
)
def test_an_error_below_static_is_kept_by_nobody(anonymous: FlaskClient, method: str, path: str, headers: Any) -> None:
    answer = anonymous.open(path, method=method, headers=headers)
    assert answer.status_code >= 400
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_key_makes_no_key_that_lives_longer_or_may_do_more(app: Flask) -> None:
    user = account(app.extensions["unify"], "cy@example.org")
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    mortal, endless = caller(app, user, expires_at=end), caller(app, user)

    def make(asker: Caller, expires_at: datetime | None) -> Any:
        wanted = {"name": "x"} | ({"expires_at": expires_at.isoformat()} if expires_at else {})
        return asker.post("/api/v1/keys", json=wanted)

    for expires_at in (None, end + timedelta(seconds=1)):
        refused = make(mortal, expires_at)
        assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "expires_at")
    assert make(mortal, end).status_code == 201
    assert make(endless, None).status_code == 201
    assert caller(app, user, read_only=True).post("/api/v1/keys", json={"name": "x"}).status_code == 403


def test_a_reading_key_is_held_to_that_where_keys_are_made(app: Flask) -> None:
    from tenancy.errors import ConfigurationError

    accounts = app.extensions["unify"].accounts
    user = account(app.extensions["unify"], "cy@example.org")
    reading, _ = accounts.issue_key(user.id, read_only=True)
    accounts.issue_key(user.id, read_only=True, made_by=reading["id"])
    with pytest.raises(ConfigurationError) as refused:
        accounts.issue_key(user.id, made_by=reading["id"])
    assert refused.value.field == "read_only"


def test_nothing_that_anybody_writes_is_an_address_that_fails() -> None:
    for text in ("http://[", "http://[::1", "http://a:b", "//", "", "http://a:99999", "\x00"):
        assert addresses.split(text).port is None
    assert addresses.split("http://a:5000/b").path == urlsplit("http://a:5000/b").path
