"""Serve administrators' JSON calls about users' databases.

Rights are checked before anything is looked up: whoever may not ask learns nothing about who exists. These calls
bind no tenant; the library's own operations name the user they work on.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from tenancy import names
from tenancy.backends.base import DatabaseFields
from tenancy.errors import ConfigurationError
from web.api import jobs
from web.api.queries import filters, read_query, refuse_query, scope
from web.auth.guards import api_admin_required
from web.auth.sessions import signed_in
from web.http import cursors
from web.http.errors import NOT_THERE, Problem
from web.http.json_io import answer, optional_body, require_json_accepted
from web.ops import metrics
from web.parts import current_parts
from web.schemas import DatabaseInitialize, DatabasesQuery, sent

blueprint = Blueprint("admin_api", __name__, url_prefix="/admin")


@blueprint.get("/user/<user_id>/database/info")
@api_admin_required
def database_info(user_id: str) -> Response:
    """Return one database's configuration, without secrets."""
    require_json_accepted()
    refuse_query()
    return answer(current_parts().manager.reports.info(known_id(user_id)))


@blueprint.post("/user/<user_id>/database/initialize")
@api_admin_required
def initialize(user_id: str) -> Response:
    """Create one user's database, or say that it is already ready."""
    require_json_accepted()
    refuse_query()
    owner = known_id(user_id)
    fields = DatabaseFields(**sent(optional_body(DatabaseInitialize)))
    manager = current_parts().manager
    with metrics.provisioning():
        made = manager.provision(owner, fields)
    shown = {"success": True, "config": manager.load_user_db_config(owner)}
    return answer(shown, 201 if made.created else 200)


@blueprint.get("/databases")
@api_admin_required
def databases() -> Response:
    """Return a page of all databases, by user id."""
    require_json_accepted()
    query = read_query(DatabasesQuery)
    asker, where = signed_in().user.id, scope("databases", query) + f"&q={query.q}"
    after = cursors.read(query.cursor, user_id=asker, scope=where) if query.cursor else None
    found = current_parts().manager.reports.databases(after=after, limit=query.limit + 1, **_narrowed(query))
    page = found[: query.limit]
    more = len(found) > query.limit
    next_cursor = cursors.write(page[-1]["user_id"], user_id=asker, scope=where) if more else None
    return answer({"items": page, "next_cursor": next_cursor})


@blueprint.get("/databases/stats")
@api_admin_required
def stats() -> Response:
    """Return the number of databases, their sizes, types and states."""
    require_json_accepted()
    refuse_query()
    return answer(current_parts().manager.get_user_database_stats())


def _narrowed(query: DatabasesQuery) -> dict[str, Any]:
    given: dict[str, Any] = filters(query)
    if "status" in given:
        given["state"] = given.pop("status")
    return given | ({"query": query.q} if query.q is not None else {})


def known_id(text: str) -> int:
    """Return the id in an address; 404 for what is none."""
    try:
        return names.user_id(text)
    except ConfigurationError:
        raise Problem(404, "not_found", NOT_THERE) from None


jobs.register(blueprint)
