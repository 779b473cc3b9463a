"""One contract for every database product: what the engine relies on, whichever of them keeps a tenant."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenancy.backends.base import WHOSE_SQL, Making
from tenancy.backends.logins import Options
from tenancy.errors import (
    AccessDeniedError,
    BackendError,
    ClaimLostError,
    DatabaseExistsError,
    DatabaseMissingError,
    LoginRefusedError,
    ReadOnlyRouteError,
)
from tenancy.models import Placement
from tests.engines import ENGINES, use
from tests.tenancy.backends.homes import THINGS, Home, attempt, blueprint, home_of, transaction
from tests.tenancy.support import FaultAt, Stopped, together


@pytest.fixture(params=ENGINES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return home_of(use(request, request.param), tmp_path)


@pytest.fixture
def tenant(home: Home) -> Iterator[Placement]:
    placed = home.place()
    yield placed
    home.drop(placed)


@pytest.fixture
def made(home: Home, tenant: Placement) -> Placement:
    home.create(tenant, blueprint(tenant), attempt())
    return tenant


@pytest.fixture
def engine(home: Home, made: Placement) -> Iterator[sa.Engine]:
    engine = home.engine(made)
    yield engine
    engine.dispose()


class TestContract:
    def test_a_database_is_made_whole_and_says_whose_it_is(self, home, tenant):
        assert not home.exists(tenant)
        assert home.size_bytes(tenant) is None
        assert home.backend.modified(tenant) is None
        home.create(tenant, blueprint(tenant), attempt())
        assert home.exists(tenant)
        size = home.size_bytes(tenant)
        assert size is not None
        assert size > 0 or home.backend.name == "sqlserver"  # a server that only speaks its protocol has no sizes
        moment = home.backend.modified(tenant)
        assert (moment is None) is home.backend.on_server
        assert moment is None or moment.tzinfo is not None
        assert home.names(tenant) == ["first"]
        with closing(home.connect(tenant)) as driver, closing(driver.cursor()) as cursor:
            cursor.execute(WHOSE_SQL)
            whose = cursor.fetchone()
        assert (uuid.UUID(str(whose[0])), *whose[1:4]) == (tenant.tenant_id, 1, "tenant", 1)

    def test_what_stands_there_already_is_not_touched(self, home, made):
        with pytest.raises(DatabaseExistsError):
            home.create(made, blueprint(made, "second"), attempt(2))
        assert home.names(made) == ["first"]

    def test_each_step_is_named_before_it_is_taken_and_may_fail(self, home, tenant):
        steps = FaultAt()
        home.create(tenant, blueprint(tenant), attempt(step=steps))
        home.drop(tenant)
        for position in range(1, len(steps.seen) + 1):
            with pytest.raises(Stopped):
                home.create(tenant, blueprint(tenant), attempt(position, FaultAt(position)))
            whole = home.names(tenant) == ["first"] if home.exists(tenant) else None
            assert whole is not False
            home.drop(tenant)
        home.create(tenant, blueprint(tenant), attempt(99))
        assert home.names(tenant) == ["first"]

    def test_of_several_that_are_made_together_one_that_fails_leaves_the_others(self, home, tenant):
        second, third = home.place(2), home.place(3)
        homes = (tenant, second, third)
        home.create(second, blueprint(second, "stood there"), attempt())

        def making(each):
            return Making(each, home.access(each), blueprint(each), attempt())

        @contextlib.contextmanager
        def holding():
            yield frozenset(each.tenant_id for each in homes)

        try:
            failed = home.backend.create_many([making(each) for each in homes], holding)
            assert [type(error) for error in failed.values()] == [DatabaseExistsError]
            assert list(failed) == [second.tenant_id]
            assert [home.names(each) for each in homes] == [["first"], ["stood there"], ["first"]]
        finally:
            home.drop(second)
            home.drop(third)

    def test_an_attempt_that_lost_its_claim_shows_nothing(self, home, tenant):
        @contextlib.contextmanager
        def lost():
            raise ClaimLostError("lost")
            yield

        with pytest.raises(ClaimLostError):
            home.create(tenant, blueprint(tenant), attempt(holding=lost))
        assert not home.exists(tenant)
        assert home.size_bytes(tenant) is None

    def test_sixteen_at_once_make_one(self, home, tenant):
        results = together(
            [lambda n=n: home.create(tenant, blueprint(tenant, f"by {n}"), attempt(n)) for n in range(1, 17)]
        )
        assert [type(result) for result in results if result is not None] == [DatabaseExistsError] * 15
        assert home.names(tenant) == [f"by {results.index(None) + 1}"]

    def test_dropping_twice_is_no_harm_and_another_can_be_made(self, home, made):
        home.drop(made)
        home.drop(made)
        assert not home.exists(made)
        home.create(made, blueprint(made, "again"), attempt(2))
        assert home.names(made) == ["again"]

    def test_connecting_never_makes_a_database(self, home, made):
        home.drop(made)
        with pytest.raises((DatabaseMissingError, LoginRefusedError)):  # a server's login is gone with it
            home.connect(made)
        assert not home.exists(made)

    def test_two_tenants_have_two_databases(self, home, made):
        second = home.place(2)
        home.create(second, blueprint(second, "other"), attempt())
        assert home.names(made) == ["first"]
        assert home.names(second) == ["other"]
        home.drop(second)
        assert home.names(made) == ["first"]

    def test_a_reading_transaction_cannot_write(self, home, engine):
        either = (sa.exc.DBAPIError, ReadOnlyRouteError)
        with pytest.raises(either) as refused, transaction(engine, write=False) as connection:
            connection.execute(THINGS.insert(), {"name": "second"})
        assert isinstance(home.backend.explain(refused.value) or refused.value, ReadOnlyRouteError)
        with transaction(engine, write=True) as connection:  # the same pooled connection
            connection.execute(THINGS.insert(), {"name": "third"})
        with transaction(engine, write=False) as connection:
            found = connection.execute(sa.select(THINGS.c.name).order_by(THINGS.c.name)).scalars().all()
        assert found == ["first", "third"]

    def test_an_error_takes_the_whole_transaction_back(self, home, made, engine):
        with pytest.raises(ZeroDivisionError), transaction(engine, write=True) as connection:
            connection.execute(THINGS.insert(), {"name": "second"})
            raise ZeroDivisionError
        assert home.names(made) == ["first"]

    def test_read_then_write_from_sixteen_threads_is_never_refused(self, home, engine):
        """Compare-and-set on one row: nobody is told it is locked, and every acknowledged change is there."""
        done = []

        def add_one() -> None:
            for _ in range(5):
                with transaction(engine, write=True) as connection:
                    counter = connection.execute(sa.select(THINGS.c.counter)).scalar_one()
                    changed = connection.execute(
                        THINGS.update().where(THINGS.c.counter == counter), {"counter": counter + 1}
                    )
                    done.append(changed.rowcount)

        assert together([add_one] * 16) == [None] * 16
        assert len(done) == 80
        assert home.backend.on_server or sum(done) == 80  # a file has one writer at a time, who reads what is
        with transaction(engine, write=False) as connection:
            assert connection.execute(sa.select(THINGS.c.counter)).scalar_one() == sum(done) > 0

    def test_a_migration_takes_its_ddl_back_and_leaves_the_connection_closed(self, home, made):
        driver = home.connect_to_migrate(made)
        with pytest.raises(ZeroDivisionError), home.backend.migrating(driver) as connection:
            connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
            raise ZeroDivisionError
        with home.backend.migrating(home.connect_to_migrate(made)) as connection:
            assert sa.inspect(connection).has_table("half") is not home.backend.transactional_ddl
        with pytest.raises(Exception, match=r"closed|\(0, ''\)"):  # which is how one of the drivers says it
            driver.cursor().execute("SELECT 1")

    def test_rows_without_their_parent_are_refused_before_a_migration_commits(self, home, made):
        with home.backend.migrating(home.connect_to_migrate(made)) as connection:
            connection.exec_driver_sql("INSERT INTO parts VALUES ('first')")
            home.backend.check_before_commit(connection)
            with pytest.raises(Exception, match="parts"):
                connection.exec_driver_sql("DELETE FROM things")
                home.backend.check_before_commit(connection)

    def test_an_error_that_says_nothing_about_health_is_not_explained(self, home, engine):
        assert home.backend.explain(ValueError("no")) is None
        with pytest.raises(sa.exc.IntegrityError) as refused, transaction(engine, write=True) as connection:
            connection.execute(THINGS.insert(), {"name": "first"})
        assert home.backend.explain(refused.value) is None


@pytest.fixture(params=[engine for engine in ENGINES if engine != "sqlite"])
def on_server(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return home_of(use(request, request.param), tmp_path)


@pytest.fixture
def neighbours(on_server: Home) -> Iterator[list[Placement]]:
    placed = [on_server.place(1), on_server.place(2)]
    try:
        for each in placed:
            on_server.create(each, blueprint(each), attempt())
        yield placed
    finally:
        for each in placed:
            on_server.drop(each)


class TestServers:
    """What holds where databases stand on a server: each has a login of its own, which can do no more than its work."""

    def test_a_tenants_login_cannot_enter_another_tenants_database(self, on_server, neighbours):
        first, second = neighbours
        own = on_server.access(first).login
        with pytest.raises((AccessDeniedError, DatabaseMissingError)):
            on_server.backend.open(own.into(second.db_name))
        on_server.backend.open(own).close()

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE tenancy_identity SET epoch = 9",
            "DELETE FROM tenancy_identity",
            "DELETE FROM tenancy_ledger",
            "UPDATE tenant_version SET version_num = 'x'",
            "CREATE TABLE more (a INTEGER)",
            "DROP TABLE things",
            "ALTER TABLE things ADD more INTEGER",
        ],
    )
    def test_a_tenants_login_reads_and_writes_rows_and_nothing_else(self, on_server, neighbours, statement):
        first = neighbours[0]
        with closing(on_server.connect(first)) as driver:
            with pytest.raises(Exception) as refused:  # noqa: PT011 - each driver has a class of its own
                driver.cursor().execute(statement)
            assert re.search("permission|denied|must be owner|not exist", str(refused.value), re.IGNORECASE)
        assert on_server.names(first) == ["first"]

    def test_a_tenants_login_makes_no_database(self, on_server, neighbours):
        own = on_server.access(neighbours[0]).login
        with closing(on_server.backend.at_server(own)) as driver, pytest.raises(AccessDeniedError):
            on_server.backend.make_plain_database(driver, "unify_test_more")

    def test_a_login_that_may_make_databases_is_told_from_one_that_may_not(self, on_server, neighbours):
        access, backend = on_server.access(neighbours[0]), on_server.backend
        for login, able in ((access.admin, True), (access.login, False)):
            with closing(backend.at_server(login)) as driver:
                assert backend.may_create(driver) is able

    def test_a_connection_is_pinned(self, on_server, neighbours):
        pinned = {
            "postgresql": ("SELECT current_setting('timezone'), current_setting('statement_timeout')", "UTC", "3750ms"),
            "mysql": ("SELECT @@session.time_zone, @@session.tx_isolation", "+00:00", "READ-COMMITTED"),
            "sqlserver": ("SELECT @@LOCK_TIMEOUT, 1", 3000, 1),
        }
        query, *expected = pinned[on_server.backend.name]
        with closing(on_server.connect(neighbours[0])) as driver, closing(driver.cursor()) as cursor:
            cursor.execute(query)
            assert list(cursor.fetchone()) == expected

    def test_a_server_without_encryption_gets_no_password_where_it_is_required(self, on_server, neighbours):
        if on_server.backend.name == "sqlserver":
            pytest.skip("every server of this protocol encrypts")
        asked = replace(on_server.access(neighbours[0]).login, options=Options(tls="require"))
        with pytest.raises(BackendError):
            on_server.backend.open(asked)
