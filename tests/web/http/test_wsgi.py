"""Hold each WSGI call to a context of its own: goals.md, trap 18."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.test import create_environ, run_wsgi_app

import logs
from tests.web.conftest import Caller
from web.http.wsgi import Door

if TYPE_CHECKING:
    from compose import Parts

_seen: ContextVar[str] = ContextVar("test_seen", default="nothing")


def test_two_calls_on_one_thread_share_no_context() -> None:
    found: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.append(_seen.get())
        _seen.set(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    for path in ("/a", "/b"):
        run_wsgi_app(Door(app, accept_ids=False), create_environ(path))
    assert found == ["nothing", "nothing"]
    assert _seen.get() == "nothing"


def test_the_body_and_its_close_run_in_the_calls_context() -> None:
    found: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            found.append(_seen.get())
            yield b"1"
            found.append(_seen.get())
            yield b"2"

        def close(self) -> None:
            found.append(_seen.get())

    def app(environ: dict[str, Any], start_response: Any) -> Body:
        _seen.set(environ["PATH_INFO"])
        start_response("200 OK", [])
        return Body()

    door = Door(app, accept_ids=False)
    first, second = (door(create_environ(path), lambda *_: lambda _: None) for path in ("/a", "/b"))
    bodies = [b"".join([next(iter(first)), next(iter(second)), *first, *second])]
    for answer in (first, second):
        answer.close()  # type: ignore[attr-defined]  # what a server does, as PEP 3333 says
    assert bodies == [b"1122"]
    assert found == ["/a", "/b", "/a", "/b", "/a", "/b"]


def test_a_request_leaves_no_user_behind(app: Flask, ada: Caller, bob: Caller, parts: Parts) -> None:
    for asker in (ada, bob, ada):
        assert asker.get("/api/v1/me").json["id"] == asker.user.id
        assert parts.manager.current_user_id is None
        assert logs.request_id() == ""


def test_a_body_that_is_made_while_it_is_sent_still_belongs_to_its_user(app: Flask, ada: Caller, parts: Parts) -> None:
    from web.auth.guards import api_login_required

    def stream() -> Any:
        def lines() -> Iterator[bytes]:
            for _ in range(3):
                with parts.manager.session():
                    yield f"{parts.manager.current_user_id} {logs.request_id()}\n".encode()

        return app.response_class(lines())

    app.add_url_rule("/api/v1/stream", "api.stream", api_login_required(stream))
    answer = ada.get("/api/v1/stream")
    assert answer.text == f"{ada.user.id} {answer.headers['X-Request-ID']}\n" * 3


def test_a_client_that_hangs_up_leaves_nothing_open(app: Flask, ada: Caller, parts: Parts) -> None:
    environ = create_environ("/api/v1/tasks", headers={"Authorization": f"Bearer {ada.key}"})
    answer = app.wsgi_app(environ, lambda *_: lambda _: None)
    answer.close()  # type: ignore[attr-defined]  # without reading a byte of it
    assert parts.manager.current_user_id is None
    assert parts.manager.engines.stats()["leased"] == 0


def test_another_users_context_cannot_be_taken_inside_a_request(app: Flask, ada: Caller, bob: Caller) -> None:
    from tenancy import DatabaseConnection
    from tenancy.errors import WrongTenantError
    from web.auth.guards import api_login_required

    def switch() -> Any:
        try:
            DatabaseConnection.get_instance().set_user_context(bob.user.id)
        except WrongTenantError:
            return "refused"
        return "taken"

    app.add_url_rule("/api/v1/switch", "api.switch", api_login_required(switch))
    assert ada.get("/api/v1/switch").text == "refused"
