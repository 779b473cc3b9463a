"""One contract for restore points on every product: kept whole, put back whole, whoever is connected meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tenancy import names
from tenancy.backends.base import Blueprint, HeldClaim, Step, ignore_step
from tenancy.backends.server.backend import ServerBackend
from tenancy.errors import (
    AccessDeniedError,
    BackendError,
    ClaimLostError,
    ConfigurationError,
    DatabaseBusyError,
    DatabaseMissingError,
    IdentityError,
    StaleRouteError,
    TenancyError,
    UnsupportedBackendError,
)
from tenancy.models import Origin, Tenant
from tenancy.routing.guards import check_identity
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_ledger
from tenancy.types import LongText, RowId, Timestamp, new_id, utc_now
from tests.support.applications import PATIENCE_S, FaultAt, SignalAt, forked, together
from tests.support.engines import ENGINES, needs_the_product, use
from tests.support.homes import THINGS, Home, attempt, blueprint, build, home_of, transaction

POINT = "run12"
RICH = sa.MetaData()
SHELVES = sa.Table(
    "shelves",
    RICH,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), nullable=False, unique=True),
    sa.Column("inside", sa.Integer, sa.ForeignKey("shelves.id", name="fk_shelves_inside")),
    sa.Column("width", sa.Numeric(12, 4)),
)
BOOKS = sa.Table(
    "books",
    RICH,
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", RowId(), primary_key=True),
    sa.Column("shelf", sa.Integer, sa.ForeignKey("shelves.id", name="fk_books_shelf"), nullable=False),
    sa.Column("text", LongText()),
    sa.Column("cover", sa.LargeBinary),
    sa.Column("bought_at", Timestamp, nullable=False, server_default=utc_now()),
    sa.Index("ix_books_shelf_bought_at", "shelf", "bought_at"),
)
SHELF_ROWS: list[dict[str, Any]] = [
    {"name": "100 %", "inside": None, "width": Decimal("12.3456")},
    {"name": "it's `two` ☃", "inside": 1, "width": None},
]
CHANGE = [
    "ALTER TABLE books DROP COLUMN text",
    "DELETE FROM books",
    "DELETE FROM parts",
    "DELETE FROM things",
    "DROP TABLE parts",
    "CREATE TABLE more (thing VARCHAR(40))",
    "INSERT INTO more VALUES ('new')",
    "UPDATE tenancy_identity SET epoch = 7, state = 'migrating'",
    f"UPDATE {TENANT_VERSION_TABLE} SET version_num = '0009'",
    "DELETE FROM tenancy_ledger",
]
"""What a revision that takes things away does, and more."""


@pytest.fixture(params=ENGINES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return home_of(use(request, request.param), tmp_path, "7e5702")


@pytest.fixture
def tenant(home: Home) -> Iterator[Tenant]:
    """Give a tenant with tables of every kind and rows in them."""
    placed = home.place()
    try:
        home.create(placed, _rich(placed), attempt())
        yield placed
    finally:
        home.backend.restore_points.delete(placed, home.access(placed), POINT)
        home.drop(placed)


@pytest.fixture
def engine(home: Home, tenant: Tenant) -> Iterator[sa.Engine]:
    engine = home.engine(tenant)
    yield engine
    engine.dispose()


def _build(connection: sa.Connection) -> None:
    build(connection)
    RICH.create_all(connection)
    connection.execute(sa.text(f"INSERT INTO {TENANT_VERSION_TABLE} VALUES ('0001')"))
    now = {"applied_at": sa.func.current_timestamp(), "duration_ms": 3, "app_version": "1.0"}
    connection.execute(
        tenancy_ledger.insert().values(id=new_id(), revision="0001", direction="upgrade", checksum="c", **now)
    )
    connection.commit()


def _rich(tenant: Tenant) -> Blueprint:
    plain = blueprint(tenant)

    def fill(connection: sa.Connection) -> None:
        plain.fill(connection)
        connection.exec_driver_sql("INSERT INTO parts VALUES ('first')")
        for row in SHELF_ROWS:
            connection.execute(SHELVES.insert().values(row))
        texts = [None, "", "long " * 20_000, "é☃\U0001f600 ' \" \\ %s ? :x\r\n"]
        for number, text in enumerate(texts):
            cover = bytes(range(256)) if number else None
            connection.execute(BOOKS.insert().values(user_id=1, id=new_id(), shelf=1, text=text, cover=cover))

    return Blueprint("points01", _build, fill)  # another name for another schema: a server keeps its template


def create(home: Home, tenant: Tenant, step: Step = ignore_step, point: str = POINT) -> None:
    home.backend.restore_points.create(mine(tenant), home.access(tenant), point, step=step)


def restore(
    home: Home, tenant: Tenant, step: Step = ignore_step, point: str = POINT, claim: HeldClaim | None = None
) -> None:
    home.backend.restore_points.restore(
        mine(tenant), home.access(tenant), point, rebuild=_build, claim=claim, step=step
    )


@dataclass(frozen=True)
class Claimed:
    """Be a claim that holds, or is lost."""

    epoch: int
    lost: bool = False

    def check(self) -> None:
        if self.lost:
            raise ClaimLostError("another runner took over.")


def mine(tenant: Tenant) -> Tenant:
    """Give the tenant as a runner has it whose claim is the one that ``CHANGE`` was made under."""
    return tenant.with_(epoch=7)


def delete(home: Home, tenant: Tenant) -> None:
    home.backend.restore_points.delete(tenant, home.access(tenant), POINT)


def has(home: Home, tenant: Tenant, point: str = POINT) -> bool:
    return home.backend.restore_points.has(tenant, home.access(tenant), point)


def change(home: Home, tenant: Tenant, *more: str) -> None:
    with home.backend.migrating(home.connect_to_migrate(tenant)) as connection:
        for statement in [*CHANGE, *more]:
            connection.exec_driver_sql(statement)
        connection.commit()


def add_row(home: Home, tenant: Tenant) -> None:
    with home.backend.migrating(home.connect_to_migrate(tenant)) as connection:
        connection.exec_driver_sql("INSERT INTO things VALUES ('second', 0)")
        connection.commit()


def everything(home: Home, tenant: Tenant) -> dict[str, Any]:
    """Give all tables of a tenant's database, and all their rows."""
    with home.backend.migrating(home.connect_to_migrate(tenant)) as connection:
        found = sa.MetaData()
        found.reflect(connection)
        return {
            name: (_shape(table), sorted(map(repr, connection.execute(sa.select(table)))))
            for name, table in sorted(found.tables.items())
        }


def says_whose(home: Home, tenant: Tenant) -> bool:
    """Say whether a tenant's database would be let in by the guard of all connections."""
    with closing(home.connect_to_migrate(tenant)) as driver:
        try:
            check_identity(home.backend, tenant, driver, None)
        except StaleRouteError:  # the epoch that was changed: it is theirs
            return True
        except IdentityError:
            return False
    return True


def _shape(table: sa.Table) -> Any:
    columns = [(c.name, str(c.type), c.nullable, _default(c), c.primary_key) for c in table.columns]
    indexes = sorted((str(i.name), i.unique, tuple(c.name for c in i.columns)) for i in table.indexes)
    ties = sorted((tuple(t.column_keys), t.referred_table.name) for t in table.foreign_key_constraints)
    return columns, indexes, ties


def _default(column: sa.Column[Any]) -> str | None:
    return None if column.server_default is None else str(getattr(column.server_default, "arg", column.server_default))


def standing(home: Home, tenant: Tenant) -> list[str]:
    """List what stands beside the tenants because of points: files, or databases."""
    if not isinstance(home.backend, ServerBackend):
        found = home.backend.storage()
        assert found is not None
        folder = Path(found.path) / ".restore"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    listing = {
        "postgresql": "SELECT datname FROM pg_database",
        "mysql": "SHOW DATABASES",
        "sqlserver": "SELECT name FROM sys.databases",
    }[home.backend.name]
    assert home.server is not None
    with closing(home.backend.at_server(home.server)) as driver, closing(driver.cursor()) as cursor:
        cursor.execute(listing)
        return sorted(row[0] for row in cursor.fetchall() if row[0].startswith(f"{tenant.db_name}_"))


class TestContract:
    def test_a_destructive_change_is_put_back_whole(self, home, tenant):
        before = everything(home, tenant)
        assert not has(home, tenant)
        create(home, tenant)
        assert has(home, tenant)
        assert everything(home, tenant) == before
        change(home, tenant)
        assert everything(home, tenant) != before
        restore(home, tenant)
        assert everything(home, tenant) == before
        assert has(home, tenant)

    def test_a_point_can_be_put_back_again(self, home, tenant):
        before = everything(home, tenant)
        create(home, tenant)
        for _ in range(2):
            change(home, tenant)
            restore(home, tenant)
            assert everything(home, tenant) == before

    def test_the_login_that_serves_reads_and_writes_afterwards_and_no_more(self, home, tenant):
        create(home, tenant)
        change(home, tenant)
        restore(home, tenant)
        with closing(home.plain(tenant)) as driver, closing(driver.cursor()) as cursor:
            cursor.execute(home.backend.fence_sql)
            assert cursor.fetchone() == (1, "ready") or home.backend.name == "sqlserver"
            cursor.execute("INSERT INTO parts VALUES ('first')")
            cursor.execute("DELETE FROM books")
            driver.commit()
            if home.backend.on_server:
                with pytest.raises(Exception, match=r"(?i)denied|must be owner|permission|not exist"):
                    cursor.execute("DELETE FROM tenancy_ledger")

    def test_an_earlier_point_of_the_same_name_is_replaced(self, home, tenant):
        create(home, tenant)
        add_row(home, tenant)
        before = everything(home, tenant)
        create(home, tenant)
        change(home, tenant)
        restore(home, tenant)
        assert everything(home, tenant) == before

    def test_two_points_of_a_tenant_do_not_meet(self, home, tenant):
        first = everything(home, tenant)
        create(home, tenant, point="run1")
        try:
            add_row(home, tenant)
            second = everything(home, tenant)
            create(home, tenant)
            change(home, tenant)
            assert home.backend.restore_points.list(tenant, home.access(tenant)) == ["run1", POINT]
            restore(home, tenant, point="run1")
            assert everything(home, tenant) == first
            restore(home, tenant)
            assert everything(home, tenant) == second
        finally:
            home.backend.restore_points.delete(tenant, home.access(tenant), "run1")

    def test_discarding_leaves_nothing_and_may_be_done_twice(self, home, tenant):
        before = everything(home, tenant)
        create(home, tenant)
        assert standing(home, tenant) != []
        assert home.backend.restore_points.list(tenant, home.access(tenant)) == [POINT]
        delete(home, tenant)
        delete(home, tenant)
        assert standing(home, tenant) == []
        assert home.backend.restore_points.list(tenant, home.access(tenant)) == []
        assert not has(home, tenant)
        assert everything(home, tenant) == before

    def test_without_a_whole_point_nothing_is_changed(self, home, tenant):
        before = everything(home, tenant)
        with pytest.raises(DatabaseMissingError, match="no whole restore point run12"):
            restore(home, tenant)
        assert everything(home, tenant) == before

    def test_a_database_that_is_gone_takes_no_point_with_it(self, home, tenant):
        create(home, tenant)
        home.drop(tenant)
        with pytest.raises((DatabaseMissingError, IdentityError)):
            create(home, tenant)
        assert has(home, tenant)

    def test_another_tenant_of_the_same_name_gets_no_rows_of_the_former_one(self, home, tenant):
        create(home, tenant)
        successor = tenant.with_(tenant_id=new_id())
        assert not has(home, successor)
        with pytest.raises(DatabaseMissingError):
            restore(home, successor)

    @pytest.mark.parametrize("point", ["", "Run1", "1run", "run-1", "../run", "run1.new", "a" * 11, "a`b", "rün"])
    def test_a_name_that_is_none_is_refused(self, home, tenant, point):
        points = home.backend.restore_points
        for use_it in (points.create, points.has, points.delete):
            with pytest.raises(ConfigurationError) as refused:
                use_it(tenant, home.access(tenant), point)
            assert refused.value.field == "point"

    def test_a_runner_that_slept_past_its_claim_neither_makes_nor_returns_to_a_point(self, home, tenant):
        create(home, tenant)
        change(home, tenant)
        before = home.names(tenant)
        for late in (
            lambda: home.backend.restore_points.create(tenant, home.access(tenant), "late"),
            lambda: home.backend.restore_points.restore(
                tenant, home.access(tenant), POINT, rebuild=_build, claim=None, step=ignore_step
            ),
        ):
            with pytest.raises(ClaimLostError):
                late()
        assert home.names(tenant) == before
        assert not has(home, tenant, "late")

    def test_the_shared_database_has_no_points(self, home, tenant):
        shared = tenant.with_(user_id=None)
        for use_it in (create, restore, delete, has):
            with pytest.raises(UnsupportedBackendError, match="shared database"):
                use_it(home, shared)

    def test_beside_a_database_that_somebody_named_nothing_is_made_or_removed(self, home, tenant):
        if not home.backend.on_server:
            pytest.skip("Unify names SQLite's files itself")
        create(home, tenant)
        there, theirs = standing(home, tenant), tenant.with_(origin=str(Origin.USER))
        for use_it in (create, restore):
            with pytest.raises(AccessDeniedError, match="somebody named it"):
                use_it(home, theirs)
        delete(home, theirs)
        assert not has(home, theirs)
        assert home.backend.restore_points.list(theirs, home.access(theirs)) == []
        assert standing(home, tenant) == there


class TestKilled:
    def test_while_a_point_is_made_the_database_stays_and_the_next_call_makes_it(self, home, tenant):
        before = everything(home, tenant)
        for at in _steps(lambda hook: create(home, tenant, hook)):
            delete(home, tenant)
            assert forked(lambda at=at: create(home, tenant, SignalAt(at, signal.SIGKILL))).killed()
            home.connect(tenant).close()
            if has(home, tenant):
                restore(home, tenant)
            assert everything(home, tenant) == before
            create(home, tenant)
            assert has(home, tenant)
        change(home, tenant)
        restore(home, tenant)
        assert everything(home, tenant) == before
        delete(home, tenant)
        assert standing(home, tenant) == []

    def test_while_an_earlier_point_is_replaced_one_or_none_is_there(self, home, tenant):
        before = everything(home, tenant)
        for at in _steps(lambda hook: create(home, tenant, hook)):
            create(home, tenant)
            assert forked(lambda at=at: create(home, tenant, SignalAt(at, signal.SIGKILL))).killed()
            if has(home, tenant):
                restore(home, tenant)
        assert everything(home, tenant) == before

    def test_while_a_point_is_put_back_the_next_call_ends_it(self, home, tenant):
        before = everything(home, tenant)
        create(home, tenant)
        for at in _steps(lambda hook: restore(home, tenant, hook)):
            change(home, tenant)
            changed = everything(home, tenant)
            assert forked(lambda at=at: restore(home, tenant, SignalAt(at, signal.SIGKILL))).killed()
            assert has(home, tenant)
            if says_whose(home, tenant):
                assert everything(home, tenant) in (before, changed)
            else:  # then nobody takes it for the tenant's, and no point is made of it
                with pytest.raises(IdentityError, match="do that again first"):
                    create(home, tenant)
            restore(home, tenant)
            assert everything(home, tenant) == before
        delete(home, tenant)
        assert standing(home, tenant) == []

    def test_files_and_postgresql_change_over_in_one_moment(self, home, tenant):
        """A worker that connects at any step finds the database before or after, never none."""
        if home.backend.name not in ("sqlite", "postgresql"):
            pytest.skip("the other products take a database apart: until it is whole it has no identity")
        create(home, tenant)
        change(home, tenant)
        seen = []

        def look(step: str) -> None:
            with closing(home.connect(tenant)) as driver, closing(driver.cursor()) as cursor:
                cursor.execute(f"SELECT version_num FROM {TENANT_VERSION_TABLE}")
                seen.append(cursor.fetchone()[0])

        restore(home, tenant, look)
        look("done")
        assert seen == sorted(seen, reverse=True)
        assert set(seen) == {"0009", "0001"}


class TestClaims:
    def test_one_that_is_lost_stops_it_before_anything_is_changed(self, home, tenant):
        create(home, tenant)
        change(home, tenant)
        changed = everything(home, tenant)
        with pytest.raises(ClaimLostError, match="took over"):
            restore(home, tenant, claim=Claimed(7, lost=True))
        assert everything(home, tenant) == changed
        restore(home, tenant, claim=Claimed(7))
        assert everything(home, tenant) != changed

    def test_what_is_put_back_bears_its_epoch_and_the_point_stays_as_it_is(self, home, tenant):
        before = everything(home, tenant)
        create(home, tenant)
        change(home, tenant)
        restore(home, tenant, claim=Claimed(9))
        with home.backend.migrating(home.connect_to_migrate(tenant)) as connection:
            assert connection.exec_driver_sql("SELECT epoch FROM tenancy_identity").scalar_one() == 9
            connection.exec_driver_sql("UPDATE tenancy_identity SET epoch = 7")
            connection.commit()
        restore(home, tenant)
        assert everything(home, tenant) == before


class TestOthers:
    def test_idle_connections_of_a_worker_hold_nothing_up_and_see_what_was_put_back(self, home, tenant, engine):
        assert _names(engine) == ["first"]
        create(home, tenant)
        assert _patient(engine) == ["first"]
        change(home, tenant)
        assert _patient(engine) == []
        with engine.connect().execution_options(tenancy_write=False) as idle:  # it lies there, in no transaction
            idle.connection  # noqa: B018 - asking for it opens it
            restore(home, tenant)
        assert _patient(engine) == ["first"]

    def test_a_read_under_way_holds_nothing_up(self, home, tenant, engine):
        for work in (create, restore):
            with engine.connect().execution_options(tenancy_write=False) as connection:
                connection.execute(sa.select(THINGS.c.name)).all()
                work(home, tenant)
                with suppress(sa.exc.DBAPIError, BackendError):  # which is how one that was ended is told
                    assert [row[0] for row in connection.execute(sa.select(THINGS.c.name))] == ["first"]
        assert _patient(engine) == ["first"]

    def test_a_point_holds_whole_transactions_only(self, request, home, tenant, engine):
        """Each transaction writes to two tables; writers pass the fence, as all of the application's do."""
        needs_the_product(request, home.backend.name)  # the fence is a lock that others of its protocol do not take
        stop, began = threading.Event(), threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    with transaction(engine, write=True) as connection:
                        connection.exec_driver_sql(home.backend.fence_sql).all()
                        connection.execute(THINGS.insert(), {"name": f"n{number}"})
                        connection.exec_driver_sql(f"INSERT INTO parts VALUES ('n{number}')")
                except (sa.exc.DBAPIError, BackendError):
                    continue
                began.set()

        writers = threading.Thread(target=write)
        writers.start()
        assert began.wait(PATIENCE_S)
        try:
            create(home, tenant)
        finally:
            stop.set()
            writers.join(PATIENCE_S)
        change(home, tenant)
        restore(home, tenant)
        with home.backend.migrating(home.connect_to_migrate(tenant)) as connection:
            things = connection.exec_driver_sql("SELECT name FROM things ORDER BY name").scalars().all()
            parts = connection.exec_driver_sql("SELECT thing FROM parts ORDER BY thing").scalars().all()
        assert things == parts
        assert len(things) > 1

    def test_of_several_at_once_each_ends_or_is_refused_and_the_next_one_makes_it(self, home, tenant):
        before = everything(home, tenant)
        results = together([lambda: create(home, tenant)] * 4)
        assert [result for result in results if result is not None and not isinstance(result, TenancyError)] == []
        create(home, tenant)
        change(home, tenant)
        results = together([lambda: restore(home, tenant)] * 3)
        assert [result for result in results if result is not None and not isinstance(result, TenancyError)] == []
        restore(home, tenant)
        assert everything(home, tenant) == before
        delete(home, tenant)
        assert standing(home, tenant) == []

    def test_of_two_that_meet_one_is_told_to_wait(self, home, tenant):
        met = []

        def meet(step: str) -> None:
            if step in ("publish point", "commit") and not met:
                met.append(step)
                create(home, tenant)

        with pytest.raises(DatabaseBusyError, match="another"):
            create(home, tenant, meet)
        assert met
        create(home, tenant)
        assert has(home, tenant)

    def test_no_tenants_login_enters_a_point(self, home, tenant):
        if not home.backend.on_server:
            pytest.skip("files have no logins")
        other = home.place(2)
        home.create(other, _rich(other), attempt())
        own, others = home.access(tenant).login, home.access(other).login
        point = names.point_database(tenant.db_name, POINT)

        def knock(step: str) -> None:
            """Try the doors at every moment."""
            for name in (point, f"{point}_new"):
                for login in (own, others):
                    with pytest.raises(BackendError):
                        home.backend.open(login.into(name))
            for name in (tenant.db_name, f"{point}_back"):
                with pytest.raises(BackendError):
                    home.backend.open(others.into(name))

        try:
            create(home, tenant, knock)
            knock("kept")
            restore(home, tenant, knock)
            knock("put back")
        finally:
            home.drop(other)


def _steps(work: Callable[[Step], None]) -> range:
    heard = FaultAt()
    work(heard)
    assert heard.seen
    return range(1, len(heard.seen) + 1)


def _names(engine: sa.Engine) -> list[str]:
    with transaction(engine, write=False) as connection:
        return list(connection.execute(sa.select(THINGS.c.name)).scalars())


def _patient(engine: sa.Engine) -> list[str]:
    """Ask again where a pooled connection was ended: once it is told, it is opened anew."""
    try:
        return _names(engine)
    except (sa.exc.DBAPIError, BackendError):
        return _names(engine)
