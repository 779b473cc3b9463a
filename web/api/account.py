"""Serve ``me``: the caller's account, and the state of its database."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from tenancy.models import Tenant
from web.api.queries import refuse_query
from web.auth.guards import api_login_required
from web.auth.sessions import signed_in
from web.http.json_io import answer, require_json_accepted


def register(blueprint: Blueprint) -> None:
    """Register the view."""
    blueprint.add_url_rule("/me", "me_read", api_login_required(me), methods=["GET"])


def me() -> Response:
    """Return the account; ``database`` is null if none has been created yet."""
    require_json_accepted()
    refuse_query()
    principal = signed_in()
    user = principal.user
    return answer(
        {
            "id": user.id,
            "email": user.email,
            "display_name": user.display_name,
            "is_admin": user.is_admin,
            "created_at": user.created_at,
            "database": _database(principal.tenant) if principal.tenant else None,
        }
    )


def _database(tenant: Tenant) -> dict[str, Any]:
    return {"db_type": tenant.db_type, "status": str(tenant.state), "revision": tenant.revision}
