"""Databases that cannot be reached: an operator lets go of them, and they are listed until they are gone."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from tenancy.catalog.tables import leftover_databases
from tenancy.credentials import rotation
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import (
    ClaimLostError,
    ConnectionRefusedByServerError,
    DatabaseUnreachableError,
    ServerExistsError,
    StaleRouteError,
    TenantNotFoundError,
)
from tenancy.models import State
from tests.support.applications import add_task, add_users, audit_actions, tenant_of, titles
from tests.support.engines import server_address, use


@pytest.fixture(params=["postgresql", "mysql", "sqlserver"])
def stranded(request, make_parts, monkeypatch):
    """Give parts and a user whose database's server does not answer until ``answer()`` is called."""
    engine = use(request, request.param)
    parts = make_parts(default_tenant_db_type=engine)
    manager = parts.manager
    manager.servers.add("one", engine, server_address(engine).render_as_string(hide_password=False))
    (user_id,) = add_users(parts, 1)
    manager.provision(user_id)
    add_task(manager, user_id, "of old")
    manager.engines.close()
    backend = manager.backends.get(engine)

    def refuse(*args):
        raise ConnectionRefusedByServerError("no server answers at this host and port.")

    with monkeypatch.context() as away:
        away.setattr(type(backend), "open", refuse)
        away.setattr(type(backend), "at_server", refuse)
        yield parts, user_id, away.undo
    for left in manager.leftovers.listed():
        manager.leftovers.clear([left])
    for row in manager.reports.databases(limit=10):
        manager.delete_user_database(row["user_id"])
    manager.servers.remove("one")


@pytest.mark.parametrize("forget", [False, True])
def test_a_database_that_was_put_back_from_an_older_copy_can_be_deleted(make_parts, forget):
    """Its epoch is lower than the catalog's: nothing may use it, and nothing may keep it for ever."""
    parts = make_parts()
    (user_id,) = add_users(parts, 1)
    parts.manager.provision(user_id)
    file = parts.settings.tenant_data_dir / f"user_{user_id}.db"
    copy = file.read_bytes()
    parts.manager.suspend(user_id)
    parts.manager.resume(user_id)
    parts.manager.engines.close()
    file.write_bytes(copy)
    with pytest.raises(StaleRouteError):
        add_task(parts.manager, user_id, "into an older one")
    assert parts.manager.delete_user_database(user_id, forget=forget)
    assert not file.exists()


def test_a_dead_server_leaves_the_database_as_it_was(stranded):
    parts, user_id, answer = stranded
    with pytest.raises(DatabaseUnreachableError):
        parts.manager.delete_user_database(user_id)
    assert tenant_of(parts.manager, user_id).state is State.READY
    assert audit_actions(parts.manager)[-1] == "tenant.failed"
    answer()
    assert parts.manager.provision(user_id).created is False
    add_task(parts.manager, user_id, "and goes on")
    assert titles(parts.manager, user_id) == ["and goes on", "of old"]


def test_one_that_is_let_go_of_is_listed_until_it_is_gone(stranded):
    parts, user_id, answer = stranded
    manager = parts.manager
    place = tenant_of(manager, user_id)
    assert manager.delete_user_database(user_id, forget=True) is False
    assert tenant_of(manager, user_id) is None
    (left,) = manager.leftovers.listed()
    assert (left.db_name, left.reason, left.user_id) == (place.db_name, "forgotten", user_id)
    assert manager.leftovers.clear([left]) == [left]
    assert manager.leftovers.listed()[0].last_error_code == "connection_refused"
    with pytest.raises(ServerExistsError, match="left behind"):
        manager.servers.remove("one")
    answer()
    assert manager.provision(user_id).created
    assert titles(manager, user_id) == []
    assert manager.leftovers.clear(manager.leftovers.listed()) == []
    backend = manager.backends.get(place.db_type)
    with closing(backend.at_server(manager.services.access(tenant_of(manager, user_id)).admin)) as driver:
        assert place.db_name not in backend.databases(driver, place.db_name)
    assert audit_actions(manager).count("tenant.forget") == audit_actions(manager).count("leftover.remove") == 1


def test_an_operator_confirms_that_one_is_gone(stranded):
    parts, user_id, answer = stranded
    parts.manager.delete_user_database(user_id, forget=True)
    (left,) = parts.manager.leftovers.listed()
    parts.manager.leftovers.confirm(left.id)
    assert parts.manager.leftovers.listed() == []
    with pytest.raises(TenantNotFoundError, match="unify db leftovers"):
        parts.manager.leftovers.confirm(left.id)
    answer()
    backend = parts.manager.backends.get(left.db_type)
    backend.drop(left, parts.manager.services.access(left))


def test_whoever_forgets_late_leaves_what_others_made_meanwhile(stranded):
    """The first sleeps between its failed deletion and its forgetting; the user has another database by then."""
    parts, user_id, answer = stranded
    manager = parts.manager
    real = manager.retirement._forget

    def late(*what):
        manager.retirement._forget = real
        assert manager.delete_user_database(user_id, forget=True) is False
        answer()
        manager.provision(user_id)
        add_task(manager, user_id, "in the next one")
        real(*what)

    manager.retirement._forget = late
    with pytest.raises(ClaimLostError):
        manager.delete_user_database(user_id, forget=True)
    assert titles(manager, user_id) == ["in the next one"]
    assert len(manager.leftovers.listed()) == 1


def test_a_leftovers_password_is_sealed_anew_and_a_damaged_row_hides_no_other(stranded):
    parts, user_id, answer = stranded
    manager = parts.manager
    manager.delete_user_database(user_id, forget=True)
    ring = Keyring([generate_key(), *parts.settings.tenant_credential_keys])
    rotation.rotate(manager.catalog, ring)
    with manager.catalog.reading() as connection:
        assert set(rotation.keys_in_use(connection)) == {ring.newest}
    manager.services.keyring = ring
    answer()
    (left,) = manager.leftovers.listed()
    with manager.catalog.writing() as connection:
        table = leftover_databases
        kept = connection.execute(sa.select(table)).mappings().one()
        connection.execute(table.insert(), {**kept, "id": left.id + 1})
        connection.exec_driver_sql(f"UPDATE leftover_databases SET state = 'nonsense' WHERE id = {left.id + 1}")
    assert [each.damaged for each in manager.leftovers.listed()] == [(), ("state",)]
    (staying,) = manager.leftovers.clear(manager.leftovers.listed())
    manager.leftovers.confirm(staying.id)


def test_one_that_can_be_reached_is_deleted_whatever_was_asked(stranded):
    parts, user_id, answer = stranded
    answer()
    assert parts.manager.delete_user_database(user_id, forget=True) is True
    assert parts.manager.leftovers.listed() == []
