"""List accounts and their databases in one table, with search, filters, sorting and pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from flask import request, url_for
from flask.typing import ResponseReturnValue

from tenancy.errors import ConfigurationError
from tenancy.models import State
from web.auth.guards import admin_required
from web.auth.sessions import signed_in
from web.http import cursors
from web.http.errors import Problem
from web.pages.common import paging
from web.pages.console.layout import PRODUCTS, blueprint, choice, show, text
from web.parts import current_parts

PAGE = 50
HEADS = (("id", "User"), ("email", "E-mail"), ("created", "Created"), ("used", "Last seen"), ("size", "Size"))
ACCOUNTS = {
    "active": "active",
    "deactivated": "deactivated",
    "admin": "administrators",
    "without": "without a database",
}
IDLE = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
SORTS = {f"{way}{name}" for name, _ in HEADS for way in ("", "-")}
STATES = {str(state): str(state).replace("_", " ") for state in State}


@blueprint.get("/users")
@admin_required
def users() -> ResponseReturnValue:
    """Show one page, with one or two catalog statements whatever the order."""
    asked = _asked()
    sort = choice("sort", SORTS) or "id"
    asker, scope = signed_in().user.id, f"accounts&{sort}&{sorted(asked.items())}"
    cursor = request.args.get("after")
    after = cursors.read(cursor, user_id=asker, scope=scope) if cursor else None
    rows, place = _page(asked, sort, after)
    kept = asked | ({"sort": sort} if sort != "id" else {})
    next_cursor = cursors.write(place, user_id=asker, scope=scope) if place else None
    return show(
        "users",
        rows=rows,
        asked=asked,
        sort=sort,
        heads=[_head(name, label, sort, asked) for name, label in HEADS],
        total=None if asked else current_parts().accounts.count(),
        **paging.links(partial(url_for, "admin.users", **kept), cursor, after=next_cursor),
        chosen={"state": STATES, "type": PRODUCTS, "account": ACCOUNTS, "idle": IDLE},
    )


def _asked() -> dict[str, Any]:
    """Return the filters in the URL by their parameter names, without those that are not set."""
    found = {
        "q": text("q"),
        "state": choice("state", STATES),
        "type": choice("type", PRODUCTS),
        "account": choice("account", ACCOUNTS),
        "idle": choice("idle", IDLE),
        "behind": choice("behind", ("1",)),
    }
    return {name: value for name, value in found.items() if value}


def _page(asked: dict[str, Any], sort: str, after: Any) -> tuple[list[dict[str, Any]], list[Any] | None]:
    idle = asked.get("idle")
    try:
        return current_parts().manager.reports.accounts_page(
            sort=sort.lstrip("-"),
            descending=sort.startswith("-"),
            limit=PAGE,
            after=after,
            query=asked.get("q"),
            state=asked.get("state"),
            db_type=asked.get("type"),
            behind="behind" in asked,
            account=asked.get("account"),
            inactive_since=datetime.now(UTC) - timedelta(days=int(idle)) if idle else None,
        )
    except ConfigurationError:
        raise Problem(400, "page_invalid", "This page of the list does not exist. Begin at the first one.") from None


def _head(name: str, label: str, sort: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Return a column's heading with the URL that sorts by it, or that reverses the order if it sorts already."""
    here = sort.lstrip("-") == name
    up = here and not sort.startswith("-")
    # Dates and sizes are most useful with the newest or largest first.
    wanted = f"-{name}" if up or (not here and name in ("created", "used", "size")) else name
    return {
        "name": name,
        "label": label,
        "url": url_for("admin.users", **asked, sort=wanted),
        "order": ("ascending" if up else "descending") if here else None,
    }
