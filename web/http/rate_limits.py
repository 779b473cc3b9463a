"""Limit how often one address may register or sign in, before any password is hashed, and how often a user starts jobs.

An IPv6 address counts as its /64 network, because its owner has all addresses of the network.

Counters are in RATE_LIMIT_STORAGE: in this process, or in Redis if several processes share them. Failed logins are
also counted per account, in the catalog (``tenancy/accounts/accounts.py``). The counting is done by the ``limits``
package, on which Flask-Limiter builds too. Only the views that need it call it; no hook runs on other requests.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from limits import RateLimitItem, errors, parse_many
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

from tenancy.errors import ConfigurationError
from web.http.addresses import network
from web.http.errors import Problem

log = logging.getLogger("web")

REGISTRATION = parse_many("60/minute;600/hour")
LOGIN = parse_many("120/minute")
OWN_JOBS = parse_many("12/hour;48/day")


def init_app(app: Flask) -> None:
    """Create the counters of this application."""
    where = app.extensions["unify"].settings.rate_limit_storage
    try:
        # Errors of the storage's client library are raised as StorageError.
        storage = storage_from_string(where, wrap_exceptions=True)
    except errors.ConfigurationError:
        # The library's message is about its own packaging, and the URL may contain a password.
        raise ConfigurationError(
            "RATE_LIMIT_STORAGE cannot be used: install the package `redis`, or set memory://.",
            field="RATE_LIMIT_STORAGE",
        ) from None
    app.extensions["unify-limits"] = FixedWindowRateLimiter(storage)


def limit_registration(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    """Count the POSTs to a registration view, per address."""
    return _limited(view, "register", REGISTRATION)


def limit_login(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    """Count the POSTs to a login view, per address."""
    return _limited(view, "login", LOGIN)


def count_own_job(user_id: int) -> None:
    """Count a job that a user starts on their own database; refuse it if there were too many."""
    _counted("jobs", OWN_JOBS, str(user_id))


def _limited(
    view: Callable[..., ResponseReturnValue], what: str, items: list[RateLimitItem]
) -> Callable[..., ResponseReturnValue]:
    @wraps(view)
    def limited(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        if request.method == "POST":
            _counted(what, items, network(request.remote_addr))
        return view(*args, **kwargs)

    return limited


def _counted(what: str, items: list[RateLimitItem], who: str) -> None:
    try:
        _count(what, items, who)
    except errors.StorageError as error:
        log.error("the counters of RATE_LIMIT_STORAGE do not answer: %s", type(error.storage_error).__name__)
        raise Problem(503, "limits_unreachable", "Attempts cannot be counted at the moment. Try again.") from None


def _count(what: str, items: list[RateLimitItem], who: str) -> None:
    counters = cast("FixedWindowRateLimiter", current_app.extensions["unify-limits"])
    for item in items:
        if counters.hit(item, what, who):
            continue
        left_s = counters.get_window_stats(item, what, who).reset_time - time.time()
        if left_s > item.get_expiry() + 1:  # begun by a clock that was ahead; a second, for clocks that round
            counters.clear(item, what, who)
            counters.hit(item, what, who)
        else:
            raise Problem(
                429,
                "too_many_requests",
                f"Too many attempts ({item}). Try again later.",
                retry_after_s=math.ceil(max(left_s, 1)),
            )
