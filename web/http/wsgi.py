"""Wrap the WSGI application: each call gets its own context, a request id, and the headers of every response.

A ``ContextVar`` set by one request would be seen by the next one on the same thread, so each request runs in a copied
context. The response's iteration and its ``close`` run in that context too, so that a body that is produced while it
is sent still belongs to its user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from werkzeug.middleware.proxy_fix import ProxyFix

import logs
from tenancy import context as tenancy_context
from tenancy.deadline import REQUEST_S, within
from web.http.addresses import client

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from settings import Settings

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
HSTS = ("Strict-Transport-Security", "max-age=31536000")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
"""A prefix the application may be served under: never one that a browser takes for a site (``//evil.example``)."""

GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def wrap(app: WSGIApplication, settings: Settings) -> WSGIApplication:
    """Wrap an application; trust as many proxies as the settings say."""
    trusted = settings.trusted_proxy_count
    door = Door(app, accept_ids=trusted > 0, cookie_secure=settings.cookie_secure)
    return ProxyFix(door, x_for=trusted, x_proto=trusted, x_host=trusted, x_prefix=trusted) if trusted else door


class Door:
    """Run each call in a copied context."""

    def __init__(self, app: WSGIApplication, *, accept_ids: bool, cookie_secure: str = "auto") -> None:
        self._app = app
        self._cookie_secure = cookie_secure
        self._accept_ids = accept_ids

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        context = copy_context()
        return Answer(context, context.run(self._answer, environ, start_response))

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["REMOTE_ADDR"] = str(client(environ.get("REMOTE_ADDR")) or environ.get("REMOTE_ADDR", ""))
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "").rstrip("/")
        if not PREFIX.fullmatch(environ["SCRIPT_NAME"]):
            start_response("400 Bad Request", [("Content-Type", "text/plain"), *HEADERS])
            return [b"SCRIPT_NAME or X-Forwarded-Prefix is not a valid path.\n"]
        request_id = self._request_id(environ)
        logs.begin(request_id)
        tenancy_context.bind(tenancy_context.Context(request_id=request_id, actor=tenancy_context.SELF))
        setting = self._cookie_secure
        secure = environ["wsgi.url_scheme"] == "https" if setting == "auto" else setting == "true"

        def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            headers += HEADERS
            headers.append(("X-Request-ID", request_id))
            if secure:
                headers.append(HSTS)
            return start_response(status, headers, exc_info)

        with within(REQUEST_S):
            return self._app(environ, begin)

    def _request_id(self, environ: WSGIEnvironment) -> str:
        """Use the id from a trusted proxy, else a new one, so that no client chooses what the audit log records."""
        given = environ.get("HTTP_X_REQUEST_ID", "") if self._accept_ids else ""
        return given if GIVEN_ID.fullmatch(given) else tenancy_context.new_request_id()


class Answer:
    """Iterate and close a response inside the context of its call."""

    def __init__(self, context: Context, body: Iterable[bytes]) -> None:
        self._context = context
        self._body = body
        self._parts = context.run(iter, body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._parts)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)
