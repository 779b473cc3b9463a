"""Serve ``settings/<key>``: named values of the owner."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response
from sqlalchemy.orm import Session

from repositories.errors import NotFoundError
from repositories.repository_factory import RepositoryFactory
from web.api.etags import etag, precondition, seen_version, unchanged
from web.api.queries import refuse_query
from web.auth.guards import api_login_required
from web.auth.sessions import signed_in
from web.http.errors import Problem
from web.http.json_io import answer, body, require_json_accepted
from web.parts import current_parts
from web.schemas import SettingPut

RULE = "/settings/<key>"


def register(blueprint: Blueprint) -> None:
    """Register the views."""
    for method, verb, view in (("GET", "read", read), ("PUT", "write", write), ("DELETE", "delete", delete)):
        blueprint.add_url_rule(RULE, f"settings_{verb}", api_login_required(view), methods=[method])


def read(key: str) -> Response:
    """Return one setting."""
    require_json_accepted()
    refuse_query()
    with current_parts().manager.session() as session:
        row = _repository(session).get(key)
    headers = {"ETag": etag(row)}
    return Response(status=304, headers=headers) if unchanged(row) else answer(_shown(row), 200, headers)


def write(key: str) -> Response:
    """Store a value under a key: 201 for a new key, 200 for an existing one."""
    require_json_accepted()
    refuse_query()
    wanted = precondition()
    value = body(SettingPut).value
    with current_parts().manager.session(write=True) as session:
        repository = _repository(session)
        try:
            version = seen_version(repository, key, wanted)
        except NotFoundError:
            raise Problem(412, "stale_version", "There is no such setting to match.") from None
        row, made = repository.put(key, value, if_version=version)
    return answer(_shown(row), 201 if made else 200, {"ETag": etag(row)})


def delete(key: str) -> Response:
    """Delete a setting."""
    refuse_query()
    wanted = precondition()
    with current_parts().manager.session(write=True) as session:
        repository = _repository(session)
        repository.delete(key, if_version=seen_version(repository, key, wanted))
    return Response(status=204)


def _repository(session: Session) -> Any:
    return RepositoryFactory.get_repository("settings", session, signed_in().user.id)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("key", "value", "created_at", "updated_at")}
