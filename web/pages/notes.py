"""Show notes: the list with its search, one note to read, pinning, and the preview while a note is written.

``common/rows.py`` adds, changes and deletes them; ``display/markdown.py`` renders their HTML, and
``display/highlights.py`` the excerpts in the list.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from repositories.base import search
from repositories.errors import NotFoundError
from tenancy.names import is_storable
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display import markdown
from web.http import cursors
from web.http.addresses import outer
from web.pages.common import paging, rows as row_pages
from web.pages.common.flash import say
from web.pages.common.forms import Form
from web.pages.common.htmx import fragment, wants_fragment
from web.pages.common.resources import NOTES, Resource
from web.parts import current_parts
from web.schemas import NAME_MAX

PAGE = 50
SORTS = {
    "recent": "Pinned first",
    "newest": "Newest first",
    "oldest": "Oldest first",
    "title": "By title",
}
USUAL = "recent"
PINNED = {"yes": True, "no": False}


def page(resource: Resource, form: Form | None = None) -> ResponseReturnValue:
    """Show one page of the notes that the URL asks for, and the form that adds one."""
    asked = _asked()
    shown = form or row_pages.blank(resource)
    with current_parts().manager.session() as session:
        shown.categories = row_pages.category_choices(session)
        rows, cursor = _rows(session, asked)
    addressed = partial(url_for, "pages.notes", **dict[str, Any](asked))
    return render_template(
        "notes/list.html",
        form=shown,
        opened=form is not None or "new" in request.args,
        rows=rows,
        asked=asked,
        narrowed=asked.keys() - {"sort"},
        words=search.words(asked.get("q", "")),
        sorts=SORTS,
        back=addressed(cursor=request.args.get("cursor")),
        **paging.links(addressed, request.args.get("cursor"), cursor=cursor),
    )


def _asked() -> dict[str, str]:
    """Return the parts of the URL that filter or order the list; a value that is not offered is ignored."""
    given = {
        "q": request.args.get("q", "").strip()[: search.SEARCH_MAX],
        "category": request.args.get("category", "").strip()[:NAME_MAX],
        "pinned": _offered(PINNED, request.args.get("pinned")),
        "sort": _offered(SORTS.keys() - {USUAL}, request.args.get("sort")),
    }
    return {name: word for name, word in given.items() if word and is_storable(word)}


def _offered(words: Container[str], word: str | None) -> str:
    return word if word is not None and word in words else ""


def _rows(session: Session, asked: Mapping[str, str]) -> tuple[list[dict[str, Any]], str | None]:
    """Return one page of notes and the cursor of the next page."""
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": ("page", "notes", sorted(asked.items()))}
    cursor = request.args.get("cursor")
    found = row_pages.of("notes", session).page(
        sort=asked.get("sort", USUAL),
        limit=PAGE,
        after=cursors.read(cursor, **bound) if cursor else None,
        text=asked.get("q"),
        pinned=PINNED.get(asked.get("pinned", "")),
        **_category(session, asked.get("category")),
    )
    return found.rows, cursors.write(found.place, **bound) if found.place else None


def _category(session: Session, wanted: str | None) -> dict[str, Any]:
    """Find the category by its id, as a select sends it, or by its name, as people type it."""
    if not wanted:
        return {}
    try:
        return {"category_id": UUID(wanted)}
    except ValueError:
        row = row_pages.of("categories", session).by_name(wanted)
    return {"category_id": row["id"]} if row else {"ids": []}


@row_pages.blueprint.get("/notes/<uuid:row_id>/read", endpoint="notes_read")
@page_login_required
def read(row_id: UUID) -> ResponseReturnValue:
    """Show one note with its Markdown rendered."""
    with current_parts().manager.session() as session:
        rows = row_pages.of("notes", session).page(sort="newest", ids=[row_id], limit=1).rows
    if not rows:
        raise NotFoundError("There is no such note.")
    return render_template("notes/read.html", row=rows[0], back=outer(request.path))


@row_pages.blueprint.post("/notes/<uuid:row_id>/pin", endpoint="notes_pin")
@page_login_required
def pin(row_id: UUID) -> ResponseReturnValue:
    """Pin or unpin a note; the form says which, so that sending it twice changes nothing more."""
    pinned = request.form.get("pinned") == "1"
    with current_parts().manager.session(write=True) as session:
        note = row_pages.of("notes", session).update(row_id, {"pinned": pinned})
    said = f"“{row_pages.short(note['title'])}” is {'pinned' if pinned else 'no longer pinned'}."
    if wants_fragment():
        return fragment("notes/pinned.html", message=said, row=note, back=row_pages.next_path())
    say(said)
    return redirect(row_pages.next_path() or url_for("pages.notes"), 303)


@row_pages.blueprint.post("/notes/preview", endpoint="notes_preview")
@page_login_required
def preview() -> ResponseReturnValue:
    """Preview a text: beside it while it is typed, or without scripts on the whole page again."""
    form = Form.posted("notes", NOTES.fields, request.form, "id")
    if wants_fragment():
        return fragment("notes/preview.html", text=form.values.get("body", ""))
    return page(NOTES, form)


@row_pages.blueprint.post("/notes/<uuid:row_id>/preview", endpoint="notes_preview_changed")
@page_login_required
def preview_changed(row_id: UUID) -> ResponseReturnValue:
    """Show the form of a note again with the typed text and its preview."""
    with current_parts().manager.session() as session:
        row_pages.of("notes", session).get(row_id)
    return row_pages.edit_page(NOTES, row_id, Form.posted("notes", NOTES.fields, request.form, "version"))


row_pages.LISTS["notes"] = page
row_pages.blueprint.add_app_template_filter(markdown.render, "markdown")
