"""Serve ``keys``: an owner's API keys. A key is shown once, when it is created; the catalog stores its hash."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response

from web.api.queries import refuse_query
from web.auth.guards import api_login_required
from web.auth.sessions import signed_in
from web.http.addresses import outer
from web.http.errors import NOT_THERE, Problem
from web.http.json_io import answer, body, require_json_accepted
from web.parts import current_parts
from web.schemas import KeyCreate

SHOWN = ("id", "name", "prefix", "read_only", "created_at", "expires_at", "last_used_at", "held")


def register(blueprint: Blueprint) -> None:
    """Register the views."""
    rules = (
        ("/keys", "GET", "list", list_keys),
        ("/keys", "POST", "create", create),
        ("/keys/<key_id>", "GET", "read", read),
        ("/keys/<key_id>", "DELETE", "delete", delete),
    )
    for rule, method, verb, view in rules:
        blueprint.add_url_rule(rule, f"keys_{verb}", api_login_required(view), methods=[method])


def list_keys() -> Response:
    """Return all of the owner's keys; they are few, so there are no pages."""
    require_json_accepted()
    refuse_query()
    found = current_parts().accounts.keys(signed_in().user.id)
    return answer({"items": [_shown(key) for key in found], "next_cursor": None})


def create() -> Response:
    """Create a key and return it, this one time."""
    require_json_accepted()
    refuse_query()
    wanted = body(KeyCreate)
    asking = signed_in()
    made, key = current_parts().accounts.issue_key(
        asking.user.id,
        wanted.name,
        read_only=wanted.read_only,
        expires_at=wanted.expires_at,
        made_by=asking.key_id,
    )
    return answer(_shown(made) | {"key": key}, 201, {"Location": outer(f"/api/v1/keys/{made['id']}")})


def read(key_id: str) -> Response:
    """Return one key's description."""
    require_json_accepted()
    refuse_query()
    return answer(_shown(current_parts().accounts.key(signed_in().user.id, _key_id(key_id))))


def delete(key_id: str) -> Response:
    """Revoke a key: the next request with it is refused, in every process."""
    refuse_query()
    current_parts().accounts.revoke_key(signed_in().user.id, _key_id(key_id))
    return Response(status=204)


def _key_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(404, "not_found", NOT_THERE) from None


def _shown(key: dict[str, Any]) -> dict[str, Any]:
    return {name: key[name] for name in SHOWN}
