"""Sightings: gathered in memory on the request, written once, later, off it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import Catalog, api_keys, sessions, tenants, users
from tenancy.catalog.tables import login_failures, sessions as session_rows
from tenancy.errors import CatalogNotReadyError
from tenancy.models import Principal
from tenancy.monitoring import activity as activity_room
from tenancy.monitoring.activity import Activity
from tenancy.types import new_id
from tests.support.applications import add_users
from tests.tenancy.conftest import AUDIT_KEY


@pytest.fixture
def sent(catalog):
    """Gather every statement that changes the catalog."""
    gathered = []

    def note(connection, cursor, statement, *_):
        if not statement.lstrip().upper().startswith("SELECT"):
            gathered.append(statement.split()[1 if statement.startswith("UPDATE") else 2])

    sa.event.listen(catalog.engine, "before_cursor_execute", note)
    yield gathered
    sa.event.remove(catalog.engine, "before_cursor_execute", note)


@pytest.fixture
def activity(catalog):
    made = Activity(catalog, lambda: None)
    yield made
    made.close()


@pytest.fixture
def principals(catalog, ada):
    """Give the same person as seen by session and by key, and what is kept of both."""
    token = sessions.new_token()
    with catalog.writing() as connection:
        tenants.add(connection, ada.id, {"tenant_id": new_id(), "db_type": "sqlite"})
        sessions.add(connection, ada.id, token, datetime.now(UTC) + timedelta(hours=1), {})
        _, key = api_keys.add(connection, ada.id, "", False, None)
    return [sessions.principal_by_token(catalog, token), sessions.principal_by_key(catalog, key)]


def last_seen(catalog, ada):
    """Give when the person, their tenant, session and key were last seen."""
    with catalog.reading() as connection:
        return (
            users.get(connection, ada.id).last_seen_at,
            tenants.get(connection, ada.id).last_used_at,
            sessions.of_user(connection, ada.id)[0]["last_seen_at"],
            api_keys.of_user(connection, ada.id)[0]["last_used_at"],
        )


def test_a_request_writes_nothing(catalog, ada, activity, principals, sent):
    before = last_seen(catalog, ada)
    for _ in range(100):
        for principal in principals:
            activity.seen(principal)
    assert sent == []
    assert last_seen(catalog, ada) == before


def test_what_was_gathered_is_written_once(catalog, ada, activity, principals, sent):
    started = datetime.now(UTC)
    for _ in range(100):
        for principal in principals:
            activity.seen(principal)
    activity.flush()
    assert sorted(set(sent)) == [
        "api_keys",
        "login_failures",
        "sessions",
        "shared_database",
        "user_database_configs",
        "users",
    ]
    assert sent.count("users") == sent.count("user_database_configs") == sent.count("api_keys") == 1
    written = last_seen(catalog, ada)
    assert all(started <= moment <= datetime.now(UTC) for moment in written)
    sent.clear()
    activity.flush()
    assert sent == []
    assert last_seen(catalog, ada) == written


def test_somebody_without_a_database_is_seen_too(catalog, ada, activity):
    activity.seen(Principal(ada, None))
    activity.flush()
    with catalog.reading() as connection:
        assert users.get(connection, ada.id).last_seen_at is not None


def test_what_has_expired_is_cleared_away_with_it(catalog, ada, activity, principals):
    past = datetime.now(UTC) - timedelta(hours=1)
    with catalog.writing() as connection:
        sessions.add(connection, ada.id, "expired", past, {})
        connection.execute(login_failures.insert(), {"scope": "x", "failures": 1, "window_ends_at": past})
    activity.seen(principals[0])
    activity.flush()
    with catalog.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(session_rows)) == 1
        assert connection.execute(sa.select(login_failures)).all() == []


def test_closing_writes_what_is_left(catalog, ada, principals):
    closing = Activity(catalog, lambda: None)
    closing.seen(principals[0])
    closing.close()
    assert last_seen(catalog, ada)[0] is not None


def test_a_catalog_that_takes_no_writes_does_not_stop_the_closing(parts, monkeypatch, caplog):
    closed = []

    def full() -> None:
        raise CatalogNotReadyError("the catalog cannot be used: the disk is full.")

    monkeypatch.setattr(parts.activity, "flush", full)
    monkeypatch.setattr(parts.manager, "close", lambda: closed.append("the manager"))
    parts.close()
    assert closed == ["the manager"]
    assert "could not be written at the end: the catalog cannot be used: the disk is full." in caplog.text


def test_threads_may_be_seen_while_it_is_written(catalog, ada, activity, principals):
    stop = threading.Event()
    errors = []

    def keep_seeing():
        try:
            while not stop.is_set():
                for principal in principals:
                    activity.seen(principal)
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=keep_seeing) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        activity.flush()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_one_thread_does_the_housekeeping(catalog, ada, principals, monkeypatch):
    monkeypatch.setattr(activity_room, "_TICK_S", 0.001)
    monkeypatch.setattr(activity_room, "FLUSH_S", 0.002)
    swept, written = threading.Event(), threading.Event()
    housekeeping = Activity(catalog, swept.set)
    monkeypatch.setattr(housekeeping, "flush", written.set)
    assert not [thread for thread in threading.enumerate() if thread.name == "unify-housekeeping"]
    for _ in range(10):
        housekeeping.seen(principals[0])
    assert len([thread for thread in threading.enumerate() if thread.name == "unify-housekeeping"]) == 1
    assert swept.wait(30)
    assert written.wait(30)
    monkeypatch.undo()
    housekeeping.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "unify-housekeeping"]


def test_a_catalog_that_is_away_for_a_while_does_not_stop_the_housekeeping(ada, catalog, monkeypatch, caplog):
    monkeypatch.setattr(activity_room, "_TICK_S", 0.001)
    monkeypatch.setattr(activity_room, "FLUSH_S", 0.001)
    flushes = threading.Semaphore(0)

    def fail():
        flushes.release()
        raise CatalogNotReadyError("the catalog cannot be reached")

    housekeeping = Activity(Catalog(catalog.engine, AUDIT_KEY), lambda: None)
    monkeypatch.setattr(housekeeping, "flush", fail)
    housekeeping.seen(Principal(ada, None))
    for _ in range(3):
        assert flushes.acquire(timeout=30)
    monkeypatch.undo()
    housekeeping.close()
    assert "sightings could not be written" in caplog.text


@pytest.fixture
def somebody(parts) -> Principal:
    (user_id,) = add_users(parts, 1)
    with parts.catalog.reading() as connection:
        return Principal(users.get(connection, user_id), None)


def housekeepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "unify-housekeeping"]


@pytest.mark.parametrize("failing", ["sweep", "flush"])
def test_whatever_a_round_raises_the_next_one_is_done(somebody, parts, monkeypatch, caplog, failing):
    monkeypatch.setattr(activity_room, "_TICK_S", 0.001)
    monkeypatch.setattr(activity_room, "FLUSH_S", 0.001)
    rounds = threading.Semaphore(0)

    def fail():
        rounds.release()
        raise LookupError("nobody foresaw this")

    housekeeping = Activity(parts.catalog, fail if failing == "sweep" else lambda: None)
    if failing == "flush":
        monkeypatch.setattr(housekeeping, "flush", fail)
    housekeeping.seen(somebody)
    for _ in range(3):
        assert rounds.acquire(timeout=30)
    monkeypatch.undo()
    housekeeping.close()
    assert (housekeeping.failures >= 2, housekeeping.upkeep.restarts) == (True, 0)
    assert "nobody foresaw this" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_is_started_again_by_the_next_request_and_counted(somebody, parts, monkeypatch):
    monkeypatch.setattr(activity_room, "_TICK_S", 0.001)
    ending, swept = [SystemExit, SystemExit], threading.Event()

    def sweep():
        if ending:
            raise ending.pop()
        swept.set()

    housekeeping = Activity(parts.catalog, sweep)
    for _ in range(2):
        housekeeping.seen(somebody)
        for thread in housekeepers():
            thread.join(30)
    housekeeping.seen(somebody)
    assert swept.wait(30)
    assert (len(housekeepers()), housekeeping.upkeep.restarts) == (1, 2)
    housekeeping.close()
    housekeeping.seen(somebody)
    assert housekeepers() == [], "what was closed stays closed"
