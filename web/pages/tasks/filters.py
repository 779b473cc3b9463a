"""Read the filters in the URL of a task list, and find the matching tasks.

``Words`` are the URL's own parameters: only values that are offered, without those that are the default. They make the
list's links, bind its cursors, and are what a saved view stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from sqlalchemy.orm import Session

from repositories.base.search import SEARCH_MAX
from tenancy.names import is_storable
from web.auth.sessions import signed_in
from web.display import clock
from web.display.clock import DAY
from web.http import cursors
from web.pages.common import rows as row_pages
from web.pages.common.forms import Choices
from web.pages.common.resources import PRIORITIES, STATUSES
from web.schemas import NAME_MAX

Words = dict[str, str]

PAGE = 50
WEEK_DAYS = 7
OFFERS: Mapping[str, Choices] = {
    "status": (("", "Open"), ("any", "Any status"), *STATUSES),
    "priority": (("", "Any priority"), *reversed(PRIORITIES)),
    "due": (("", "Any date"), ("overdue", "Overdue"), ("today", "Today"), ("week", "Next 7 days"), ("none", "No date")),
    "sort": (
        ("", "Manual order"),
        ("due", "By due date"),
        ("priority", "By priority"),
        ("newest", "Newest first"),
        ("oldest", "Oldest first"),
        ("title", "By title"),
    ),
}
"""What each select above the list offers; the first value is the default."""

_TYPED = {"q": SEARCH_MAX, "category": NAME_MAX}


@dataclass(frozen=True)
class Found:
    """One page of tasks and the cursor of the next page."""

    rows: list[dict[str, Any]]
    cursor: str | None
    unknown_category: bool = False


def words(given: Mapping[str, str]) -> Words:
    """Read the list's parameters from a URL's query or a form; values that are not offered are ignored."""
    chosen = {name: given.get(name, "") for name, offered in OFFERS.items() if given.get(name) in dict(offered)}
    typed = {name: given.get(name, "").strip()[:most] for name, most in _TYPED.items()}
    return {name: word for name, word in (typed | chosen).items() if word and is_storable(word)}


def words_of(url: str) -> Words:
    """Read the parameters from the URL of a list."""
    return words(dict(parse_qsl(urlsplit(url).query)))


def find(session: Session, asked: Words, cursor: str | None) -> Found:
    """Return the page of tasks that was asked for, starting at a cursor."""
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": ("page", "tasks", sorted(asked.items()))}
    after = cursors.read(cursor, **bound) if cursor else None
    narrowed = filters(session, asked)
    sort = asked.get("sort", "manual")
    rows, place = row_pages.of("tasks", session).page(sort=sort, limit=PAGE, after=after, **narrowed)
    more = cursors.write(place, **bound) if place else None
    return Found(rows, more, unknown_category=narrowed.get("ids") == [])


def filters(session: Session, asked: Words) -> dict[str, Any]:
    """Translate the parameters into the repository's filters."""
    status = asked.get("status", "")
    narrowed: dict[str, Any] = _days(asked.get("due", ""), clock.today())
    narrowed |= {"open": True} if not status else {} if status == "any" else {"status": status}
    if "priority" in asked:
        narrowed["priority"] = int(asked["priority"])
    if "q" in asked:
        narrowed["text"] = asked["q"]
    return narrowed | (_category(session, asked["category"]) if "category" in asked else {})


def _days(due: str, today: date) -> dict[str, Any]:
    if due == "overdue":
        return {"due_before": today}
    if due in ("today", "week"):
        days = 1 if due == "today" else WEEK_DAYS
        return {"due_after": today, "due_before": today + days * DAY}
    return {"no_due": True} if due == "none" else {}


def _category(session: Session, named: str) -> dict[str, Any]:
    """Find the category by its id, as a select sends it, or by its name, as people type it."""
    try:
        return {"category_id": UUID(named)}
    except ValueError:
        row = row_pages.of("categories", session).by_name(named)
    return {"category_id": row["id"]} if row else {"ids": []}


def category_name(session: Session, asked: Words) -> str:
    """Return the name of the category that was asked for, to fill the text input used when there are too many."""
    named = asked.get("category", "")
    try:
        rows = row_pages.of("categories", session).page(sort="name", ids=[UUID(named)], limit=1).rows
    except ValueError:
        return named
    return rows[0]["name"] if rows else ""
