"""Record what makes a schema, and replay it: the quickest way where a product cannot copy a database.

A schema is built once in a process by its migrations, in the first database that needs it; the statements that
changed something are kept and sent again to the next ones, without Alembic and without looking at what is there.
A product that can say what stands there in the end says it more shortly (``told``).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from tenancy.backends.base import Blueprint

Statement = tuple[str, Any]
"""One statement as the driver got it, and its values."""

_CHANGES = re.compile(r"\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)


class Recordings:
    """Keep what makes the schema of each fingerprint on each server, whose words for it may be its product's alone.

    Threads that need a new one at once make it one by one.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, str], list[Statement]] = {}
        self._lock = threading.Lock()

    def furnish(
        self,
        blueprint: Blueprint,
        connected: Callable[[], Any],
        replay: Callable[[list[Statement]], None],
        *,
        server: object,
        told: Callable[[sa.Connection], list[Statement] | None] = lambda connection: None,
    ) -> None:
        """Replay a schema, or build it on a connection of ``connected()`` and remember how.

        ``told`` may give statements that make what was built; with None those are kept that built it.
        """
        with self._lock:
            key = (server, blueprint.fingerprint)
            known = self._kept.get(key)
            if known is None:
                with connected() as connection, _recorded(connection) as statements:
                    blueprint.build(connection)
                    self._kept[key] = told(connection) or statements
                return
        replay(known)


@contextmanager
def _recorded(connection: sa.Connection) -> Iterator[list[Statement]]:
    """Gather what a connection changes."""
    statements: list[Statement] = []

    def keep(_: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if _CHANGES.match(statement):
            statements.extend((statement, each) for each in (values if many else [values]))

    event.listen(connection, "after_cursor_execute", keep)
    try:
        yield statements
    finally:
        event.remove(connection, "after_cursor_execute", keep)
