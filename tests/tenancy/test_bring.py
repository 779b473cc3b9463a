"""Users who bring a database of their own: whom they may name, what is taken over, what is left as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tenancy.backends.base import DatabaseFields
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseExistsError,
    HostNotAllowedError,
    TamperedCredentialError,
    TenantExistsError,
)
from tenancy.hosts import HostPolicy
from tenancy.models import State
from tests import engines
from tests.engines import use
from tests.servers import listener
from tests.tenancy.support import add_task, add_users, change_config, placement_of, titles


@pytest.fixture(params=["postgresql", "mysql"])
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
def manager(make_parts):
    """Give a manager that lets users name hosts on this machine, which nobody may without a rule."""
    return make_parts(allow_user_databases="true", tenant_db_hosts_allowed="127.0.0.0/8").manager


def test_an_empty_database_is_taken_over_and_never_dropped(manager, empty):
    user = with_database(manager)
    made = manager.connect_own_database(user, empty)
    assert (made.created, made.placement.owned, made.placement.origin) == (True, False, "user")
    add_task(manager, user, "in my own")
    assert titles(manager, user) == ["in my own"]
    manager.delete_user_database(user)
    backend = manager.backends.get(empty.db_type)
    assert backend.exists(made.placement, manager.bench.access(made.placement))


def test_a_database_with_anything_in_it_is_left_alone(manager, empty, engine):
    user = add_users(manager, 1)[0]
    first = manager.connect_own_database(user, empty).placement
    other = add_users(manager, 1)[0]
    with pytest.raises(DatabaseExistsError):
        manager.connect_own_database(other, empty)
    assert placement_of(manager, other).state is State.FAILED
    assert placement_of(manager, user) == first.with_(updated_at=placement_of(manager, user).updated_at)
    assert titles(manager, user) == []


def test_a_present_database_with_rows_is_not_given_up(manager, empty):
    user = with_database(manager)
    add_task(manager, user, "of old")
    with pytest.raises(TenantExistsError, match="holds rows"):
        manager.connect_own_database(user, empty)
    assert titles(manager, user) == ["of old"]


def test_what_cannot_be_connected_leaves_the_present_database_as_it_was(manager, empty):
    user = with_database(manager)
    before = placement_of(manager, user)
    wrong = DatabaseFields(empty.db_type, empty.db_host, 1, empty.db_name, empty.db_user, "x")
    assert manager.probe_own_database(user, wrong)["code"] == "connection_refused"
    with pytest.raises(ConfigurationError) as refused:
        manager.connect_own_database(user, wrong)
    assert refused.value.fields["reason"] == "connection_refused"
    assert placement_of(manager, user) == before
    assert titles(manager, user) == []


def test_nobody_may_where_the_operator_did_not_say_so(make_parts, empty):
    manager = make_parts().manager
    user = with_database(manager)
    for attempt in (manager.probe_own_database, manager.connect_own_database):
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
        assert manager.probe_own_database(user, fields)["code"] == "host_not_allowed"
        with pytest.raises(HostNotAllowedError) as refused:
            manager.connect_own_database(user, fields)
        assert refused.value.field == "db_host"
    assert met == []


def test_the_check_runs_at_every_use_whatever_was_true_when_it_was_stored(manager, empty):
    user = add_users(manager, 1)[0]
    manager.connect_own_database(user, empty)
    assert titles(manager, user) == []
    manager.engines.close()
    manager.bench.hosts = HostPolicy()
    with pytest.raises(HostNotAllowedError):
        titles(manager, user)


def test_a_stored_row_cannot_be_turned_into_one_that_is_not_checked(manager, empty):
    user = add_users(manager, 1)[0]
    manager.connect_own_database(user, empty)
    for change in ({"origin": "admin"}, {"origin": None}, {"server_id": 1}, {"db_host": "localhost"}, {"db_port": 1}):
        before = placement_of(manager, user)
        change_config(manager, user, **change, version=before.version + 1)
        with pytest.raises(TamperedCredentialError):
            titles(manager, user)
        undone = {name: getattr(before, name) for name in change}
        change_config(manager, user, **undone, version=before.version + 2)
        assert titles(manager, user) == []
    change_config(manager, user, db_password=None, version=placement_of(manager, user).version + 1)
    with pytest.raises(TamperedCredentialError):
        titles(manager, user)
