"""Add, change and delete rows: one set of views for all declared resources. Each resource renders its own list.

A form that adds a row carries the id of the new row, so that sending it twice creates one row. A form that changes a
row carries the version it showed, so that nobody's work is overwritten unseen. Deleted rows go to the bin, and the
message about it has an undo button. A form may carry ``next``, a path of this site, to redirect to after saving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from jinja2 import Template
from sqlalchemy.orm import Session

from repositories.errors import ConflictError, InvalidReferenceError, StaleVersionError
from repositories.repository_factory import RepositoryFactory
from repositories.schema import UNCATEGORIZED
from tenancy.errors import ConfigurationError
from tenancy.names import fold
from tenancy.types import new_id
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display.template_filters import sentence
from web.http.addresses import local_path
from web.pages.common.flash import say
from web.pages.common.forms import TYPED_CATEGORY, Categories, Form
from web.pages.common.htmx import fragment, wants_fragment
from web.pages.common.resources import RESOURCES, Resource
from web.parts import current_parts
from web.schemas import sent

blueprint = Blueprint("pages", __name__)

CATEGORIES_SHOWN = 200
LISTS: dict[str, Callable[[Resource, Form | None], ResponseReturnValue]] = {}
"""The view of each resource's list; it shows the refused form, if it is given one."""


def of(name: str, session: Session) -> Any:
    """Return the signed-in user's repository of this name."""
    return RepositoryFactory.get_repository(name, session=session, user_id=signed_in().user.id)


def blank(resource: Resource, **values: str) -> Form:
    """Return the form that adds a row, with the id that the row will have."""
    return Form.blank(resource.name, resource.fields, id=str(new_id()), **values)


def category_choices(session: Session) -> Categories:
    """Return the categories that a form offers."""
    rows, more = of("categories", session).choices(limit=CATEGORIES_SHOWN)
    return Categories.of(rows, more)


def next_path(default: str | None = None) -> str | None:
    """Return the path to redirect to afterwards, as the form or URL asks with ``next``."""
    return local_path(request.values.get("next")) or default


def edit_page(resource: Resource, row_id: UUID, form: Form, **context: Any) -> str:
    """Show the form of one row."""
    with current_parts().manager.session() as session:
        if resource.categorized:
            form.categories = category_choices(session)
            _name_category(session, form)
    templates: list[str | Template] = [f"{resource.name}/edit.html", "rows/edit.html"]
    shown = {"resource": resource, "row_id": row_id, "form": form, "next": next_path()}
    return render_template(templates, **shown, **context)


def saved(resource: Resource, form: Form, body: Any) -> bool:
    """Insert a new row; if it is refused, return False with the reason in the form."""

    def write(session: Session) -> None:
        create_once(of(resource.name, session), sent(body) | typed_category(session, form))

    return refusing(form, write)


def changed(resource: Resource, row_id: UUID, form: Form, changes: Mapping[str, object]) -> bool:
    """Update a row if it is still as the form showed it; if not, return False with the reason in the form."""

    def write(session: Session, seen: int) -> None:
        of(resource.name, session).update(row_id, {**changes, **typed_category(session, form)}, if_version=seen)

    return changing(form, resource.singular, write)


def changing(form: Form, what: str, write: Callable[[Session, int], object]) -> bool:
    """Write if the version that the form showed is still the newest; if not, say so and let the user decide again."""
    version = form.values.get("version", "")
    try:
        return refusing(form, lambda session: write(session, seen_version(version)))
    except StaleVersionError as error:
        form.values["version"] = str(error.fields.get("version", version))
        form.refuse(
            None,
            f"This {what} was changed elsewhere while you were writing, so nothing was saved. "
            "Your text is below: saving it again overwrites the other change.",
        )
        return False


def seen_version(text: str) -> int:
    """Read the version that a page carries; invalid text becomes 0, a version that no row has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def refusing(form: Form, write: Callable[[Session], object]) -> bool:
    """Write in a transaction; if a repository refuses, return False with the reason beside its field."""
    try:
        with current_parts().manager.session(write=True) as session:
            write(session)
    except (ConflictError, InvalidReferenceError, ConfigurationError) as error:
        form.refuse(error.field, sentence(error.message))
    return not form.errors


def create_once(repository: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Create the row of a form that may have been sent twice: equal values are the same row, others a new one."""
    try:
        row: dict[str, Any] = repository.create(values)
    except ConflictError as error:
        if error.field != "id":
            raise
        row = repository.get(values["id"])
        if any(row[name] != value for name, value in values.items()):
            row = repository.create(values | {"id": new_id()})
    return row


def typed_category(session: Session, form: Form) -> dict[str, UUID]:
    """Find the category whose name was typed, when there are too many to choose from."""
    name = form.values.get(TYPED_CATEGORY.name, "").strip()
    if not name:
        return {}
    row = of("categories", session).by_name(name)
    if row is None:
        raise InvalidReferenceError("There is no category with this name.", field=TYPED_CATEGORY.name)
    return {"category_id": row["id"]}


def discard(resource: Resource, row_id: UUID) -> tuple[str, UUID]:
    """Move a row to the bin; return its name and the batch id that undoes this."""
    with current_parts().manager.session(write=True) as session:
        repository = of(resource.name, session)
        row = repository.get(row_id)
        return row[resource.label], repository.discard(row_id)


def undo_url(batch: UUID, after: str) -> str:
    """Return the URL that restores a batch from the bin and then redirects to ``after``."""
    return url_for("bin.restore", batch=batch, next=after)


def short(text: str) -> str:
    """Shorten a text so that it fits into a message."""
    return text if len(text) <= 60 else f"{text[:59]}…"


def _list(resource: Resource) -> ResponseReturnValue:
    """Show the list of a resource."""
    return LISTS[resource.name](resource, None)


def _create(resource: Resource) -> ResponseReturnValue:
    """Add a row, or show the form again with its errors."""
    form = Form.posted(resource.name, resource.fields, request.form, "id", *resource.hidden)
    body = form.validate(resource.creation, id=form.values.get("id") or None)
    if body is None or not saved(resource, form, body):
        form.values["id"] = str(new_id()) if "id" in form.errors else form.values.get("id", "")
        answer = make_response(LISTS[resource.name](resource, form))
        answer.status_code = 422
        return answer
    say(f"Added “{short(form.values[resource.label])}”.")
    return redirect(next_path() or url_for(resource.endpoint), 303)


def _edit(resource: Resource, row_id: UUID) -> ResponseReturnValue:
    """Show the form of one row."""
    with current_parts().manager.session() as session:
        row = of(resource.name, session).get(row_id)
    form = Form.stored(resource.name, resource.fields, row, version=str(row["version"]))
    return edit_page(resource, row_id, form, permanent=_is_permanent(resource, row))


def _update(resource: Resource, row_id: UUID) -> ResponseReturnValue:
    """Change a row, or show the form again with its errors."""
    form = Form.posted(resource.name, resource.fields, request.form, "version", *resource.hidden)
    body = form.validate(resource.change, keep_empty=True)
    if body is not None and changed(resource, row_id, form, sent(body)):
        say(f"Saved “{short(form.values[resource.label])}”.")
        return redirect(next_path() or url_for(resource.endpoint), 303)
    with current_parts().manager.session() as session:
        row = of(resource.name, session).get(row_id)
    return edit_page(resource, row_id, form, permanent=_is_permanent(resource, row)), 422


def _is_permanent(resource: Resource, row: Mapping[str, Any]) -> bool:
    """Tell whether a row cannot be deleted, so that no page offers to."""
    return resource.name == "categories" and fold(row["name"]) == fold(UNCATEGORIZED)


def _delete(resource: Resource, row_id: UUID) -> ResponseReturnValue:
    """Move a row to the bin and offer to undo that; if it must stay, say why."""
    after = next_path() or url_for(resource.endpoint)
    try:
        name, batch = discard(resource, row_id)
    except ConflictError as error:
        if wants_fragment():
            raise
        say(error.message, "bad")
        return redirect(url_for(f"{resource.endpoint}_edit", row_id=row_id), 303)
    say(f"Deleted “{short(name)}”.", undo=undo_url(batch, after))
    return fragment("rows/gone.html") if wants_fragment() else redirect(after, 303)


def _name_category(session: Session, form: Form) -> None:
    """Fill in the name of the row's category, if categories are typed."""
    chosen = form.values.get("category_id")
    if form.categories.more and chosen and TYPED_CATEGORY.name not in form.values:
        found = of("categories", session).page(sort="name", ids=[chosen], limit=1).rows
        form.values[TYPED_CATEGORY.name] = found[0]["name"] if found else ""


def _add_routes(resource: Resource) -> None:
    """Add the routes of a resource: /tasks, /tasks/<id>, /tasks/<id>/delete."""
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
