"""Backups: made while rows are written, known to the catalog only when they are whole, found again, pruned."""

from __future__ import annotations

import os
import shutil
import signal
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import backups, claims
from tenancy.catalog.backups import CATALOG, BackupFilter, BackupState
from tenancy.errors import (
    ArchiveDamagedError,
    ArchiveKeyError,
    BackupNotFoundError,
    ConfigurationError,
    StorageUnavailableError,
    TenantNotFoundError,
)
from tenancy.lifecycle import stored_backups
from tenancy.models import State
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
)
from tests.support.backups import keep_backup, with_keys


@pytest.fixture
def manager(parts, tmp_path):
    with_keys(parts.manager, tmp_path)
    return parts.manager


@pytest.fixture
def people(parts, manager):
    ids = add_tenants(parts, 3)
    for user_id in ids:
        add_task(manager, user_id, f"task of {user_id}")
    return ids


def stored(tmp_path):
    return sorted(path.suffix for path in (tmp_path / "backups").rglob("*") if path.is_file())


def states(manager, **wanted):
    return [each.state for each in manager.backups.listed(BackupFilter(**wanted))]


def test_a_backup_is_an_archive_its_record_and_a_row(manager, people, tmp_path):
    before = tenant_of(manager, people[0])
    made = manager.backups.create(people[0])
    assert stored(tmp_path) == [".age", ".json"]
    assert manager.backups.get(made.id).state == BackupState.GOOD
    record = manager.backups.record(made)
    assert (record.rows["tasks"], record.user_id, record.tenant_id) == (1, people[0], before.tenant_id)
    assert tenant_of(manager, people[0]) == before
    with manager.catalog.reading() as connection:
        assert not claims.interrupted(connection, before.tenant_id)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "backups").rglob("*"))


def test_the_same_rows_have_the_same_checksum(manager, people):
    made = [manager.backups.create(people[0]) for _ in range(2)]
    add_task(manager, people[0], "one more")
    other = manager.backups.create(people[0])
    assert made[0].plain_checksum == made[1].plain_checksum != other.plain_checksum


def test_all_are_backed_up_and_one_that_fails_is_named(manager, people, tmp_path):
    path = manager.backends.get("sqlite").data_dir / tenant_of(manager, people[1]).db_path
    manager.engines.retire(tenant_of(manager, people[1]).tenant_id)
    path.unlink()
    seen = []
    results = manager.backups.create_all(seen.append)
    assert results == seen
    assert [(each.user_id, each.ok) for each in results] == [(people[0], True), (people[1], False), (people[2], True)]
    assert states(manager, user_id=people[1]) == ["failed"]
    assert "is gone" in manager.backups.listed(BackupFilter(user_id=people[1]))[0].error
    assert stored(tmp_path) == [".age", ".age", ".json", ".json"]
    with manager.catalog.reading() as connection:
        found = backups.last_good(connection, people)
    assert sorted(found) == [people[0], people[2]]


def test_a_database_that_is_worked_on_is_named_and_the_others_go_on(manager, people):
    with manager.catalog.writing() as connection:
        manager.retirement.claim(connection, tenant_of(manager, people[0]), "anything")
    results = manager.backups.create_all()
    assert [each.ok for each in results] == [True, True, False]


def test_what_was_cut_off_before_is_still_settled_afterwards(manager, people):
    """A backup in between must not make the catalog forget that a restore was killed."""
    with manager.catalog.writing() as connection:
        tenant = tenant_of(manager, people[0])
        manager.retirement.claim(connection, tenant, "restore")
    change_config(manager, people[0], state=State.MOVING)
    expire_claims(manager)
    assert all(each.ok for each in manager.backups.create_all())
    assert manager.backups.create(people[0]).state == BackupState.GOOD
    assert tenant_of(manager, people[0]).state is State.MOVING
    assert manager.settle_interrupted() == [people[0]]
    assert tenant_of(manager, people[0]).state is State.READY


def test_no_claim_is_held_while_the_storage_is_asked(manager, people, monkeypatch):
    held = []

    def stored(name):
        if name == "store":
            with manager.catalog.reading() as connection:
                held.append([claims.held(connection, tenant_of(manager, each).tenant_id) for each in people])

    manager.services.step = stored
    manager.backups.create(people[0])
    manager.backups.create_all()
    assert held == [[None] * 3] * 4


def test_one_that_was_busy_is_backed_up_at_the_end(manager, people):
    with manager.catalog.writing() as connection:
        claim = manager.retirement.claim(connection, tenant_of(manager, people[0]), "anything")

    def ends(name):
        if name == "store":
            with manager.catalog.writing() as connection:
                claims.release(connection, claim.tenant_id)

    manager.services.step = ends
    assert [(each.user_id, each.ok) for each in manager.backups.create_all()] == [
        (people[1], True),
        (people[2], True),
        (people[0], True),
    ]


def test_statements_of_the_catalog_grow_by_the_batch_and_not_by_the_tenant(manager, parts, statements_of):
    add_tenants(parts, 10)
    few = statements_of(manager.catalog.engine, manager.backups.create_all)
    add_tenants(parts, 20)
    many = statements_of(manager.catalog.engine, manager.backups.create_all)
    assert (many - few) / 20 < 4


@pytest.fixture
def statements_of():
    def count(engine, work):
        seen = []

        def heard(*given):
            seen.append(given[2])

        sa.event.listen(engine, "before_cursor_execute", heard)
        work()
        sa.event.remove(engine, "before_cursor_execute", heard)
        return len(seen)

    return count


def test_without_keys_nothing_is_read_and_nothing_written(manager, people, tmp_path):
    with_keys(manager, tmp_path, recipients=())
    with pytest.raises(ArchiveKeyError, match="generate-identity"):
        manager.backups.create(people[0])
    with_keys(manager, tmp_path, signing_keys=())
    with pytest.raises(ConfigurationError):
        manager.backups.create(people[0])
    assert stored(tmp_path) == []
    assert states(manager) == []


def test_what_is_not_there_cannot_be_backed_up(manager, people):
    with pytest.raises(TenantNotFoundError):
        manager.backups.create(4711)
    manager.suspend(people[0])
    manager.backups.create(people[0])
    assert tenant_of(manager, people[0]).state is State.SUSPENDED


def test_a_storage_that_fails_leaves_a_row_that_says_so(manager, people, tmp_path, monkeypatch):
    def fails(*given):
        raise StorageUnavailableError("the storage is away.")

    store = manager.services.backups.store()
    monkeypatch.setattr(type(store), "add", fails)
    with pytest.raises(StorageUnavailableError):
        manager.backups.create(people[0])
    [found] = manager.backups.listed()
    assert (found.state, found.error) == ("failed", "the storage is away.")
    assert [each.ok for each in manager.backups.create_all()] == [False, False, False]
    monkeypatch.undo()
    manager.backups.create(people[0])


def test_it_can_fail_at_any_step_and_no_partial_one_is_good(manager, people, tmp_path):
    for position in range(1, 10):
        manager.services.step = FaultAt(position)
        try:
            manager.backups.create(people[0])
        except Stopped:
            manager.services.step = lambda name: None
            assert "good" not in states(manager)
            assert tenant_of(manager, people[0]).state is State.READY
        else:
            break
    assert position > 2
    assert states(manager)[0] == "good"


def test_a_killed_one_leaves_nothing_that_is_good_or_that_stands_in_the_way(manager, people, tmp_path):
    killed = 0
    for position in range(1, 10):
        manager.services.step = SignalAt(position, signal.SIGKILL)
        child = forked(lambda: manager.backups.create(people[0]).state)
        if not child.killed():
            break
        killed += 1
        manager.services.step = lambda name: None
        expire_claims(manager)
        manager.settle_interrupted()
        assert tenant_of(manager, people[0]).state is State.READY
        add_task(manager, people[0], f"after kill {killed}")
    assert killed > 2
    manager.services.step = lambda name: None
    manager.backups.learn()
    for found in manager.backups.listed(BackupFilter(state="good")):
        assert manager.backups.verify(found.id).ok


def test_the_catalog_is_backed_up_too(manager, people):
    made = manager.backups.create_catalog()
    assert (made.kind, made.user_id, made.tenant_id) == (CATALOG, None, None)
    assert manager.backups.record(made).rows["users"] == 3
    assert manager.backups.verify(made.id, by_restoring=True).ok


def test_verifying_says_by_what_and_finds_damage(manager, people, tmp_path):
    made = manager.backups.create(people[0])
    assert manager.backups.verify(made.id).how == stored_backups.READING
    assert manager.backups.verify(made.id, by_restoring=True).how == stored_backups.RESTORING
    assert manager.backups.verify_all() == []
    assert [each.ok for each in manager.backups.verify_all(again=True)] == [True]
    manager.services.backups = type(manager.services.backups)(
        **{**manager.services.backups.__dict__, "identity_file": None}
    )
    assert manager.backups.verify(made.id).how == stored_backups.CHECKSUM
    with pytest.raises(ArchiveKeyError):
        manager.backups.verify(made.id, by_restoring=True)
    [archive] = (tmp_path / "backups").rglob("*.age")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    found = manager.backups.verify(made.id)
    assert isinstance(found.error, ArchiveDamagedError)
    assert found.backup.state == BackupState.DAMAGED
    archive.unlink()
    assert not manager.backups.verify(made.id).ok


def test_an_empty_catalog_finds_all_again_and_learns_what_is_gone(manager, people, tmp_path):
    manager.backups.create_all()
    manager.backups.create_catalog()
    known = manager.backups.listed()
    with manager.catalog.writing() as connection:
        backups.forget(connection, known)
    learned = manager.backups.learn()
    assert (learned.new, learned.gone, learned.unreadable) == (4, 0, [])
    assert {each.id for each in manager.backups.listed()} == {each.id for each in known}
    shutil.rmtree(tmp_path / "backups" / "catalog")
    assert manager.backups.learn().gone == 1
    next((tmp_path / "backups").rglob("*.json")).write_text("{}\n{}\n")
    assert len(manager.backups.learn().unreadable) == 1


def test_the_last_good_one_is_deleted_only_by_force(manager, people, tmp_path):
    first, last = manager.backups.create(people[0]), manager.backups.create(people[0])
    manager.backups.delete(first.id)
    with pytest.raises(ConfigurationError, match="last good backup"):
        manager.backups.delete(last.id)
    assert stored(tmp_path) == [".age", ".json"]
    manager.backups.delete(last.id, force=True)
    assert stored(tmp_path) == []
    with pytest.raises(BackupNotFoundError):
        manager.backups.get(last.id)


def test_pruning_keeps_what_the_rule_says_and_the_last_good_one(manager, people, tmp_path):
    made = manager.backups.create(people[0])
    old = [keep_backup(manager, people[0], hours=24.0 * days) for days in (1, 2, 3)]
    keep_backup(manager, people[1], hours=24.0 * 4000)
    planned = manager.backups.prune("daily=2")
    assert {each.id for each in planned.backups} == {old[1].id, old[2].id}
    assert len(manager.backups.listed()) == 5
    partial = tmp_path / "backups" / "tenants" / str(made.tenant_id) / f"{old[0].id}.age"
    assert manager.backups.prune("daily=2", dry_run=False).staying == []
    assert {each.id for each in manager.backups.listed(BackupFilter(user_id=people[0]))} == {made.id, old[0].id}
    assert not partial.exists()


def test_files_that_an_interrupted_backup_left_are_pruned_when_they_are_old(manager, people, tmp_path):
    made = manager.backups.create(people[0])
    record = next((tmp_path / "backups").rglob("*.json"))
    left = record.with_name("01a22fc3-e39f-76ae-a64f-d31266f2d62d.age")
    left.write_bytes(b"half an archive")
    assert manager.backups.prune("daily=1").partial == []
    long_ago = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    os.utime(left, (long_ago, long_ago))
    manager.backups.prune("daily=1", dry_run=False)
    assert not left.exists()
    assert manager.backups.verify(made.id).ok


@pytest.mark.parametrize("rule", ["", "daily", "daily=0", "hourly=3", "daily=1,daily=2", "daily=99999", "daily=-1"])
def test_a_rule_that_is_none_is_refused(manager, rule):
    with pytest.raises(ConfigurationError) as refused:
        manager.backups.prune(rule)
    assert refused.value.field == "keep"


def test_the_shared_database_is_backed_up_as_one(shared_parts, tmp_path):
    manager = shared_parts.manager
    with_keys(manager, tmp_path)
    [result] = manager.backups.create_all()
    assert result.ok
    assert result.backup.user_id is None


def test_a_backup_that_was_cut_off_leaves_a_suspension_that_was_cut_off_to_be_settled(manager, people):
    tenant = tenant_of(manager, people[0])
    with manager.catalog.writing() as connection:
        manager.retirement.claim(connection, tenant, "suspend")
    change_config(manager, people[0], state=State.MOVING)
    expire_claims(manager)
    manager.services.step = SignalAt(1, signal.SIGKILL)
    assert forked(lambda: manager.backups.create(people[0]).state).killed()
    manager.services.step = lambda name: None
    expire_claims(manager)
    assert manager.settle_interrupted() == [people[0]]
    add_task(manager, people[0], "works")
