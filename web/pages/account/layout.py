"""Share what all settings pages need: the blueprint, the tabs, and lists that are shown page by page."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Blueprint, render_template, request, url_for

from web.http.errors import NOT_THERE, Problem
from web.pages.common import paging

blueprint = Blueprint("settings", __name__, url_prefix="/settings")

PAGE = 50
TABS = (
    ("index", "You"),
    ("security", "Security"),
    ("keys", "API keys"),
    ("database", "Your database"),
    ("data", "Your data"),
    ("values", "Stored values"),
)

Rows = list[dict[str, Any]]


def show(tab: str, page: str | None = None, /, **context: Any) -> str:
    """Render the page of one tab, or another page that belongs to the tab."""
    tabs = [(url_for(f"settings.{name}"), label, name == tab) for name, label in TABS]
    return render_template(f"account/{page or tab}.html", tabs=tabs, **context)


def part(rows: Rows, tab: str) -> dict[str, Any]:
    """Return the page of a list that begins after the id in ``?after=``, and the URLs of the next and first page."""
    after = request.args.get("after")
    start = 0
    if after:
        start = 1 + next((at for at, row in enumerate(rows) if str(row["id"]) == after), -2)
        if start < 0:
            raise Problem(404, "not_found", NOT_THERE)
    shown = rows[start : start + PAGE]
    more = len(rows) > start + PAGE
    address = partial(url_for, f"settings.{tab}")
    return {"rows": shown} | paging.links(address, after, after=shown[-1]["id"] if more else None)
