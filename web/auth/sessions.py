"""Identify who sent a request, by session cookie or API key.

Flask-Login stores an opaque token in Flask's signed cookie, and the catalog stores the token's hash, so the server can
end a session for good. Identifying a user takes one catalog statement, which also returns their tenant.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from flask import Flask, Request, Response, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

import logs
from tenancy.models import Principal
from web.http.csrf import KEY_BLUEPRINTS, csrf
from web.parts import current_parts

if TYPE_CHECKING:
    from settings import Settings
    from tenancy.accounts.accounts import SignIn


class Visitor(UserMixin):
    """Wrap a principal for Flask-Login; ``get_id`` returns the session's token and nothing about the user."""

    def __init__(self, principal: Principal, token: str = "") -> None:
        self.principal = principal
        self.token = token

    def get_id(self) -> str:
        return self.token


class SessionCookie(SecureCookieSessionInterface):
    """Mark the cookie as Secure if the request came over HTTPS or COOKIE_SECURE says so."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return cookie_secure()

    def get_cookie_path(self, app: Flask) -> str:
        """Limit the cookie to the path of this application, as other applications may be on the same host."""
        return request.script_root or "/"

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set no cookie with files under /static: browsers drop cached files that vary with a changed cookie."""
        if request.endpoint != "static":
            super().save_session(app, session, response)


def init_app(app: Flask) -> None:
    """Set up Flask-Login and the CSRF check."""
    app.session_interface = SessionCookie()
    login = LoginManager()
    login.session_protection = None
    login.user_loader(_by_session)
    login.request_loader(_by_key)
    # No template needs Flask-Login's current_user, and the error page of a catalog that is down must not query it.
    login.init_app(app, add_context_processor=False)
    csrf.init_app(app)


def cookie_name(what: str, settings: Settings) -> str:
    """Name a cookie per installation: browsers share cookies between the ports of one host.

    The name is derived from AUDIT_KEY, which stays the same for the life of an installation and cannot be recovered
    from the name.
    """
    mark = hmac.new(settings.audit_key.encode(), b"unify cookies", "sha256").hexdigest()[:8]
    return f"unify_{what}_{mark}"


def cookie_secure() -> bool:
    """Tell whether the cookies of this response are for HTTPS only."""
    setting = current_parts().settings.cookie_secure
    return request.is_secure if setting == "auto" else setting == "true"


def current_principal() -> Principal | None:
    """Return who sent the request, or None for an anonymous visitor."""
    return current_user.principal if current_user.is_authenticated else None


def signed_in() -> Principal:
    """Return who sent the request, inside a guarded view."""
    principal: Principal = current_user.principal
    return principal


def start_session(sign_in: SignIn, *, remember: bool = False) -> None:
    """Start a browser's session; everything in the cookie before is dropped, including the CSRF token."""
    session.clear()
    session.permanent = remember
    login_user(Visitor(Principal(user=sign_in.user, tenant=None), sign_in.token))
    logs.note_user(sign_in.user.id, None)


def session_token() -> str | None:
    """Return the token of this browser's session, valid or not."""
    token = session.get("_user_id")
    return token if isinstance(token, str) else None


def end_session() -> None:
    """End this browser's session here and in the catalog, so that a copy of the cookie is worthless."""
    token = session_token()
    if token:
        current_parts().accounts.sign_out(token)
    logout_user()
    session.clear()


def _by_session(token: str) -> Visitor | None:
    principal = current_parts().accounts.principal_by_session(token)
    return None if principal is None else Visitor(principal, token)


def _by_key(asked: Request) -> Visitor | None:
    """Return the owner of an API key; keys are accepted by JSON calls only, never by pages."""
    key = bearer_key(asked) if asked.blueprint in KEY_BLUEPRINTS else None
    principal = current_parts().accounts.principal_by_key(key) if key else None
    return None if principal is None else Visitor(principal)


def bearer_key(asked: Request) -> str | None:
    """Return the key of an ``Authorization: Bearer`` header; None without such a header."""
    scheme, _, key = asked.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
