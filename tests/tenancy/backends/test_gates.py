"""The gate: no way of an engine's or a driver's leads round the fence, and reading goes on working."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from compose import Parts
from tenancy.backends import gates
from tenancy.backends.gates import Words
from tenancy.backends.mysql import driver as mysql_driver
from tenancy.backends.placeholders import Rules
from tenancy.backends.postgresql import driver as postgresql_driver
from tenancy.backends.sqlite import driver as sqlite_driver
from tenancy.backends.sqlserver.dialects import OverPyodbc
from tenancy.errors import StaleRouteError, TenancyError, UnfencedError
from tenancy.types import new_id
from tests.support.applications import add_tenants, titles

COUNT = "SELECT count(*) FROM tasks"


@pytest.fixture
def user_id(parts_on_each: Parts) -> int:
    (made,) = add_tenants(parts_on_each, 1)
    return made


@pytest.fixture
def engine(parts_on_each: Parts, user_id: int) -> sa.Engine:
    return parts_on_each.manager.engine_for(user_id)


def an_insert(user_id: int) -> str:
    return f"INSERT INTO tasks (id, user_id, title) VALUES ('{new_id().hex}', {user_id}, 'past the fence')"


def in_autocommit(engine: sa.Engine, sql: str) -> None:
    with engine.connect().execution_options(isolation_level="autocommit") as connection:
        connection.exec_driver_sql(sql)


def in_an_engine_of_autocommit(engine: sa.Engine, sql: str) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").begin() as connection:
        connection.exec_driver_sql(sql)


def by_raw_connection(engine: sa.Engine, sql: str) -> None:
    with closing(engine.raw_connection()) as raw:
        raw.cursor().execute(sql)
        raw.commit()


def by_the_drivers_connection(engine: sa.Engine, sql: str) -> None:
    with closing(engine.raw_connection()) as raw:
        raw.driver_connection.cursor().execute(sql)
        raw.driver_connection.commit()


def before_a_transaction(engine: sa.Engine, sql: str) -> None:
    with engine.connect() as connection:
        connection.connection.cursor().execute(sql)
        connection.connection.commit()


def after_a_commit_of_the_drivers(engine: sa.Engine, sql: str) -> None:
    """What was begun has passed the fence; what follows its commit has not."""
    with engine.begin() as connection:
        connection.exec_driver_sql(COUNT)
        connection.connection.commit()
        connection.exec_driver_sql(COUNT)
        connection.exec_driver_sql(sql)


def after_a_commit_in_words(engine: sa.Engine, sql: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("/* the end */ commit")
        connection.exec_driver_sql(sql)


def after_a_rollback_in_words(engine: sa.Engine, sql: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql(sql)


def in_two_phases(engine: sa.Engine, sql: str) -> None:
    with engine.connect() as connection, connection.begin_twophase():
        connection.exec_driver_sql(sql)


ROUND = [
    in_autocommit,
    in_an_engine_of_autocommit,
    by_raw_connection,
    by_the_drivers_connection,
    before_a_transaction,
    after_a_commit_of_the_drivers,
    after_a_commit_in_words,
    after_a_rollback_in_words,
    in_two_phases,
]


def test_no_way_round_the_fence_writes(parts_on_each: Parts, user_id: int, engine: sa.Engine) -> None:
    """Ready or suspended: where nothing could be compared with the fence, nothing is written."""
    for way in ROUND:
        with pytest.raises(UnfencedError, match=r"use|begin\(\)"):
            way(engine, an_insert(user_id))
    parts_on_each.manager.suspend(user_id)
    for way in ROUND:
        with pytest.raises((UnfencedError, StaleRouteError)):
            way(engine, an_insert(user_id))
    parts_on_each.manager.resume(user_id)
    assert titles(parts_on_each.manager, user_id) == []


def test_what_passes_the_fence_goes_on_working(parts_on_each: Parts, user_id: int, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(an_insert(user_id))
        with connection.begin_nested() as kept:
            connection.exec_driver_sql(an_insert(user_id))
            kept.commit()
        with connection.begin_nested() as undone:
            connection.exec_driver_sql(an_insert(user_id))
            undone.rollback()
        connection.exec_driver_sql(an_insert(user_id))
    assert len(titles(parts_on_each.manager, user_id)) == 3
    reading = engine.connect().execution_options(tenancy_write=False)
    with reading as connection, connection.begin(), connection.begin_nested():
        assert connection.exec_driver_sql(COUNT).scalar_one() == 3


def test_after_an_error_that_ended_the_transaction_nothing_is_written(parts_on_each, user_id, engine) -> None:
    """Some errors take the transaction back at the server: what follows has passed no fence, and stands in none."""
    with suppress(sa.exc.DBAPIError, UnfencedError), engine.connect() as connection:
        connection.exec_driver_sql(an_insert(user_id))
        with pytest.raises(sa.exc.DBAPIError):
            connection.exec_driver_sql("SELECT name FROM there_is_no_such_table")
        with suppress(sa.exc.DBAPIError, UnfencedError):
            connection.exec_driver_sql(an_insert(user_id))
        connection.rollback()
    assert titles(parts_on_each.manager, user_id) == []


def test_reading_in_autocommit_and_by_hand_sees_each_commit(parts_on_each: Parts, user_id: int, engine) -> None:
    seen = []
    raw = engine.raw_connection()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as reader, closing(raw):
        for _ in range(2):
            seen.append(reader.exec_driver_sql(COUNT).scalar_one())
            cursor = raw.cursor()
            cursor.execute(f"WITH counted AS ({COUNT}) SELECT * FROM counted")
            seen.append(cursor.fetchone()[0])
            raw.rollback()
            with engine.begin() as writer:
                writer.exec_driver_sql(an_insert(user_id))
        assert "tasks" in sa.inspect(reader).get_table_names()
    assert seen == [0, 0, 1, 1]
    with engine.begin() as again:  # over the connections that were used so
        again.exec_driver_sql(an_insert(user_id))
    assert len(titles(parts_on_each.manager, user_id)) == 3


def test_a_serializable_transaction_passes_the_fence_and_leaves_no_trace(parts_on_each, user_id, engine) -> None:
    for _ in range(2):
        with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection, connection.begin():
            connection.exec_driver_sql(an_insert(user_id))
        with engine.begin() as connection:
            connection.exec_driver_sql(an_insert(user_id))
    assert len(titles(parts_on_each.manager, user_id)) == 4


def test_in_autocommit_the_database_too_refuses_to_write(parts_on_each: Parts, user_id: int, engine) -> None:
    """Past the gate, as a function that writes would be, on a connection that wrote before."""
    if engine.dialect.name not in ("sqlite", "postgresql"):
        pytest.skip("MySQL and SQL Server have nothing that would hold for a session in autocommit")
    with engine.begin() as connection:
        connection.exec_driver_sql(an_insert(user_id))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(COUNT)
        driver: Any = connection.connection.dbapi_connection
        if engine.dialect.name == "sqlite":
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                sqlite3.Connection.cursor(driver, sqlite3.Cursor).execute(an_insert(user_id))
        else:
            from psycopg2 import extensions  # optional: there where PostgreSQL is tested

            with closing(extensions.cursor(driver)) as cursor:
                cursor.execute("SHOW default_transaction_read_only")
                assert cursor.fetchone() == ("on",)


SETS = {
    "postgresql": ("SELECT set_config('work_mem', '64kB', false)", "SHOW work_mem", "64kB"),
    "mysql": ("SET SESSION sort_buffer_size = 65536", "SELECT @@sort_buffer_size", 65536),
}


def test_a_connection_that_was_changed_is_not_used_again(parts_on_each: Parts, engine: sa.Engine) -> None:
    if engine.dialect.name not in SETS:
        pytest.skip("what would last is refused there")
    change, look, changed = SETS[engine.dialect.name]
    with engine.begin() as connection:
        connection.exec_driver_sql(change)
        assert connection.exec_driver_sql(look).scalar() == changed
    with engine.begin() as connection:
        assert connection.exec_driver_sql(look).scalar() != changed


def test_a_setting_for_the_transaction_alone_costs_no_connection() -> None:
    lasts = postgresql_driver.WORDS.lasts
    assert not lasts("SELECT set_config(%s, %s, true)")
    assert not lasts("INSERT INTO tasks (id) VALUES (%s) ON CONFLICT DO NOTHING")
    assert lasts("SELECT set_config('a', 'b', false), set_config('c', 'd', true)")
    assert lasts("SELECT 1; DO 'anything'")


def test_plain_sql_in_words_is_refused_and_holds_nothing(parts_on_each: Parts, user_id: int) -> None:
    manager = parts_on_each.manager
    with closing(manager.get_user_connection(user_id)) as connection:
        for words in ("COMMIT", "BEGIN", "rollback", "START TRANSACTION", "SET TRANSACTION READ WRITE"):
            with pytest.raises(UnfencedError, match=r"commit\(\)"):
                connection.execute(words)
        with pytest.raises(UnfencedError, match="execute"):
            connection.cursor().executescript("COMMIT")
        manager.suspend(user_id)  # would be told that the database is busy while a transaction were open
    manager.resume(user_id)


# --- what each product has of its own -------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA query_only = OFF",
        "PRAGMA main.foreign_keys(0)",
        "PRAGMA locking_mode=EXCLUSIVE",
        "PRAGMA query_only='off'",
        "PRAGMA [query_only]=off",
        'SELECT 1; /* a */ PRAGMA "synchronous" = 0',
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "END",
        "-- a note\nCOMMIT",
        "ROLLBACK TRANSACTION",
    ],
)
def test_what_sqlite_would_do_behind_the_fence_is_refused(sql: str) -> None:
    assert sqlite_driver.WORDS.read(sql)[0] is not None


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO tasks (title) VALUES ('x'); COMMIT; INSERT INTO tasks (title) VALUES ('y')",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "PREPARE TRANSACTION 'x'",
        "SET LOCAL standard_conforming_strings = off",
        "SELECT set_config('standard_conforming_strings', 'off', true)",
        "SET search_path = pg_catalog",
        "RESET ALL",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "RESET default_transaction_read_only",
        "/* a /* nested */ comment */ ABORT",
    ],
)
def test_what_postgresql_would_do_behind_the_fence_is_refused(sql: str) -> None:
    assert postgresql_driver.WORDS.read(sql)[0] is not None


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (x INT)",
        "TRUNCATE tasks",
        "LOCK TABLES tasks WRITE",
        "ANALYZE LOCAL TABLE tasks",
        "SET @@session.autocommit = 0",
        "SET STATEMENT max_statement_time = 1 FOR COMMIT",
        "XA BEGIN 'x'",
        "EXECUTE IMMEDIATE 'START TRANSACTION READ WRITE'",
        "PREPARE it FROM 'COMMIT AND CHAIN'",
        "CALL anything()",
        "BEGIN NOT ATOMIC COMMIT; END",
        "/*!50000 COMMIT */",
        "# a note\nCOMMIT AND CHAIN",
    ],
)
def test_what_mysql_would_commit_by_itself_is_refused(sql: str) -> None:
    assert mysql_driver.WORDS.read(sql)[0] is not None


def test_a_table_is_described_by_its_quoted_name() -> None:
    for sql in ('PRAGMA main.table_info("tasks")', "PRAGMA foreign_key_list('tasks')", "SELECT 'PRAGMA a'"):
        assert sqlite_driver.WORDS.read(sql) == (None, True)
    assert postgresql_driver.WORDS.read("SET LOCAL lock_timeout = '1s'")[0] is None
    assert postgresql_driver.WORDS.read("show standard_conforming_strings")[0] is None  # SQLAlchemy asks that


T_SQL_RULES = Rules(brackets=True, nested_comments=True)
T_SQL = Words(T_SQL_RULES, separated=False)


@pytest.mark.parametrize(
    ("sql", "passes"),
    [
        ("SELECT 1 COMMIT", False),
        ("BEGIN TRAN INSERT INTO tasks (title) VALUES ('x')", False),
        ("SET IMPLICIT_TRANSACTIONS ON", False),
        ("BEGIN", False),
        ("START TRANSACTION", False),
        ("IF 1 = 1 BEGIN UPDATE tasks SET title = 'commit' END", True),
        ("SELECT [commit] FROM tasks", True),
        ("SAVE TRANSACTION sa_savepoint_1", True),
        ("ROLLBACK TRANSACTION sa_savepoint_1", True),
    ],
)
def test_where_statements_need_nothing_between_them_every_word_is_looked_at(sql: str, passes: bool) -> None:
    assert (T_SQL.read(sql)[0] is None) is passes


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT replace(title, 'update', 'commit; delete') FROM tasks", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("WITH a AS (INSERT INTO tasks DEFAULT VALUES RETURNING id) SELECT * FROM a", False),
        ("SELECT 1 INTO other", False),
        ("SELECT 1; DELETE FROM tasks", False),
        ("EXPLAIN ANALYZE DELETE FROM tasks", False),
        ("SET LOCAL search_path = public", True),
        ("CALL anything()", False),
    ],
)
def test_what_only_reads_is_told_by_its_words(sql: str, reads: bool) -> None:
    assert postgresql_driver.WORDS.read(sql) == (None, reads)


def test_a_schema_change_commits_nothing_by_the_way(parts_on_each: Parts, user_id: int, engine: sa.Engine) -> None:
    """It is part of the transaction, or refused: by the server, or on MySQL, where it would commit, by the gate."""
    with pytest.raises((ZeroDivisionError, sa.exc.DBAPIError, UnfencedError)), engine.begin() as connection:
        connection.exec_driver_sql(an_insert(user_id))
        connection.exec_driver_sql("CREATE TABLE t (x INT)")
        raise ZeroDivisionError
    assert titles(parts_on_each.manager, user_id) == []


# --- a driver whose classes cannot be derived from -------------------------------------------------------


class Plain(sqlite3.Connection):
    """Take any attribute, as SQLAlchemy sets ``autocommit``, which not every version of SQLite's driver has."""

    autocommit: Any = False


@pytest.fixture
def around() -> Iterator[gates.Around]:
    driver = sqlite3.connect(":memory:", factory=Plain)
    driver.execute("CREATE TABLE t (x)")
    driver.commit()
    yield gates.gated(driver, T_SQL)
    driver.close()


def test_a_gate_around_a_connection_opens_with_a_transaction_and_closes_with_it(around: Any) -> None:
    def refused(work: Callable[[], Any]) -> None:
        with pytest.raises(UnfencedError):
            work()

    assert list(around.execute("SELECT count(*) FROM t")) == [(0,)]
    refused(lambda: around.execute("INSERT INTO t VALUES (1)"))
    for end in (around.commit, around.rollback):
        around.begun()
        around.cursor().executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        refused(lambda: around.cursor().execute("COMMIT"))
        end()
        refused(lambda: around.cursor().executemany("INSERT INTO t VALUES (?)", [(1,)]))
    assert around.execute("SELECT count(*) FROM t").fetchone() == (2,)
    around.row_factory = sqlite3.Row
    assert around.driver.row_factory is sqlite3.Row


def test_an_isolation_level_is_said_to_the_driver_and_not_refused_as_text(around: Any) -> None:
    """SQLAlchemy says it with a statement on SQL Server; this driver does not know it, so it was sent."""
    with pytest.raises(sqlite3.OperationalError, match="syntax"):
        OverPyodbc().set_isolation_level(around, "SERIALIZABLE")


def test_the_refusal_is_one_of_the_systems_errors() -> None:
    assert issubclass(UnfencedError, TenancyError)


def test_what_a_savepoint_stands_in_is_begun_past_the_gate_and_no_level_is_asked_for(around: Any) -> None:
    """SQLAlchemy sends both as text on SQL Server; this driver does not know it, so it was sent."""
    connection: Any = SimpleNamespace(connection=SimpleNamespace(dbapi_connection=around))
    with pytest.raises(sqlite3.OperationalError, match="IF"):
        OverPyodbc().do_savepoint(connection, "sa_savepoint_1")
    assert OverPyodbc().get_default_isolation_level(around) == "READ COMMITTED"


def test_an_error_that_ended_the_transaction_closes_the_gate_around_it() -> None:
    driver = sqlite3.connect(":memory:", factory=Plain)
    driver.execute("CREATE TABLE t (x PRIMARY KEY)")
    for open_now, passes in ((1, True), (0, False)):
        around = gates.gated(driver, Words(T_SQL_RULES, separated=False, counted=f"SELECT {open_now}"))
        around.begun()
        with pytest.raises(sqlite3.OperationalError):
            around.cursor().execute("SELECT x FROM there_is_no_such_table")
        with nullcontext() if passes else pytest.raises(UnfencedError):
            around.cursor().execute("INSERT INTO t VALUES (1)")
        around.rollback()
    driver.close()
