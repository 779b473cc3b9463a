"""The manager: one door to a user's database, which says no by name and never opens another's."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from compose import Parts
from repositories.repository_factory import RepositoryFactory
from tenancy import MultiTenantDatabaseManager, TenantManager, context, current_manager, install
from tenancy.backends.base import DatabaseFields
from tenancy.errors import (
    ConfigurationError,
    DatabaseDamagedError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    NoTenantError,
    ReadOnlyRouteError,
    RevisionMismatchError,
    ScopeError,
    StaleRouteError,
    TamperedCredentialError,
    TenancyError,
    TenantNotFoundError,
    TenantNotReadyError,
    UserNotFoundError,
)
from tenancy.models import READABLE, WRITABLE, Principal, State
from tests.support.applications import (
    add_task,
    add_tenants,
    add_users,
    audit_actions,
    change_config,
    revision,
    small_manager,
    tenant_of,
    titles,
    together,
)


@pytest.fixture
def manager(parts: Parts) -> TenantManager:
    return parts.manager


@pytest.fixture
def users(parts: Parts) -> tuple[int, int]:
    """Give two users with a task each."""
    first, second = add_tenants(parts, 2)
    add_task(parts.manager, first, "of the first")
    add_task(parts.manager, second, "of the second")
    return first, second


@pytest.fixture
def file(parts: Parts) -> Callable[[int], Path]:
    return lambda user_id: parts.settings.tenant_data_dir / str(tenant_of(parts.manager, user_id).db_path)


def open_in_every_way(manager: TenantManager, user_id: int) -> list[type[BaseException] | None]:
    """Try each way to a user's rows; give what each raised."""

    def by_session() -> object:
        with manager.session(user_id) as session:
            return session.execute(sa.text("SELECT title FROM tasks")).all()

    def by_engine() -> object:
        with manager.engine_for(user_id).connect() as connection:
            return connection.execute(sa.text("SELECT title FROM tasks")).all()

    def by_connection() -> object:
        with closing(manager.get_user_connection(user_id)) as connection:
            return connection.execute("SELECT title FROM tasks").fetchall()

    def by_query() -> object:
        return manager.fetch_all("SELECT title FROM tasks", user_id=user_id)

    def by_update() -> object:
        return manager.execute_update("UPDATE tasks SET title = 'changed'", user_id=user_id)

    return [_raised(way) for way in (by_session, by_engine, by_connection, by_query, by_update)]


def _raised(way: Callable[[], object]) -> type[BaseException] | None:
    try:
        way()
    except Exception as error:  # noqa: BLE001 - its class is the answer
        return type(error)
    return None


# --- sessions -------------------------------------------------------------------------------------------


def test_a_session_is_one_transaction(manager, users):
    tasks = RepositoryFactory.get_repository
    with manager.session(users[0], write=True) as session:
        tasks("tasks", session, users[0]).create({"title": "kept"})
    with pytest.raises(ZeroDivisionError), manager.session(users[0], write=True) as session:
        tasks("tasks", session, users[0]).create({"title": "taken back"})
        raise ZeroDivisionError
    assert titles(manager, users[0]) == ["kept", "of the first"]
    assert titles(manager, users[1]) == ["of the second"]
    assert manager.engines.stats()["leased"] == 0


def test_a_reading_session_cannot_write(manager, users):
    with pytest.raises(ReadOnlyRouteError), manager.session(users[0]) as session:
        session.execute(sa.text("DELETE FROM tasks"))
    assert titles(manager, users[0]) == ["of the first"]


def test_a_reading_session_sees_one_moment(manager, users):
    with manager.session(users[0]) as session:
        count = sa.text("SELECT count(*) FROM tasks")
        before = session.execute(count).scalar()
        assert together([lambda: add_task(manager, users[0], "meanwhile")]) == [None]
        assert session.execute(count).scalar() == before == 1
    assert len(titles(manager, users[0])) == 2


def test_sixteen_threads_that_read_and_then_write_one_row_are_never_told_it_is_locked(manager, users):
    """goals.md, trap 12, through the manager: a write begins with its lock."""

    def add_one() -> int:
        with manager.session(users[0], write=True) as session:
            seen = session.execute(sa.text("SELECT version FROM tasks")).scalar_one()
            update = sa.text("UPDATE tasks SET version = :next WHERE version = :seen")
            return session.execute(update, {"seen": seen, "next": seen + 1}).rowcount

    assert together([add_one] * 16) == [1] * 16
    assert manager.fetch_all("SELECT version FROM tasks", user_id=users[0]) == [(17,)]


def test_without_a_user_nothing_opens(manager, users):
    with pytest.raises(NoTenantError), manager.session():
        raise AssertionError("it was opened")
    for way in (manager.engine_for, manager.get_user_connection, lambda: manager.fetch_all("SELECT 1")):
        with pytest.raises(NoTenantError):
            way()


def test_a_user_without_a_database_or_account_is_told_so(manager, parts):
    (user_id,) = add_users(parts, 1)
    with pytest.raises(TenantNotFoundError, match=f"unify db init {user_id}"), manager.session(user_id):
        raise AssertionError("it was opened")
    with pytest.raises(UserNotFoundError):
        manager.reports.info(99)


@pytest.mark.parametrize("wrong", [0, -1, "1;drop", True, 2**63, None, "", "x", 1.5])
def test_an_id_that_cannot_be_one_names_the_field(manager, wrong):
    with pytest.raises(ConfigurationError) as refused:
        manager.provision(wrong)
    assert refused.value.field == "user_id"


# --- states ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("state", list(State))
def test_every_state_is_honoured(manager, users, state, write):
    change_config(manager, users[0], state=state)
    expected: type[TenancyError] | None = None
    if state not in READABLE:
        expected = TenantNotReadyError
    elif write and state not in WRITABLE:
        expected = ReadOnlyRouteError
    assert _raised(lambda: _open(manager, users[0], write)) is expected
    assert _raised(lambda: _open(manager, users[1], write)) is None


def _open(manager: TenantManager, user_id: int, write: bool) -> None:
    with manager.session(user_id, write=write) as session:
        session.execute(sa.text("SELECT 1"))


@pytest.mark.parametrize("state", [state for state in State if state not in READABLE])
def test_every_way_in_honours_the_state(manager, users, state):
    change_config(manager, users[0], state=state)
    assert open_in_every_way(manager, users[0]) == [TenantNotReadyError] * 5


def test_a_configuration_that_was_switched_off_is_refused(manager, users):
    change_config(manager, users[0], is_active=False)
    assert open_in_every_way(manager, users[0]) == [TenantNotReadyError] * 5


def test_a_changed_state_is_honoured_by_the_next_request_of_another_process(manager, users, parts):
    import compose

    second = compose.build(parts.settings)
    assert titles(second.manager, users[0]) == ["of the first"]
    manager.suspend(users[0])
    with pytest.raises(TenantNotReadyError, match="suspended"):
        titles(second.manager, users[0])
    manager.resume(users[0])
    assert titles(second.manager, users[0]) == ["of the first"]
    second.manager.close()


# --- revisions ------------------------------------------------------------------------------------------


@pytest.fixture
def two_versions(tmp_path):
    """Give the managers of two versions of one application, the second with one revision more."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        revision(folder, "0001", None, "op.create_table('tasks', sa.Column('title', sa.String(20)))")
    newest = revision(new, "0002", "0001", "op.add_column('tasks', sa.Column('done', sa.Integer))")
    newest.write_text(newest.read_text() + "\n\ndestructive = True\n")  # else the old version goes on serving it
    managers = small_manager(tmp_path, old), small_manager(tmp_path, new)
    yield managers
    for manager in managers:
        manager.close()


def test_a_tenant_behind_or_ahead_of_the_code_is_refused_with_the_reason(two_versions):
    old, new = two_versions
    (user_id,) = add_users(old, 1)
    old.provision(user_id)
    with pytest.raises(RevisionMismatchError, match="at revision 0001, the application needs 0002") as behind:
        _open(new, user_id, False)
    assert (behind.value.fields["revision"], behind.value.fields["head_revision"]) == ("0001", "0002")
    assert open_in_every_way(new, user_id) == [RevisionMismatchError] * 5
    new.provision(user_id)
    assert _raised(lambda: _open(new, user_id, False)) is None
    with pytest.raises(RevisionMismatchError, match="at revision 0002, the application needs 0001"):
        _open(old, user_id, False)


def test_a_database_whose_version_table_disagrees_with_the_catalog_is_refused(two_versions, tmp_path):
    old, new = two_versions
    (user_id,) = add_users(old, 1)
    old.provision(user_id)
    change_config(old, user_id, revision="0002")  # what a catalog restored from another day would say
    assert open_in_every_way(new, user_id) == [RevisionMismatchError] * 5
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db")) as driver:
        assert driver.execute("SELECT version_num FROM tenant_version").fetchall() == [("0001",)]


# --- databases that are not what the catalog says -------------------------------------------------------


def test_a_lost_file_is_said_and_none_appears(manager, users, file):
    manager.engines.close()
    file(users[0]).unlink()
    assert open_in_every_way(manager, users[0]) == [DatabaseMissingError] * 5
    assert manager.reports.test(users[0])["code"] == "database_missing"
    assert not file(users[0]).exists()
    assert titles(manager, users[1]) == ["of the second"]


def test_a_damaged_file_is_said(manager, users, file):
    manager.engines.close()
    file(users[0]).write_bytes(b"damaged" * 5000)
    assert open_in_every_way(manager, users[0]) == [DatabaseDamagedError] * 5
    assert "damaged" in manager.reports.test(users[0])["message"]


def test_a_file_damaged_where_the_rows_are_is_said(manager, users, file):
    manager.engines.close()
    with closing(sqlite3.connect(file(users[0]))) as driver:
        root = driver.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tasks'").fetchone()[0]
        size = driver.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(file(users[0]).read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    file(users[0]).write_bytes(content)
    with pytest.raises(DatabaseUnreachableError, match="damaged"):
        titles(manager, users[0])


def test_another_tenants_file_in_its_place_shows_nothing(manager, users, file):
    manager.engines.close()
    shutil.copyfile(file(users[1]), file(users[0]))
    assert open_in_every_way(manager, users[0]) == [IdentityError] * 5
    assert manager.reports.test(users[0])["code"] == "identity_mismatch"
    assert titles(manager, users[1]) == ["of the second"]


def test_an_older_copy_of_ones_own_deleted_database_shows_nothing(manager, users, file, tmp_path):
    manager.engines.close()
    shutil.copyfile(file(users[0]), tmp_path / "kept aside")
    manager.delete_user_database(users[0])
    manager.provision(users[0])
    manager.engines.close()
    shutil.copyfile(tmp_path / "kept aside", file(users[0]))
    assert open_in_every_way(manager, users[0]) == [IdentityError] * 5


def test_the_catalog_in_its_place_shows_nothing(manager, users, file, tmp_path):
    manager.close()
    shutil.copyfile(tmp_path / "admin.db", file(users[0]))
    assert open_in_every_way(manager, users[0]) == [IdentityError] * 5


def test_the_shared_database_in_its_place_shows_nothing(make_parts, tmp_path):
    shared = make_parts(multi_tenant_mode="false", admin_database_url=f"sqlite:///{tmp_path / 'shared.db'}")
    shared.manager.close()
    parts = make_parts()
    (user_id,) = add_tenants(parts, 1)
    parts.manager.engines.close()
    shutil.copyfile(tmp_path / "shared.db", parts.settings.tenant_data_dir / f"user_{user_id}.db")
    assert open_in_every_way(parts.manager, user_id) == [IdentityError] * 5


@pytest.mark.parametrize("path", ["../../admin.db", "../admin.db", "file:x", ":memory:", "", None, "user_{other}.db"])
def test_a_path_tampered_with_in_the_catalog_is_refused(manager, users, path, tmp_path):
    manager.engines.close()
    before = sorted(tmp_path.rglob("*.db*"))
    change_config(manager, users[0], db_path=path and path.format(other=users[1]))
    assert open_in_every_way(manager, users[0]) == [IdentityError] * 5
    assert sorted(tmp_path.rglob("*.db*")) == before
    assert manager.reports.info(users[0])["size_bytes"] is None


def test_a_tenant_uuid_tampered_with_in_the_catalog_is_refused(manager, users):
    manager.engines.close()
    second = tenant_of(manager, users[1]).tenant_id
    with manager.catalog.writing() as connection:
        connection.exec_driver_sql("DELETE FROM user_database_configs WHERE user_id = ?", (users[1],))
    change_config(manager, users[0], tenant_id=second)
    assert open_in_every_way(manager, users[0]) == [IdentityError] * 5


def test_a_link_in_its_place_to_another_tenants_file_shows_nothing(manager, users, file):
    manager.engines.close()
    file(users[0]).unlink()
    file(users[0]).symlink_to(file(users[1]))
    assert open_in_every_way(manager, users[0]) == [IdentityError] * 5


def test_a_secret_from_another_row_stops_that_tenant_alone_and_is_told_once(manager, users):
    sealed = manager.keyring.seal("secret", tenant_of(manager, users[1]).binding)
    change_config(manager, users[0], db_password=sealed, version=2)
    for _ in range(2):
        assert open_in_every_way(manager, users[0]) == [TamperedCredentialError] * 5
    assert audit_actions(manager).count("credential.tampered") == 1
    assert titles(manager, users[1]) == ["of the second"]


# --- requests -------------------------------------------------------------------------------------------


@contextmanager
def request_of(manager: TenantManager, parts: Parts, user_id: int):
    """Run the block as a web request does: in a context that is held for its user."""
    principal = Principal(parts.accounts.get(user_id), tenant_of(manager, user_id), key_id=None)
    before = context.current()
    manager.bind(principal, request_id="r-1")
    try:
        yield principal
    finally:
        context.bind(before)


def test_a_request_opens_its_database_without_asking_the_catalog_again(manager, parts, users, monkeypatch):
    with request_of(manager, parts, users[0]):
        monkeypatch.setattr(manager.router, "tenant_of", lambda user_id: pytest.fail("it asked again"))
        with manager.session() as session:
            assert session.execute(sa.text("SELECT title FROM tasks")).scalars().all() == ["of the first"]


def test_a_request_whose_route_is_older_than_the_engine_asks_once_more_and_honours_the_answer(manager, parts, users):
    with request_of(manager, parts, users[0]):
        change_config(manager, users[0], version=2)
        assert together([lambda: titles(manager, users[0])]) == [["of the first"]]  # another request, by the new route
        assert titles(manager, users[0]) == ["of the first"]
        change_config(manager, users[0], state=State.MOVING)
        with pytest.raises(TenantNotReadyError, match="moving"):
            titles(manager, users[0])


def test_a_request_that_began_before_a_suspension_cannot_write_after_it(manager, parts, users):
    with request_of(manager, parts, users[0]):
        assert together([lambda: manager.suspend(users[0])]) == [None]
        with pytest.raises(StaleRouteError, match="nothing was written"):
            add_task(manager, users[0], "too late")
    manager.resume(users[0])
    assert titles(manager, users[0]) == ["of the first"]


# --- the shared mode ------------------------------------------------------------------------------------


def test_the_shared_database_is_one_engine_for_all_and_each_sees_their_own(shared_parts):
    manager, ids = shared_parts.manager, add_users(shared_parts, 3)
    for user_id in ids:
        assert [manager.provision(user_id).created, manager.provision(user_id).created] == [True, False]
        with manager.session(user_id, write=True) as session:
            RepositoryFactory.get_repository("tasks", session, user_id).create({"title": f"of {user_id}"})
    for user_id in ids:
        with manager.session(user_id) as session:
            rows = RepositoryFactory.get_repository("tasks", session, user_id).list()
        assert [row["title"] for row in rows] == [f"of {user_id}"]
    assert manager.engines.stats()["open"] == 1


def test_nothing_of_the_shared_database_can_be_unmade_for_one_user(shared_parts):
    (user_id,) = add_users(shared_parts, 1)
    shared_parts.manager.provision(user_id)
    for verb in ("delete_user_database", "suspend", "resume"):
        with pytest.raises(ConfigurationError, match="users share one database"):
            getattr(shared_parts.manager, verb)(user_id)
    with pytest.raises(ConfigurationError):
        shared_parts.manager.provision(user_id, DatabaseFields(db_type="postgresql"))
    for raw in (shared_parts.manager.engine_for, shared_parts.manager.get_user_connection):
        with pytest.raises(ScopeError):
            raw(user_id)


# --- the process's manager ------------------------------------------------------------------------------


def test_calls_without_arguments_find_the_installed_manager(manager):
    assert MultiTenantDatabaseManager() is TenantManager() is current_manager() is manager
    assert TenantManager().head == manager.chain.head
    install(None)
    with pytest.raises(ConfigurationError, match="no tenant manager"):
        TenantManager()


def test_a_manager_needs_all_its_parts(manager):
    with pytest.raises(ConfigurationError):
        TenantManager(manager.catalog)
