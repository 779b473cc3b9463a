"""One contract for every database product: what the engine relies on, whichever of them keeps a tenant."""

from __future__ import annotations

import contextlib
import re
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from tenancy.backends.access import Options
from tenancy.backends.base import WHOSE_SQL, Making
from tenancy.backends.inventory import ItemKind
from tenancy.backends.mysql.driver import is_mariadb
from tenancy.backends.server.backend import ServerBackend
from tenancy.errors import (
    AccessDeniedError,
    BackendError,
    DatabaseExistsError,
    DatabaseMissingError,
    LoginRefusedError,
    ReadOnlyRouteError,
)
from tenancy.models import Tenant
from tests.support.applications import FaultAt, SignalAt, Stopped, forked, together
from tests.support.engines import ENGINES, use
from tests.support.homes import THINGS, Home, attempt, blueprint, home_of, plain_home, transaction

PLAIN = tuple(f"{engine} with plain rights" for engine in ("postgresql", "mysql"))
"""The products whose servers are also entered with a login that has the documented rights alone."""


@pytest.fixture(scope="module")
def entered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[pytest.FixtureRequest], Home]]:
    """Give a function that gives the home a test asks for; a plain login is made once."""
    made: dict[str, Home] = {}
    with contextlib.ExitStack() as stack:

        def give(request: pytest.FixtureRequest) -> Home:
            name = request.param
            engine, folder = use(request, name.partition(" ")[0]), tmp_path_factory.mktemp("home")
            if name not in PLAIN:
                return home_of(engine, folder)
            if name not in made:
                made[name] = stack.enter_context(plain_home(engine, folder))
            return made[name]

        yield give


@pytest.fixture(params=ENGINES + PLAIN)
def home(request: pytest.FixtureRequest, entered: Callable[[pytest.FixtureRequest], Home]) -> Home:
    return entered(request)


@pytest.fixture
def tenant(home: Home) -> Iterator[Tenant]:
    placed = home.place()
    yield placed
    home.drop(placed)


@pytest.fixture
def made(home: Home, tenant: Tenant) -> Tenant:
    home.create(tenant, blueprint(tenant), attempt())
    return tenant


@pytest.fixture
def engine(home: Home, made: Tenant) -> Iterator[sa.Engine]:
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

        try:
            failed = home.backend.create_many([making(each) for each in homes])
            assert [type(error) for error in failed.values()] == [DatabaseExistsError]
            assert list(failed) == [second.tenant_id]
            assert [home.names(each) for each in homes] == [["first"], ["stood there"], ["first"]]
        finally:
            home.drop(second)
            home.drop(third)

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


@pytest.fixture(params=[*ENGINES[1:], *PLAIN])
def on_server(request: pytest.FixtureRequest, entered: Callable[[pytest.FixtureRequest], Home]) -> Home:
    return entered(request)


@pytest.fixture
def neighbours(on_server: Home) -> Iterator[list[Tenant]]:
    placed = [on_server.place(1), on_server.place(2)]
    try:
        for each in placed:
            on_server.create(each, blueprint(each), attempt())
        yield placed
    finally:
        for each in placed:
            on_server.drop(each)


def opened_as_tenant(home: Home, tenant: Tenant) -> Any:
    """Open a connection as a tenant's login, each statement of which commits itself; it may enter no other database."""
    login = home.access(tenant).login
    assert login is not None
    assert isinstance(home.backend, ServerBackend)
    if home.backend.name != "postgresql":
        return home.backend.at_server(login)
    driver = home.backend.open(login)
    driver.autocommit = True
    return driver


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
        own = on_server.access(first).login.into(first.db_name)  # a connection that serves refuses more by itself
        with closing(on_server.backend.open(own)) as driver:
            with pytest.raises(Exception) as refused:  # noqa: PT011 - each driver has a class of its own
                driver.cursor().execute(statement)
            assert re.search("permission|denied|must be owner|not exist", str(refused.value), re.IGNORECASE)
        assert on_server.names(first) == ["first"]

    def test_a_tenants_login_makes_no_database(self, on_server, neighbours):
        with closing(opened_as_tenant(on_server, neighbours[0])) as driver, pytest.raises(AccessDeniedError):
            on_server.backend.make_plain_database(driver, "unify_test_more")

    def test_a_login_that_may_make_databases_is_told_from_one_that_may_not(self, on_server, neighbours):
        backend = on_server.backend
        with closing(backend.at_server(on_server.server)) as driver:
            assert backend.may_create(driver) is True
        with closing(opened_as_tenant(on_server, neighbours[0])) as driver:
            assert backend.may_create(driver) is False

    def test_a_database_goes_while_workers_are_connected_to_it(self, on_server, neighbours):
        first, second = neighbours
        with closing(on_server.connect(first)), closing(on_server.plain(first)) as writing:
            begun = writing.cursor()
            begun.execute("BEGIN" if on_server.backend.name == "mysql" else "SELECT 1")
            begun.execute("UPDATE things SET counter = 1")
            on_server.drop(first)
        assert not on_server.exists(first)
        assert on_server.names(second) == ["first"]

    def test_nobody_elses_login_enters_a_database_that_is_being_made(self, on_server, neighbours):
        others, third = on_server.access(neighbours[0]).login, on_server.place(3)

        def knock(step: str) -> None:
            with pytest.raises(BackendError):
                on_server.backend.open(others.into(third.db_name))
            knocked.append(step)

        knocked: list[str] = []
        try:
            on_server.create(third, blueprint(third), attempt(step=knock))
            knock("made")
        finally:
            on_server.drop(third)
        assert len(knocked) > 1

    def test_a_database_that_a_kill_left_closed_is_opened_by_who_goes_on(self, on_server, neighbours):
        """Between its first moment and its rights nobody may enter; what is left so is no hindrance to anybody."""
        third = on_server.place(3)
        try:
            assert forked(
                lambda: on_server.create(third, blueprint(third), attempt(step=SignalAt(2, signal.SIGKILL)))
            ).killed()
            assert on_server.exists(third)
            on_server.connect_to_migrate(third).close()
        finally:
            on_server.drop(third)
        assert not on_server.exists(third)

    def test_what_another_installation_has_on_the_server_is_not_taken_for_left_over(self, on_server, neighbours):
        first = neighbours[0]
        elsewhere = replace(on_server, installation="0a1b2c")
        for home, seen in ((on_server, True), (elsewhere, False)):
            found = {(item.kind, item.name) for item in home.backend.checks.inventory(home.access(first))}
            assert ((ItemKind.DATABASE, first.db_name) in found, (ItemKind.LOGIN, first.db_user) in found) == (
                seen,
                seen,
            )

    def test_a_connection_is_pinned(self, on_server, neighbours):
        pinned = {
            "postgresql": ("SELECT current_setting('timezone'), current_setting('statement_timeout')", "UTC", "3750ms"),
            "mysql": ("SELECT @@session.time_zone, @@session.tx_isolation", "+00:00", "READ-COMMITTED"),
            "sqlserver": ("SELECT @@LOCK_TIMEOUT, 1", 3000, 1),
        }
        query, *expected = pinned[on_server.backend.name]
        with closing(on_server.connect(neighbours[0])) as driver, closing(driver.cursor()) as cursor:
            if on_server.backend.name == "mysql" and not is_mariadb(driver):
                query = query.replace("tx_isolation", "transaction_isolation")  # each product has a name of its own
            cursor.execute(query)
            assert list(cursor.fetchone()) == expected

    def test_a_server_without_encryption_gets_no_password_where_it_is_required(self, on_server, neighbours):
        if on_server.backend.name == "sqlserver":
            pytest.skip("every server of this protocol encrypts")
        asked = replace(on_server.access(neighbours[0]).login, options=Options(tls="require"))
        with pytest.raises(BackendError):
            on_server.backend.open(asked)
