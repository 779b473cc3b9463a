"""Plain SQL: transactions that begin by themselves, fenced where they write, and one object of old for all of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

from tenancy import DatabaseConnection, install
from tenancy.errors import ConfigurationError, DatabaseMissingError, ReadOnlyRouteError, StaleRouteError, UnfencedError
from tenancy.routing import dbapi
from tenancy.types import new_id
from tests.support.applications import together


@pytest.fixture
def conn(parts, user):
    opened = parts.manager.get_user_connection(user.id)
    yield opened
    opened.close()


def add(conn, user, title="one"):
    return conn.execute("INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", (new_id().hex, user.id, title))


def titles(parts, user):
    return [row[0] for row in parts.manager.fetch_all("SELECT title FROM tasks ORDER BY title", user_id=user.id)]


def leased(parts):
    return parts.manager.engines.stats()["leased"]


def test_what_is_committed_stays(parts, user, conn):
    cursor = add(conn, user)
    assert cursor.rowcount == 1
    assert titles(parts, user) == []
    conn.commit()
    assert titles(parts, user) == ["one"]


def test_what_is_rolled_back_is_gone_and_the_connection_goes_on(parts, user, conn):
    add(conn, user, "lost")
    conn.rollback()
    add(conn, user, "kept")
    conn.commit()
    assert titles(parts, user) == ["kept"]


def test_closing_rolls_back_and_ends_the_lease(parts, user, conn):
    add(conn, user)
    assert leased(parts) == 1
    conn.close()
    conn.close()
    assert leased(parts) == 0
    assert titles(parts, user) == []


def test_a_closed_connection_refuses_work(parts, user, conn):
    cursor = conn.cursor()
    conn.close()
    for work in (lambda: conn.execute("SELECT 1"), lambda: cursor.execute("SELECT 1"), lambda: add(conn, user)):
        with pytest.raises(sa.exc.InvalidRequestError, match="closed"):
            work()
    conn.rollback()
    conn.commit()


def test_a_block_commits_and_one_that_fails_does_not(parts, user):
    with parts.manager.get_user_connection(user.id) as conn:
        add(conn, user, "kept")
    with pytest.raises(ZeroDivisionError), parts.manager.get_user_connection(user.id) as conn:
        add(conn, user, "lost")
        raise ZeroDivisionError
    assert titles(parts, user) == ["kept"]
    assert leased(parts) == 0


def break_at_commit(conn, user):
    """Write what only the commit refuses: a task of a category that is not there."""
    conn.execute("PRAGMA defer_foreign_keys = ON")
    conn.execute(
        "INSERT INTO tasks (id, user_id, title, category_id) VALUES (?, ?, 'lost', ?)",
        (new_id().hex, user.id, new_id().hex),
    )


def test_a_commit_that_fails_keeps_nothing_and_leaves_nothing_locked(parts, user, conn):
    break_at_commit(conn, user)
    with pytest.raises(sa.exc.IntegrityError):
        conn.commit()
    assert parts.manager.execute_update("DELETE FROM tasks", user_id=user.id) == 0
    add(conn, user, "kept")
    conn.commit()
    assert titles(parts, user) == ["kept"]


def test_a_commit_that_fails_by_any_way_leaves_its_connection_clean(parts, user):
    """SQLAlchemy calls a failed commit an end, SQLite does not: the connection would hold the lock in the pool."""
    deferred = sa.text("PRAGMA defer_foreign_keys = ON")
    lost = sa.text("INSERT INTO tasks (id, user_id, title, category_id) VALUES (:id, :user_id, 'lost', :id)")
    values = {"id": new_id().hex, "user_id": user.id}
    engine = parts.manager.engine_for(user.id)
    for way in (lambda: parts.manager.session(user.id, write=True), engine.begin):
        with pytest.raises(sa.exc.IntegrityError), way() as opened:
            opened.execute(deferred)
            opened.execute(lost, values)
        assert titles(parts, user) == []
    with engine.connect() as opened:
        for _ in range(2):
            opened.execute(deferred)
            opened.execute(lost, values)
            with pytest.raises(sa.exc.IntegrityError):
                opened.commit()
            opened.rollback()


def test_a_block_whose_commit_fails_ends_its_lease(parts, user):
    with pytest.raises(sa.exc.IntegrityError), parts.manager.get_user_connection(user.id) as conn:
        break_at_commit(conn, user)
    assert (leased(parts), parts.manager.engines.holder().leases) == (0, 0)
    assert titles(parts, user) == []


def test_a_rollback_that_fails_throws_the_connection_away(parts, user, caplog):
    """What is wrong with it ends with it: its place is free, and the block's own error is the one told."""
    for end in ("rollback", "close", "exit"):
        conn = parts.manager.get_user_connection(user.id)
        add(conn, user, "lost")
        conn._open.connection.dbapi_connection.close()  # as when a server ends it
        if end == "rollback":
            with pytest.raises(sa.exc.ProgrammingError):
                conn.rollback()
            conn.close()
        elif end == "close":
            conn.close()
        else:
            with pytest.raises(ZeroDivisionError), conn:
                raise ZeroDivisionError
        assert parts.manager.engines.stats() == {"open": 1, "leased": 0, "evicted": 0, "connections": 0}
    assert "could not be rolled back" in caplog.text
    assert titles(parts, user) == []


def test_closing_in_another_thread_ends_the_lease_of_the_thread_that_began_it(parts, user):
    conn = parts.manager.get_user_connection(user.id)
    mine = parts.manager.engines.holder()
    assert mine.leases == 1
    theirs = []
    together([lambda: (conn.close(), theirs.append(parts.manager.engines.holder().leases))])
    assert (mine.leases, theirs, leased(parts)) == (0, [0], 0)


def test_of_many_threads_that_close_one_ends_the_lease(parts, user):
    conn = parts.manager.get_user_connection(user.id)
    together([conn.close] * 16)
    assert (leased(parts), parts.manager.engines.holder().leases) == (0, 0)


def test_a_cursor_that_was_not_read_to_its_end_holds_nobody_up(parts, user):
    """It would keep its state of the database in view: for the next request to read, and in the way of its writes."""
    with parts.manager.get_user_connection(user.id) as conn:
        rows = [(new_id().hex, user.id, str(number)) for number in range(300)]
        conn.cursor().executemany("INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", rows)
    conn = parts.manager.get_user_connection(user.id)
    cursor = conn.execute("SELECT * FROM tasks")
    cursor.fetchone()
    conn.close()
    with closing(sqlite3.connect(parts.settings.tenant_data_dir / f"user_{user.id}.db")) as other, other:
        other.execute("INSERT INTO tasks (id, user_id, title) VALUES (?, ?, 'theirs')", (new_id().hex, user.id))
    assert "theirs" in titles(parts, user)
    assert parts.manager.execute_update("DELETE FROM tasks", user_id=user.id) == 301
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        cursor.fetchone()


def test_a_read_becomes_a_write_by_beginning_anew(parts, user, conn):
    assert conn.execute("SELECT count(*) FROM tasks").fetchone()[0] == 0
    with parts.manager.session(user.id, write=True) as session:
        session.execute(
            sa.text("INSERT INTO tasks (id, user_id, title) VALUES (:id, :user_id, 'other')"),
            {"id": new_id().hex, "user_id": user.id},
        )
    add(conn, user, "mine")
    conn.commit()
    assert titles(parts, user) == ["mine", "other"]


def test_a_read_after_a_write_sees_it_in_the_same_transaction(parts, user, conn):
    add(conn, user)
    assert conn.execute("SELECT title FROM tasks").fetchall() == [("one",)]
    conn.rollback()
    assert conn.execute("SELECT title FROM tasks").fetchall() == []


def test_a_read_holds_nobody_up(parts, user, conn):
    conn.execute("SELECT * FROM tasks").fetchall()
    with parts.manager.get_user_connection(user.id) as other:
        add(other, user)
    assert conn.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
    conn.rollback()
    assert conn.execute("SELECT count(*) FROM tasks").fetchone() == (1,)


def test_what_says_it_reads_cannot_write(parts, user, conn):
    conn.execute("SELECT 1")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        conn.execute("EXPLAIN SELECT 1").connection.driver_cursor("SELECT 1").execute("DELETE FROM tasks")


def test_a_write_passes_the_fence(parts, user, conn):
    """A connection opened before the tenant was stopped writes nothing afterwards, however it goes about it."""
    add(conn, user)
    conn.commit()
    parts.manager.suspend(user.id)
    for _ in range(3):
        with pytest.raises(StaleRouteError):
            add(conn, user, "late")
    with pytest.raises(StaleRouteError):
        conn.cursor().executemany(
            "INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", [(new_id().hex, user.id, "x")]
        )
    conn.commit()
    parts.manager.resume(user.id)
    assert titles(parts, user) == ["one"]


def test_a_write_that_began_after_a_read_passes_the_fence_too(parts, user, conn):
    conn.execute("SELECT * FROM tasks").fetchall()
    parts.manager.suspend(user.id)
    with pytest.raises(StaleRouteError):
        add(conn, user, "late")
    conn.commit()
    parts.manager.resume(user.id)
    assert titles(parts, user) == []


def test_a_retired_database_is_written_to_by_nobody(parts, user, conn):
    add(conn, user)
    conn.commit()
    parts.manager.delete_user_database(user.id)
    with pytest.raises((StaleRouteError, DatabaseMissingError)):
        add(conn, user, "late")


def test_a_cursor_is_as_the_driver_makes_it(parts, user, conn):
    cursor = conn.cursor()
    with pytest.raises(AttributeError):
        _ = cursor.description
    cursor.close()
    rows = [(new_id().hex, user.id, title) for title in "abc"]
    assert cursor.executemany("INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", rows).rowcount == 3
    cursor.execute("SELECT title FROM tasks ORDER BY title")
    assert [column[0] for column in cursor.description] == ["title"]
    assert cursor.fetchone() == ("a",)
    assert list(cursor) == [("b",), ("c",)]


def test_an_error_of_the_database_leaves_the_connection_usable(parts, user, conn):
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("SELECT * FROM no_such_table")
    add(conn, user)
    conn.commit()
    assert titles(parts, user) == ["one"]


def test_another_database_cannot_be_attached(parts, user, conn):
    with pytest.raises(UnfencedError, match="no other file"):
        conn.execute(f"ATTACH DATABASE '{parts.settings.tenant_data_dir.parent / 'admin.db'}' AS catalog")


@pytest.mark.parametrize("sql", ["SELECT 1", "  select 1", "\n\tVALUES (1)", "EXPLAIN SELECT 1", "SHOW TABLES"])
def test_what_certainly_reads_is_known(sql):
    assert dbapi.only_reads(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO tasks VALUES (1)",
        "WITH x AS (SELECT 1) DELETE FROM tasks",
        "SELECT * INTO copy FROM tasks",
        "-- a comment\nSELECT 1",
        "SELECTED",
        "PRAGMA user_version = 1",
        "",
    ],
)
def test_what_might_write_takes_the_fence(sql):
    assert not dbapi.only_reads(sql)


def test_one_object_serves_every_context(parts, user, other):
    db = DatabaseConnection.get_instance()
    assert DatabaseConnection.get_instance() is db
    with parts.manager.tenant(user.id):
        assert db.current_user_id == user.id
        assert db.execute_update(
            "INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)", (new_id().hex, user.id, "mine")
        )
        assert db.fetch_one("SELECT title FROM tasks") == ("mine",)
        assert db.fetch_one("SELECT title FROM tasks WHERE title = ?", ("none",)) is None
        with db.get_connection() as conn:
            assert conn.execute("SELECT title FROM tasks").fetchall() == [("mine",)]
    with parts.manager.tenant(other.id):
        assert db.fetch_all("SELECT title FROM tasks") == []
    assert db.current_user_id is None


def test_the_one_object_works_with_the_manager_that_is_installed_now(make_parts, tmp_path):
    first, second = make_parts(), make_parts(admin_database_url=f"sqlite:///{tmp_path / 'second.db'}")
    db = DatabaseConnection.get_instance()
    db.clear_user_context()
    for parts, email in ((first, "first@example.org"), (second, "second@example.org")):
        parts.accounts.create(email)
        install(parts.manager)
        assert db.fetch_all("SELECT email FROM users") == [(email,)]


def test_without_an_installed_manager_there_is_no_object():
    install(None)
    with pytest.raises(ConfigurationError, match="no tenant manager is installed"):
        DatabaseConnection.get_instance()


def test_reading_statements_that_write_are_refused(parts, user):
    with pytest.raises(ReadOnlyRouteError), parts.manager.session(user.id) as session:
        session.execute(sa.text("DELETE FROM tasks"))
