"""Recognise a browser in which a user has signed in before.

The proof is in a signed cookie that outlives the session. Logins with it are counted separately from those of unknown
browsers, so that nobody can lock a user out by guessing passwords.
"""

from __future__ import annotations

import hashlib

from flask import Response, request
from itsdangerous import BadSignature, URLSafeSerializer

from tenancy import names
from web.auth.sessions import cookie_name, cookie_secure
from web.http.addresses import outer
from web.parts import current_parts

DEVICE_ACCOUNTS = 5
DEVICE_SECONDS = 400 * 86_400


def device_token(email: str) -> str | None:
    """Return the proof that this browser has signed in to the account of ``email`` before."""
    return _devices().get(_account_mark(email))


def remember_device(response: Response, email: str, device: str) -> None:
    """Store the proof in a signed cookie that outlives the session, for the last few accounts."""
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
