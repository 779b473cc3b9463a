"""Serve HTTP: pages, the JSON API, administration and operations, on top of parts that are passed in.

``create`` joins the modules of this package to one Flask application. Only this package and ``app.py`` import Flask.
Views find the manager, the accounts and the settings through ``parts``, and do not know how those were built.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Flask

import logs
from web import api, pages
from web.api import admin_backups
from web.api.openapi import document
from web.auth import sessions
from web.http import access_log, assets, errors, rate_limits, security, wsgi
from web.ops import health, metrics
from web.parts import Parts, current_parts

if TYPE_CHECKING:
    from settings import Settings

__all__ = ["Parts", "create", "current_parts"]


def create(parts: Parts) -> Flask:
    """Create the WSGI application that serves ``parts``."""
    app = Flask("web", static_folder="static", template_folder="templates")
    app.extensions["unify"] = parts
    _configure(app, parts.settings)
    logs.configure(parts.settings.log_level, parts.settings.log_format)
    for room in (rate_limits, access_log, metrics, sessions, security, errors, assets):
        room.init_app(app)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(admin_backups.blueprint)
    document.init_app(app)
    pages.register(app)
    app.wsgi_app = wsgi.wrap(app.wsgi_app, parts.settings)  # type: ignore[method-assign, assignment]  # Flask's documented seam
    return app


def _configure(app: Flask, settings: Settings) -> None:
    """Translate our settings into those of Flask and its extensions."""
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
        # The CSRF token is bound to the session, which expires itself, so a form left open over lunch still works.
        WTF_CSRF_TIME_LIMIT=None,
        # itsdangerous takes keys oldest first; a form opened before a rotation still works after it.
        WTF_CSRF_SECRET_KEY=[*reversed(settings.secret_key_fallbacks), settings.secret_key],
        # For browsers that send no Referer the token suffices; ``csrf.check_csrf`` checks the Referer of those that do.
        WTF_CSRF_SSL_STRICT=False,
        # security.py and guards.py call the check themselves, once they know who sent the request and how.
        WTF_CSRF_CHECK_DEFAULT=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    # A path with doubled slashes is a different path: no redirects, which would reveal which routes exist.
    app.url_map.merge_slashes = False
