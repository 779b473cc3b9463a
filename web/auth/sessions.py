"""Say who is asking, by session cookie or API key.

Flask-Login keeps an opaque token in Flask's signed cookie; the catalog keeps its hash, so a session ends for good
when the server says so. Asking who somebody is takes one catalog statement, which also brings where their rows live.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from flask import Flask, Request, Response, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

from tenancy.models import Principal
from web.http import logs
from web.http.csrf import KEY_BLUEPRINTS, csrf
from web.parts import current_parts

if TYPE_CHECKING:
    from settings import Settings
    from tenancy.accounts.accounts import SignIn


class Visitor(UserMixin):
    """Wrap a principal for Flask-Login; ``get_id`` gives the session's token and nothing about the user."""

    def __init__(self, principal: Principal, token: str = "") -> None:
        self.principal = principal
        self.token = token

    def get_id(self) -> str:
        return self.token


class SessionCookie(SecureCookieSessionInterface):
    """Send the cookie over HTTPS alone, where the request came that way or the setting says so."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return cookie_secure()

    def get_cookie_path(self, app: Flask) -> str:
        """Keep the cookie from what else may stand on the same host, where this application has a path of its own."""
        return request.script_root or "/"

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Leave the files under /static as they are: a browser throws away what varies with a cookie that changed."""
        if request.endpoint != "static":
            super().save_session(app, session, response)


def init_app(app: Flask) -> None:
    """Join Flask-Login and the CSRF check to the application."""
    app.session_interface = SessionCookie()
    login = LoginManager()
    login.session_protection = None
    login.user_loader(_by_session)
    login.request_loader(_by_key)
    # No template needs Flask-Login's current_user, and the page that says the catalog is down must not ask it again.
    login.init_app(app, add_context_processor=False)
    csrf.init_app(app)


def cookie_name(what: str, settings: Settings) -> str:
    """Name a cookie so that two installations on one host, which browsers do not tell apart by port, keep their own.

    AUDIT_KEY is what stays the same for the life of an installation; nothing of it can be read from the name.
    """
    mark = hmac.new(settings.audit_key.encode(), b"unify cookies", "sha256").hexdigest()[:8]
    return f"unify_{what}_{mark}"


def cookie_secure() -> bool:
    """Say whether cookies of this answer are for HTTPS alone."""
    setting = current_parts().settings.cookie_secure
    return request.is_secure if setting == "auto" else setting == "true"


def current_principal() -> Principal | None:
    """Give who is asking, or None for an anonymous visitor."""
    return current_user.principal if current_user.is_authenticated else None


def signed_in() -> Principal:
    """Give who is asking, inside a guarded view."""
    principal: Principal = current_user.principal
    return principal


def start_session(sign_in: SignIn, *, remember: bool = False) -> None:
    """Begin a browser's session; whatever the cookie held before is gone, its CSRF token included."""
    session.clear()
    session.permanent = remember
    login_user(Visitor(Principal(user=sign_in.user, tenant=None), sign_in.token))
    logs.note_user(sign_in.user.id, None)


def session_token() -> str | None:
    """Give the token of this browser's session, alive or not."""
    token = session.get("_user_id")
    return token if isinstance(token, str) else None


def end_session() -> None:
    """End this browser's session here and in the catalog: a copy of the cookie is worth nothing afterwards."""
    token = session_token()
    if token:
        current_parts().accounts.sign_out(token)
    logout_user()
    session.clear()


def _by_session(token: str) -> Visitor | None:
    principal = current_parts().accounts.principal_by_session(token)
    return None if principal is None else Visitor(principal, token)


def _by_key(asked: Request) -> Visitor | None:
    """Know a key's owner; a key opens the JSON calls alone, so that no page has to think of it."""
    key = bearer_key(asked) if asked.blueprint in KEY_BLUEPRINTS else None
    principal = current_parts().accounts.principal_by_key(key) if key else None
    return None if principal is None else Visitor(principal)


def bearer_key(asked: Request) -> str | None:
    """Give the key of an ``Authorization: Bearer`` header; None where there is no such header."""
    scheme, _, key = asked.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
