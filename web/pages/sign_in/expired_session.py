"""Answer a page request whose session has ended or whose CSRF token is from an earlier session, without losing text.

Only a form sent by one of our own pages is carried over (``carried_form``); a form sent by another site is refused as
always. An htmx request is answered with a message, so that the page and the text on it stay as they are.
"""

from __future__ import annotations

import orjson
from flask import Flask, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, generate_csrf

from tenancy.errors import TenancyError
from web.auth.guards import SignInNeeded
from web.auth.sessions import current_principal
from web.http import errors
from web.http.addresses import is_own_origin, split
from web.http.csrf import SAFE_METHODS
from web.http.errors import Problem
from web.pages.sign_in import carried_form
from web.pages.sign_in.carried_form import Kept
from web.pages.sign_in.views import login_page

SIGNED_OUT = "You are signed out. Nothing on this page is lost: sign in, come back here and try again."
OLD_TOKEN = "You have signed in again since this page was opened. It is up to date now: please try again."  # noqa: S105 - a text


def register(app: Flask) -> None:
    """Handle the errors for missing sign-ins and bad CSRF tokens."""
    app.register_error_handler(SignInNeeded, _ask_to_sign_in)
    app.register_error_handler(CSRFError, _ask_again)


def _ask_to_sign_in(_: SignInNeeded) -> ResponseReturnValue:
    """Redirect to the login page; a form that was sent is carried along."""
    if errors.wants_fragment():
        return errors.respond(Problem(401, "not_authenticated", SIGNED_OUT))
    if request.method in SAFE_METHODS:
        return redirect(url_for("auth.login", next=carried_form.asked_path()))
    form = Kept.of_request() if _is_ours() else None
    if form is None or not form.fields:
        return redirect(url_for("auth.login", next=_page_before()))
    return login_page(kept=form), 401


def _ask_again(error: CSRFError) -> ResponseReturnValue:
    """Refuse a form without a valid CSRF token; one from our own page is shown again for confirmation."""
    problem = errors.of_http(error)
    if errors.is_json_call() or request.blueprint == "auth" or not _is_ours():
        return errors.respond(problem)
    try:
        known = current_principal() is not None
    except TenancyError as failure:
        return errors.respond(errors.of_tenancy(failure))
    if not known:
        return _ask_to_sign_in(SignInNeeded())
    if errors.wants_fragment():
        return _with_new_token(Problem(problem.status, problem.code, OLD_TOKEN))
    form = Kept.of_request()
    return carried_form.page(form, problem.status) if form.fields else errors.respond(problem)


def _with_new_token(problem: Problem) -> ResponseReturnValue:
    """Refuse an htmx request, and send the page the CSRF token of the present session."""
    answer = errors.respond(problem)
    answer.headers["HX-Trigger"] = orjson.dumps({"unify:token": {"token": generate_csrf()}}).decode()
    return answer


def _is_ours() -> bool:
    """Tell whether one of our pages sent this, by headers that browsers set and pages cannot forge."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return is_own_origin(request.headers.get("Origin", ""))


def _page_before() -> str | None:
    """Return the page that the form was on; the login page checks the path again before it redirects there."""
    before = split(request.referrer or "")
    return before._replace(scheme="", netloc="").geturl() if is_own_origin(before.geturl()) else None
