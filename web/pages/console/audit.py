"""Show the audit log: filter it, page through it, export it, verify it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from datetime import UTC, date
from functools import partial
from itertools import chain, islice
from typing import Any

import orjson
from flask import Response, url_for
from flask.typing import ResponseReturnValue

from tenancy.errors import AuditBrokenError
from web.auth.guards import admin_required
from web.display import clock
from web.http.errors import Problem
from web.pages.common import paging
from web.pages.console.layout import account, blueprint, key, show, text
from web.parts import current_parts

PAGE = 50
COLUMNS = (
    *("id", "at", "action", "actor_id", "actor_email", "actor", "user_id", "email", "tenant_id", "request_id"),
    "detail",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Entries = Iterator[dict[str, Any]]


@blueprint.get("/audit")
@admin_required
def audit() -> ResponseReturnValue:
    """Show one page of the log, newest first."""
    return _page()


@blueprint.post("/audit/verify")
@admin_required
def verify() -> ResponseReturnValue:
    """Verify the seal of every row and show the result above the log."""
    try:
        seal = current_parts().manager.audit.verify()
        return _page(seal={"ok": True, "rows": seal["rows"], "head": seal["head"]})
    except AuditBrokenError as error:
        return _page(seal={"ok": False, "message": error.message})


@blueprint.get("/audit.csv")
@admin_required
def export_csv() -> ResponseReturnValue:
    """Export the filtered log as CSV for spreadsheets; times are UTC."""
    return _streamed(_csv, "text/csv; charset=utf-8", "audit.csv")


@blueprint.get("/audit.jsonl")
@admin_required
def export_jsonl() -> ResponseReturnValue:
    """Export the filtered log as one JSON document per line; times are UTC."""
    return _streamed(_jsonl, "application/x-ndjson", "audit.jsonl")


def _page(seal: dict[str, Any] | None = None) -> str:
    given, asked = _asked()
    before = key("before") or None
    manager = current_parts().manager
    found = manager.audit.page(**asked, before_id=before, limit=PAGE + 1)
    rows, more = found[:PAGE], len(found) > PAGE
    return show(
        "audit",
        rows=rows,
        given=given,
        seal=seal,
        actions=manager.audit.actions(),
        **paging.links(partial(url_for, "admin.audit", **given), before, before=rows[-1]["id"] if more else None),
    )


def _asked() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the filters as typed, and as arguments of the query; days are in the viewer's time zone."""
    typed = {name: text(name) for name in ("action", "user", "actor", "from", "to")}
    given = {name: value for name, value in typed.items() if value}
    first, last = _day(given.get("from")), _day(given.get("to"))
    asked = {
        "action": given["action"][:64] if "action" in given else None,
        "user_id": account(given.get("user")),
        "actor_id": account(given.get("actor")),
        "since": clock.day_bounds(first)[0] if first else None,
        "until": clock.day_bounds(last)[1] if last else None,
    }
    return given, asked


def _day(typed: str | None) -> date | None:
    try:
        day = date.fromisoformat(typed) if typed else None
        if day is not None:
            clock.day_bounds(day)
        return day
    except (ValueError, OverflowError):
        raise Problem(400, "filter_invalid", "Enter a date such as 2025-12-31.") from None


def _streamed(write: Callable[[Entries], Iterator[bytes]], kind: str, name: str) -> Response:
    """Stream the log; the first row is read before the response begins, so that an early failure is a proper error."""
    entries = current_parts().manager.audit.entries(**_asked()[1])
    first = list(islice(entries, 1))
    answer = Response(write(chain(first, entries)), content_type=kind)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _jsonl(entries: Entries) -> Iterator[bytes]:
    for entry in entries:
        yield orjson.dumps(_shown(entry), option=orjson.OPT_APPEND_NEWLINE)


def _csv(entries: Entries) -> Iterator[bytes]:
    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow(COLUMNS)
    for entry in entries:
        shown = _shown(entry) | {"detail": orjson.dumps(entry["detail"]).decode()}
        writer.writerow([_cell(shown[name]) for name in COLUMNS])
        yield line.getvalue().encode()
        line.seek(0)
        line.truncate()
    yield line.getvalue().encode()


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    at = entry["at"].astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return {name: entry[name] for name in COLUMNS} | {"at": at}


def _cell(value: object) -> str:
    """Return a cell's text; one that a spreadsheet would run as a formula gets a leading apostrophe."""
    plain = "" if value is None else str(value)
    return f"'{plain}" if plain.startswith(FORMULA) else plain
