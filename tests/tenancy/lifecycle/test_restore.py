"""Restoring a user's database and undoing that: wholly the old rows or wholly the new ones, and nothing gets lost."""

from __future__ import annotations

import signal

import pytest
import sqlalchemy as sa

from tenancy.backends.base import DatabaseFields
from tenancy.catalog import leftovers
from tenancy.catalog.leftovers import Reason
from tenancy.errors import (
    ArchiveError,
    ArchiveKeyError,
    ArchiveSignatureError,
    BackupNotFoundError,
    ClaimedError,
    ConfigurationError,
    NewerRowsError,
    RestoreDoneError,
    StaleRouteError,
    TenancyError,
)
from tenancy.models import State
from tenancy.types import new_id
from tests.conftest import make_user
from tests.support.applications import (
    FaultAt,
    SignalAt,
    Stopped,
    add_task,
    add_tenants,
    change_config,
    expire_claims,
    forked,
    tenant_of,
    titles,
)
from tests.support.backups import with_keys
from tests.support.products import parts_on_sqlite

MOST_STEPS = 40


@pytest.fixture
def manager(parts_on_each, tmp_path):
    with_keys(parts_on_each.manager, tmp_path)
    return parts_on_each.manager


@pytest.fixture
def ada(parts_on_each, manager):
    [user_id] = add_tenants(parts_on_each, 1)
    add_task(manager, user_id, "before")
    return user_id


@pytest.fixture
def backup(manager, ada):
    """Give a backup of a database that had another row afterwards."""
    made = manager.backups.create(ada)
    add_task(manager, ada, "after")
    return made


def kept(manager, user_id):
    with manager.catalog.reading() as connection:
        return [each.id for each in leftovers.of_user(connection, user_id) if each.reason == Reason.KEPT]


def half_made(manager, user_id):
    return [each.id for each in manager.leftovers.of_user(user_id)]


def test_a_restore_brings_the_rows_back_and_undoing_it_the_later_ones(manager, ada, backup):
    before = tenant_of(manager, ada)
    restored = manager.restores.restore(ada, backup.id)
    after = tenant_of(manager, ada)
    assert titles(manager, ada) == ["before"]
    assert (after.state, after.tenant_id, after.owned) == (State.READY, before.tenant_id, True)
    assert (after.db_name, after.db_path) != (before.db_name, before.db_path)
    assert after.epoch > before.epoch
    assert [restored.kept.id] == kept(manager, ada)
    undone = manager.restores.undo(ada)
    assert sorted(titles(manager, ada)) == ["after", "before"]
    assert undone.written.rows == 0
    assert tenant_of(manager, ada).state is State.READY
    again = manager.restores.undo(ada)
    assert titles(manager, ada) == ["before"]
    assert again.written.rows == 0
    add_task(manager, ada, "works")
    assert half_made(manager, ada) == []


def test_undoing_says_what_was_written_since_and_keeps_it(manager, ada, backup):
    manager.restores.restore(ada, backup.id)
    for number in range(3):
        add_task(manager, ada, f"newer {number}")
    with pytest.raises(NewerRowsError, match="at least 3, in tasks"):
        manager.restores.undo(ada)
    assert sorted(titles(manager, ada)) == ["before", "newer 0", "newer 1", "newer 2"]
    add_task(manager, ada, "still in use")
    undone = manager.restores.undo(ada, discard_newer=True)
    assert (undone.written.rows, undone.written.tables) == (4, ("tasks",))
    assert sorted(titles(manager, ada)) == ["after", "before"]
    manager.restores.undo(ada)
    assert "still in use" in titles(manager, ada)


def test_only_some_tables_come_back(manager, ada, backup):
    with manager.session(ada, write=True) as session:
        session.execute(sa.text("DELETE FROM tasks"))
        session.execute(sa.text("UPDATE categories SET name = 'Renamed'"))
    manager.restores.restore(ada, backup.id, only_tables=["tasks"])
    assert titles(manager, ada) == ["before"]
    with manager.session(ada) as session:
        assert session.execute(sa.text("SELECT name FROM categories")).scalars().all() == ["Renamed"]


def test_a_suspended_database_is_restored_and_stays_suspended(manager, ada, backup):
    manager.suspend(ada)
    manager.restores.restore(ada, backup.id)
    assert tenant_of(manager, ada).state is State.SUSPENDED
    manager.resume(ada)
    assert titles(manager, ada) == ["before"]
    add_task(manager, ada, "works")


def test_a_database_that_is_gone_comes_back(manager, ada, backup):
    tenant = tenant_of(manager, ada)
    backend = manager.backends.get(tenant.db_type)
    manager.engines.retire(tenant.tenant_id)
    backend.drop(tenant, manager.services.access(tenant))
    restored = manager.restores.restore(ada, backup.id)
    assert titles(manager, ada) == ["before"]
    assert (restored.kept, kept(manager, ada)) == (None, [])


def test_a_write_that_began_before_is_refused(manager, ada, backup):
    engine = manager.engine_for(ada)
    manager.restores.restore(ada, backup.id)
    with pytest.raises(TenancyError) as refused, engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM tasks"))
    assert isinstance(refused.value, StaleRouteError)
    assert titles(manager, ada) == ["before"]


def test_where_all_share_one_database_none_is_restored(shared_parts):
    restores = shared_parts.manager.restores
    for work in (lambda: restores.restore(1, new_id()), lambda: restores.undo(1)):
        with pytest.raises(ConfigurationError, match="share one database"):
            work()


@parts_on_sqlite
class TestDecisions:
    """What is decided above the products."""

    def test_a_damaged_file_comes_back(self, manager, ada, backup, parts_on_each):
        path = parts_on_each.settings.tenant_data_dir / tenant_of(manager, ada).db_path
        manager.close()
        for each in path.parent.glob(f"{path.name}-*"):
            each.unlink()
        path.write_bytes(b"no database at all" * 400)
        manager.restores.restore(ada, backup.id)
        assert titles(manager, ada) == ["before"]

    def test_an_older_copy_of_the_file_is_replaced(self, manager, ada, backup):
        change_config(manager, ada, epoch=tenant_of(manager, ada).epoch + 5)
        manager.restores.restore(ada, backup.id)
        assert titles(manager, ada) == ["before"]

    def test_another_users_backup_is_refused(self, manager, ada, backup, parts_on_each):
        other = make_user(parts_on_each, "eve@example.org").id
        before = tenant_of(manager, other)
        with pytest.raises(ArchiveError, match="another database's"):
            manager.restores.restore(other, backup.id)
        assert tenant_of(manager, other) == before
        manager.restores.restore(other, backup.id, from_another=True)
        assert titles(manager, other) == ["before"]
        with manager.session(other) as session:
            assert set(session.execute(sa.text("SELECT user_id FROM tasks")).scalars()) == {other}

    def test_an_unsigned_or_changed_backup_is_refused(self, manager, ada, backup, tmp_path):
        [record] = (tmp_path / "backups").rglob("*.json")
        whole = record.read_bytes()
        record.write_bytes(whole.split(b"\n")[0] + b"\n{}\n")
        with pytest.raises(ArchiveSignatureError):
            manager.restores.restore(ada, backup.id)
        record.write_bytes(whole)
        [archive] = (tmp_path / "backups").rglob("*.age")
        archive.write_bytes(archive.read_bytes()[:-1])
        with pytest.raises(ArchiveError):
            manager.restores.restore(ada, backup.id)
        assert sorted(titles(manager, ada)) == ["after", "before"]
        add_task(manager, ada, "still in use")

    def test_without_the_secret_key_nothing_begins(self, manager, ada, backup, tmp_path):
        with_keys(manager, tmp_path, url=str(tmp_path / "backups"), identity_file=None)
        with pytest.raises(ArchiveKeyError):
            manager.restores.restore(ada, backup.id)
        assert tenant_of(manager, ada).state is State.READY

    def test_what_does_not_exist_is_said(self, manager, ada, backup):
        with pytest.raises(BackupNotFoundError, match="no restore of user"):
            manager.restores.undo(ada)
        assert manager.restores.kept(ada) is None

    def test_a_key_is_good_for_one_switch(self, manager, ada, backup):
        manager.restores.restore(ada, backup.id, key="once")
        add_task(manager, ada, "newer")
        with pytest.raises(RestoreDoneError):
            manager.restores.restore(ada, backup.id, key="once")
        assert titles(manager, ada) == ["before", "newer"]
        manager.restores.restore(ada, backup.id, key="again")
        assert titles(manager, ada) == ["before"]

    def test_while_one_runs_the_other_is_refused(self, manager, ada, backup):
        with manager.catalog.writing() as connection:
            manager.retirement.claim(connection, tenant_of(manager, ada), "anything")
        for work in (lambda: manager.restores.restore(ada, backup.id), lambda: manager.backups.create(ada)):
            with pytest.raises(ClaimedError):
                work()

    def test_what_is_kept_stays_until_it_is_asked_for_or_the_database_is_deleted(self, manager, ada, backup):
        manager.restores.restore(ada, backup.id)
        found = manager.restores.kept(ada)
        assert (found.written, found.backup_id) == (0, backup.id)
        add_task(manager, ada, "newer")
        assert manager.restores.kept(ada).written == 1
        manager.settle_interrupted()
        manager.provision(ada, DatabaseFields())
        assert len(kept(manager, ada)) == 1
        manager.delete_user_database(ada)
        assert kept(manager, ada) == []

    @pytest.mark.parametrize("operation", ["restore", "undo"])
    def test_it_can_fail_at_any_step_and_be_run_again(self, manager, ada, backup, operation):
        work, expected = of(manager, ada, backup, operation)
        for position in range(1, MOST_STEPS):
            manager.services.step = fault = FaultAt(position)
            try:
                work()
            except Stopped:
                manager.services.step = lambda name: None
                assert sorted(titles(manager, ada)) in (expected, present(operation)), fault.heard[-1]
                assert half_made(manager, ada) == [], fault.heard[-1]
                add_task(manager, ada, "probe")
                manager.execute_update("DELETE FROM tasks WHERE title = ?", ("probe",), ada)
                if sorted(titles(manager, ada)) == expected:
                    break
                continue
            break
        manager.services.step = lambda name: None
        assert position > 4
        assert sorted(titles(manager, ada)) == expected

    @pytest.mark.parametrize("operation", ["restore", "undo"])
    def test_it_can_be_killed_at_any_step_and_is_run_again_or_settled(self, manager, ada, backup, operation):
        work, expected = of(manager, ada, backup, operation)
        killed = 0
        for position in range(1, MOST_STEPS):
            manager.services.step = SignalAt(position, signal.SIGKILL)
            child = forked(work)
            if not child.killed():
                break
            killed += 1
            manager.services.step = lambda name: None
            expire_claims(manager)
            if position % 2:
                manager.settle_interrupted()
                assert tenant_of(manager, ada).state is State.READY
                add_task(manager, ada, "probe")
                manager.execute_update("DELETE FROM tasks WHERE title = ?", ("probe",), ada)
        manager.services.step = lambda name: None
        assert killed > 4
        if sorted(titles(manager, ada)) != expected:
            work()
        assert sorted(titles(manager, ada)) == expected
        assert half_made(manager, ada) == []
        assert tenant_of(manager, ada).state is State.READY


def present(operation):
    return ["after", "before"] if operation == "restore" else ["before"]


def of(manager, user_id, backup, operation):
    """Give a call, and what the user's tasks are afterwards."""
    if operation == "restore":
        return lambda: manager.restores.restore(user_id, backup.id).rows, ["before"]
    manager.restores.restore(user_id, backup.id)
    return lambda: manager.restores.undo(user_id).written.rows, ["after", "before"]
