"""Export events as iCalendar (RFC 5545): all of them at a secret URL for calendar apps, and single ones as files.

The secret in the URL is an API key with the purpose "calendar", which gives access to nothing else; sessions are
ignored. The response depends only on the events, so its ETag is made from ids and versions, and a program that has the
present version gets 304 before anything is rendered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from icalendar import Calendar, Event

import logs
from repositories.repository_factory import RepositoryFactory
from tenancy.errors import KeyNotFoundError
from tenancy.models import Principal
from web.auth.guards import page_login_required
from web.auth.sessions import signed_in
from web.display import clock
from web.http.errors import NOT_THERE, Problem
from web.pages.common.rows import blueprint as pages
from web.parts import current_parts

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers

blueprint = Blueprint("feed", __name__)

PURPOSE = "calendar"
BACK_DAYS = 90
EVENTS_MOST = 5000
TEXT_MOST = 20_000
REFRESH = timedelta(hours=1)
PROGRAM = "-//Unify//Unify//EN"

_KEY = re.compile(r"unifycal_[\w-]{43}", re.ASCII)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")


class CalendarAnswer(Response):
    """Allow the client to cache the calendar with its ETag; other responses forbid that (``web/http/security.py``)."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        headers = super().get_wsgi_headers(environ)
        headers["Cache-Control"] = "private, no-cache"
        return headers


@blueprint.get("/calendar/<secret>.ics")
def calendar(secret: str) -> ResponseReturnValue:
    """Serve the events to anyone with the URL; an unknown and a revoked URL get the same answer."""
    principal = current_parts().accounts.principal_by_key(secret, purpose=PURPOSE) if _KEY.fullmatch(secret) else None
    if principal is None:
        raise Problem(404, "not_found", NOT_THERE)
    _bind(principal)
    since = datetime.combine(datetime.now(UTC).date(), time(), UTC) - timedelta(days=BACK_DAYS)
    with current_parts().manager.session() as session:
        events = RepositoryFactory.get_repository("events", session, principal.user.id)
        rows = list(islice(events.feed(since), EVENTS_MOST))  # type: ignore[attr-defined]  # the factory gives the base class
    name = f"Unify: {principal.user.display_name or principal.user.email}"
    answer = CalendarAnswer(content_type="text/calendar; charset=utf-8")
    answer.set_etag(_seen(name, rows))
    answer.make_conditional(request)
    if answer.status_code != 304:
        answer.set_data(written(name, rows))
    return answer


@blueprint.after_request
def say_plainly(answer: Response) -> Response:
    """Answer errors with plain text: an HTML error page might contain the URL, which is secret."""
    if request.endpoint == "feed.calendar" and answer.status_code >= 400:
        answer.set_data(f"{answer.status}\n")
        answer.content_type = "text/plain; charset=utf-8"
    return answer


@pages.get("/events/feed", endpoint="events_feed")
@page_login_required
def feed() -> ResponseReturnValue:
    """Show whether there is a link, when it was created and when it was last read."""
    return render_template("events/feed.html", links=_links(), back_days=BACK_DAYS, most=EVENTS_MOST)


@pages.post("/events/feed", endpoint="events_feed_make")
@page_login_required
def make() -> ResponseReturnValue:
    """Create a link, replace the earlier one, and show the new one here: a redirect could not carry a secret."""
    accounts, old = current_parts().accounts, _links()
    _, secret = accounts.issue_key(signed_in().user.id, "Calendar link", read_only=True, purpose=PURPOSE)
    _revoke(old)
    address = url_for("feed.calendar", secret=secret, _external=True)
    return render_template("events/link.html", address=address, replaced=bool(old)), 201


@pages.post("/events/feed/revoke", endpoint="events_feed_revoke")
@page_login_required
def revoke() -> ResponseReturnValue:
    """Revoke the link; its next request is refused."""
    _revoke(_links())
    flash("The calendar link has been revoked: programs that use it get nothing from now on.", "good")
    return redirect(url_for("pages.events_feed"), 303)


@blueprint.get("/events/<uuid:row_id>.ics")
@page_login_required
def one(row_id: UUID) -> ResponseReturnValue:
    """Serve one event as a file for calendar apps."""
    with current_parts().manager.session() as session:
        row = RepositoryFactory.get_repository("events", session, signed_in().user.id).get(row_id)
    if row["starts_at"] is None:
        raise Problem(404, "not_found", NOT_THERE)
    answer = Response(written(None, [row]), content_type="text/calendar; charset=utf-8")
    answer.headers.set("Content-Disposition", "attachment", filename="event.ics")
    return answer


def written(name: str | None, rows: Iterable[dict[str, Any]]) -> bytes:
    """Render events as an iCalendar document; the name is for apps that subscribe."""
    document = Calendar()
    document.add("prodid", PROGRAM)
    document.add("version", "2.0")
    if name is not None:
        document.add("x-wr-calname", _text(name))
        document.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
        document.add("x-published-ttl", "PT1H")
    for row in rows:
        document.add_component(_event(row))
    return document.to_ical()  # type: ignore[no-any-return]  # bytes, which the library does not say


def _event(row: dict[str, Any]) -> Event:
    """Turn a row into a component, which must not depend on the time of the request."""
    event = Event()
    event.add("uid", f"{_text(str(row['id']))}@unify")
    # Without METHOD, this is when the event was last revised (RFC 5545, 3.8.7.2).
    event.add("dtstamp", row["updated_at"])
    event.add("last-modified", row["updated_at"])
    event.add("created", row["created_at"])
    event.add("sequence", row["version"] - 1)
    event.add("summary", _text(row["title"]))
    for name in ("description", "location"):
        if row[name]:
            event.add(name, _text(row[name]))
    if row.get("category_name"):
        event.add("categories", [_text(row["category_name"])])
    _add_times(event, row)
    return event


def _add_times(event: Event, row: dict[str, Any]) -> None:
    """Add the times; for an all-day event dates, the end being the first day after it."""
    starts_at, ends_at = row["starts_at"], row["ends_at"]
    if not row["all_day"]:
        event.add("dtstart", starts_at.astimezone(UTC))
        if ends_at and ends_at.replace(microsecond=0) > starts_at.replace(microsecond=0):
            event.add("dtend", ends_at.astimezone(UTC))
        return
    first, last = (each.astimezone(UTC).date() for each in (starts_at, ends_at or starts_at))
    event.add("dtstart", first)
    if last < date.max:
        event.add("dtend", last + clock.DAY)
    elif first < last:  # there is no day after the last one, and one day is meant where no end is said
        event.add("duration", last - first + clock.DAY)


def _text(text: str) -> str:
    """Clean a text for a content line: LF as line end, no control characters, limited length."""
    kept = _CONTROL.sub("", _LINE_ENDS.sub("\n", text))
    return kept if len(kept) <= TEXT_MOST else f"{kept[: TEXT_MOST - 1]}…"


def _seen(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the ETag of the document made from these rows."""
    parts = [(str(row["id"]), row["version"], row["updated_at"], row["category_name"]) for row in rows]
    return hashlib.sha256(repr((PROGRAM, name, parts)).encode()).hexdigest()[:32]


def _bind(principal: Principal) -> None:
    """Bind the request to the link's owner, as the guards of ``web/auth/guards.py`` do for signed-in users."""
    parts, tenant = current_parts(), principal.tenant
    logs.note_user(principal.user.id, tenant.tenant_id if tenant else None)
    parts.manager.bind(principal, request_id=logs.request_id(), own_database=True)
    parts.accounts.seen(principal)


def _links() -> list[dict[str, Any]]:
    return current_parts().accounts.keys(signed_in().user.id, purpose=PURPOSE)


def _revoke(links: list[dict[str, Any]]) -> None:
    for link in links:
        # Another tab may have revoked it first.
        with suppress(KeyNotFoundError):
            current_parts().accounts.revoke_key(signed_in().user.id, link["id"])
