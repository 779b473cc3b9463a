"""Show categories by name, with how many rows of each kind each holds.

The SQL statements are one more than there are kinds of rows, however many categories there are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from repositories.base.search import SEARCH_MAX
from repositories.schema import UNCATEGORIZED
from tenancy.names import fold, is_storable
from web.auth.sessions import signed_in
from web.http import cursors
from web.pages.common import paging, rows as row_pages
from web.pages.common.forms import Form
from web.pages.common.resources import RESOURCES, Resource
from web.parts import current_parts

PAGE = 100


def page(resource: Resource, form: Form | None = None) -> ResponseReturnValue:
    """Show one page of the categories that the URL asks for, and the form that adds one."""
    query = request.args.get("q", "").strip()[:SEARCH_MAX]
    asked = {"q": query} if query and is_storable(query) else {}
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": ("page", "categories", sorted(asked.items()))}
    cursor = request.args.get("cursor")
    after = cursors.read(cursor, **bound) if cursor else None
    with current_parts().manager.session() as session:
        repository = row_pages.of("categories", session)
        rows, place = repository.page(sort="name", limit=PAGE, after=after, text=asked.get("q"))
        counts = repository.counts([row["id"] for row in rows])
    addressed = partial(url_for, "pages.categories", **dict[str, Any](asked))
    here = addressed(cursor=cursor) if cursor else addressed()
    return render_template(
        "categories/list.html",
        form=form or row_pages.blank(resource),
        opened=form is not None,
        rows=rows,
        counts=counts,
        kinds=RESOURCES,
        permanent=fold(UNCATEGORIZED),
        fold=fold,
        query=asked.get("q", ""),
        here=here,
        back=here if cursor or asked else None,
        **paging.links(addressed, cursor, cursor=cursors.write(place, **bound) if place else None),
    )


row_pages.LISTS["categories"] = page
