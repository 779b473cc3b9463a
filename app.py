"""Make the WSGI application: ``gunicorn 'app:create_app()'``, ``flask --app app run``, ``python app.py``."""

from __future__ import annotations

from flask import Flask

import compose
import web
from settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application from ``settings``, or from the environment and ``.env``."""
    return web.create(compose.build(settings or Settings.load()))


if __name__ == "__main__":
    configured = Settings.load()
    create_app(configured).run(configured.host, configured.port, threaded=True)
