"""Configurations of tenants: one a user, complete in every column, found by state, revision and use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tenancy.catalog import tenants, touch, users
from tenancy.catalog.tables import shared_database, user_database_configs
from tenancy.errors import ClaimedError, TenantNotFoundError
from tenancy.models import State, Tenant
from tenancy.types import new_id
from tests.support.threads import at_once


def add(catalog, user, **fields):
    with catalog.writing() as connection:
        return tenants.add(connection, user and user.id, {"tenant_id": new_id(), "db_type": "sqlite", **fields})


def get(catalog, user):
    with catalog.reading() as connection:
        return tenants.get(connection, user.id)


def account(catalog, email):
    with catalog.writing() as connection:
        return users.add(connection, email, "Somebody", None, False)


def test_a_configuration_comes_back_in_every_column(catalog, ada):
    moment = datetime(2026, 2, 28, 23, 59, 59, 123456, UTC)
    given = {
        "tenant_id": new_id(),
        "db_type": "sqlserver",
        "state": State.READ_ONLY,
        "version": 3,
        "epoch": 4,
        "db_host": "höst\\SQLEXPRESS",
        "db_port": 65535,
        "db_name": "user_1_db",
        "db_user": "sa",
        "db_password": "0123abcd." + "g" * 4000,
        "db_path": "/a/päth with blanks",
        "db_options": '{"tls": "required 😀"}',
        "owned": False,
        "is_active": False,
        "revision": "0009",
        "schema_fingerprint": "f" * 64,
        "last_error": "x" * 100_000,
        "last_error_code": "access_denied",
        "last_used_at": moment,
        "created_at": moment,
        "updated_at": moment,
    }
    made = add(catalog, ada, **given)
    sealed = given.pop("db_password")
    assert made == get(catalog, ada) == Tenant(user_id=ada.id, sealed_password=sealed, **given)


def test_a_new_configuration_is_being_provisioned_and_active(catalog, ada):
    made = add(catalog, ada, db_path="user_1.db")
    assert made == get(catalog, ada)
    assert (made.state, made.version, made.epoch, made.owned) == (State.PROVISIONING, 1, 1, True)
    assert made.is_active


def test_a_password_is_in_no_text_about_a_configuration(catalog, ada):
    made = add(catalog, ada, db_password="cipher-text")
    assert "cipher-text" not in repr(made) + str(made.to_dict())
    assert made.to_dict()["password_set"] is True


def test_a_user_without_a_database_is_told_what_to_type(catalog, ada):
    with pytest.raises(TenantNotFoundError, match=f"unify db init {ada.id}"):
        get(catalog, ada)


def test_of_sixteen_that_record_a_users_database_at_once_one_does(whole_product, catalog, ada):
    answers = at_once(16, lambda number: add(catalog, ada))
    made = [answer for answer in answers if isinstance(answer, Tenant)]
    refused = [answer for answer in answers if isinstance(answer, ClaimedError)]
    assert (len(made), len(refused)) == (1, 15), answers
    assert get(catalog, ada) == made[0]


def test_one_tenant_cannot_stand_in_two_users_configurations(catalog, ada):
    made = add(catalog, ada)
    with pytest.raises(ClaimedError):
        add(catalog, account(catalog, "bob@example.org"), tenant_id=made.tenant_id)


def test_a_change_touches_the_one_configuration(catalog, ada):
    bob = account(catalog, "bob@example.org")
    mine, other = add(catalog, ada), add(catalog, bob)
    with catalog.writing() as connection:
        tenants.change(connection, mine, state=State.READY, revision="0001", version=2)
    changed = get(catalog, ada)
    assert (changed.state, changed.revision, changed.version) == (State.READY, "0001", 2)
    assert changed.updated_at >= mine.updated_at
    assert get(catalog, bob) == other


def test_a_removed_configuration_is_gone_and_its_account_stays(catalog, ada):
    made = add(catalog, ada)
    with catalog.writing() as connection:
        tenants.remove(connection, made)
        assert users.get(connection, ada.id) == ada
    with pytest.raises(TenantNotFoundError):
        get(catalog, ada)


def test_the_shared_database_has_a_place_of_its_own(catalog, ada):
    mine = add(catalog, ada)
    with catalog.reading() as connection:
        assert tenants.shared(connection) is None
    shared = add(catalog, None, db_path="/shared.db", owned=False)
    with catalog.writing() as connection:
        tenants.change(connection, shared, state=State.READY)
        found = tenants.shared(connection)
        assert (found.tenant_id, found.user_id, found.state) == (shared.tenant_id, None, State.READY)
        assert tenants.get(connection, ada.id) == mine
        assert list(tenants.every(connection)) == [mine]
    with pytest.raises(ClaimedError):
        add(catalog, None)


def test_pages_follow_the_user_ids_with_their_addresses(catalog):
    people = [account(catalog, f"user{number}@example.org") for number in range(4)]
    made = [add(catalog, person) for person in people]
    with catalog.reading() as connection:
        first = tenants.page(connection, 0, 3, [])
        assert first == [(person.email, one) for person, one in zip(people, made, strict=True)][:3]
        assert tenants.page(connection, people[2].id, 3, []) == [(people[3].email, made[3])]
        assert tenants.page(connection, 0, 9, [users.matches("USER2@")]) == [(people[2].email, made[2])]


def test_active_users_without_a_database_are_listed(catalog, ada):
    bob, cleo = account(catalog, "bob@example.org"), account(catalog, "cleo@example.org")
    add(catalog, bob)
    with catalog.writing() as connection:
        assert tenants.users_without(connection) == [ada.id, cleo.id]
        users.change(connection, cleo.id, is_active=False)
        assert tenants.users_without(connection) == [ada.id]


def test_last_used_is_written_for_those_who_were(catalog, ada):
    bob = account(catalog, "bob@example.org")
    mine, other, shared = add(catalog, ada), add(catalog, bob), add(catalog, None)
    moment = datetime.now(UTC) + timedelta(hours=1)
    with catalog.writing() as connection:
        moments = {mine.tenant_id: moment, shared.tenant_id: moment, new_id(): moment}
        for table in (user_database_configs, shared_database):
            touch(connection, table.c.tenant_id, table.c.last_used_at, moments)
        assert tenants.shared(connection).last_used_at == moment
    assert get(catalog, ada).last_used_at == moment
    assert get(catalog, bob) == other
