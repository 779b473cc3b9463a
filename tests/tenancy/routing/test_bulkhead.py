"""Threads of a process: one user's database that hangs holds its share of them and no more."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress

import pytest
import sqlalchemy as sa

from tenancy import deadline
from tenancy.backends.base import DatabaseFields
from tenancy.errors import HostNotAllowedError, TenantCrowdedError
from tenancy.routing import bulkhead
from tenancy.routing.bulkhead import Bulkhead
from tests.support.applications import add_tenants, add_users, forked, together

WAIT_S = 30.0


@contextmanager
def held(place: Callable[[], AbstractContextManager[None]], threads: int = 1) -> Iterator[None]:
    """Have threads hold places while the block runs."""
    there, done = threading.Barrier(threads + 1), threading.Event()

    def hold() -> None:
        with place():
            there.wait(WAIT_S)
            done.wait(WAIT_S)

    holders = [threading.Thread(target=hold) for _ in range(threads)]
    for holder in holders:
        holder.start()
    there.wait(WAIT_S)
    try:
        yield
    finally:
        done.set()
        for holder in holders:
            holder.join()


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Let every place that is held count as one that hangs."""
    monkeypatch.setattr(bulkhead, "PATIENCE_S", 0.0)
    monkeypatch.setattr(bulkhead, "STALL_S", 0.0)


def test_who_holds_their_share_is_refused_and_others_are_not(impatient):
    places = Bulkhead()
    places.share(5)
    with held(lambda: places.place(1), threads=2):
        with pytest.raises(TenantCrowdedError) as refused, places.place(1):
            pytest.fail("a third thread was let in")
        with places.place(2):
            pass
    assert (refused.value.fields["user_id"], refused.value.fields["retry_after_s"]) == (1, bulkhead.AGAIN_S)
    assert places.refused == 1
    with places.place(1):
        pass


def test_every_process_leaves_a_user_one_thread():
    places = Bulkhead()
    places.share(1)
    with places.place(1), places.place(1):
        pass


def test_units_of_work_inside_each_other_hold_one_place(impatient):
    places = Bulkhead(1)
    with places.place(1), places.place(1):
        pass
    with held(lambda: places.place(1)), pytest.raises(TenantCrowdedError), places.place(1):
        pytest.fail("the inner one gave the outer one's place back")


def test_however_many_databases_hang_the_next_user_finds_a_thread(impatient):
    places = Bulkhead(8)
    with ExitStack() as hanging:
        for owner, most in ((1, 4), (2, 2), (3, 1)):
            hanging.enter_context(held(lambda owner=owner: places.place(owner), threads=most))
            with pytest.raises(TenantCrowdedError), places.place(owner):
                pytest.fail(f"user {owner} was let in once more")
        with places.place(4):
            pass


def test_those_whose_databases_were_seen_to_hang_leave_half_of_all_threads(monkeypatch):
    monkeypatch.setattr(bulkhead, "HANGS_S", 0.0)
    places = Bulkhead(4)
    for owner in (1, 2, 3):
        with held(lambda owner=owner: places.place(owner)):
            pass
    with held(lambda: places.place(1)), held(lambda: places.place(2)):
        with pytest.raises(TenantCrowdedError), places.place(3):
            pytest.fail("a third one was let in")
        with places.place(4):
            pass


def test_a_burst_to_a_database_that_answers_waits_its_turn(monkeypatch):
    monkeypatch.setattr(bulkhead, "PATIENCE_S", WAIT_S)
    places, here, most = Bulkhead(4), [], []

    def work() -> None:
        with places.place(1):
            here.append(1)
            most.append(len(here))
            here.pop()

    assert together([work] * 16) == [None] * 16
    assert (len(most), max(most) <= 2, places.refused) == (16, True, 0)


def test_a_quarter_of_the_threads_outlasts_a_pause_of_the_server(monkeypatch):
    monkeypatch.setattr(bulkhead, "PATIENCE_S", 0.0)
    monkeypatch.setattr(bulkhead, "STALL_S", WAIT_S)
    places, served = Bulkhead(8), []

    def wait() -> None:
        with places.place(1):
            served.append(1)

    with held(lambda: places.place(1), threads=4):
        patient = [threading.Thread(target=wait) for _ in range(2)]
        for each in patient:
            each.start()
        while places._waiting[1] < len(patient):
            assert all(each.is_alive() for each in patient)
        with pytest.raises(TenantCrowdedError), places.place(1):
            pytest.fail("a third one waited too, and the others have no thread left")
    for each in patient:
        each.join(WAIT_S)
    assert (served, places.refused) == ([1, 1], 1)


def test_nobody_waits_behind_a_database_that_hung_until_it_answers_again(monkeypatch):
    places = Bulkhead(1)
    monkeypatch.setattr(bulkhead, "HANGS_S", 0.0)
    with held(lambda: places.place(1)):
        pass
    monkeypatch.setattr(bulkhead, "HANGS_S", WAIT_S)
    monkeypatch.setattr(bulkhead, "PATIENCE_S", WAIT_S)
    with held(lambda: places.place(1)), pytest.raises(TenantCrowdedError), places.place(1):
        pytest.fail("it was let in")
    with held(lambda: places.place(1)):
        waiting = threading.Thread(target=lambda: places.place(1).__enter__())
        waiting.start()
    waiting.join(WAIT_S)
    assert places.refused == 1


def test_a_database_that_hangs_leaves_the_others_their_threads(parts, impatient):
    """Somebody else holds the write lock of one user's file: two writers hang, the third is refused at once."""
    stuck, free = add_tenants(parts, 2)
    manager = parts.manager
    manager.share_threads(4)
    path = parts.settings.tenant_data_dir / f"user_{stuck}.db"

    def write(user_id: int) -> object:
        with manager.session(user_id, write=True) as session:
            return session.execute(sa.text("SELECT 1")).scalar()

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writers = [threading.Thread(target=write, args=(stuck,)) for _ in range(2)]
        for writer in writers:
            writer.start()
        ends = time.monotonic() + WAIT_S
        while len(manager.router.bulkhead._held.get(stuck, ())) < 2:
            assert time.monotonic() < ends
        with pytest.raises(TenantCrowdedError):
            write(stuck)
        assert write(free) == 1
        other.execute("ROLLBACK")
        for writer in writers:
            writer.join()
    assert write(stuck) == 1
    assert manager.router.bulkhead.refused == 1


def test_a_server_that_a_user_names_holds_no_more_threads_than_a_database(make_parts, impatient):
    manager = make_parts(allow_user_databases="true").manager
    manager.share_threads(4)
    crowded, free = add_users(manager, 2)
    named = DatabaseFields("postgresql", "127.0.0.1", 1, "mine", "me", "secret")
    with held(lambda: manager.router.bulkhead.place(crowded), threads=2):
        for ask in (manager.own_databases.probe, manager.own_databases.connect):
            with pytest.raises(TenantCrowdedError):
                ask(crowded, named)
            with suppress(HostNotAllowedError):
                ask(free, named)


def test_a_lock_is_waited_for_until_the_deadline_of_whoever_asks(parts):
    (user_id,) = add_tenants(parts, 1)

    def waits_ms() -> object:
        with parts.manager.session(user_id) as session:
            return session.execute(sa.text("PRAGMA busy_timeout")).scalar()

    before = waits_ms()
    with deadline.within(0):
        late = waits_ms()
    assert (before, late, waits_ms()) == (4000, round(deadline.LEAST_S * 1000), 4000)


def test_a_child_that_was_forked_within_a_place_leaves_it_without_an_error():
    threads = Bulkhead(8)
    with ExitStack() as places:
        places.enter_context(threads.place(1))

        def leave() -> int:
            places.close()
            with threads.place(1):
                return threads.refused

        assert forked(leave).result() == 0
