"""Say who is asking, by session cookie or API key, and guard the views with the answer.

Flask-Login keeps an opaque token in Flask's signed cookie; the catalog keeps its hash, so a session ends for good
when the server says so. Asking who somebody is takes one catalog statement, which also brings where their rows
live: the guards bind that answer to the request's context, and no later step asks again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import Flask, Request, Response, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf.csrf import CSRFError, CSRFProtect
from itsdangerous import BadSignature, URLSafeSerializer

from tenancy import names
from tenancy.models import Principal
from web.http import logs
from web.http.addresses import is_own_origin, outer
from web.http.errors import Problem
from web.parts import current_parts

if TYPE_CHECKING:
    from settings import Settings
    from tenancy.accounts.accounts import SignIn

View: TypeAlias = Callable[..., ResponseReturnValue]


class SignInNeeded(Exception):  # noqa: N818 - it says what is missing; ``web/pages/sign_in/expired_session.py`` answers it
    """Stop the request of a browser whose session has ended, or never began."""


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
KEY_BLUEPRINTS = frozenset({"api", "admin_api"})
DEVICE_ACCOUNTS = 5
DEVICE_SECONDS = 400 * 86_400

csrf = CSRFProtect()


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


def check_csrf() -> None:
    """Stop a form or call that none of our pages sent.

    The token suffices, for not every browser says where a form comes from; where one does, it must have come from here.
    """
    csrf.protect()
    given = request.headers.get("Origin", "null")
    if given == "null":  # what browsers say who will not tell
        given = request.referrer or ""
    if given and not is_own_origin(given):
        raise CSRFError("This form was sent from another site, or by a proxy that changes the name of this one (Host).")


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


# ---------------------------------------------------------------- sessions


def start_session(sign_in: SignIn, *, remember: bool = False) -> None:
    """Begin a browser's session; whatever the cookie held before is gone, its CSRF token included."""
    session.clear()
    session.permanent = remember
    login_user(Visitor(Principal(user=sign_in.user, placement=None), sign_in.token))
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


# ---------------------------------------------------------------- known browsers


def device_token(email: str) -> str | None:
    """Give what proves that this browser has signed in to the account of ``email`` before."""
    return _devices().get(_account_mark(email))


def remember_device(response: Response, email: str, device: str) -> None:
    """Leave the proof in a signed cookie of its own, which outlives the session; the last few accounts are kept."""
    mark = _account_mark(email)
    kept = {key: value for key, value in _devices().items() if key != mark} | {mark: device}
    latest = dict(list(kept.items())[-DEVICE_ACCOUNTS:])
    response.set_cookie(
        cookie_name("device", current_parts().settings),
        _device_signer().dumps(latest),
        max_age=DEVICE_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=cookie_secure(),
        path=outer("/auth"),
    )


def _devices() -> dict[str, str]:
    try:
        name = cookie_name("device", current_parts().settings)
        kept = _device_signer().loads(request.cookies.get(name, ""))
    except BadSignature:
        return {}
    return kept if isinstance(kept, dict) else {}


def _device_signer() -> URLSafeSerializer:
    settings = current_parts().settings
    return URLSafeSerializer([*reversed(settings.secret_key_fallbacks), settings.secret_key], salt="unify-device")


def _account_mark(email: str) -> str:
    """Name an account in the cookie without its address."""
    return hashlib.sha256(names.fold(email).encode("utf-8", "replace")).hexdigest()[:16]


# ---------------------------------------------------------------- guards


def api_login_required(view: View) -> View:
    """Let the owner of a session or key in; answer others as JSON does (401, 403)."""
    return _guarded(view, _json_principal, admin=False)


def api_admin_required(view: View) -> View:
    """Let administrators in; 401 for the anonymous, 403 for everybody else, whatever the address names."""
    return _guarded(view, _json_principal, admin=True)


def page_login_required(view: View) -> View:
    """Let signed-in browsers in; the others have to sign in first."""
    return _guarded(view, _page_principal, admin=False)


def admin_required(view: View) -> View:
    """Let signed-in administrators in: for pages."""
    return _guarded(view, _page_principal, admin=True)


def _guarded(view: View, find: Callable[[], Principal | None], *, admin: bool) -> View:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        principal = find()
        if principal is None:
            raise SignInNeeded
        logs.note_user(principal.user.id, principal.placement.tenant_id if principal.placement else None)
        if admin and not principal.user.is_admin:
            raise Problem(403, "not_allowed", "Only administrators may do this.")
        _bind(principal, own_database=not admin)
        return view(*args, **kwargs)

    guarded.__dict__["guard"] = (find.__name__, admin)
    return guarded


def _bind(principal: Principal, *, own_database: bool) -> None:
    """Tie the request's context to its user: no other user's rows can be reached from it."""
    parts = current_parts()
    parts.manager.bind(principal, request_id=logs.request_id(), own_database=own_database)
    parts.accounts.seen(principal)


def _json_principal() -> Principal:
    """Find who sent a JSON call; refuse it where nobody did, or where it may not write."""
    bearer = _bearer(request)
    if bearer is not None and "_user_id" in session:
        raise Problem(400, "two_credentials", "Send either a session cookie or an Authorization header, not both.")
    principal = current_principal()
    if principal is None:
        raise Problem(401, "not_authenticated", "Send an API key (Authorization: Bearer ...) or sign in first.")
    if request.method not in SAFE_METHODS:
        if bearer is None:
            check_csrf()
        elif principal.read_only:
            raise Problem(403, "read_only_key", "This key may read and not write.")
    return principal


def _page_principal() -> Principal | None:
    return current_principal()


def _by_session(token: str) -> Visitor | None:
    principal = current_parts().accounts.principal_by_session(token)
    return None if principal is None else Visitor(principal, token)


def _by_key(asked: Request) -> Visitor | None:
    """Know a key's owner; a key opens the JSON calls alone, so that no page has to think of it."""
    key = _bearer(asked) if asked.blueprint in KEY_BLUEPRINTS else None
    principal = current_parts().accounts.principal_by_key(key) if key else None
    return None if principal is None else Visitor(principal)


def _bearer(asked: Request) -> str | None:
    """Give the key of an ``Authorization: Bearer`` header; None where there is no such header."""
    scheme, _, key = asked.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
