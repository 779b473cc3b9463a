"""The manager and the context: whose database is reached from where, and that none is reached by accident."""

from __future__ import annotations

import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

import compose
from tenancy import DatabaseConnection, MultiTenantDatabaseManager, TenantManager, context, current_manager, install
from tenancy.catalog import tenants
from tenancy.catalog.runs import Selection
from tenancy.catalog.tables import audit_log
from tenancy.context import Context
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import (
    ConfigurationError,
    NoTenantError,
    ScopeError,
    TamperedCredentialError,
    TenantNotFoundError,
    UnknownKeyError,
    UnsupportedBackendError,
    UserNotFoundError,
    WrongTenantError,
)
from tenancy.models import Principal
from tenancy.types import new_id
from tests.support.applications import change_config

INSERT = "INSERT INTO tasks (id, user_id, title) VALUES (?, ?, ?)"


@pytest.fixture(autouse=True)
def nobody():
    """Begin and end each test with the context of a fresh process."""
    context.bind(Context())
    yield
    context.bind(Context())


def add(manager, user, title):
    return manager.execute_update(INSERT, (new_id().hex, user.id, title), user_id=user.id)


def titles(manager, user_id=None):
    return [title for (title,) in manager.fetch_all("SELECT title FROM tasks ORDER BY title", user_id=user_id)]


@pytest.fixture
def manager(parts, user, other):
    add(parts.manager, user, "ada's")
    add(parts.manager, other, "bob's")
    return parts.manager


EVERY_WAY_IN = {
    "session": lambda manager: manager.session().__enter__(),
    "engine_for": lambda manager: manager.engine_for(None),
    "get_user_connection": lambda manager: manager.get_user_connection(),
    "fetch_all": lambda manager: manager.fetch_all("SELECT 1"),
    "execute_update": lambda manager: manager.execute_update("DELETE FROM tasks"),
}


@pytest.mark.parametrize("way", EVERY_WAY_IN)
def test_where_no_user_was_ever_set_no_way_leads_anywhere(manager, way):
    with pytest.raises(NoTenantError):
        EVERY_WAY_IN[way](manager)
    assert manager.engines.stats()["leased"] == 0


@pytest.mark.parametrize("way", EVERY_WAY_IN)
@pytest.mark.parametrize("bad", [0, -1, True, "1;drop", 2**63])
def test_what_is_no_user_id_is_refused_by_its_field(manager, way, bad):
    ways = {
        "session": lambda: manager.session(bad).__enter__(),
        "engine_for": lambda: manager.engine_for(bad),
        "get_user_connection": lambda: manager.get_user_connection(bad),
        "fetch_all": lambda: manager.fetch_all("SELECT 1", user_id=bad),
        "execute_update": lambda: manager.execute_update("DELETE FROM tasks", user_id=bad),
    }
    with pytest.raises(ConfigurationError) as refused:
        ways[way]()
    assert refused.value.field == "user_id"


def test_the_named_user_is_the_one_reached(manager, user, other):
    assert titles(manager, user.id) == ["ada's"]
    assert titles(manager, other.id) == ["bob's"]


def test_the_user_of_the_context_is_the_one_reached(manager, user, other):
    manager.set_current_user(user.id)
    assert titles(manager) == ["ada's"]
    manager.set_current_user(other.id)
    assert titles(manager) == ["bob's"]
    with manager.session() as session:
        assert session.scalars(sa.text("SELECT title FROM tasks")).all() == ["bob's"]
        assert session.info["owner"] == other.id
    with manager.get_user_connection() as conn:
        assert conn.execute("SELECT title FROM tasks").fetchall() == [("bob's",)]
    with manager.engine_for().connect() as connection:
        assert connection.scalars(sa.text("SELECT title FROM tasks")).all() == ["bob's"]


def test_a_block_is_for_one_user(manager, user, other):
    with manager.tenant(user.id):
        assert titles(manager) == titles(manager, user.id) == ["ada's"]
        for way in (
            lambda: titles(manager, other.id),
            lambda: manager.set_current_user(other.id),
            lambda: manager.tenant(other.id).__enter__(),
            lambda: manager.session(other.id, write=True).__enter__(),
            lambda: manager.engine_for(other.id),
            lambda: manager.get_user_connection(other.id),
            lambda: DatabaseConnection.get_instance().set_user_context(other.id),
        ):
            with pytest.raises(WrongTenantError):
                way()
    with pytest.raises(NoTenantError):
        titles(manager)


def test_a_request_is_for_whoever_sent_it_and_asks_the_catalog_nothing_more(manager, parts, user, other):
    manager.bind(Principal(user, manager.tenant_of(user.id)), request_id="r1")
    sent = []
    sa.event.listen(parts.catalog.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    with manager.session(write=True) as session:
        session.execute(sa.text("UPDATE tasks SET title = 'mine'"))
    with manager.session(user.id) as session:
        assert session.scalars(sa.text("SELECT title FROM tasks")).all() == ["mine"]
    assert sent == []
    with pytest.raises(WrongTenantError):
        DatabaseConnection.get_instance().set_user_context(other.id)
    with pytest.raises(WrongTenantError):
        manager.session(other.id).__enter__()


def test_a_call_of_an_administrator_reaches_no_database_and_is_told_by_name(manager, parts, user, other):
    manager.bind(Principal(user, manager.tenant_of(user.id)), request_id="r2", own_database=False)
    with pytest.raises(NoTenantError):
        titles(manager)
    manager.suspend(other.id)
    with parts.catalog.reading() as connection:
        told = connection.execute(sa.select(audit_log).order_by(audit_log.c.id.desc()).limit(1)).one()
    assert (told.action, told.actor_id, told.user_id, told.request_id) == ("tenant.suspended", user.id, other.id, "r2")


def test_the_main_database_is_reached_by_the_explicit_way_and_in_that_context_alone(manager, user):
    manager.set_current_user(user.id)
    db = DatabaseConnection.get_instance()

    def in_main():
        db.clear_user_context()
        assert db.current_user_id is None
        return db.fetch_all("SELECT email FROM users WHERE id = ?", (user.id,))

    assert contextvars.copy_context().run(in_main) == [(user.email,)]
    assert titles(manager) == ["ada's"]
    with ThreadPoolExecutor(1) as pool, pytest.raises(NoTenantError):
        pool.submit(titles, manager).result()


def test_a_named_user_is_reached_from_the_main_database_too(manager, user):
    manager.clear_current_user()
    assert titles(manager, user.id) == ["ada's"]
    with pytest.raises(NoTenantError):
        manager.session().__enter__()
    with pytest.raises(NoTenantError):
        manager.get_user_connection()


def test_threads_work_for_their_own_users(manager, user, other):
    def work(one):
        manager.set_current_user(one.id)
        return [titles(manager) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(work, [user, other]))
    assert answers == [[["ada's"]] * 20, [["bob's"]] * 20]


def test_a_user_without_a_database_is_told_what_to_type(parts):
    user = parts.accounts.create("new@example.org")
    with pytest.raises(TenantNotFoundError, match=f"unify db init {user.id}"):
        titles(parts.manager, user.id)


# --- one shared database ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        lambda manager, user_id: manager.fetch_all("SELECT title FROM tasks", user_id=user_id),
        lambda manager, user_id: manager.execute_update("DELETE FROM tasks", user_id=user_id),
        lambda manager, user_id: manager.get_user_connection(user_id),
        lambda manager, user_id: manager.engine_for(user_id),
    ],
)
def test_in_the_shared_database_plain_sql_on_behalf_of_a_user_is_refused(shared_parts, way):
    manager = shared_parts.manager
    user = shared_parts.accounts.create("ada@example.org")
    manager.provision(user.id)
    with pytest.raises(ScopeError) as refused:
        way(manager, user.id)
    assert not isinstance(refused.value, NoTenantError | WrongTenantError)
    with manager.tenant(user.id), pytest.raises(ScopeError):
        way(manager, None)
    with pytest.raises(NoTenantError):
        way(manager, None)


def test_in_the_shared_database_a_session_is_still_somebodys(shared_parts):
    manager = shared_parts.manager
    user = shared_parts.accounts.create("ada@example.org")
    manager.provision(user.id)
    with pytest.raises(NoTenantError):
        manager.session().__enter__()
    with manager.session(user.id) as session:
        assert session.info["owner"] == user.id
    with pytest.raises(UserNotFoundError):
        manager.session(999).__enter__()


# --- passwords that were tampered with ----------------------------------------------------------------------


def keep_password(parts, user, sealed):
    with parts.catalog.writing() as connection:
        tenants.change(connection, tenants.get(connection, user.id), db_password=sealed)


def seal(parts, user, keyring=None):
    return (keyring or parts.manager.keyring).seal("a password", parts.manager.tenant_of(user.id).binding)


def told(parts):
    with parts.catalog.reading() as connection:
        parts.catalog.audit.verify(connection)
        query = sa.select(audit_log).where(audit_log.c.action == "credential.tampered").order_by(audit_log.c.id)
        return connection.execute(query).all()


def test_a_sealed_password_of_ones_own_opens_the_database(parts, user):
    keep_password(parts, user, seal(parts, user))
    assert titles(parts.manager, user.id) == []
    assert told(parts) == []


def test_a_tenant_whose_password_was_tampered_with_is_refused_alone_and_told_once(parts, user, other, caplog):
    keep_password(parts, user, seal(parts, other))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(TamperedCredentialError), parts.manager.session(user.id):
                pytest.fail("the database was opened")
            with pytest.raises(TamperedCredentialError):
                parts.manager.get_user_connection(user.id)
            with pytest.raises(TamperedCredentialError):
                titles(parts.manager, user.id)
            assert titles(parts.manager, other.id) == []
    (row,) = told(parts)
    assert (row.user_id, row.tenant_id) == (user.id, parts.manager.tenant_of(user.id).tenant_id)
    assert str(row.tenant_id) in caplog.text
    assert parts.manager.engines.stats()["leased"] == 0


def test_a_tampered_password_is_told_once_by_all_processes_together(parts, user, other, make_settings):
    keep_password(parts, user, seal(parts, other))
    second = compose.build(parts.settings)
    try:
        for manager in (parts.manager, second.manager, parts.manager):
            with pytest.raises(TamperedCredentialError):
                titles(manager, user.id)
    finally:
        second.close()
    assert len(told(parts)) == 1


def test_what_was_tampered_with_is_told_where_its_driver_is_missing(parts, user, no_sqlserver_driver):
    """The stored credential is looked at before the driver: who was attacked learns of it on any machine."""
    change_config(parts.manager, user.id, db_type="sqlserver", version=2)
    manager = parts.manager
    for ask in (
        lambda: titles(manager, user.id),
        lambda: manager.get_user_connection(user.id),
        lambda: manager.engine_for(user.id),
        lambda: manager.provision(user.id),
    ):
        with pytest.raises(TamperedCredentialError):
            ask()
    codes = {manager.reports.test(user.id)["code"], manager.reports.tenant(user.id)["unreachable"]["code"]}
    codes |= {each.code for checked in manager.fleet.verify(Selection(), orphans=False) for each in checked.found}
    assert codes == {"credential_tampered"}
    assert len(told(parts)) == 1


def test_a_driver_that_is_missing_is_told_where_the_credential_is_right(parts, user, no_sqlserver_driver):
    change_config(parts.manager, user.id, db_type="sqlserver", version=2)
    keep_password(parts, user, seal(parts, user))
    with pytest.raises(UnsupportedBackendError):
        titles(parts.manager, user.id)
    assert parts.manager.reports.test(user.id)["code"] == "backend_unsupported"
    assert told(parts) == []


def test_what_is_tampered_with_a_second_time_is_told_a_second_time(parts, user, other):
    for _ in range(2):
        keep_password(parts, user, seal(parts, other))
        with pytest.raises(TamperedCredentialError):
            titles(parts.manager, user.id)
        keep_password(parts, user, seal(parts, user))
        assert titles(parts.manager, user.id) == []
        parts.manager.engines.retire(parts.manager.tenant_of(user.id).tenant_id)
    assert len(told(parts)) == 2


def test_a_password_under_a_key_that_is_gone_is_refused_alone_and_is_no_tampering(parts, user, other):
    keep_password(parts, user, seal(parts, user, Keyring([generate_key()])))
    with pytest.raises(UnknownKeyError):
        titles(parts.manager, user.id)
    assert titles(parts.manager, other.id) == []
    assert told(parts) == []


# --- the installed manager ----------------------------------------------------------------------------------


def test_called_without_arguments_both_names_give_the_installed_manager(parts):
    assert TenantManager() is MultiTenantDatabaseManager() is current_manager() is parts.manager
    assert TenantManager is MultiTenantDatabaseManager


@pytest.mark.parametrize("call", [TenantManager, MultiTenantDatabaseManager, current_manager])
def test_without_an_installed_manager_these_calls_say_so(call):
    install(None)
    with pytest.raises(ConfigurationError, match="no tenant manager is installed"):
        call()
