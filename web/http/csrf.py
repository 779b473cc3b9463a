"""Reject a form or call that none of our pages sent."""

from __future__ import annotations

from flask import request
from flask_wtf.csrf import CSRFError, CSRFProtect

from web.http.addresses import is_own_origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
KEY_BLUEPRINTS = frozenset({"api", "admin_api"})
"""The blueprints that accept API keys; a call with a key needs no CSRF token."""

csrf = CSRFProtect()


def check_csrf() -> None:
    """Stop a form or call that none of our pages sent.

    A valid token suffices if the browser does not say where the form comes from; if it does, that must be this site.
    """
    csrf.protect()
    given = request.headers.get("Origin", "null")
    if given == "null":  # browsers send "null" when they withhold the origin
        given = request.referrer or ""
    if given and not is_own_origin(given):
        raise CSRFError(
            "This form was sent from another site, or by a proxy that changes the host name of this one (Host)."
        )
