"""Writers that never pause: whoever suspends a database gets through all the same, and soon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from tenancy.backends.sqlite.driver import changes
from tenancy.errors import TenancyError
from tenancy.models import State
from tests.support import engines
from tests.support.applications import PATIENCE_S, add_tenants, forked, tenant_of
from tests.support.products import _on

WRITERS = 4
HELD_S = 0.3
"""So long a writer keeps its transaction open where no other one begins meanwhile."""

WRITE = sa.text("UPDATE tasks SET title = title")


@pytest.fixture(params=["sqlite", "postgresql", "mysql", "sqlserver"])
def parts(request, make_parts):
    yield from _on(engines.use(request, request.param), make_parts)


class Relay:
    """Let writers take turns without a gap: each ends its transaction only once the next one has begun its own."""

    def __init__(self, write: Callable[[Callable[[], None]], None]) -> None:
        self._write = write
        self._begun = [threading.Event() for _ in range(WRITERS)]
        self._any = threading.Event()
        self._done = threading.Event()
        self.ended = 0
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(WRITERS)]

    def __enter__(self) -> Relay:
        for thread in self._threads:
            thread.start()
        assert self._any.wait(PATIENCE_S), "the writers never came to write"
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, number: int) -> None:
        following = self._begun[(number + 1) % WRITERS]

        def hold() -> None:
            self._begun[number].set()
            self._any.set()
            following.wait(HELD_S)
            following.clear()

        while not self._done.is_set():
            try:
                self._write(hold)
                self.ended += 1
            except TenancyError:
                self._done.wait(0.01)


def by_session(parts, user_id: int) -> Callable[[Callable[[], None]], None]:
    def write(hold: Callable[[], None]) -> None:
        with parts.manager.session(user_id, write=True) as session:
            session.execute(sa.text("SELECT 1"))
            hold()

    return write


def by_engine(parts, user_id: int) -> Callable[[Callable[[], None]], None]:
    """Write as other programs do that keep an engine: the catalog is not asked again."""
    engine = parts.manager.engine_for(user_id)

    def write(hold: Callable[[], None]) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            hold()

    return write


@pytest.mark.parametrize("way", [by_session, by_engine])
def test_a_suspension_gets_through(parts, way):
    (user_id,) = add_tenants(parts, 1)
    with Relay(way(parts, user_id)) as writers:
        parts.manager.suspend(user_id)
        before = writers.ended
    assert tenant_of(parts.manager, user_id).state is State.SUSPENDED
    assert writers.ended - before <= WRITERS, "somebody wrote after the suspension"
    parts.manager.resume(user_id)


def test_a_forked_process_does_not_wait_for_a_change_of_its_parent():
    with ExitStack() as change:
        change.enter_context(changes.first("a.db"))

        def waits() -> tuple[float, float]:
            inside = changes.let_go_first("a.db", 1)
            change.close()
            return inside, changes.let_go_first("a.db", 1)

        assert forked(waits).result() == (1, 1)


def test_a_writer_waits_for_changes_of_its_own_file_alone_and_no_longer_than_it_may():
    with changes.first("a.db"):
        assert changes.let_go_first("another.db", 0.01) == 0.01
        assert changes.let_go_first("a.db", 0.01) == 0
    assert changes.let_go_first("a.db", 0.01) == 0.01
