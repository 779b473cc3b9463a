"""Serve every resource that consists of its owner's rows: list, create, read, change, delete.

Each view is one unit of work on the owner's database. The guard has bound the request to its user, so the session
needs no name and the repository takes the owner from the principal alone.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response
from sqlalchemy.orm import Session

from repositories.base.statements import UNLISTED
from repositories.repository_factory import RepositoryFactory
from web.api.etags import etag, precondition, seen_version, unchanged
from web.api.queries import filters, read_query, refuse_query, scope
from web.api.resources import Resource
from web.auth.guards import api_login_required
from web.auth.sessions import signed_in
from web.http import cursors
from web.http.addresses import outer
from web.http.errors import NOT_THERE, Problem
from web.http.json_io import answer, body, require_json_accepted
from web.parts import current_parts
from web.schemas import FieldErrors, RowsQuery, sent


class RowViews:
    """The five views of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def register(self, blueprint: Blueprint) -> None:
        """Register the views under the resource's name."""
        name = self._resource.name
        rules = (
            (f"/{name}", "GET", "list", self.list_rows),
            (f"/{name}", "POST", "create", self.create_row),
            (f"/{name}/<row_id>", "GET", "read", self.read_row),
            (f"/{name}/<row_id>", "PATCH", "change", self.change_row),
            (f"/{name}/<row_id>", "DELETE", "delete", self.delete_row),
        )
        for rule, method, verb, view in rules:
            blueprint.add_url_rule(rule, f"{name}_{verb}", api_login_required(view), methods=[method])

    def list_rows(self) -> Response:
        """Return a page of the owner's rows, oldest first."""
        require_json_accepted()
        query = read_query(self._resource.query)
        if query.q is not None:
            return self._search(query)
        owner = signed_in().user.id
        where = scope(self._resource.name, query)
        after = cursors.after_row(cursors.read(query.cursor, user_id=owner, scope=where)) if query.cursor else None
        with current_parts().manager.session() as session:
            rows = self._repository(session, owner).list(limit=query.limit + 1, after=after, **filters(query))
        next_cursor = None
        if len(rows) > query.limit:
            del rows[query.limit :]
            next_cursor = cursors.write(cursors.row_place(rows[-1]), user_id=owner, scope=where)
        return answer({"items": [_shown(row) for row in rows], "next_cursor": next_cursor})

    def create_row(self) -> Response:
        """Create a row; the client may choose its id."""
        require_json_accepted()
        refuse_query()
        values = sent(body(self._resource.create))
        with current_parts().manager.session(write=True) as session:
            row = self._repository(session).create(values)
        headers = {"Location": outer(f"/api/v1/{self._resource.name}/{row['id']}"), "ETag": etag(row)}
        return answer(_shown(row), 201, headers)

    def read_row(self, row_id: str) -> Response:
        """Return one row, or 304 if the client already has it."""
        require_json_accepted()
        refuse_query()
        with current_parts().manager.session() as session:
            row = self._repository(session).get(_row_id(row_id))
        headers = {"ETag": etag(row)}
        return Response(status=304, headers=headers) if unchanged(row) else answer(_shown(row), 200, headers)

    def change_row(self, row_id: str) -> Response:
        """Change the fields that were sent; with ``If-Match``, only if the row is still in that state."""
        require_json_accepted()
        refuse_query()
        key, wanted = _row_id(row_id), precondition()
        changes = sent(body(self._resource.change))
        with current_parts().manager.session(write=True) as session:
            repository = self._repository(session)
            version = seen_version(repository, key, wanted)
            row = repository.update(key, changes, if_version=version)
        headers = {"ETag": etag(row)}
        return answer(_shown(row), 200, headers)

    def delete_row(self, row_id: str) -> Response:
        """Delete a row; with ``If-Match``, only if it is still in that state."""
        refuse_query()
        key, wanted = _row_id(row_id), precondition()
        with current_parts().manager.session(write=True) as session:
            repository = self._repository(session)
            version = seen_version(repository, key, wanted)
            repository.delete(key, if_version=version)
        return Response(status=204)

    def _search(self, query: RowsQuery) -> Response:
        """Return the rows that contain the text; a search has no further pages and no filters."""
        others = sorted(query.model_fields_set - {"q", "limit"})
        if others:
            raise FieldErrors(
                [{"field": name, "code": "not_with_q", "message": "cannot be combined with q"} for name in others]
            )
        with current_parts().manager.session() as session:
            rows = self._repository(session).search(query.q, limit=query.limit)
        return answer({"items": [_shown(row) for row in rows], "next_cursor": None})

    def _repository(self, session: Session, owner: int | None = None) -> Any:
        return RepositoryFactory.get_repository(self._resource.name, session, owner or signed_in().user.id)


def _row_id(text: str) -> UUID:
    """Return the id in the path; an invalid one is 404, like an unknown one."""
    try:
        key = UUID(text)
    except ValueError:
        raise Problem(404, "not_found", NOT_THERE) from None
    if str(key) != text.lower():
        raise Problem(404, "not_found", NOT_THERE)
    return key


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Remove the version, which is in the ETag, and the columns that only the pages use."""
    del row["version"]
    for name in UNLISTED & row.keys():
        del row[name]
    return row
