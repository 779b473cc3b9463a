"""Stop a form or call that none of our pages sent."""

from __future__ import annotations

from flask import request
from flask_wtf.csrf import CSRFError, CSRFProtect

from web.http.addresses import is_own_origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
KEY_BLUEPRINTS = frozenset({"api", "admin_api"})
"""Where a call may come with an API key; such a call needs no token."""

csrf = CSRFProtect()


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
