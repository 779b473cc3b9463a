"""Engines and pools of tenants: listened to once for all, and nobody's way round the guards."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool.base import _ConnectionRecord as ConnectionRecord

from tenancy.backends.server.engines import SharedDialect
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.backends.sqlite.driver import FileConnection
from tenancy.backends.sqlite.engines import FilePool
from tenancy.backends.tenant_engine import KEPT, TenantEngine, tend
from tenancy.errors import StaleRouteError
from tests.support.applications import add_tenants
from tests.support.engines import backend_of, server_login, use as use_engine


class Keeper:
    """Tend an engine as the cache does, and remember what was told."""

    def __init__(self) -> None:
        self.begun = self.open = 0
        self.keeps = True

    def opened(self) -> sqlite3.Connection:
        self.open += 1
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)

    def begin(self, connection: sa.Connection) -> None:
        self.begun += 1

    def may_keep(self) -> bool:
        return self.keeps

    def closed(self) -> None:
        self.open -= 1


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def engine(keeper: Keeper):
    made = SQLiteBackend(Path()).engine(keeper.opened)
    tend(made, keeper)
    yield made
    made.dispose()


def use(engine: sa.Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT 1")).scalar()


def test_a_transaction_of_an_engine_with_options_of_its_own_is_begun_by_who_tends_it(engine, keeper):
    use(engine)
    use(engine.execution_options(logging_token="report"))
    use(engine.execution_options(logging_token="report").execution_options(stream_results=True))
    assert keeper.begun == 3


def test_an_engine_with_options_of_its_own_passes_the_fence(parts):
    (user_id,) = add_tenants(parts, 1)
    engine = parts.manager.engine_for(user_id).execution_options(logging_token="report")
    with parts.manager.engine_for(user_id).begin() as connection:
        connection.execute(sa.text("UPDATE tenancy_identity SET epoch = epoch + 1"))
    with pytest.raises(StaleRouteError), engine.begin():
        pass


def test_an_engine_that_would_pass_the_guards_by_is_refused(keeper):
    plain = sa.create_engine("sqlite://")
    with pytest.raises(TypeError, match="guarded"):
        tend(plain, keeper)
    plain.dispose()


class Stuck(FileConnection):
    """Fail at both ends of a transaction, as a connection does whose disk is gone."""

    def commit(self) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    rollback = commit


def test_a_connection_that_comes_back_in_a_transaction_is_closed(engine, keeper, monkeypatch):
    def stuck() -> Stuck:
        keeper.open += 1
        return sqlite3.connect(":memory:", isolation_level=None, factory=Stuck)

    monkeypatch.setattr(keeper, "begin", lambda connection: connection.connection.dbapi_connection.begin(write=True))
    monkeypatch.setattr(engine.pool, "_creator", stuck)
    monkeypatch.setattr(engine.pool, "_invoke_creator", lambda record: stuck())
    monkeypatch.setattr(FileConnection, "stale", lambda driver: False)  # memory has no file
    with pytest.raises(sa.exc.OperationalError), engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        connection.commit()
    assert keeper.open == 0


def test_the_connection_used_last_is_used_next_and_few_are_kept(engine, keeper):
    connections = [engine.connect() for _ in range(4)]
    assert keeper.open == 4
    drivers = [connection.connection.driver_connection for connection in connections]
    for connection in connections:
        connection.close()
    assert keeper.open == KEPT
    with engine.connect() as connection:
        assert connection.connection.driver_connection is drivers[KEPT - 1]


def test_every_way_of_closing_is_counted(engine, keeper):
    with engine.connect() as connection:
        connection.invalidate()
    assert keeper.open == 0
    with engine.connect() as connection:
        connection.detach()
    assert keeper.open == 0
    use(engine)
    engine.dispose()
    assert keeper.open == 0


def test_a_connection_is_closed_that_comes_back_while_its_engine_is_being_retired(engine, keeper, monkeypatch):
    answers = iter([True, False])  # kept by the first answer, and retired before it lay in the pool
    monkeypatch.setattr(keeper, "may_keep", lambda: next(answers))
    use(engine)
    assert keeper.open == 0


def test_a_disposed_engine_is_still_tended(engine, keeper):
    use(engine)
    engine.dispose()
    use(engine)
    assert keeper.begun == 2
    assert keeper.open == 1


def test_who_listens_to_one_tenants_engine_hears_no_other(engine, keeper):
    other = SQLiteBackend(Path()).engine(keeper.opened)
    heard: list[str] = []
    sa.event.listen(engine, "do_execute", lambda cursor, statement, *rest: heard.append(statement))
    sa.event.listen(engine, "before_cursor_execute", lambda *args: heard.append("before"))
    sa.event.listen(engine, "checkout", lambda *args: heard.append("checkout"))
    sa.event.listen(engine, "connect", lambda *args: heard.append("connect"))
    use(other)
    assert heard == []
    use(engine)
    assert heard == ["connect", "checkout", "before", "SELECT 1"]
    other.dispose()


def test_a_connection_that_a_listener_refuses_is_closed_and_counted(engine, keeper):
    def refuse(driver: Any, record: Any) -> None:
        raise ValueError("not this one")

    sa.event.listen(engine, "connect", refuse)
    with pytest.raises(ValueError, match="not this one"):
        use(engine)
    assert keeper.open == 0
    sa.event.remove(engine, "connect", refuse)
    assert use(engine) == 1


def test_listeners_are_told_of_the_first_connection_once(engine, keeper):
    told: list[str] = []
    sa.event.listen(engine, "first_connect", lambda driver, record: told.append("first"))
    sa.event.listen(engine, "connect", lambda driver, record: told.append("each"))
    with engine.connect(), engine.connect():
        assert told == ["first", "each", "each"]


@pytest.mark.parametrize("product", ["postgresql", "mysql"])
def test_whoever_comes_while_a_servers_dialect_is_initialized_waits(request, product, monkeypatch):
    """SQL is written by what the first connection learns of the server."""
    backend, login = backend_of(use_engine(request, product)), server_login(product)
    engine = backend.engine(lambda: backend.at_server(login))
    begun, other_done = threading.Event(), threading.Event()
    initialize = SharedDialect.initialize

    def slowly(dialect: SharedDialect, connection: sa.Connection) -> None:
        begun.set()
        assert not other_done.wait(0.3), "it did not wait"
        initialize(dialect, connection)

    def second() -> Any:
        assert begun.wait(10)
        with engine.connect() as connection:
            other_done.set()
            return connection.dialect.server_version_info

    monkeypatch.setattr(SharedDialect, "initialize", slowly)
    with ThreadPoolExecutor() as threads:
        later = threads.submit(second)
        engine.connect().close()
        assert later.result() == engine.dialect.server_version_info is not None
    engine.dispose()


def test_copied_engines_hold_all_that_sqlalchemys_own_constructors_put_there(engine):
    """P2 and P8 depend on the copying: a new SQLAlchemy that keeps more in an engine has to be followed there."""
    pool, options = FilePool(lambda: None, dialect=engine.dialect), {"compiled_cache": {}}
    made = TenantEngine(pool, engine.dialect, engine.url, query_cache_size=0, execution_options=options)
    for copied, constructed in ((engine, made), (engine.pool, made.pool)):
        attributes = set(vars(constructed)) - {"dispatch"}
        assert set(vars(copied)) - {"dispatch"} == attributes, "SQLAlchemy keeps other attributes than were copied"
    record = engine.pool._create_connection()
    assert set(vars(record)) == set(vars(ConnectionRecord(engine.pool))), "SQLAlchemy makes its connections otherwise"
    assert engine.pool._kept is not SQLiteBackend(Path()).engine(lambda: None).pool._kept
    record.close()


def test_a_first_touch_sends_few_statements(parts, monkeypatch):
    """Each takes time before the first row of a tenant whose engine is not cached (P2, P2c)."""
    (user_id,) = add_tenants(parts, 1)
    parts.manager.engines.retire(parts.manager.tenant_of(user_id).tenant_id)
    sent: list[str] = []

    def listened(self: FileConnection, *what: Any, **how: Any) -> None:
        sqlite3.Connection.__init__(self, *what, **how)
        if "/users/" in str(what[0]):
            self.set_trace_callback(sent.append)

    monkeypatch.setattr(FileConnection, "__init__", listened)
    with parts.manager.session(user_id) as session:
        session.execute(sa.text("SELECT 1"))
    assert [text.split()[0] for text in sent] == ["PRAGMA"] * 4 + ["SELECT", "PRAGMA", "BEGIN", "SELECT", "COMMIT"]


def test_a_tenants_engine_offers_what_an_ordinary_one_does(engine):
    plain = sa.create_engine("sqlite://")
    asked = sa.text("SELECT floor(1.5), 'abc' REGEXP 'b'")
    for name in ("server_version_info", "default_schema_name", "default_isolation_level", "supports_native_boolean"):
        with plain.connect():
            assert getattr(engine.dialect, name) == getattr(plain.dialect, name)
    with plain.connect() as one, engine.connect() as other:
        assert other.execute(asked).all() == one.execute(asked).all() == [(1, 1)]
        assert sa.inspect(other).get_table_names() == sa.inspect(one).get_table_names() == []
    plain.dispose()
