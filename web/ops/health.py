"""Serve health, readiness and metrics to monitoring systems and load balancers."""

from __future__ import annotations

import hmac

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from web.http.addresses import is_loopback
from web.http.errors import Problem
from web.http.json_io import answer
from web.ops.metrics import current_metrics
from web.parts import current_parts

blueprint = Blueprint("ops", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Say that the process responds; nothing else is checked."""
    return answer({"status": "up"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """Say whether the catalog can be reached and is at the code's revision."""
    found = current_parts().manager.reports.catalog()
    ready = bool(found["reachable"] and found["at_head"])
    shown = {"status": "ready" if ready else "not_ready", "catalog": found}
    return answer(shown, 200 if ready else 503, None if ready else {"Retry-After": "5"})


@blueprint.get("/metrics")
def metrics() -> Response:
    """Serve the metrics to callers with METRICS_TOKEN, or to this machine only if no token is set."""
    token = current_parts().settings.metrics_token
    if token is None:
        _require_loopback()
    elif not hmac.compare_digest(_bearer(), token.encode()):
        raise Problem(401, "not_authenticated", "Send METRICS_TOKEN as Authorization: Bearer ...")
    return Response(current_metrics().exposition(), content_type=CONTENT_TYPE_LATEST)


def _require_loopback() -> None:
    # A proxy on this machine that we were not told of makes everybody look local: it names itself by its header.
    behind_proxy = current_parts().settings.trusted_proxy_count == 0 and "HTTP_X_FORWARDED_FOR" in request.environ
    if behind_proxy or not is_loopback(request.remote_addr):
        raise Problem(403, "not_allowed", "Only this machine may read the metrics; METRICS_TOKEN opens them to others.")


def _bearer() -> bytes:
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
