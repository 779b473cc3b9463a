"""Hold registration and login to their pace, per address."""

from __future__ import annotations

import time
from importlib.util import find_spec

import pytest
from flask import Flask
from limits.errors import StorageError

import web
from tenancy.errors import ConfigurationError
from tests.web.conftest import Caller


def attempt(app: Flask, path: str, address: str = "10.0.0.1") -> tuple[int, str | None]:
    # Without a CSRF token nothing is hashed, and the request is refused before it is counted: so one is sent.
    client = app.test_client()
    page = client.get(path).text
    token = page.split('name="csrf_token"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
    answer = client.post(path, data={"csrf_token": token}, environ_overrides={"REMOTE_ADDR": address})
    return answer.status_code, answer.headers.get("Retry-After")


def test_registering_too_often_is_429_and_says_when_to_come_back(app: Flask) -> None:
    statuses = [attempt(app, "/auth/register") for _ in range(62)]
    assert [status for status, _ in statuses[:60]] == [422] * 60
    status, retry_after = statuses[-1]
    assert status == 429
    assert 0 < int(retry_after or 0) <= 60
    assert attempt(app, "/auth/register", "10.0.0.2")[0] == 422


def test_signing_in_too_often_is_429_and_keys_go_on(app: Flask, ada: Caller) -> None:
    from web.http.rate_limits import LOGIN

    counters = app.extensions["unify-limits"]
    for _ in range(120):
        counters.hit(LOGIN[0], "login", "10.0.0.1")
    assert attempt(app, "/auth/login")[0] == 429
    assert ada.get("/api/v1/tasks").status_code == 200


def test_a_count_begun_while_the_clock_was_ahead_keeps_nobody_out(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    from web.http.rate_limits import LOGIN

    counters, real = app.extensions["unify-limits"], time.time
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: real() + 7200)
        for _ in range(120):
            counters.hit(LOGIN[0], "login", "10.0.0.1")
    assert attempt(app, "/auth/login")[0] == 422
    for _ in range(119):
        counters.hit(LOGIN[0], "login", "10.0.0.1")
    status, retry_after = attempt(app, "/auth/login")
    assert (status, 0 < int(retry_after or 0) <= 60) == (429, True)


@pytest.mark.skipif(find_spec("redis") is not None, reason="the client library is installed")
def test_counters_without_their_client_library_stop_the_start_and_name_the_setting(make_parts) -> None:
    with pytest.raises(ConfigurationError) as refused:
        web.create(make_parts(rate_limit_storage="redis://:hush-hush@127.0.0.1:1"))
    assert refused.value.message.startswith("RATE_LIMIT_STORAGE ")
    assert "hush" not in refused.value.message


def test_counters_that_do_not_answer_are_503_and_not_a_crash(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> bool:
        raise StorageError(ConnectionError("redis://:hush-hush@127.0.0.1:1"))

    monkeypatch.setattr(app.extensions["unify-limits"], "hit", unreachable)
    assert attempt(app, "/auth/login") == (503, "5")
