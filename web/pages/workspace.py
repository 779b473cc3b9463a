"""Show the workspace: the dashboard, and one set of views for every declared resource.

Lists are paged by the same cursors as the JSON API's. A form that adds carries the id its row will have, so that
sending it twice makes one row; a form that changes carries the version it showed, so that nobody's work is
overwritten unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from repositories.errors import ConflictError, InvalidReferenceError, StaleVersionError
from repositories.repository_factory import RepositoryFactory
from tenancy.errors import ConfigurationError
from tenancy.types import new_id
from web import cursors
from web.auth import current_principal, page_login_required, signed_in
from web.pages.filters import sentence
from web.pages.forms import Choices, Form
from web.pages.resources import RESOURCES, Resource
from web.parts import current_parts
from web.schemas import sent

blueprint = Blueprint("pages", __name__)

PAGE = 50
PANEL = 8
CATEGORIES_SHOWN = 1000


@blueprint.get("/")
def home() -> ResponseReturnValue:
    """Show a visitor what this is, and a user their day."""
    if current_principal() is None:
        return render_template("welcome.html")
    return _dashboard()


@page_login_required
def _dashboard() -> ResponseReturnValue:
    now = datetime.now(UTC)
    with current_parts().manager.session() as session:
        shown = {
            "tasks": _of("tasks", session).agenda(limit=PANEL),
            "events": _of("events", session).upcoming(now, limit=PANEL),
            "notes": _of("notes", session).list(limit=PANEL, pinned=True),
        }
        context = _context(_categories(session))
    return render_template("dashboard.html", **shown, context=context)


def _list(resource: Resource) -> ResponseReturnValue:
    """Show one page of rows and the form that adds one."""
    form = Form.blank(resource.name, resource.fields, id=str(new_id()))
    return _list_page(resource, form)


def _create(resource: Resource) -> ResponseReturnValue:
    """Add a row, or show the form again with what is wrong."""
    form = Form.posted(resource.name, resource.fields, request.form, "id")
    body = form.validate(resource.creation, id=form.values.get("id") or None)
    if body is None or not _saved(resource, form, body):
        form.values["id"] = str(new_id()) if "id" in form.errors else form.values.get("id", "")
        return _list_page(resource, form), 422
    flash(f"Added “{_short(form.values[resource.label])}”.", "good")
    return redirect(url_for(resource.endpoint), 303)


def _edit(resource: Resource, row_id: UUID) -> ResponseReturnValue:
    """Show the form of one row."""
    with current_parts().manager.session() as session:
        row = _of(resource.name, session).get(row_id)
        categories = _categories(session) if resource.categorized else []
    form = Form.stored(resource.name, resource.fields, row, version=str(row["version"]))
    return _edit_page(resource, row_id, form, categories)


def _update(resource: Resource, row_id: UUID) -> ResponseReturnValue:
    """Change a row, or show the form again with what is wrong."""
    form = Form.posted(resource.name, resource.fields, request.form, "version")
    body = form.validate(resource.change, keep_empty=True)
    if body is not None and _changed(resource, row_id, form, sent(body)):
        flash(f"Saved “{_short(form.values[resource.label])}”.", "good")
        return redirect(url_for(resource.endpoint), 303)
    with current_parts().manager.session() as session:
        _of(resource.name, session).get(row_id)
        categories = _categories(session) if resource.categorized else []
    return _edit_page(resource, row_id, form, categories), 422


def _delete(resource: Resource, row_id: UUID) -> ResponseReturnValue:
    """Delete a row; what must stay says why."""
    try:
        with current_parts().manager.session(write=True) as session:
            _of(resource.name, session).delete(row_id)
    except ConflictError as error:
        flash(error.message, "bad")
        return redirect(url_for(f"{resource.endpoint}_edit", row_id=row_id), 303)
    flash(f"The {resource.singular} is deleted.", "good")
    return redirect(url_for(resource.endpoint), 303)


def _saved(resource: Resource, form: Form, body: Any) -> bool:
    """Write a new row, or put what is wrong beside its field."""
    try:
        with current_parts().manager.session(write=True) as session:
            _create_once(_of(resource.name, session), sent(body))
    except (ConflictError, InvalidReferenceError, ConfigurationError) as error:
        form.refuse(error.field, sentence(error.message))
    return not form.errors


def _create_once(repository: Any, values: dict[str, Any]) -> None:
    """Write a row whose form may have been sent before: the same text again is nothing new, another text is."""
    try:
        repository.create(values)
    except ConflictError as error:
        if error.field != "id":
            raise
        row = repository.get(values["id"])
        if any(row[name] != value for name, value in values.items()):
            repository.create(values | {"id": new_id()})


def _changed(resource: Resource, row_id: UUID, form: Form, changes: Mapping[str, object]) -> bool:
    """Write the changes if the row is still as the form showed it."""
    version = form.values.get("version", "")
    expected = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
    try:
        with current_parts().manager.session(write=True) as session:
            _of(resource.name, session).update(row_id, changes, if_version=expected)
    except StaleVersionError as error:
        form.values["version"] = str(error.fields.get("version", version))
        form.refuse(
            None,
            f"This {resource.singular} was changed elsewhere while you were writing, so nothing was saved. "
            "Your text is below: saving again puts it in place of the other change.",
        )
    except (ConflictError, InvalidReferenceError, ConfigurationError) as error:
        form.refuse(error.field, sentence(error.message))
    return not form.errors


def _list_page(resource: Resource, form: Form) -> str:
    """Render a page of the list: one statement for its rows and one for the categories they name."""
    narrowed = _narrowed(resource)
    with current_parts().manager.session() as session:
        rows, cursor = _page(resource, session, narrowed)
        categories = _categories(session) if resource.categorized else []
    form.categories = _choices(categories)
    addressed: Callable[..., str] = partial(url_for, resource.endpoint, **dict[str, Any](narrowed))
    return render_template(
        "crud/list.html",
        resource=resource,
        form=form,
        rows=rows,
        narrowed=narrowed,
        context=_context(categories),
        next_url=addressed(cursor=cursor) if cursor else None,
        first_url=addressed() if request.args.get("cursor") else None,
    )


def _page(resource: Resource, session: Session, narrowed: Mapping[str, str]) -> tuple[list[dict[str, Any]], str | None]:
    """Give the rows of the page asked for, and the cursor of the next one."""
    repository = _of(resource.name, session)
    if "q" in narrowed:
        return repository.search(narrowed["q"], limit=PAGE), None
    asked = {each.name: each.value(narrowed[each.name]) for each in resource.filters if each.name in narrowed}
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": ("page", resource.name, sorted(narrowed.items()))}
    cursor = request.args.get("cursor")
    after = cursors.after_row(cursors.read(cursor, **bound)) if cursor else None
    rows = repository.list(limit=PAGE + 1, after=after, **asked)
    more = cursors.write(cursors.row_place(rows[PAGE - 1]), **bound) if len(rows) > PAGE else None
    return rows[:PAGE], more


def _edit_page(resource: Resource, row_id: UUID, form: Form, categories: list[dict[str, Any]]) -> str:
    chosen = form.values.get("category_id", "")
    form.categories = _choices(categories)
    if chosen and chosen not in dict(form.categories):
        # The list is cut where a user has very many; what the row has now must stay selectable.
        form.categories = [*form.categories, (chosen, "As it is now")]
    return render_template("crud/edit.html", resource=resource, row_id=row_id, form=form)


def _narrowed(resource: Resource) -> dict[str, str]:
    """Give what of the address narrows the list: a search, or filters with words that are offered."""
    query = request.args.get("q", "").strip()[:200]
    if query:
        return {"q": query}
    words = {each.name: request.args.get(each.name, "") for each in resource.filters}
    return {each.name: words[each.name] for each in resource.filters if each.value(words[each.name]) is not None}


def _categories(session: Session) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _of("categories", session).list(limit=CATEGORIES_SHOWN)
    return rows


def _choices(categories: list[dict[str, Any]]) -> Choices:
    return [(str(row["id"]), row["name"]) for row in categories]


def _context(categories: list[dict[str, Any]]) -> dict[str, Any]:
    """Give what the rows of a page share."""
    return {"today": datetime.now(UTC).date(), "categories": {row["id"]: row for row in categories}}


def _of(name: str, session: Session) -> Any:
    """Give the signed-in user's repository."""
    return RepositoryFactory.get_repository(name, session=session, user_id=signed_in().user.id)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def _add_routes(resource: Resource) -> None:
    """Give a resource its addresses: /tasks, /tasks/<id>, /tasks/<id>/delete."""
    rules = (
        ("", "", "GET", _list),
        ("", "_create", "POST", _create),
        ("/<uuid:row_id>", "_edit", "GET", _edit),
        ("/<uuid:row_id>", "_update", "POST", _update),
        ("/<uuid:row_id>/delete", "_delete", "POST", _delete),
    )
    for path, suffix, method, view in rules:
        guarded = page_login_required(partial(view, resource))
        blueprint.add_url_rule(f"/{resource.name}{path}", resource.name + suffix, guarded, methods=[method])


for _resource in RESOURCES.values():
    _add_routes(_resource)
