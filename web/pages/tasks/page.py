"""Show the list of tasks with its filters, saved views and order, and change tasks in the list.

``common/rows.py`` adds, edits and deletes single tasks; ``quick_add`` parses a typed line. A list takes three SQL
statements whatever its length: its rows, the categories to choose from, the saved views.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from repositories.errors import NotFoundError
from tenancy.types import new_id
from web import schemas
from web.auth.guards import page_login_required
from web.display import clock
from web.http.addresses import local_path, split
from web.http.errors import Problem
from web.pages.common import paging, rows as row_pages
from web.pages.common.flash import say
from web.pages.common.forms import CATEGORY, Field, Form
from web.pages.common.htmx import fragment, wants_fragment
from web.pages.common.resources import DUE, PRIORITIES, TASKS, TITLE, Resource
from web.pages.tasks import filters, saved_views
from web.pages.tasks.filters import Words
from web.parts import current_parts
from web.schemas import sent

MOVES = {"up": -1, "down": 1}
BULK = (
    Field("priority", "Priority", "select", choices=PRIORITIES, number=True),
    CATEGORY,
    Field("due_date", "Due", "date"),
)
BULK_MOST = 200
_OF_ONE = {"are": "is", "have": "has"}
NAMES = {int(number): name.lower() for number, name in PRIORITIES}
SAID = {"todo": "to do", "doing": "being done", "done": "done"}


def page(resource: Resource, form: Form | None = None) -> ResponseReturnValue:
    """Show one page of the tasks that the URL asks for; a refused form is shown with its errors."""
    return show(filters.words(request.args), add=form)


def show(words: Words, *, chosen: frozenset[str] = frozenset(), **forms: Form | None) -> str:
    """Render the list with its forms ``add``, ``view`` and ``bulk``: those that were refused, otherwise blank ones."""
    with current_parts().manager.session() as session:
        categories = row_pages.category_choices(session)
        found = filters.find(session, words, request.args.get("cursor"))
        saved = saved_views.read(session)
        named = filters.category_name(session, words) if categories.more else ""
    add = forms.get("add") or row_pages.blank(TASKS)
    bulk = forms.get("bulk") or Form.blank("bulk", BULK)
    add.categories = bulk.categories = categories
    addressed = partial(url_for, "pages.tasks", **dict[str, Any](words))
    here = addressed()
    return render_template(
        "tasks/list.html",
        add=add,
        bulk=bulk,
        view=forms.get("view") or Form.blank("view", saved_views.FIELDS),
        opened=forms.get("add") is not None,
        found=found,
        words=words,
        category_name=named,
        offers=filters.OFFERS,
        tabs=_tabs(words, saved),
        chosen=chosen,
        here=here,
        quick_id=str(new_id()),
        **paging.links(addressed, request.args.get("cursor"), cursor=found.cursor),
        **row_context(here),
    )


def row_context(here: str) -> dict[str, Any]:
    """Return what the template of a task row needs; after editing, the user returns to ``here``."""
    now, back = clock.now(), here if here != url_for("pages.tasks") else None
    return {"back": back, "today": now.date(), "now": f"{now:%H:%M}", "priorities": NAMES}


@row_pages.blueprint.post("/tasks/<uuid:row_id>/done", endpoint="tasks_done")
@page_login_required
def done(row_id: UUID) -> ResponseReturnValue:
    """Mark a task as done or to do; the button says which, so that pressing it twice changes nothing more."""
    status = "todo" if request.form.get("done") == "0" else "done"
    with current_parts().manager.session(write=True) as session:
        row = row_pages.of("tasks", session).update(row_id, {"status": status})
    say(f"“{row_pages.short(row['title'])}” is {SAID[status]}.")
    return _row(row_id, focus="done") if wants_fragment() else redirect(_back(), 303)


@row_pages.blueprint.get("/tasks/<uuid:row_id>/row", endpoint="tasks_row")
@page_login_required
def row(row_id: UUID) -> ResponseReturnValue:
    """Show a task as in the list again, after its inline form was cancelled."""
    return _row(row_id, focus="edit") if wants_fragment() else redirect(url_for("pages.tasks_edit", row_id=row_id), 303)


@row_pages.blueprint.get("/tasks/<uuid:row_id>/inline", endpoint="tasks_inline")
@page_login_required
def inline(row_id: UUID) -> ResponseReturnValue:
    """Show the inline form in place of the task; without scripts, redirect to the task's page."""
    if not wants_fragment():
        return redirect(url_for("pages.tasks_edit", row_id=row_id), 303)
    with current_parts().manager.session() as session:
        task = row_pages.of("tasks", session).get(row_id)
    form = Form.stored(f"inline-{row_id}", (TITLE, *DUE), task, version=str(task["version"]))
    return fragment("tasks/inline.html", form=form, row_id=row_id)


@row_pages.blueprint.post("/tasks/<uuid:row_id>/inline", endpoint="tasks_inline_save")
@page_login_required
def save_inline(row_id: UUID) -> ResponseReturnValue:
    """Change title and due time of a task in its list."""
    form = Form.posted(f"inline-{row_id}", (TITLE, *DUE), request.form, "version")
    body = form.validate(schemas.TaskDue, keep_empty=True)
    if body is not None and row_pages.changed(TASKS, row_id, form, sent(body)):
        say(f"Saved “{row_pages.short(form.values['title'])}”.")
        return _row(row_id, focus="edit") if wants_fragment() else redirect(_back(), 303)
    with current_parts().manager.session() as session:
        row_pages.of("tasks", session).get(row_id)
    answer = fragment if wants_fragment() else _whole
    return answer("tasks/inline.html", status=422, form=form, row_id=row_id)


@row_pages.blueprint.post("/tasks/<uuid:row_id>/move", endpoint="tasks_move")
@page_login_required
def move(row_id: UUID) -> ResponseReturnValue:
    """Move a task one place up or down in the list shown, or next to the task it was dropped at."""
    step = request.form.get("step", "")
    beside = {name: request.form[name] for name in ("before", "after") if request.form.get(name)}
    with current_parts().manager.session(write=True) as session:
        repository = row_pages.of("tasks", session)
        title = repository.get(row_id)["title"]
        if beside:
            _move_beside(repository, row_id, beside)
        elif step in MOVES:
            asked = filters.filters(session, filters.words_of(_back()))
            repository.move_by(row_id, MOVES[step], **asked)
    if beside or step in MOVES:
        say(f"Moved “{row_pages.short(title)}”{'' if beside else f' {step}'}.")
    return redirect(_back(), 303)


def _move_beside(repository: Any, row_id: UUID, beside: Mapping[str, str]) -> None:
    """Put an existing task before or after another one; if the other does not exist, move nothing."""
    keys = {name: _id(text) for name, text in beside.items()}
    try:
        if None in keys.values():
            raise NotFoundError("There is no such task.")
        repository.move(row_id, **keys)
    except NotFoundError:
        told = "The task at that position is gone: reload the page, then move yours."
        raise Problem(422, "no_neighbour", told) from None


@row_pages.blueprint.post("/tasks/bulk", endpoint="tasks_bulk")
@page_login_required
def bulk() -> ResponseReturnValue:
    """Change or delete all selected tasks."""
    form = Form.posted("bulk", BULK, request.form)
    ids = [each for each in map(_id, request.form.getlist("ids")) if each]
    if not 0 < len(ids) <= BULK_MOST:
        say("Select tasks first." if not ids else f"At most {BULK_MOST} tasks can be changed at once.", "warn")
        return redirect(_back(), 303)
    if _bulk_done(request.form.get("action", ""), ids, form):
        return redirect(_back(), 303)
    return show(filters.words_of(_back()), chosen=frozenset(map(str, ids)), bulk=form), 422


def _bulk_done(action: str, ids: list[UUID], form: Form) -> bool:
    """Apply the chosen action to the tasks and report their number; return False if the form is wrong."""
    if action == "delete":
        with current_parts().manager.session(write=True) as session:
            batch, count = row_pages.of("tasks", session).discard_where(ids=ids)
        say(f"Deleted {_tasks(count)}.", undo=row_pages.undo_url(batch, _back()))
        return True
    if action in SAID:
        return _bulk_changed({"status": action}, ids, f"are {SAID[action]}")
    body = form.validate(schemas.TaskBulk)
    if body is None:
        return False
    if action == "priority":
        return _bulk_changed({"priority": body.priority or 0}, ids, "have a new priority")
    if action == "due_date":
        return _bulk_changed({"due_date": body.due_date}, ids, "have a new date")
    if action == "category":
        return row_pages.refusing(form, partial(_recategorized, body.category_id, ids, form))
    say("Nothing has been changed yet: press the button next to your choice.", "warn")
    return False


def _recategorized(category_id: UUID | None, ids: list[UUID], form: Form, session: Session) -> None:
    changes = {"category_id": category_id} | row_pages.typed_category(session, form)
    count = row_pages.of("tasks", session).update_where(changes, ids=ids)
    say(f"{_tasks(count)} moved to another category.")


def _bulk_changed(changes: Mapping[str, object], ids: list[UUID], said: str) -> bool:
    with current_parts().manager.session(write=True) as session:
        count = row_pages.of("tasks", session).update_where(changes, ids=ids)
    verb, rest = said.split(" ", 1)
    say(f"{_tasks(count)} {_OF_ONE[verb] if count == 1 else verb} {rest}.")
    return True


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


@row_pages.blueprint.post("/tasks/views", endpoint="tasks_views")
@page_login_required
def save_view() -> ResponseReturnValue:
    """Save the list's filters and order under a name."""
    words, form = filters.words(request.form), Form.posted("view", saved_views.FIELDS, request.form)
    if form.validate(schemas.ViewName) is None or not row_pages.refusing(form, partial(saved_views.add, form, words)):
        return show(words, view=form), 422
    say(f"Saved the view “{row_pages.short(form.values['name'])}”.")
    return redirect(url_for("pages.tasks", **dict[str, Any](words)), 303)


@row_pages.blueprint.post("/tasks/views/remove", endpoint="tasks_views_remove")
@page_login_required
def remove_view() -> ResponseReturnValue:
    """Delete a saved view; its tasks stay."""
    name = request.form.get("name", "")
    with current_parts().manager.session(write=True) as session:
        if saved_views.remove(session, name):
            say(f"Removed the view “{row_pages.short(name)}”.")
    return redirect(_back(), 303)


@row_pages.blueprint.get("/tasks/categories", endpoint="tasks_categories")
@page_login_required
def category_names() -> ResponseReturnValue:
    """Suggest categories for what is typed, when there are too many to choose from."""
    typed = request.args.get("category", "").strip()[: schemas.NAME_MAX]
    with current_parts().manager.session() as session:
        rows = row_pages.of("categories", session).page(sort="name", text=typed or None, limit=50).rows
    return fragment("tasks/categories.html", names=[each["name"] for each in rows])


def _row(row_id: UUID, *, focus: str) -> ResponseReturnValue:
    """Render one task of the list, with the focus where it was."""
    with current_parts().manager.session() as session:
        rows = row_pages.of("tasks", session).page(sort="manual", ids=[row_id], limit=1).rows
    if not rows:
        raise NotFoundError("There is no such task.")
    shown = _back()
    listed = urlsplit(shown).path == url_for("pages.tasks")
    movable = listed and "sort" not in filters.words_of(shown)
    context = {"row": rows[0], "focus": focus, "choosable": listed, "movable": movable, **row_context(shown)}
    return fragment("tasks/row.html", **context)


def _whole(template: str, *, status: int, **context: Any) -> ResponseReturnValue:
    """Render the inline form on a page of its own, for browsers without scripts."""
    return render_template("tasks/alone.html", part=template, **context), status


def _back() -> str:
    """Return the URL of the page a form is on, from its ``next`` field or from htmx's header."""
    shown = split(request.headers.get("HX-Current-URL", ""))
    current = local_path(f"{shown.path}?{shown.query}" if shown.query else shown.path)
    return row_pages.next_path() or current or url_for("pages.tasks")


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _tabs(words: Words, saved: list[saved_views.View]) -> list[dict[str, Any]]:
    """Return the tabs: three that everybody has, and the saved views."""
    fixed = [("Open", {}), ("Today", {"due": "today"}), ("All", {"status": "any"})]
    kept = [(view.name, view.words) for view in saved]
    return [
        {"name": name, "url": url_for("pages.tasks", **dict[str, Any](asked)), "here": asked == words, "own": own}
        for own, group in ((False, fixed), (True, kept))
        for name, asked in group
    ]


row_pages.LISTS["tasks"] = page
