"""Show the start page: overdue, due and upcoming tasks, the next events, pinned notes, and a line that adds a task.

It takes five SQL statements whatever the amount of data: overdue, due and upcoming tasks, events, notes.
"""

from __future__ import annotations

from datetime import date
from functools import partial
from itertools import groupby
from typing import Any

import orjson
from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from tenancy.types import new_id
from web import schemas
from web.auth.guards import page_login_required
from web.auth.sessions import current_principal
from web.display import clock, preferences
from web.display.template_filters import day, weekday
from web.pages.common import rows as row_pages
from web.pages.common.flash import say
from web.pages.common.forms import Field, Form, explain
from web.pages.common.htmx import fragment, wants_fragment
from web.pages.common.resources import PRIORITIES
from web.pages.tasks import page, quick_add
from web.parts import current_parts

PANEL = 8
LINE_MAX = 500
LINE = (Field("text", "Quick add", required=True, max_length=LINE_MAX),)
SPANS = ("Overdue", "Today", "Upcoming")


@row_pages.blueprint.get("/", endpoint="home")
def home() -> ResponseReturnValue:
    """Show visitors the welcome page, and users their day."""
    if current_principal() is None:
        return render_template("welcome.html")
    return _dashboard()


@page_login_required
def _dashboard() -> ResponseReturnValue:
    now = clock.now()
    with current_parts().manager.session() as session:
        agenda = row_pages.of("tasks", session).agenda(now.date(), limit=PANEL)
        events = row_pages.of("events", session).upcoming(now, today=now.date(), limit=PANEL)
        notes = row_pages.of("notes", session).page(sort="recent", limit=PANEL, pinned=True).rows
    return render_template(
        "dashboard.html",
        spans={span: list(rows) for span, rows in groupby(agenda, partial(_span, now.date()))},
        events=events,
        notes=notes,
        most=PANEL,
        zone=clock.zone().key,
        quick_id=str(new_id()),
        here=url_for("pages.home"),
        **page.row_context(url_for("pages.home")),
    )


def _span(today: date, row: dict[str, Any]) -> str:
    due = row["due_date"]
    return SPANS[0 if due < today else 1 if due == today else 2]


@row_pages.blueprint.get("/quick-add", endpoint="quick_add_preview")
@page_login_required
def preview() -> ResponseReturnValue:
    """Preview how a line is understood; without scripts, show the line with its button."""
    text = request.args.get("text", "")[:LINE_MAX]
    if not wants_fragment():
        return _line(Form("quick", LINE, {"text": text, "id": str(new_id())}))
    form = Form("quick", LINE, {"text": text})
    _, found = _read(form)
    understood = any(piece.kind != "text" for piece in found.pieces)
    said = [("title", found.title)] * bool(found.title) + _said(found) if understood else []
    wrong = form.errors.values() if text.strip() else ()
    return fragment("tasks/understood.html", said=said, notes=[*wrong, *found.notes])


@row_pages.blueprint.post("/quick-add", endpoint="quick_add")
@page_login_required
def add() -> ResponseReturnValue:
    """Add the task that a line describes, and show how the line was understood."""
    form = Form.posted("quick", LINE, request.form, "id")
    body, found = _read(form)
    if body is None or not row_pages.refusing(form, partial(_write, body, found)):
        form.values["id"] = str(new_id())
        return _line(form), 422
    return redirect(row_pages.next_path() or url_for("pages.home"), 303)


def _read(form: Form) -> tuple[schemas.TaskPageCreate | None, quick_add.Parsed]:
    """Parse the line; what is wrong with it becomes an error of the form."""
    text = form.values.get("text", "")
    found = _parsed(text if len(text) <= LINE_MAX else "")
    title = found.title if len(text) <= LINE_MAX else text
    document: dict[str, Any] = {"id": form.values.get("id") or None, "title": title, "priority": found.priority or 0}
    document |= {"due_date": found.due_date, "due_time": found.due_time}
    if found.pieces and not title:
        form.refuse("text", "What needs to be done? There is only a day, a time, a category or a priority here.")
        return None, found
    if len(title) > schemas.TITLE_MAX:
        form.refuse(
            "text",
            f"The title is too long: it has {len(title)} characters, and at most {schemas.TITLE_MAX} are allowed.",
        )
        return None, found
    try:
        return schemas.read_json(schemas.TaskPageCreate, orjson.dumps(document)), found
    except schemas.FieldErrors as error:
        form.refuse("text", explain(error.errors[0]))
        return None, found


def _write(body: schemas.TaskPageCreate, found: quick_add.Parsed, session: Session) -> None:
    """Insert the task, and its category if that is new; then say so."""
    values, said = schemas.sent(body), [text for _, text in _said(found)]
    if found.category:
        categories = row_pages.of("categories", session)
        row = categories.by_name(found.category)
        if row is None:
            row = categories.create({"name": found.category})
            said = [f"new category {text}" if text == found.category else text for text in said]
        values["category_id"] = row["id"]
    task = row_pages.create_once(row_pages.of("tasks", session), values)
    undo = url_for("pages.tasks_delete", row_id=task["id"], next=row_pages.next_path())
    told = ", ".join([f"Added “{row_pages.short(task['title'])}”", *said]) + "."
    say(" ".join([told, *found.notes]), undo=undo)


def _said(found: quick_add.Parsed) -> list[tuple[str, str]]:
    """Put what was understood into words: "due Wed 25 Nov 17:00", "Home", "medium priority"."""
    said = []
    if found.due_date:
        at = day(found.due_date).removesuffix(f" {clock.today().year}")
        said.append(("date", f"due {weekday(found.due_date)} {at}{f' {found.due_time}' if found.due_time else ''}"))
    if found.category:
        said.append(("category", found.category))
    if found.priority is not None:
        said.append(("priority", f"{dict(PRIORITIES)[str(found.priority)].lower()} priority"))
    return said


def _parsed(text: str) -> quick_add.Parsed:
    month_first = preferences.current().day_order == "month"
    return quick_add.parse(text, clock.now(), clock.first_weekday(), month_first=month_first)


def _line(form: Form) -> str:
    return render_template("tasks/quick_add.html", form=form, next=row_pages.next_path(url_for("pages.home")))
