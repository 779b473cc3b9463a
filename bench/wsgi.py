"""Call a WSGI application as a server does, with as little around it as possible: the same for everybody."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_STDERR = io.StringIO()
_TEMPLATE: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "QUERY_STRING": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "5000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "127.0.0.1:5000",
    "HTTP_ACCEPT": "application/json",
    "HTTP_USER_AGENT": "bench",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": _STDERR,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def get(app: WSGIApplication, path: str, cookie: str) -> tuple[str, bytes]:
    """Send one GET; give status and body."""
    status = ""

    def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        nonlocal status
        status = line

    environ = {**_TEMPLATE, "PATH_INFO": path, "HTTP_COOKIE": cookie, "wsgi.input": io.BytesIO()}
    answer: Iterable[bytes] = app(environ, start)
    try:
        return status, b"".join(answer)
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
