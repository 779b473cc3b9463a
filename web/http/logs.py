"""Write log lines that say which request, which user and which tenant they belong to, and never a secret.

The three values stand in a note that the request's own context holds (``web/http/wsgi.py`` copies a context for each
call), so a line written anywhere below a request carries them, and no line outside one does.

A calendar's address is its secret. Every record of the process takes it out of its own message, so it does not
matter whose logger wrote the line (gunicorn's and Werkzeug's quote addresses and referrers) or who formats it.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from uuid import UUID

import orjson
from flask import Flask, Response, request

access = logging.getLogger("web.access")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SECRETS = re.compile(
    r"(?<=/calendar/)[^\s?#\"'<>]+|(?<=/calendar%2F)[^\s?#\"'<>]+|(?<=unifycal_)[^\s?#\"'<>/]+|(?<=unify_)[\w-]{43}",
    re.IGNORECASE,
)
HIDDEN = "***"


class Note:
    """Hold what the lines of one request share."""

    __slots__ = ("request_id", "started", "tenant", "user_id")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.started = time.perf_counter()
        self.user_id: int | None = None
        self.tenant: UUID | None = None


_note: ContextVar[Note | None] = ContextVar("unify_request_note", default=None)


def begin(request_id: str) -> None:
    """Open the note of a request, in the context that is its own."""
    _note.set(Note(request_id))


def request_id() -> str:
    """Give the id of the request this runs for; empty outside one."""
    note = _note.get()
    return note.request_id if note else ""


def note_user(user_id: int, tenant: UUID | None) -> None:
    """Say from here on whose request this is."""
    note = _note.get()
    if note:
        note.user_id, note.tenant = user_id, tenant


def elapsed_s() -> float:
    """Give the seconds since the request began."""
    note = _note.get()
    return time.perf_counter() - note.started if note else 0.0


def init_app(app: Flask) -> None:
    """Write one line for each answer."""
    app.after_request(_access_line)


def configure(level: str, form: str) -> None:
    """Send all log lines of the process to standard error, in the form LOG_FORMAT names."""
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
        root.removeHandler(old)
    handler = _Lines()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root.addHandler(handler)
    root.setLevel(level)
    logging.setLogRecordFactory(Record)
    # The development server's own access lines hold query strings, and ours say more.
    logging.getLogger("werkzeug").addFilter(_no_access_line)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def without_secrets(text: str) -> str:
    """Give a text with the secret part of calendar addresses and keys blotted out."""
    return SECRETS.sub(HIDDEN, text)


class Record(logging.LogRecord):
    """Keep secrets out of the message, whoever asks for it."""

    def getMessage(self) -> str:  # noqa: N802 - logging's own name
        return without_secrets(super().getMessage())


class _Lines(logging.Handler):
    """Write lines to what standard error is at that moment; a class of its own, so that the next one replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):
            self.handleError(record)


class TextLines(logging.Formatter):
    """Write a line for people: time, level, whose it is, message."""

    def format(self, record: logging.LogRecord) -> str:
        note = _note.get()
        whose = ""
        if note:
            whose = f" request_id={note.request_id} user_id={note.user_id or '-'} tenant={note.tenant or '-'}"
        text = CONTROL.sub(_escaped, record.getMessage())
        line = f"{_moment(record.created)} {record.levelname} {record.name}{whose} {text}"
        return f"{line}\n{without_secrets(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """Write a line for programs: one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        note = _note.get()
        line: dict[str, object] = {
            "time": _moment(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if note:
            line |= {"request_id": note.request_id, "user_id": note.user_id, "tenant": note.tenant}
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()


def _access_line(response: Response) -> Response:
    """Tell method, path, status and time; the query is left out, for it may hold a cursor or a search."""
    if access.isEnabledFor(logging.INFO):
        text = f"{request.method} {request.path} {response.status_code} {elapsed_s() * 1000:.1f} ms"
        # Made here, the record costs no search for the calling line.
        access.handle(access.makeRecord(access.name, logging.INFO, __file__, 0, text, (), None))
    return response


def _no_access_line(record: logging.LogRecord) -> bool:
    record.msg = COLOURS.sub("", str(record.msg))  # it paints its banner, wherever that is written
    return " - - [" not in record.msg


def _moment(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(found: re.Match[str]) -> str:
    return f"\\x{ord(found.group()):02x}"
