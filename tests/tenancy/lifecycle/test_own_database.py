"""Users who bring a database of their own: whom they may name, what is taken over, what is left as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from tenancy import hosts
from tenancy.backends.base import DatabaseFields
from tenancy.backends.mysql.backend import MySQLBackend
from tenancy.backends.postgresql.backend import PostgreSQLBackend
from tenancy.backends.sqlserver.backend import SQLServerBackend
from tenancy.errors import (
    AccessDeniedError,
    ClaimLostError,
    ConfigurationError,
    DatabaseExistsError,
    HostNotAllowedError,
    TamperedCredentialError,
    TenancyError,
    TenantExistsError,
    UnsupportedBackendError,
)
from tenancy.hosts import HostPolicy
from tenancy.models import State
from tenancy.types import new_id
from tests.support import engines
from tests.support.applications import (
    FaultAt,
    Stopped,
    add_task,
    add_users,
    audit_actions,
    change_config,
    expire_claims,
    forked,
    tenant_of,
    titles,
)
from tests.support.engines import use
from tests.support.servers import listener
from tests.tenancy.lifecycle.test_provision import in_fresh_process, killed_at


@pytest.fixture(params=["postgresql", "mysql", "sqlserver"])
def engine(request: pytest.FixtureRequest) -> str:
    return use(request, request.param)


@pytest.fixture
def empty(engine, tmp_path) -> Iterator[DatabaseFields]:
    """Give the fields of a database that is there and empty."""
    with engines.fresh_database(engine, tmp_path) as url:
        yield fields_of(engine, url)


def fields_of(engine: str, url: str) -> DatabaseFields:
    address = sa.make_url(url)
    return DatabaseFields(
        engine,
        address.host,
        address.port,
        address.database,
        address.username,
        str(address.password or ""),
    )


def with_database(manager) -> int:
    user = add_users(manager, 1)[0]
    manager.provision(user)
    return user


@pytest.fixture
def own(make_parts):
    """Give parts that let users name hosts on this machine, which nobody may without a rule."""
    return make_parts(allow_user_databases="true", tenant_db_hosts_allowed="127.0.0.0/8")


@pytest.fixture
def manager(own):
    return own.manager


def test_an_empty_database_is_taken_over_and_never_dropped(manager, empty):
    user = with_database(manager)
    made = manager.own_databases.connect(user, empty)
    assert (made.created, made.tenant.owned, made.tenant.origin) == (True, False, "user")
    add_task(manager, user, "in my own")
    assert titles(manager, user) == ["in my own"]
    manager.delete_user_database(user)
    backend = manager.backends.get(empty.db_type)
    assert backend.exists(made.tenant, manager.services.access(made.tenant))


@pytest.mark.parametrize("port", [None, 5432])
def test_the_name_service_is_waited_for_alike_whatever_the_port(manager, monkeypatch, port):
    asked = []

    def resolved(name: str, *, limit_s: float) -> list[str]:
        asked.append((name, limit_s))
        return []

    monkeypatch.setattr(hosts, "resolved", resolved)
    user = add_users(manager, 1)[0]
    with pytest.raises(HostNotAllowedError):
        manager.own_databases.connect(user, DatabaseFields("postgresql", "db.example.org", port, "d", "u", "x"))
    assert asked == [("db.example.org", hosts.LOOKUP_S)]


def test_a_database_with_anything_in_it_is_left_alone(manager, empty, engine):
    user = add_users(manager, 1)[0]
    first = manager.own_databases.connect(user, empty).tenant
    other = add_users(manager, 1)[0]
    with pytest.raises(DatabaseExistsError):
        manager.own_databases.connect(other, empty)
    assert tenant_of(manager, other).state is State.FAILED
    assert tenant_of(manager, user) == first.with_(updated_at=tenant_of(manager, user).updated_at)
    assert titles(manager, user) == []


def test_a_present_database_with_rows_is_not_given_up(manager, empty):
    user = with_database(manager)
    add_task(manager, user, "of old")
    assert manager.own_databases.probe(user, empty)["message"].startswith("your present database holds data")
    with pytest.raises(TenantExistsError, match="holds data"):
        manager.own_databases.connect(user, empty)
    assert titles(manager, user) == ["of old"]
    assert audit_actions(manager)[-1] == "tenant.failed"


def test_what_cannot_be_connected_leaves_the_present_database_as_it_was(manager, empty):
    user = with_database(manager)
    before = tenant_of(manager, user)
    wrong = DatabaseFields(empty.db_type, empty.db_host, 1, empty.db_name, empty.db_user, "x")
    assert manager.own_databases.probe(user, wrong)["code"] == "connection_refused"
    with pytest.raises(ConfigurationError) as refused:
        manager.own_databases.connect(user, wrong)
    assert refused.value.fields["reason"] == "connection_refused"
    assert tenant_of(manager, user) == before
    assert titles(manager, user) == []


def test_a_row_that_is_acknowledged_while_the_other_database_is_looked_at_is_not_lost(manager, empty):
    """The writer comes after the probe and before the fence: under the fence its row is found."""
    user = with_database(manager)
    manager.services.step = lambda name: add_task(manager, user, "precious") if name == "claim" else None
    with pytest.raises(TenantExistsError, match="holds data"):
        manager.own_databases.connect(user, empty)
    manager.services.step = FaultAt()
    add_task(manager, user, "and goes on")
    assert titles(manager, user) == ["and goes on", "precious"]


def test_nothing_is_written_once_the_present_database_was_found_empty(manager, empty):
    user = with_database(manager)
    refused = []

    def write(name: str) -> None:
        if name in ("build", "switch"):
            with pytest.raises(TenancyError) as error:
                add_task(manager, user, "too late")
            refused.append(error.value.code)

    manager.services.step = write
    manager.own_databases.connect(user, empty)
    manager.services.step = FaultAt()
    assert refused == ["tenant_not_ready", "tenant_not_ready"]
    assert titles(manager, user) == []


@pytest.mark.parametrize("how", ["error", "kill"])
def test_connecting_that_stops_at_any_step_loses_nothing_and_is_finished_by_another_run(own, empty, how):
    """After an error the user has the present database, ready; after a kill another run brings them to the other."""
    manager = own.manager
    user = with_database(manager)
    first = tenant_of(manager, user)
    for position in range(1, 40):
        if how == "kill":
            stopped = killed_at(position, own, lambda fresh: fresh.manager.own_databases.connect(user, empty))
            expire_claims(manager)
        else:
            manager.services.step = FaultAt(position)
            stopped = raises((Stopped, TenancyError), lambda: manager.own_databases.connect(user, empty))
            manager.services.step = FaultAt()
        here = tenant_of(manager, user)
        if not stopped or here.db_type != first.db_type:
            break
        if how == "error":
            assert here.state is State.READY, position
            assert titles(manager, user) == []
    manager.own_databases.connect(user, empty)
    add_task(manager, user, "in my own")
    assert titles(manager, user) == ["in my own"]
    assert tenant_of(manager, user).db_name == empty.db_name
    assert manager.leftovers.clear(manager.leftovers.listed()) == []
    assert titles(manager, user) == ["in my own"]
    assert list(own.settings.tenant_data_dir.glob("user_*")) == []


@pytest.mark.parametrize("name", ["build", "rows", "switch"])
def test_an_exchange_that_slept_until_it_was_settled_can_be_done_again(own, empty, name):
    """The named database carries the sleeper's epoch; housekeeping has given the present one a higher."""
    manager = own.manager
    user = with_database(manager)

    def sleep(step: str) -> None:
        if step == name:
            expire_claims(manager)
            assert manager.settle_interrupted() == [user]

    manager.services.step = sleep
    with pytest.raises(ClaimLostError):
        manager.own_databases.connect(user, empty)
    manager.services.step = FaultAt()
    add_task(manager, user, "goes on")
    manager.execute_update("DELETE FROM tasks", user_id=user)
    manager.own_databases.connect(user, empty)
    assert tenant_of(manager, user).db_name == empty.db_name
    add_task(manager, user, "in my own")
    assert titles(manager, user) == ["in my own"]


def test_a_database_that_was_made_for_an_exchange_is_not_lost_from_sight_by_a_kill(own, empty):
    manager, fields = own.manager, replace(empty, db_name=f"unify_test_own_{new_id().hex[-12:]}")
    user = with_database(manager)

    def kill(name: str) -> None:
        if name == "switch":
            os.kill(os.getpid(), signal.SIGKILL)

    work = in_fresh_process(own.settings, lambda fresh: fresh.manager.own_databases.connect(user, fields), kill)
    assert forked(work).killed()
    expire_claims(manager)
    manager.provision(user)
    add_task(manager, user, "goes on")
    (left,) = manager.leftovers.listed()
    assert (left.db_name, left.reason) == (fields.db_name, "half_made")
    backend, access = manager.backends.get(left.db_type), manager.services.access(left)
    assert backend.exists(left, access)
    assert manager.leftovers.clear([left]) == []
    assert not backend.exists(left, access)
    assert titles(manager, user) == ["goes on"]


def test_the_present_database_under_another_name_of_its_server_is_kept(make_parts, empty):
    manager = make_parts(allow_user_databases="true", tenant_db_hosts_allowed="127.0.0.1,localhost").manager
    fields = replace(empty, db_host="127.0.0.1", db_name=f"unify_test_own_{new_id().hex[-12:]}")
    user = with_database(manager)
    assert manager.own_databases.connect(user, fields).tenant.owned
    found = manager.own_databases.connect(user, replace(fields, db_host="localhost"))
    assert (found.created, found.tenant.owned, found.tenant.db_host) == (False, True, "localhost")
    assert manager.leftovers.listed() == []
    add_task(manager, user, "still here")
    assert titles(manager, user) == ["still here"]
    backend, access = manager.backends.get(fields.db_type), manager.services.access(found.tenant)
    manager.delete_user_database(user)
    assert not backend.exists(found.tenant, access)


def test_two_who_connect_the_same_database_at_once_do_not_drop_it(manager, empty):
    """The second was past its look at the catalog when the first began, and claims the database after it."""
    fields = replace(empty, db_name=f"unify_test_own_{new_id().hex[-12:]}")
    user = with_database(manager)

    def other(name: str) -> None:
        manager.services.step = FaultAt()
        assert name == "claim"
        assert manager.own_databases.connect(user, fields).created

    manager.services.step = other
    assert not manager.own_databases.connect(user, fields).created
    add_task(manager, user, "still here")
    assert titles(manager, user) == ["still here"]
    assert manager.leftovers.listed() == []
    manager.delete_user_database(user)


def raises(kind, work) -> bool:
    try:
        work()
    except kind:
        return True
    return False


def test_nobody_may_where_the_operator_did_not_say_so(make_parts, empty):
    manager = make_parts().manager
    user = with_database(manager)
    for attempt in (manager.own_databases.probe, manager.own_databases.connect):
        with pytest.raises(AccessDeniedError, match="ALLOW_USER_DATABASES"):
            attempt(user, empty)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "10.0.0.1", "fd00:ec2::254"],
)
def test_without_rules_no_address_of_this_machine_or_its_network_is_connected_to(make_parts, host):
    manager = make_parts(allow_user_databases="true").manager
    user = add_users(manager, 1)[0]
    with listener() as (port, met):
        fields = DatabaseFields("postgresql", host, port, "some", "somebody", "secret")
        assert manager.own_databases.probe(user, fields)["code"] == "host_not_allowed"
        with pytest.raises(HostNotAllowedError) as refused:
            manager.own_databases.connect(user, fields)
        assert refused.value.field == "db_host"
    assert met == []


def test_the_check_runs_at_every_use_whatever_was_true_when_it_was_stored(manager, empty):
    user = add_users(manager, 1)[0]
    manager.own_databases.connect(user, empty)
    assert titles(manager, user) == []
    manager.engines.close()
    manager.services.hosts = HostPolicy()
    with pytest.raises(HostNotAllowedError):
        titles(manager, user)


def test_a_stored_row_cannot_be_turned_into_one_that_is_not_checked(manager, empty):
    user = add_users(manager, 1)[0]
    manager.own_databases.connect(user, empty)
    for change in ({"origin": "admin"}, {"origin": None}, {"server_id": 1}, {"db_host": "localhost"}, {"db_port": 1}):
        before = tenant_of(manager, user)
        change_config(manager, user, **change, version=before.version + 1)
        with pytest.raises(TamperedCredentialError):
            titles(manager, user)
        undone = {name: getattr(before, name) for name in change}
        change_config(manager, user, **undone, version=before.version + 2)
        assert titles(manager, user) == []
    change_config(manager, user, db_password=None, version=tenant_of(manager, user).version + 1)
    with pytest.raises(TamperedCredentialError):
        titles(manager, user)


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        *((PostgreSQLBackend, name) for name in ("postgres", "template1")),
        *((MySQLBackend, name) for name in ("mysql", "SYS")),
        *((SQLServerBackend, name) for name in ("master", "tempdb")),
    ],
)
def test_a_database_of_the_servers_own_is_no_users(backend, name):
    fields = DatabaseFields(backend.name, "127.0.0.1", None, name, "ada", "secret")
    try:
        made = backend()
    except UnsupportedBackendError as missing:
        pytest.skip(missing.message)
    with pytest.raises(ConfigurationError, match="the server's own") as refused:
        made.given(fields)
    assert refused.value.field == "db_name"
