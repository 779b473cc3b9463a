"""Search everything: the best matches of each kind with the words marked, and a link to all matches of the kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from repositories.base import search as searching
from tenancy.names import is_storable
from web.auth.guards import page_login_required
from web.display import highlights
from web.pages.common import rows as row_pages
from web.pages.common.resources import RESOURCES
from web.parts import current_parts

blueprint = Blueprint("search", __name__)

EACH = 6
WHERE = {"notes": "pages.notes_read"}


@dataclass(frozen=True)
class Group:
    """The matches of one kind; ``more_url`` links to its list if there are more than are shown."""

    name: str
    endpoint: str
    label: str
    rows: list[dict[str, Any]]
    more_url: str | None


@blueprint.get("/search", endpoint="index")
@page_login_required
def page() -> ResponseReturnValue:
    """Show the matches, with one SQL statement for each kind; without words, show how to search."""
    asked = request.args.get("q", "").strip()[: searching.SEARCH_MAX]
    asked = asked if is_storable(asked) else ""
    words = searching.words(asked)
    groups: list[Group] = []
    if words:
        with current_parts().manager.session() as session:
            groups = [_group(name, row_pages.of(name, session), asked) for name in RESOURCES]
    return render_template("search/index.html", asked=asked, words=words, groups=[each for each in groups if each.rows])


def _group(name: str, repository: Any, asked: str) -> Group:
    # Categories can only be found by name, so they are listed in the order of their names.
    rows = repository.page(sort="name", text=asked, limit=EACH + 1).rows if name == "categories" else None
    rows = repository.found(asked, limit=EACH + 1) if rows is None else rows
    more = url_for(f"pages.{name}", q=asked) if len(rows) > EACH else None
    return Group(name, WHERE.get(name, f"pages.{name}_edit"), RESOURCES[name].label, rows[:EACH], more)


blueprint.add_app_template_filter(highlights.mark, "marked")
blueprint.add_app_template_filter(highlights.excerpt, "excerpt")
