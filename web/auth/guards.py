"""Guard the views: decide who may enter, and bind the request to its user's rows.

A guard stores what the catalog says about the visitor in the request's context, so that no later step asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

from flask import request, session
from flask.typing import ResponseReturnValue

import logs
from tenancy.models import Principal
from web.auth.sessions import bearer_key, current_principal
from web.http.csrf import SAFE_METHODS, check_csrf
from web.http.errors import Problem
from web.parts import current_parts

View: TypeAlias = Callable[..., ResponseReturnValue]


class SignInNeeded(Exception):  # noqa: N818 - it says what is missing; ``expired_session.py`` handles it
    """Stop the request of a browser whose session has ended, or never began."""


def api_login_required(view: View) -> View:
    """Admit the owner of a session or an API key; refuse others with JSON (401, 403)."""
    return _guarded(view, _json_principal, admin=False)


def api_admin_required(view: View) -> View:
    """Admit administrators; 401 for anonymous callers, 403 for everybody else, whatever the URL names."""
    return _guarded(view, _json_principal, admin=True)


def page_login_required(view: View) -> View:
    """Admit signed-in browsers; others have to sign in first."""
    return _guarded(view, _page_principal, admin=False)


def admin_required(view: View) -> View:
    """Admit signed-in administrators to a page."""
    return _guarded(view, _page_principal, admin=True)


def _guarded(view: View, find: Callable[[], Principal | None], *, admin: bool) -> View:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        principal = find()
        if principal is None:
            raise SignInNeeded
        logs.note_user(principal.user.id, principal.tenant.tenant_id if principal.tenant else None)
        if admin and not principal.user.is_admin:
            raise Problem(403, "not_allowed", "Only administrators may do this.")
        _bind(principal, own_database=not admin)
        return view(*args, **kwargs)

    guarded.__dict__["guard"] = (find.__name__, admin)
    return guarded


def _bind(principal: Principal, *, own_database: bool) -> None:
    """Bind the request's context to its user, so that no other user's rows can be reached from it."""
    parts = current_parts()
    parts.manager.bind(principal, request_id=logs.request_id(), own_database=own_database)
    parts.accounts.seen(principal)


def _json_principal() -> Principal:
    """Return who sent a JSON call; refuse it if nobody did, or if it writes with a read-only key."""
    bearer = bearer_key(request)
    if bearer is not None and "_user_id" in session:
        raise Problem(400, "two_credentials", "Send either a session cookie or an Authorization header, not both.")
    principal = current_principal()
    if principal is None:
        raise Problem(401, "not_authenticated", "Send an API key (Authorization: Bearer ...) or sign in first.")
    if request.method not in SAFE_METHODS:
        if bearer is None:
            check_csrf()
        elif principal.read_only:
            raise Problem(403, "read_only_key", "This API key is read-only.")
    return principal


def _page_principal() -> Principal | None:
    return current_principal()
