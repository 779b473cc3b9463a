"""Serve ``web/static`` under URLs that depend on the files' content, so that browsers can cache them for good.

``asset(name)`` puts a fingerprint of the file into its URL. A request with the present fingerprint gets a response
that may be cached for a year; the response to any other request has to be revalidated.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from flask import Flask, Response, current_app, g, request, url_for

FOREVER = "public, max-age=31536000, immutable"
MARK_LENGTH = 12


def init_app(app: Flask) -> None:
    """Provide ``asset`` to the templates, and mark the responses that may be cached."""
    app.jinja_env.globals["asset"] = asset
    app.after_request(_let_keep)
    app.add_url_rule("/favicon.ico", "favicon", favicon)


def favicon() -> Response:
    """Serve the icon at the address where browsers look for it when a response is not an HTML page."""
    return current_app.send_static_file("favicon.svg")


def asset(name: str) -> str:
    """Return the URL of a static file with the fingerprint of its content; a page reads each file's times once."""
    known: dict[str, str] = g.setdefault("assets", {})
    if name not in known:
        known[name] = _address(request.script_root, name, fingerprint(name))
    return known[name]


@lru_cache(maxsize=256)
def _address(_root: str, name: str, mark: str) -> str:
    return url_for("static", filename=name, v=mark)


def fingerprint(name: str) -> str:
    """Return the beginning of a file's SHA-256; it follows edits without a restart."""
    path = os.path.join(current_app.static_folder or "", name)
    known = os.stat(path)
    return _digest(path, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=128)
def _digest(path: str, _changed_ns: int, _size_bytes: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:MARK_LENGTH]


def _let_keep(response: Response) -> Response:
    if request.endpoint == "static" and response.status_code in (200, 206, 304):
        name = (request.view_args or {})["filename"]
        if request.args.get("v") == fingerprint(name):
            response.headers["Cache-Control"] = FOREVER
    return response
