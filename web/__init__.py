"""Speak HTTP: pages, JSON, administration and operations, over parts that are handed in.

``create`` joins the rooms of this package to one Flask application. Flask is imported here and in ``app.py``
alone; what answers is found through ``parts``, so nothing here knows how the parts were built.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Flask

from web import api, pages
from web.api import admin
from web.api.openapi import document
from web.auth import sessions
from web.http import assets, errors, logs, rate_limits, security, wsgi
from web.ops import health, metrics
from web.parts import Parts, current_parts

if TYPE_CHECKING:
    from settings import Settings

__all__ = ["Parts", "create", "current_parts"]


def create(parts: Parts) -> Flask:
    """Make the WSGI application that serves ``parts``."""
    app = Flask("web", static_folder="static", template_folder="templates")
    app.extensions["unify"] = parts
    _configure(app, parts.settings)
    logs.configure(parts.settings.log_level, parts.settings.log_format)
    for room in (rate_limits, logs, metrics, sessions, security, errors, assets):
        room.init_app(app)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(admin.blueprint)
    document.init_app(app)
    pages.register(app)
    app.wsgi_app = wsgi.wrap(app.wsgi_app, parts.settings)  # type: ignore[method-assign, assignment]  # Flask's documented seam
    return app


def _configure(app: Flask, settings: Settings) -> None:
    """Carry our settings to the names Flask and its extensions read."""
    lifetime = max(timedelta(days=settings.remember_days), timedelta(hours=settings.session_hours))
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SECRET_KEY_FALLBACKS=list(settings.secret_key_fallbacks),
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        MAX_FORM_MEMORY_SIZE=settings.max_body_bytes,
        LONGEST_BODY_BYTES=security.longest_body(settings),
        PERMANENT_SESSION_LIFETIME=lifetime,
        SESSION_COOKIE_NAME=sessions.cookie_name("session", settings),
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        # The token is bound to the session, which ends by itself: a form left open over lunch still works.
        WTF_CSRF_TIME_LIMIT=None,
        # itsdangerous takes keys oldest first; a form opened before a rotation still works after it.
        WTF_CSRF_SECRET_KEY=[*reversed(settings.secret_key_fallbacks), settings.secret_key],
        # Browsers that send no Referer are let in by their token; ``csrf.check_csrf`` looks at what they do send.
        WTF_CSRF_SSL_STRICT=False,
        # security.py and guards.py call the check themselves, once they know who is asking and how.
        WTF_CSRF_CHECK_DEFAULT=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    # A second spelling of an address is another address: no redirects that tell routes apart from unknown paths.
    app.url_map.merge_slashes = False
