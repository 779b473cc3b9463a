"""Give the page tests an application, and visitors that fill in its forms as a browser would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from flask import Flask

import web
from tests.support.browsing import PASSWORD, Visitor

if TYPE_CHECKING:
    from compose import Parts
    from tenancy.models import User


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the fleet runs that pages had worked on; no job is added for them, a test does their work itself."""
    from tenancy.jobs import fleet_kinds

    asked: list[int] = []
    monkeypatch.setattr(fleet_kinds, "start", lambda jobs, run_id: asked.append(run_id))
    return asked


@pytest.fixture
def app(parts: Parts) -> Flask:
    return web.create(parts)


@pytest.fixture
def visit(app: Flask) -> Callable[[], Visitor]:
    """Give a function that opens a new browser."""
    return lambda: Visitor(app)


@pytest.fixture
def ada(visit: Callable[[], Visitor], user: User) -> Visitor:
    """Give a browser in which ``user`` is signed in."""
    return _signed_in(visit(), user.email)


@pytest.fixture
def bob(visit: Callable[[], Visitor], other: User) -> Visitor:
    """Give a browser in which ``other`` is signed in."""
    return _signed_in(visit(), other.email)


@pytest.fixture
def root(visit: Callable[[], Visitor], parts: Parts) -> Visitor:
    """Give a browser in which an administrator is signed in."""
    made = parts.accounts.create("root@example.org", password=PASSWORD, is_admin=True)
    parts.manager.provision(made.id)
    return _signed_in(visit(), made.email)


@pytest.fixture
def statements() -> Iterator[Callable[[], Any]]:
    """Give a context that collects (database, statement) of every query sent inside it.

    To be asked for before the parts: an engine looks for listeners when it is made.
    """
    collected: list[list[tuple[str, str]]] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            # The engines are given open connections and no URL, so SQLite itself is asked for the file.
            file = cursor.connection.execute("PRAGMA database_list").fetchone()[2]
            for sent in collected:
                sent.append((Path(file).name, statement))

    @contextmanager
    def collect() -> Iterator[list[tuple[str, str]]]:
        collected.append([])
        try:
            yield collected[-1]
        finally:
            collected.pop()

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield collect
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def _signed_in(visitor: Visitor, email: str) -> Visitor:
    assert visitor.sign_in(email).status_code == 303
    return visitor
