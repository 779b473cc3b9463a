"""Address the files of ``web/static`` by their content, so that browsers may keep them for good.

``asset(name)`` puts a fingerprint of the file into its address. Who asks with the fingerprint of what is there now
is told to keep the answer for a year; any other request is answered for now and asked about again.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from flask import Flask, Response, current_app, request, url_for

FOREVER = "public, max-age=31536000, immutable"
MARK_LENGTH = 12


def init_app(app: Flask) -> None:
    """Give the templates ``asset`` and mark the answers that may be kept."""
    app.jinja_env.globals["asset"] = asset
    app.after_request(_let_keep)
    app.add_url_rule("/favicon.ico", "favicon", favicon)


def favicon() -> Response:
    """Give the picture of the site to browsers that show an answer which is no page: they ask at this address."""
    return current_app.send_static_file("favicon.svg")


def asset(name: str) -> str:
    """Give the address of a static file in its present form."""
    return url_for("static", filename=name, v=fingerprint(name))


def fingerprint(name: str) -> str:
    """Give the beginning of a file's SHA-256; an edited file has another one without a restart."""
    path = Path(current_app.static_folder or "", name)
    known = path.stat()
    return _digest(path, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=128)
def _digest(path: Path, _changed_ns: int, _size_bytes: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:MARK_LENGTH]


def _let_keep(response: Response) -> Response:
    if request.endpoint == "static" and response.status_code in (200, 206, 304):
        name = (request.view_args or {})["filename"]
        if request.args.get("v") == fingerprint(name):
            response.headers["Cache-Control"] = FOREVER
    return response
