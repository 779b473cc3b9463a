"""Answer a page's request whose session has ended, or whose token is from an earlier session: no text is lost.

Only what our own page sent is kept (``kept``): a form that another site sent is refused as ever. A part of a page
asked for by htmx is answered with a message, and the page with its text stays as it is.
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

SIGNED_OUT = "You are signed out. What is on this page stays here: sign in, come back and press again."
OLD_TOKEN = "You have signed in anew since this page was opened. It is up to date now: press again."  # noqa: S105 - a text


def register(app: Flask) -> None:
    """Take over what stops a page's request at the door."""
    app.register_error_handler(SignInNeeded, _ask_to_sign_in)
    app.register_error_handler(CSRFError, _ask_again)


def _ask_to_sign_in(_: SignInNeeded) -> ResponseReturnValue:
    """Send a visitor to the login page and back; one who sent a form finds its text again after it."""
    if errors.wants_fragment():
        return errors.respond(Problem(401, "not_authenticated", SIGNED_OUT))
    if request.method in SAFE_METHODS:
        return redirect(url_for("auth.login", next=carried_form.asked_path()))
    form = Kept.of_request() if _is_ours() else None
    if form is None or not form.fields:
        return redirect(url_for("auth.login", next=_page_before()))
    return login_page(kept=form), 401


def _ask_again(error: CSRFError) -> ResponseReturnValue:
    """Refuse a form without a good token; one from a page of ours is shown again instead of being lost."""
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
    """Refuse what htmx sent, and tell the page the token of the session that is alive now."""
    answer = errors.respond(problem)
    answer.headers["HX-Trigger"] = orjson.dumps({"unify:token": {"token": generate_csrf()}}).decode()
    return answer


def _is_ours() -> bool:
    """Tell whether a page of ours sent this: browsers say so, and no page can make them say it falsely."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return is_own_origin(request.headers.get("Origin", ""))


def _page_before() -> str | None:
    """Give the page whose button was pressed; the login page looks at the path again before it goes there."""
    before = split(request.referrer or "")
    return before._replace(scheme="", netloc="").geturl() if is_own_origin(before.geturl()) else None
