"""The catalog's transactions: whole or not at all, done again where two met, and plain words when it is away."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tenancy.backends.server.engines import CATALOG_POOL
from tenancy.catalog import Catalog, now, users
from tenancy.catalog.tables import users as table
from tenancy.errors import CatalogNotReadyError
from tests.support import engines
from tests.tenancy.conftest import AUDIT_KEY


def add(connection, email="ada@example.org"):
    return users.add(connection, email, "Ada", None, False)


def test_a_write_is_kept_whole_or_not_at_all(catalog):
    with pytest.raises(ZeroDivisionError), catalog.writing() as connection:
        add(connection)
        raise ZeroDivisionError
    with catalog.writing() as connection:
        assert users.count(connection) == 0
        add(connection)
    with catalog.reading() as connection:
        assert users.count(connection) == 1


def test_work_that_met_another_is_done_again_from_its_beginning(catalog):
    turns = []

    def work(connection):
        turns.append(users.count(connection))
        row = {"email": "x", "email_key": "ada@example.org", "display_name": "x", "is_admin": False}
        if len(turns) < 3:
            connection.execute(table.insert(), row | {"email_key": f"turn {len(turns)}"})
            connection.execute(table.insert(), row)
        return "done"

    with catalog.writing() as connection:
        add(connection)
    assert catalog.repeating(work) == "done"
    assert turns == [1, 1, 1]


def test_work_that_meets_another_every_time_says_so_in_the_end(catalog):
    with catalog.writing() as connection:
        add(connection)
    row = {"email": "x", "email_key": "ada@example.org", "display_name": "x", "is_admin": False}
    with pytest.raises(IntegrityError):
        catalog.repeating(lambda connection: connection.execute(table.insert(), row))


def test_work_that_fails_otherwise_is_done_once(catalog):
    turns = []

    def work(connection):
        turns.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        catalog.repeating(work)
    assert turns == [1]


def test_the_clock_is_the_catalogs_and_goes_on(catalog):
    with catalog.reading() as connection:
        first = now(connection)
        second = now(connection)
    assert first.tzinfo is not None
    assert timedelta(0) <= second - first < timedelta(minutes=1)


def test_the_revision_is_what_was_applied(catalog):
    assert catalog.revision() == "0011"


def test_a_catalog_that_was_never_migrated_says_what_to_type(catalog_engine):
    empty = Catalog(catalog_engine, AUDIT_KEY)
    assert empty.revision() is None
    for attempt in (empty.reading, empty.writing):
        with (
            pytest.raises(CatalogNotReadyError, match="unify db create-config-table") as refused,
            attempt() as connection,
        ):
            users.count(connection)
        assert refused.value.field == "ADMIN_DATABASE_URL"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://somebody:hunter2@127.0.0.1:1/none",
        "mysql+pymysql://somebody:hunter2@127.0.0.1:1/none",
    ],
)
def test_a_catalog_that_is_away_says_so_without_its_url(url):
    away = Catalog(sa.create_engine(url), AUDIT_KEY)
    with pytest.raises(CatalogNotReadyError, match="cannot be reached") as refused, away.reading():
        pytest.fail("nobody listens there")
    for secret in ("hunter2", "somebody", "127.0.0.1"):
        assert secret not in refused.value.message


def test_a_damaged_catalog_says_so(tmp_path):
    path = tmp_path / "admin.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    damaged = Catalog(engines.open_engine(f"sqlite:///{path}"), AUDIT_KEY)
    with pytest.raises(CatalogNotReadyError), damaged.reading() as connection:
        users.count(connection)


def test_a_catalog_that_another_writer_holds_for_too_long_is_busy(tmp_path):
    path = tmp_path / "admin.db"
    engine = engines.open_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA busy_timeout = 1"))
    busy = Catalog(engine, AUDIT_KEY)
    with busy.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (id INTEGER)")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with busy.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 0
        with pytest.raises(CatalogNotReadyError, match="busy"), busy.writing():
            pytest.fail("two write at once")
        with pytest.raises(CatalogNotReadyError, match="busy"):
            busy.repeating(lambda connection: pytest.fail("two write at once"))
    busy.close()


def test_a_catalog_whose_connections_are_all_in_use_is_busy(request, tmp_path):
    """On PostgreSQL: that pools of servers are bounded does not differ by product."""
    engines.use(request, "postgresql")
    with engines.fresh_database("postgresql", tmp_path) as url:
        engine = engines.open_engine(url)
        engine.pool._timeout = 0.01
        full = Catalog(engine, AUDIT_KEY)
        with ExitStack() as held:
            for _ in range(CATALOG_POOL["pool_size"] + CATALOG_POOL["max_overflow"]):
                held.enter_context(full.reading())
            with pytest.raises(CatalogNotReadyError, match="busy"), full.reading():
                pytest.fail("one more is open than there may be")
        full.close()


def test_a_catalog_is_told_to_be_unmigrated_in_any_language(request, tmp_path):
    """By its SQLSTATE: PostgreSQL says its sentences in the language that the database is set to."""
    engines.use(request, "postgresql")
    with engines.fresh_database("postgresql", tmp_path) as url:
        engine = engines.open_engine(url)
        plain = Catalog(engine, AUDIT_KEY)
        with pytest.raises(CatalogNotReadyError, match="not migrated"), plain.reading() as connection:
            connection.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '42P01' USING MESSAGE = 'gibt es nicht'; END $$")
        plain.close()
