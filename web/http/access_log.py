"""Log one line for each response."""

from __future__ import annotations

import logging

from flask import Flask, Response, request

from logs import elapsed_s

access = logging.getLogger("web.access")


def init_app(app: Flask) -> None:
    """Write one access line for each response."""
    app.after_request(_access_line)


def _access_line(response: Response) -> Response:
    """Log method, path, status and time, without the query string, which may contain a search."""
    if access.isEnabledFor(logging.INFO):
        text = f"{request.method} {request.path} {response.status_code} {elapsed_s() * 1000:.1f} ms"
        # A record made directly saves the search for the calling line.
        access.handle(access.makeRecord(access.name, logging.INFO, __file__, 0, text, (), None))
    return response
