"""Hold log lines to saying whose they are, and to holding no secret."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from flask import Flask

import logs
import web
from tests.web.conftest import caller, users_of


@pytest.fixture
def app(make_parts: Any) -> Flask:
    return web.create(make_parts())


@pytest.fixture
def lines(make_parts: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Give an application that logs JSON, and a function for the lines it has written."""
    app = web.create(make_parts(log_format="json"))

    def written() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]

    return app, written


def test_a_requests_lines_name_request_user_and_tenant(lines: Any) -> None:
    app, written = lines
    user, _ = users_of(app.extensions["unify"])
    asker = caller(app, user)
    written()
    answer = asker.get("/api/v1/tasks?limit=1")
    tenant = app.extensions["unify"].manager.load_user_db_config(user.id)["tenant_id"]
    (line,) = [line for line in written() if line["logger"] == "web.access"]
    assert line["message"].startswith("GET /api/v1/tasks 200 ")
    assert (line["request_id"], line["user_id"], line["tenant"]) == (answer.headers["X-Request-ID"], user.id, tenant)


def test_a_refusal_names_whom_it_refused(lines: Any) -> None:
    app, written = lines
    user, _ = users_of(app.extensions["unify"])
    asker = caller(app, user)
    written()
    assert asker.get("/admin/databases").status_code == 403
    (line,) = [line for line in written() if line["logger"] == "web.access"]
    assert line["user_id"] == user.id


def test_lines_outside_a_request_name_nobody(lines: Any) -> None:
    _, written = lines
    logging.getLogger("somewhere").warning("hello")
    assert next(line for line in written() if line["logger"] == "somewhere").keys() == {
        "time",
        "level",
        "logger",
        "message",
        "process",
    }


def test_no_line_holds_a_secret(make_parts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    app = web.create(make_parts(log_level="DEBUG"))
    user, _ = users_of(app.extensions["unify"])
    asker = caller(app, user)
    for number in range(3):
        asker.post("/api/v1/tasks", json={"title": f"private-{number}"})
    cursor = asker.get("/api/v1/tasks?limit=1").json["next_cursor"]
    asker.get(f"/api/v1/tasks?limit=1&cursor={cursor}&zzz=1")
    asker.post("/api/v1/tasks", json={"title": "private-x", "category_id": str(user.id)})
    client = app.test_client()
    client.post("/auth/login", data={"email": user.email, "password": "wrong-secret-password"})
    written = capsys.readouterr().err
    for secret in (asker.key, cursor, "private-", "wrong-secret-password", "zzz"):
        assert secret not in written


def test_a_text_line_cannot_be_forged_by_a_path(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    app.test_client().get("/nothing%0a2026-01-01 INFO web.access forged")
    written = capsys.readouterr().err
    assert "forged" in written
    assert "\n2026-01-01 INFO" not in written


def test_configuring_twice_writes_once(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    logs.configure("INFO", "text")
    app.test_client().get("/healthz")
    assert capsys.readouterr().err.count("GET /healthz 200") == 1


SECRET = "unifycal_" + "Zq3-_" * 8 + "abc"


@pytest.mark.parametrize(
    "path",
    [
        f"/calendar/{SECRET}.ics",
        f"/calendar/{SECRET}.ics?x={SECRET}",
        f"/calendar/{SECRET}",
        f"/calendar/{SECRET}/more",
        f"/calendar%2F{SECRET}.ics",
        f"/elsewhere/{SECRET}",
        "/calendar/not-even-a-key-Zq3-_.ics",
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_holds_the_address_of_a_calendar(
    make_parts: Any, capsys: pytest.CaptureFixture[str], path: str, form: str
) -> None:
    app = web.create(make_parts(log_level="DEBUG", log_format=form))
    capsys.readouterr()
    answer = app.test_client().get(path, headers={"Referer": f"http://localhost{path}"})
    written = capsys.readouterr().err
    assert "404" in written
    assert "Zq3" not in written
    assert "Zq3" not in answer.text
    assert "Zq3" not in str(answer.headers)


def test_lines_of_other_loggers_and_tracebacks_hold_no_secret_either(
    make_parts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    web.create(make_parts())
    encoded = SECRET.replace("u", "%75")
    handler = logging.StreamHandler()
    for name in ("gunicorn.access", "gunicorn.error", "werkzeug"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        try:
            logger.warning('"GET %s HTTP/1.1" 200 "%s"', f"/calendar/{SECRET}.ics", f"https://x/calendar/{SECRET}.ics")
            logger.warning("Error handling request %s", f"/calendar%2f{encoded}.ics")
        finally:
            logger.removeHandler(handler)
    try:
        raise ValueError(f"/calendar/{SECRET}.ics")
    except ValueError:
        logging.getLogger("somewhere").exception("it failed")
    written = capsys.readouterr().err
    assert written.count("/calendar/***") >= 4
    assert "Zq3" not in written


def test_api_keys_are_blotted_out_and_ordinary_words_are_not(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("somewhere").warning("unify_%s and unify_requests_total, /calendars/open", "Zq3" * 14 + "x")
    written = capsys.readouterr().err
    assert "unify_*** and unify_requests_total, /calendars/open" in written
