"""Write log lines that name their request, user and tenant, and never contain a secret.

These three values are in a ``Note`` in the request's context (``web/http/wsgi.py`` copies a context for each call).
Every line logged during a request carries them, and no other line does.

The URL of a calendar link is a secret. The log record class of the process removes it from every message, whichever
logger writes the line (gunicorn and Werkzeug log URLs and referrers) and whatever formats it.
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

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SECRETS = re.compile(
    r"(?<=/calendar/)[^\s?#\"'<>]+|(?<=/calendar%2F)[^\s?#\"'<>]+|(?<=unifycal_)[^\s?#\"'<>/]+|(?<=unify_)[\w-]{43}",
    re.IGNORECASE,
)
HIDDEN = "***"


class Note:
    """What all log lines of one request share."""

    __slots__ = ("request_id", "started", "tenant", "user_id")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.started = time.perf_counter()
        self.user_id: int | None = None
        self.tenant: UUID | None = None


_note: ContextVar[Note | None] = ContextVar("unify_request_note", default=None)


def begin(request_id: str) -> None:
    """Start the note of a request, in the request's own context."""
    _note.set(Note(request_id))


def request_id() -> str:
    """Return the id of the current request; empty outside of one."""
    note = _note.get()
    return note.request_id if note else ""


def note_user(user_id: int, tenant: UUID | None) -> None:
    """Name the user in all further log lines of this request."""
    note = _note.get()
    if note:
        note.user_id, note.tenant = user_id, tenant


def elapsed_s() -> float:
    """Return the seconds since the request began."""
    note = _note.get()
    return time.perf_counter() - note.started if note else 0.0


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
    # The development server's own access lines contain query strings, and ours say more.
    logging.getLogger("werkzeug").addFilter(_no_access_line)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def without_secrets(text: str) -> str:
    """Replace the secret part of calendar URLs and API keys in a text."""
    return SECRETS.sub(HIDDEN, text)


class Record(logging.LogRecord):
    """Remove secrets from the message, whichever formatter asks for it."""

    def getMessage(self) -> str:  # noqa: N802 - logging's own name
        return without_secrets(super().getMessage())


class _Lines(logging.Handler):
    """Write to the present ``sys.stderr``; a class of our own, so that ``configure`` can find and replace it."""

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
            "process": record.process,
        }
        if note:
            line |= {"request_id": note.request_id, "user_id": note.user_id, "tenant": note.tenant}
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()


def _no_access_line(record: logging.LogRecord) -> bool:
    record.msg = COLOURS.sub("", str(record.msg))  # Werkzeug colours its banner even if the output is not a terminal
    return " - - [" not in record.msg


def _moment(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(found: re.Match[str]) -> str:
    return f"\\x{ord(found.group()):02x}"
