"""Plain SQL: transactions that begin by themselves, fenced where they write, and one object of old for all of it."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

from tenancy import DatabaseConnection, connection, install
from tenancy.errors import ConfigurationError, DatabaseMissingError, ReadOnlyRouteError, StaleRouteError
from tenancy.types import new_id


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
    with pytest.raises(sqlite3.Error):
        conn.execute(f"ATTACH DATABASE '{parts.settings.tenant_data_dir.parent / 'admin.db'}' AS catalog")


@pytest.mark.parametrize("sql", ["SELECT 1", "  select 1", "\n\tVALUES (1)", "EXPLAIN SELECT 1", "SHOW TABLES"])
def test_what_certainly_reads_is_known(sql):
    assert connection.only_reads(sql)


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
    assert not connection.only_reads(sql)


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


def test_the_one_object_works_with_the_manager_that_is_installed_now(make_parts):
    first, second = make_parts(), make_parts()
    db = DatabaseConnection.get_instance()
    install(first.manager)
    assert db._manager() is first.manager
    install(second.manager)
    assert db._manager() is second.manager


def test_without_an_installed_manager_there_is_no_object():
    install(None)
    with pytest.raises(ConfigurationError, match="no tenant manager is installed"):
        DatabaseConnection.get_instance()


def test_reading_statements_that_write_are_refused(parts, user):
    with pytest.raises(ReadOnlyRouteError), parts.manager.session(user.id) as session:
        session.execute(sa.text("DELETE FROM tasks"))
