"""Say what time it is now, each time anew: a run of the tests may begin on one day and end on the next."""

from __future__ import annotations

from datetime import UTC, date, datetime


def now() -> datetime:
    return datetime.now(UTC)


def today() -> date:
    return now().date()
