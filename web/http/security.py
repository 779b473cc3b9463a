"""Refuse requests that are too large or not from our forms, and keep private responses out of caches.

The headers of all responses are added in ``web/http/wsgi.py``. JSON calls check CSRF in their guard
(``web/auth/guards.py``), once it is known whether a session or an API key was sent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.exceptions import RequestEntityTooLarge, RequestHeaderFieldsTooLarge, RequestURITooLarge, SecurityError

from web.http.csrf import KEY_BLUEPRINTS, SAFE_METHODS, check_csrf
from web.http.errors import is_json_call
from web.http.json_io import refuse_large
from web.parts import current_parts

if TYPE_CHECKING:
    from settings import Settings

URL_MAX = 4096
HEADERS_MAX_BYTES = 32_768
ROOM_BYTES = 65_536
"""How much longer the login form may be than other forms: it may carry one of them (``carried_form.py``)."""
FORM = "application/x-www-form-urlencoded"
ENCODED_TIMES = 3
"""The most by which an encoding lengthens text: a form writes a non-ASCII byte as three (%E8), JSON three as six."""

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")


def longest_body(settings: Settings) -> int:
    """Return the length in bytes of the longest encoded body of any request: the server reads no more."""
    return (settings.max_body_bytes + ROOM_BYTES) * ENCODED_TIMES


def init_app(app: Flask) -> None:
    """Check every request before its view, and set the cache headers after it."""
    app.before_request(_check)
    app.after_request(_keep_private)


def _check() -> None:
    environ = request.environ
    if len(environ.get("PATH_INFO", "")) + len(environ.get("QUERY_STRING", "")) > URL_MAX:
        raise RequestURITooLarge
    if sum(len(value) for name, value in environ.items() if name.startswith("HTTP_")) > HEADERS_MAX_BYTES:
        raise RequestHeaderFieldsTooLarge
    if not _is_probe() and not is_trusted(
        environ.get("HTTP_HOST", environ.get("SERVER_NAME", "")), current_parts().settings.trusted_hosts
    ):
        raise SecurityError("This host is not served here; the operator lists the hosts in TRUSTED_HOSTS.")
    if request.routing_exception is not None:
        raise request.routing_exception
    _set_limits()
    if "CONTENT_LENGTH" not in environ and request.method not in SAFE_METHODS:
        _refuse_endless()
    if request.method not in SAFE_METHODS and request.blueprint not in KEY_BLUEPRINTS and not is_json_call():
        if request.mimetype == FORM:
            refuse_large(request.get_data(), _longest(), b"%", 2)
        check_csrf()


def _is_probe() -> bool:
    """Tell whether this is a health probe, for which any Host is accepted: its response contains no links.

    Metrics that only this machine may read are an exception: by DNS rebinding, a page in a browser on this machine
    could read them under its own host name.
    """
    if request.endpoint == "ops.metrics":
        return current_parts().settings.metrics_token is not None
    return request.endpoint in ("ops.healthz", "ops.readyz")


def _set_limits() -> None:
    """Allow for the encoding of forms and JSON in the size limit; ``refuse_large`` checks the exact size."""
    times = ENCODED_TIMES if request.mimetype in (FORM, "application/json") else 1
    request.max_content_length = request.max_form_memory_size = _longest() * times


def _longest() -> int:
    return current_parts().settings.max_body_bytes + (ROOM_BYTES if request.endpoint == "auth.login" else 0)


def _refuse_endless() -> None:
    """Refuse a chunked body that is too large: Werkzeug would silently truncate it."""
    if len(request.get_data()) >= (request.max_content_length or 0):
        raise RequestEntityTooLarge


@lru_cache(maxsize=256)
def is_trusted(host: str, trusted: tuple[str, ...]) -> bool:
    """Tell whether a ``Host`` header names us (Werkzeug's own check does not match IPv6 addresses)."""
    found = HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower()
    return any(name == each.lower() or (each[0] == "." and name.endswith(each.lower())) for each in trusted)


def _keep_private(response: Response) -> Response:
    """Forbid caching, except for files under /static, which are the same for everybody and set their own headers.

    An error under /static is not cached either: the file may come with the next version.
    """
    if request.endpoint != "static" or response.status_code >= 400:
        response.headers["Cache-Control"] = "no-store"
        response.headers["Vary"] = "Cookie, Authorization"
    return response
