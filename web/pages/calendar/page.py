"""Show events as a month, a week or a list in the viewer's time zone.

``layout`` places them on days; ``common/rows.py`` adds and changes them. A month or week takes one SQL statement for
the events and one for the categories of a new event. Lists are paged by key: upcoming events soonest first, past events
latest first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display import clock, preferences
from web.display.calendar_names import MONTHS, WEEKDAYS
from web.http import cursors
from web.pages.calendar import event_times, layout
from web.pages.common import paging, rows as row_pages
from web.pages.common.forms import Form
from web.pages.common.resources import Resource
from web.parts import current_parts

PAGE = 50
SHOWN_MOST = 1000
MORNING, HOUR = time(9), timedelta(hours=1)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def page(resource: Resource, form: Form | None = None) -> ResponseReturnValue:
    """Show the events that the URL asks for, and the form that adds one; a refused form is shown with its errors."""
    wanted = _asked("day")
    shown = form or blank(resource, wanted)
    on = _asked("on") or wanted or _day(shown.values.get("starts_at", "")[:10] if form else "") or clock.today()
    view = request.args.get("view", "")
    make = {"week": _week, "list": _list}.get(view, _month)
    with current_parts().manager.session() as session:
        context = make(session, on)
        shown.offer(row_pages.category_choices(session))
    context |= {"form": shown, "opened": bool(form or wanted), "view": make.__name__[1:], "on": on}
    return render_template("events/index.html", **context, **_frame(on))


row_pages.LISTS["events"] = page


@row_pages.blueprint.get("/events/<uuid:row_id>/where", endpoint="events_where")
@page_login_required
def where(row_id: UUID) -> ResponseReturnValue:
    """Redirect to the month of an event."""
    with current_parts().manager.session() as session:
        row = row_pages.of("events", session).get(row_id)
    days = layout.days_of(row, clock.zone())
    return redirect(url_for("pages.events", on=days[0].isoformat() if days else None), 303)


def blank(resource: Resource, day: date | None) -> Form:
    """Return the form of a new one-hour event, at nine on the day asked for or at the next full hour."""
    # In UTC, because one hour later in local time may be a skipped time.
    next_hour = clock.local(datetime.now(UTC) + HOUR).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    start = datetime.combine(day, MORNING) if day else next_hour
    times = {"starts_at": start, "ends_at": start + HOUR}
    typed = {name: value.isoformat(timespec="minutes") for name, value in times.items()}
    return row_pages.blank(resource, **typed)


def _month(session: Session, on: date) -> dict[str, Any]:
    weeks = layout.weeks_of(on, clock.first_weekday())
    rows = _between(session, [day for week in weeks for day in week if day])
    first = on.replace(day=1)
    return {
        "heading": f"{MONTHS[on.month - 1]} {on.year}",
        "weeks": layout.lay_out(weeks, rows, clock.today(), first),
        "weekdays": [WEEKDAYS[(clock.first_weekday() + offset) % 7] for offset in range(7)],
        "rows": rows,
        **_beside("month", layout.next_month(first, -1), layout.next_month(first)),
    }


def _week(session: Session, on: date) -> dict[str, Any]:
    days = layout.week_of(on, clock.first_weekday())
    known = [day for day in days if day]
    rows = _between(session, known)
    ordinal = on.toordinal()
    return {
        "heading": _span(known[0], known[-1]),
        "week": layout.lay_out([days], rows, clock.today(), lanes=len(rows))[0],
        "rows": rows,
        **_beside("week", layout.day_at(ordinal - 7), layout.day_at(ordinal + 7)),
    }


def _span(first: date, last: date) -> str:
    """Format the days of a week, naming a common month and year once."""
    until = f"{last.day} {MONTHS[last.month - 1]} {last.year}"
    if first.year != last.year:
        return f"{first.day} {MONTHS[first.month - 1]} {first.year} to {until}"
    return (
        f"{first.day} {MONTHS[first.month - 1]} to {until}" if first.month != last.month else f"{first.day} to {until}"
    )


def _list(session: Session, on: date) -> dict[str, Any]:
    """Return a page of present and upcoming events, or of past ones."""
    past, query = request.args.get("past") == "1", request.args.get("q", "").strip()[:200]
    category = str(request.args.get("category", type=UUID) or "")
    narrowed: dict[str, Any] = {
        name: value for name, value in (("q", query), ("category", category), ("past", "1" * past)) if value
    }
    rows, cursor = _page(session, narrowed)
    address = partial(url_for, "pages.events", view="list")
    return {
        "heading": "Past events" if past else "Upcoming events",
        "rows": rows,
        "past": past,
        "q": query,
        "category": category,
        "upcoming_url": address(),
        "past_url": address(past=1),
    } | paging.links(partial(address, **narrowed), request.args.get("cursor"), cursor=cursor)


def _page(session: Session, narrowed: Mapping[str, str]) -> tuple[list[dict[str, Any]], str | None]:
    now = clock.now()
    bound: dict[str, Any] = {"user_id": signed_in().user.id, "scope": ("events", sorted(narrowed.items()))}
    cursor = request.args.get("cursor")
    found = row_pages.of("events", session).agenda(
        now,
        today=now.date(),
        past="past" in narrowed,
        limit=PAGE,
        after=cursors.read(cursor, **bound) if cursor else None,
        text=narrowed.get("q"),
        category_id=narrowed.get("category"),
    )
    return found.rows, cursors.write(found.place, **bound) if found.place else None


def _between(session: Session, days: list[date]) -> list[dict[str, Any]]:
    """Return the events on any of these days."""
    start, end = clock.day_bounds(days[0])[0], clock.day_bounds(days[-1])[1]
    rows: list[dict[str, Any]] = row_pages.of("events", session).between(
        start, end, first_day=days[0], last_day=days[-1], limit=SHOWN_MOST
    )
    return rows


def _beside(view: str, before: date | None, after: date | None) -> dict[str, Any]:
    """Return the URLs of the previous, next and present period."""
    address = partial(url_for, "pages.events", view=view)
    return {
        "before": address(on=before.isoformat()) if before else None,
        "after": address(on=after.isoformat()) if after else None,
        "now": address(),
    }


def _frame(on: date) -> dict[str, Any]:
    """Return what all views share."""
    address = partial(url_for, "pages.events")
    return {
        "views": [
            (view, view.capitalize(), address(view=view, on=None if view == "list" else on.isoformat()))
            for view in ("month", "week", "list")
        ],
        "months": MONTHS,
        "zone": event_times.own_zone(),
        "chosen": preferences.current().chosen_zone,
        "new_url": lambda day: address(
            view=request.args.get("view"), on=day.isoformat(), day=day.isoformat(), _anchor="new"
        ),
        "week_url": lambda day: address(view="week", on=day.isoformat(), _anchor=f"day-{day.isoformat()}"),
        "most": SHOWN_MOST,
    }


def _asked(name: str) -> date | None:
    """Return the date in a query parameter; None if it is not a date."""
    return _day(request.args.get(name, ""))


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None
