"""A server that is down, silent, frozen, full or refusing: an answer in time that says so, nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tenancy.backends.access import Access
from tenancy.backends.base import DatabaseFields
from tenancy.backends.server.sql import one, run
from tenancy.errors import BackendError, TenancyError
from tenancy.models import State
from tests.support.applications import FaultAt, Stopped, add_users, audit_actions, expire_claims, tenant_of, titles
from tests.support.engines import use
from tests.support.servers import PASSWORD, OwnServer, listener, own_server

SOON_S = 5.0
SERVERS = ("postgresql", "mysql")
LEFT = {
    "postgresql": (
        "SELECT (SELECT count(*) FROM pg_database WHERE datname ~ '^unify_[0-9d]')"
        " + (SELECT count(*) FROM pg_roles WHERE rolname ~ '^unify_')"
    ),
    "mysql": (
        "SELECT (SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE 'unify_%')"
        " + (SELECT count(*) FROM mysql.user WHERE user LIKE 'unify_%')"
    ),
}


@pytest.fixture(params=SERVERS)
def engine(request: pytest.FixtureRequest) -> str:
    return use(request, request.param)


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], OwnServer]]:
    """Give a function that gives the module's own server of an engine; it runs until the last test here."""
    from contextlib import ExitStack

    made: dict[str, OwnServer] = {}
    with ExitStack() as stack:

        def give(engine: str) -> OwnServer:
            if engine not in made:
                made[engine] = stack.enter_context(own_server(engine, connections=30))
            return made[engine]

        yield give


@pytest.fixture
def server(servers, engine) -> Iterator[OwnServer]:
    server = servers(engine)
    yield server
    if server._process is None:
        server.start()
    server.thaw()


@pytest.fixture
def manager(make_parts, engine, server):
    parts = make_parts(default_tenant_db_type=engine)
    parts.manager.servers.add("own", engine, server.url)
    yield parts.manager
    server.thaw() if server._process is not None else server.start()
    for user_id in range(1, 10):
        if tenant_of(parts.manager, user_id) is not None:
            expire_claims(parts.manager)
            parts.manager.delete_user_database(user_id)


@pytest.fixture
def user(manager) -> int:
    return add_users(manager, 1)[0]


def left_behind(manager, engine, server) -> int:
    """Count databases and logins of tenants at the server."""
    backend = manager.backends.get(engine)
    driver = backend.at_server(backend.login(server.url, "URL"))
    try:
        return int(one(driver, LEFT[engine]))
    finally:
        driver.close()


def refused(work: Callable[[], object]) -> TenancyError:
    """Give the error, which has to come soon."""
    started = time.monotonic()
    with pytest.raises(TenancyError) as failed:
        work()
    assert time.monotonic() - started < SOON_S
    return failed.value


def failed_with(manager, user: int, code: str) -> None:
    tenant = tenant_of(manager, user)
    assert (tenant.state, tenant.last_error_code) == (State.FAILED, code)
    assert PASSWORD not in (tenant.last_error or "")


def test_a_server_that_is_down_is_said_and_a_second_try_succeeds(manager, user, engine, server):
    server.stop()
    assert refused(lambda: manager.provision(user)).code == "connection_refused"
    failed_with(manager, user, "connection_refused")
    server.start()
    assert left_behind(manager, engine, server) == 0
    assert manager.provision(user).tenant.state is State.READY
    assert left_behind(manager, engine, server) == 2


def test_a_silent_server_is_given_up(manager, user, engine, server):
    with listener() as (port, _):
        fields = DatabaseFields(engine, "127.0.0.1", port, "some", "somebody", "secret")
        assert refused(lambda: manager.provision(user, fields)).code == "database_timeout"
    failed_with(manager, user, "database_timeout")
    manager.delete_user_database(user)  # nothing was made there, so nothing has to answer
    assert manager.provision(user).tenant.state is State.READY


def test_a_host_that_nobody_knows_is_said(manager, user, engine):
    fields = DatabaseFields(engine, "no-such-host.invalid", None, "some", "somebody", "secret")
    assert refused(lambda: manager.provision(user, fields)).code == "database_unreachable"


def test_a_wrong_password_is_said_and_the_right_one_may_follow(manager, user, engine, server):
    fields = DatabaseFields(engine, "127.0.0.1", server.port, "brought", server.user, "wrong")
    assert refused(lambda: manager.provision(user, fields)).code == "login_refused"
    failed_with(manager, user, "login_refused")
    assert left_behind(manager, engine, server) == 0
    right = DatabaseFields(engine, "127.0.0.1", server.port, "brought", server.user, PASSWORD)
    made = manager.provision(user, right).tenant
    assert (made.state, made.owned, made.origin) == (State.READY, True, "admin")
    assert titles(manager, user) == []


def test_a_login_that_may_not_create_is_said(manager, user, engine, server):
    small = {
        "postgresql": "CREATE ROLE small LOGIN PASSWORD 'pw'",
        "mysql": "CREATE USER small@'%' IDENTIFIED BY 'pw'",
    }
    gone = {"postgresql": "DROP ROLE small", "mysql": "DROP USER small@'%'"}
    backend = manager.backends.get(engine)
    driver = backend.at_server(backend.login(server.url, "URL"))
    cursor = driver.cursor()
    cursor.execute(small[engine])
    try:
        fields = DatabaseFields(engine, "127.0.0.1", server.port, "not_allowed", "small", "pw")
        assert refused(lambda: manager.provision(user, fields)).code == "access_denied"
        failed_with(manager, user, "access_denied")
        root = backend.login(server.url, "URL")
        assert not backend.exists(tenant_of(manager, user), Access(root, root))
    finally:
        cursor.execute(gone[engine])
        driver.close()


def test_a_full_server_is_said(manager, user, engine, server):
    manager.provision(user)
    manager.engines.close()
    backend = manager.backends.get(engine)
    login = backend.login(server.url, "URL")
    held = []
    try:
        with pytest.raises(BackendError):
            for _ in range(100):
                held.append(backend.open(login))
        assert refused(lambda: titles(manager, user)).code == "too_many_connections"
    finally:
        for driver in held:
            driver.close()
    assert titles(manager, user) == []


def test_a_frozen_server_is_answered_for_in_time_and_others_go_on(manager, user, server):
    manager.provision(user)
    assert titles(manager, user) == []
    neighbour = add_users(manager, 1)[0]
    manager.provision(neighbour, DatabaseFields("sqlite"))
    server.freeze()
    assert refused(lambda: titles(manager, user)).code == "database_timeout"
    assert refused(lambda: titles(manager, user)).code == "database_timeout"  # and so does a new connection
    assert titles(manager, neighbour) == []
    server.thaw()
    assert titles(manager, user) == []


def test_a_restarted_server_costs_no_idle_connection_its_request(manager, user, server):
    manager.provision(user)
    assert titles(manager, user) == []
    server.stop()
    assert refused(lambda: titles(manager, user)).code == "connection_refused"
    server.start()
    for _ in range(5):
        assert titles(manager, user) == []


def test_whatever_step_fails_nothing_is_left_and_the_next_try_succeeds(manager, user, engine, server):
    steps = FaultAt()
    manager.services.step = steps
    manager.provision(user)
    manager.delete_user_database(user)
    assert left_behind(manager, engine, server) == 0
    failed_at = ""
    for position in range(1, 50):
        manager.services.step = fault = FaultAt(position)
        with pytest.raises(Stopped):
            manager.provision(user)
        failed_at = fault.seen[-1]
        assert left_behind(manager, engine, server) == (2 if failed_at == "ready" else 0)
        if failed_at == "ready":
            break
    assert failed_at == "ready"
    manager.services.step = lambda name: None
    assert manager.provision(user).tenant.state is State.READY
    assert left_behind(manager, engine, server) == 2
    assert audit_actions(manager).count("tenant.provision") == 2


def test_a_password_that_was_changed_at_the_server_is_changed_here_and_a_wrong_one_is_not(
    manager, user, engine, server
):
    own = {
        "postgresql": [
            "CREATE ROLE own LOGIN CREATEDB PASSWORD 'old'; GRANT CONNECT ON DATABASE postgres TO own",
            "ALTER ROLE own PASSWORD 'new'",
        ],
        "mysql": [
            "CREATE USER own@'%' IDENTIFIED BY 'old'; GRANT ALL ON own_rows.* TO own@'%'",
            "ALTER USER own@'%' IDENTIFIED BY 'new'",
        ],
    }[engine]
    gone = {"postgresql": "REVOKE CONNECT ON DATABASE postgres FROM own; DROP ROLE own", "mysql": "DROP USER own@'%'"}[
        engine
    ]
    backend = manager.backends.get(engine)
    driver = backend.at_server(backend.login(server.url, "URL"))
    run(driver, *own[0].split("; "))
    fields = DatabaseFields(engine, "127.0.0.1", server.port, "own_rows", "own", "old")
    try:
        before = manager.provision(user, fields).tenant
        run(driver, own[1])
        manager.engines.close()
        assert refused(lambda: titles(manager, user)).code == "login_refused"
        assert refused(lambda: manager.provision(user, replace(fields, db_password="worse"))).code == "login_refused"
        assert tenant_of(manager, user).sealed_password == before.sealed_password
        changed = manager.provision(user, replace(fields, db_password="new"))
        assert (changed.created, changed.tenant.version) == (False, before.version + 1)
        assert titles(manager, user) == []
        assert audit_actions(manager)[-1] == "credential.change"
    finally:
        manager.delete_user_database(user)
        run(driver, *gone.split("; "))
        driver.close()
