"""Provisioning: it can stop at any step, by an error, a kill or a long sleep, and running it again finishes it."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import compose
from compose import Parts
from settings import Settings
from tenancy.backends.base import DatabaseFields
from tenancy.catalog import tenants
from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.errors import (
    AccessDeniedError,
    ClaimedError,
    ClaimLostError,
    ConfigurationError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    MigrationError,
    StorageFullError,
    TenancyError,
    TenantExistsError,
    TenantNotFoundError,
    TenantNotReadyError,
    UserNotFoundError,
)
from tenancy.models import State
from tenancy.schema.chain import Chain
from tests.support.applications import (
    PROJECT,
    FaultAt,
    Gate,
    SignalAt,
    Stopped,
    add_task,
    add_tenants,
    add_users,
    audit_actions,
    change_config,
    expire_claims,
    forked,
    in_child,
    named,
    revision,
    small_manager,
    tenant_of,
    titles,
    together,
)

MOST_STEPS = 30


@pytest.fixture
def folder(parts: Parts) -> Path:
    return parts.settings.tenant_data_dir


def with_step(manager, step: Callable[[str], None]):
    manager.services.step = step
    return manager


def in_fresh_process(settings: Settings, work: Callable[[Parts], object], step=None):
    """Give a function that runs a work as a newly started process does, with parts of its own."""

    def run() -> object:
        parts = compose.build(settings)
        if step is not None:
            parts.manager.services.step = step
        try:
            return work(parts)
        finally:
            parts.manager.close()

    return run


def provision_in_child(settings: Settings, user_id: int) -> bool:
    return in_child(in_fresh_process(settings, lambda parts: parts.manager.provision(user_id).created))


def stands_right(parts: Parts, user_id: int) -> list[str]:
    """Say what is wrong with a database that should be ready: nothing, when all is well."""
    wrong = []
    tenant = tenant_of(parts.manager, user_id)
    if tenant is None or tenant.state is not State.READY or tenant.last_error is not None:
        wrong.append(f"the catalog says {tenant}")
    if not parts.manager.reports.test(user_id)["ok"]:
        wrong.append(parts.manager.reports.test(user_id)["message"])
    with closing(sqlite3.connect(parts.settings.tenant_data_dir / str(tenant and tenant.db_path))) as driver:
        ledger = [row[0] for row in driver.execute("SELECT revision FROM tenancy_ledger ORDER BY applied_at, id")]
        first = driver.execute("SELECT name FROM categories WHERE user_id = ?", (user_id,)).fetchall()
        state = driver.execute("SELECT state FROM tenancy_identity").fetchall()
    if ledger != list(parts.manager.chain.checksums):
        wrong.append(f"the ledger says {ledger}")
    if first != [("Uncategorized",)] or state != [("ready",)]:
        wrong.append(f"first rows {first}, state {state}")
    return wrong + left_over(parts)


def left_over(parts: Parts) -> list[str]:
    """List files that belong to nobody."""
    folder = parts.settings.tenant_data_dir
    return sorted(path.name for path in folder.rglob("*.new")) if folder.exists() else []


def shows_nothing_half_made(parts: Parts, user_id: int) -> bool:
    """Whatever stands there now: a request is refused, and a file, if any, is whole."""
    with pytest.raises((TenantNotReadyError, TenantNotFoundError)), parts.manager.session(user_id):
        raise AssertionError("a half-made database was opened")
    file = parts.settings.tenant_data_dir / f"user_{user_id}.db"
    if not file.exists():
        return True
    with closing(sqlite3.connect(file)) as driver:
        tenant = driver.execute("SELECT tenant_id FROM tenancy_identity").fetchone()[0]
        whole = driver.execute("SELECT count(*) FROM categories").fetchone() == (1,)
    return whole and tenant == tenant_of(parts.manager, user_id).tenant_id.hex


# --- what it does ---------------------------------------------------------------------------------------


def test_a_database_is_made_once(parts):
    (user_id,) = add_users(parts, 1)
    first = parts.manager.provision(user_id)
    add_task(parts.manager, user_id, "kept")
    again = parts.manager.provision(user_id)
    assert (first.created, again.created) == (True, False)
    assert first.tenant.tenant_id == again.tenant.tenant_id
    assert titles(parts.manager, user_id) == ["kept"]
    assert audit_actions(parts.manager).count("tenant.provision") == 1
    assert stands_right(parts, user_id) == []


def test_its_configuration_comes_back_without_secrets(parts, folder):
    (user_id,) = add_users(parts, 1)
    shown = parts.manager.initialize_user_database(user_id, db_type="sqlite")
    assert shown["db_path"] == str(folder / f"user_{user_id}.db")
    assert (shown["status"], shown["user_id"], shown["password_set"]) == ("ready", user_id, False)
    assert not {"db_password", "sealed_password"} & set(shown)


def test_nobody_gets_a_database_who_is_not_there(parts, folder):
    with pytest.raises(UserNotFoundError):
        parts.manager.provision(99)
    assert tenant_of(parts.manager, 99) is None
    assert not folder.exists()


@pytest.mark.parametrize("path", ["../../admin.db", "file:x", ":memory:", "user_2.db"])
def test_a_path_cannot_be_chosen(parts, folder, path):
    (user_id,) = add_users(parts, 1)
    with pytest.raises(ConfigurationError) as refused:
        parts.manager.initialize_user_database(user_id, db_path=path)
    assert refused.value.field == "db_path"
    assert tenant_of(parts.manager, user_id) is None
    assert not folder.exists()


def test_a_configuration_that_was_tampered_with_is_not_provisioned_over(parts, tmp_path):
    (user_id,) = add_tenants(parts, 1)
    change_config(parts.manager, user_id, db_path="../admin.db", state=State.FAILED)
    before = (tmp_path / "admin.db").stat().st_ino
    with pytest.raises(TenantExistsError):
        parts.manager.provision(user_id)
    with pytest.raises(TenancyError):
        parts.manager.delete_user_database(user_id)
    assert (tmp_path / "admin.db").stat().st_ino == before


def test_all_users_get_theirs_past_a_failure_that_is_named(parts, folder):
    ids = add_users(parts, 4)
    folder.mkdir()
    (folder / f"user_{ids[1]}.db").write_bytes(b"somebody else's")
    heard = []
    results = parts.manager.initialize_all(heard.append)
    assert [(result.user_id, result.ok) for result in results] == list(zip(ids, [True, False, True, True], strict=True))
    assert heard == results
    assert isinstance(results[1].error, DatabaseExistsError)
    (folder / f"user_{ids[1]}.db").unlink()
    assert [result.created for result in parts.manager.initialize_all(heard.append)] == [False, True, False, False]


# --- errors at every step -------------------------------------------------------------------------------


def test_an_error_at_any_step_is_undone_recorded_and_made_good_by_another_run(parts):
    (other,) = add_tenants(parts, 1)
    add_task(parts.manager, other, "theirs")
    met = []
    for position in range(1, MOST_STEPS):
        (user_id,) = add_users(parts, 1)
        fault = FaultAt(position)
        try:
            with_step(parts.manager, fault).provision(user_id)
            break
        except Stopped as stopped:
            met.append(str(stopped))
        assert shows_nothing_half_made(parts, user_id)
        assert left_over(parts) == []
        tenant = tenant_of(parts.manager, user_id)
        if met[-1] == "record":
            assert tenant is None
        else:
            assert (tenant.state, tenant.last_error, tenant.last_error_code) == (
                State.FAILED,
                "Stopped",
                "provision_failed",
            )
        assert with_step(parts.manager, FaultAt()).provision(user_id).created
        assert stands_right(parts, user_id) == []
    assert met == ["record", "template", "write file", "publish file", "sync folder", "ready"]
    assert titles(parts.manager, other) == ["theirs"]
    assert audit_actions(parts.manager).count("tenant.provision") == 1 + len(met) + 1


def test_an_error_during_recovery_too_is_made_good_by_another_run(parts):
    pairs = 0
    for position in range(1, 7):
        for again in range(1, MOST_STEPS):
            (user_id,) = add_users(parts, 1)
            with pytest.raises(Stopped):
                with_step(parts.manager, FaultAt(position)).provision(user_id)
            try:
                with_step(parts.manager, FaultAt(again)).provision(user_id)
                break
            except Stopped:
                pairs += 1
            assert shows_nothing_half_made(parts, user_id)
            assert with_step(parts.manager, FaultAt()).provision(user_id).created
            assert stands_right(parts, user_id) == []
    assert pairs > 25


def test_a_kill_at_any_step_is_finished_by_a_fresh_process(parts):
    (other,) = add_tenants(parts, 1)
    add_task(parts.manager, other, "theirs")
    for position in range(1, MOST_STEPS):
        (user_id,) = add_users(parts, 1)
        if not killed_at(position, parts, lambda fresh, user_id=user_id: fresh.manager.provision(user_id)):
            break
        assert shows_nothing_half_made(parts, user_id)
        if tenant_of(parts.manager, user_id) is not None:
            with pytest.raises(ClaimedError, match="provision"):
                parts.manager.provision(user_id)
        expire_claims(parts.manager)
        assert provision_in_child(parts.settings, user_id) is True
        assert stands_right(parts, user_id) == []
    assert position == 7
    assert titles(parts.manager, other) == ["theirs"]


def test_a_kill_during_recovery_too_is_finished_by_a_fresh_process(parts):
    for position in range(2, 7):
        for again in range(1, MOST_STEPS):
            (user_id,) = add_users(parts, 1)
            assert killed_at(position, parts, lambda fresh, user_id=user_id: fresh.manager.provision(user_id))
            expire_claims(parts.manager)
            if not killed_at(again, parts, lambda fresh, user_id=user_id: fresh.manager.provision(user_id)):
                break
            assert shows_nothing_half_made(parts, user_id)
            expire_claims(parts.manager)
            assert parts.manager.provision(user_id).created
            assert stands_right(parts, user_id) == []


def killed_at(position: int, parts: Parts, work: Callable[[Parts], object]) -> bool:
    """Run a work in a fresh process that is killed at the n-th step; say whether it got so far."""
    return forked(in_fresh_process(parts.settings, work, SignalAt(position, signal.SIGKILL))).killed()


def test_a_full_disk_is_said_undone_and_recorded(parts, folder, monkeypatch):
    """The process's own limit on file sizes stands for the disk: the real code meets it in the middle of the file."""
    resource = pytest.importorskip("resource")
    (user_id,) = add_users(parts, 1)
    (other,) = add_tenants(parts, 1)
    backend = parts.manager.backends.get("sqlite")
    create, before = backend.create, resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def create_on_a_small_disk(*args):
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        try:
            create(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patched:
        patched.setattr(backend, "create", create_on_a_small_disk)
        with pytest.raises(StorageFullError):
            parts.manager.provision(user_id)
    signal.signal(signal.SIGXFSZ, ignored)
    tenant = tenant_of(parts.manager, user_id)
    assert (tenant.state, tenant.last_error_code) == (State.FAILED, "storage_full")
    assert sorted(path.name for path in folder.glob("user_*")) == [f"user_{other}.db"]
    assert parts.manager.provision(user_id).created
    assert stands_right(parts, user_id) == []


def test_a_folder_that_cannot_be_written_is_said_and_recorded(parts, folder):
    (user_id,) = add_users(parts, 1)
    folder.write_text("a file in its place")
    with pytest.raises(AccessDeniedError):
        parts.manager.provision(user_id)
    assert tenant_of(parts.manager, user_id).last_error_code == "access_denied"
    assert folder.read_text() == "a file in its place"
    folder.unlink()
    assert parts.manager.provision(user_id).created
    assert stands_right(parts, user_id) == []


@pytest.mark.parametrize("foreign", ["text", "empty", "sqlite", "folder", "tenant", "catalog"])
def test_what_stands_in_a_databases_place_is_not_touched(parts, folder, foreign, tmp_path):
    (other,) = add_tenants(parts, 1)
    add_task(parts.manager, other, "secret of another")
    (user_id,) = add_users(parts, 1)
    place = folder / f"user_{user_id}.db"
    parts.manager.engines.close()
    _put(foreign, place, folder / f"user_{other}.db", tmp_path / "admin.db")
    before = place.read_bytes() if place.is_file() else None
    for _ in range(2):
        with pytest.raises(DatabaseExistsError, match="move it away"):
            parts.manager.provision(user_id)
        with pytest.raises(TenantNotReadyError), parts.manager.session(user_id):
            raise AssertionError("it was opened")
    assert tenant_of(parts.manager, user_id).last_error_code == "database_exists"
    if foreign in ("text", "folder"):  # which may be what is left of their own: somebody must look at it first
        with pytest.raises(DatabaseUnreachableError):
            parts.manager.delete_user_database(user_id)
    else:
        parts.manager.delete_user_database(user_id)
    assert (place.read_bytes() if place.is_file() else None) == before
    place.rename(folder / "moved away")
    if foreign in ("text", "folder"):
        parts.manager.delete_user_database(user_id)
    assert parts.manager.provision(user_id).created
    assert stands_right(parts, user_id) == []


def _put(foreign: str, place: Path, tenant: Path, catalog: Path) -> None:
    if foreign == "folder":
        place.mkdir()
    elif foreign in ("text", "empty"):
        place.write_bytes(b"my poem" * 1000 if foreign == "text" else b"")
    else:
        source = {"tenant": tenant, "catalog": catalog}.get(foreign, ":memory:")
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(place)) as write:
            read.execute("CREATE TABLE mine (id)") if foreign == "sqlite" else read.backup(write)
            if foreign == "sqlite":
                write.execute("CREATE TABLE mine (id)")


def test_a_lost_file_is_said_and_never_replaced_by_an_empty_one(parts, folder):
    (user_id,) = add_tenants(parts, 1)
    parts.manager.engines.close()
    (folder / f"user_{user_id}.db").unlink()
    with pytest.raises(DatabaseMissingError), parts.manager.session(user_id):
        raise AssertionError("it was opened")
    change_config(parts.manager, user_id, state=State.FAILED)
    with pytest.raises(DatabaseMissingError, match="restore it"):
        parts.manager.provision(user_id)
    assert list(folder.glob("user_*")) == []


# --- upgrades -------------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path: Path):
    """Give a function that makes the managers of two versions of one application, the second with more revisions."""
    old, new = tmp_path / "old", tmp_path / "new"
    for versions in (old, new):
        revision(versions, "0001", None, "op.create_table('tasks', sa.Column('title', sa.String(20)))")
    revision(new, "0002", "0001", "op.add_column('tasks', sa.Column('done', sa.Integer))")
    revision(new, "0003", "0002", "op.create_table('notes', sa.Column('body', sa.Text))")
    return old, new


def upgraded_right(manager, user_id: int) -> list[object]:
    tenant = tenant_of(manager, user_id)
    with manager.session(user_id) as session:
        kept = session.execute(sa.text("SELECT title FROM tasks")).scalars().all()
        ledger = session.execute(sa.text("SELECT revision, direction FROM tenancy_ledger ORDER BY id")).all()
    wanted = [("0001", "upgrade"), ("0002", "upgrade"), ("0003", "upgrade")]
    return [
        wrong
        for wrong in (tenant.state, tenant.revision, kept, ledger)
        if wrong not in (State.READY, "0003", ["kept"], wanted)
    ]


def old_tenant(manager, email: str) -> int:
    (user_id,) = add_users(manager, 1)
    manager.provision(user_id)
    with manager.session(user_id, write=True) as session:
        session.execute(sa.text("INSERT INTO tasks VALUES ('kept')"))
    return user_id


@pytest.mark.parametrize("how", ["error", "kill"])
def test_an_upgrade_stopped_at_any_step_is_finished_by_another_run(tmp_path, chain, how):
    before, after = (small_manager(tmp_path, folder) for folder in chain)
    for position in range(1, MOST_STEPS):
        user_id = old_tenant(before, f"{position}@example.org")
        before.engines.close()
        if not stopped_upgrading(tmp_path, chain[1], user_id, position, how):
            break
        with pytest.raises(TenancyError), after.session(user_id):
            raise AssertionError("a tenant half-way was opened")
        expire_claims(after)
        assert after.provision(user_id).created is False
        assert upgraded_right(after, user_id) == []
    assert position == 6  # record, migrate, two revisions, ready
    for manager in (before, after):
        manager.close()


def stopped_upgrading(tmp_path: Path, folder: Path, user_id: int, position: int, how: str) -> bool:
    def run(step) -> str:
        manager = small_manager(tmp_path, folder)
        manager.services.step = step
        try:
            manager.provision(user_id)
            return "done"
        except (Stopped, MigrationError):  # what happens inside a revision is told as the revision's failure
            return "stopped"
        finally:
            manager.close()

    if how == "kill":
        return forked(lambda: run(SignalAt(position, signal.SIGKILL))).killed()
    return run(FaultAt(position)) == "stopped"


# --- runners that sleep ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["template", "write file", "publish file", "sync folder", "ready"])
def test_a_runner_that_wakes_after_its_claim_expired_changes_nothing(parts, step):
    (user_id,) = add_users(parts, 1)
    asleep = asleep_at(step, parts, lambda fresh: fresh.manager.provision(user_id))
    expire_claims(parts.manager)
    assert parts.manager.provision(user_id).created
    add_task(parts.manager, user_id, "written meanwhile")
    assert woken(asleep) == "ClaimLostError"
    assert titles(parts.manager, user_id) == ["written meanwhile"]
    assert stands_right(parts, user_id) == []
    assert audit_actions(parts.manager).count("tenant.provision") == 1


@pytest.mark.parametrize("step", ["template", "write file", "publish file"])
def test_a_runner_that_wakes_after_its_database_was_deleted_leaves_no_file(parts, folder, step):
    (user_id,) = add_users(parts, 1)
    asleep = asleep_at(step, parts, lambda fresh: fresh.manager.provision(user_id))
    expire_claims(parts.manager)
    parts.manager.delete_user_database(user_id)
    assert woken(asleep) == "ClaimLostError"
    assert list(folder.glob("user_*")) == []
    assert parts.manager.provision(user_id).created
    assert stands_right(parts, user_id) == []


@pytest.mark.parametrize("step", ["fence", "drop", "forget"])
def test_a_deletion_that_wakes_after_another_finished_it_spares_the_next_database(parts, step):
    (user_id,) = add_tenants(parts, 1)
    asleep = asleep_at(step, parts, lambda fresh: fresh.manager.delete_user_database(user_id))
    expire_claims(parts.manager)
    parts.manager.delete_user_database(user_id)
    parts.manager.provision(user_id)
    add_task(parts.manager, user_id, "in the next one")
    assert woken(asleep) == "ClaimLostError"
    assert titles(parts.manager, user_id) == ["in the next one"]
    assert stands_right(parts, user_id) == []


@pytest.mark.parametrize("step", ["mark", "record"])
def test_a_suspension_that_wakes_late_changes_nothing(parts, step):
    (user_id,) = add_tenants(parts, 1)
    asleep = asleep_at(step, parts, lambda fresh: fresh.manager.suspend(user_id))
    expire_claims(parts.manager)
    parts.manager.suspend(user_id)
    parts.manager.resume(user_id)
    assert woken(asleep) == "ClaimLostError"
    add_task(parts.manager, user_id, "still written")
    assert stands_right(parts, user_id) == []


def test_a_runner_that_wakes_late_and_fails_does_not_overwrite_the_others_result(parts):
    (user_id,) = add_users(parts, 1)

    def sleep_and_fail(name: str) -> None:
        if name == "ready":
            parts.manager.services.step = FaultAt()
            expire_claims(parts.manager)
            assert parts.manager.provision(user_id).created
            raise Stopped

    with pytest.raises(ClaimLostError):
        with_step(parts.manager, sleep_and_fail).provision(user_id)
    assert stands_right(parts, user_id) == []


@pytest.mark.parametrize("step", ["migrate", "ready"])
def test_an_upgrade_that_wakes_late_does_not_open_what_was_suspended(tmp_path, chain, step):
    before, after = (small_manager(tmp_path, folder) for folder in chain)
    user_id = old_tenant(before, "late@example.org")
    before.close()

    def upgrade() -> str:
        manager = small_manager(tmp_path, chain[1])
        manager.services.step = lambda name: os.kill(os.getpid(), signal.SIGSTOP) if name == step else None
        try:
            manager.provision(user_id)
        except TenancyError as error:
            return named(error)
        return "done"

    asleep = forked(upgrade)
    asleep.stopped()
    expire_claims(after)
    after.provision(user_id)
    assert upgraded_right(after, user_id) == []
    after.suspend(user_id)
    assert woken(asleep) == "ClaimLostError"
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db")) as driver:
        assert driver.execute("SELECT state FROM tenancy_identity").fetchall() == [("suspended",)]
    after.close()


def asleep_at(step: str, parts: Parts, work: Callable[[Parts], object]):
    """Run a work in a fresh process that stops itself (SIGSTOP) when it reaches a step."""

    def stop(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    def run(fresh: Parts) -> str:
        try:
            work(fresh)
        except TenancyError as error:
            return named(error)
        return "done"

    child = forked(in_fresh_process(parts.settings, run, stop))
    child.stopped()
    return child


def woken(child) -> str:
    child.wake()
    return child.result()


# --- many at once ---------------------------------------------------------------------------------------


def test_sixteen_initializations_in_four_processes_make_one_database(parts):
    (user_id,) = add_users(parts, 1)
    gate = Gate()

    def initialize(fresh: Parts) -> list[str]:
        gate.wait()
        return [_outcome(each) for each in together([lambda: fresh.manager.provision(user_id)] * 4)]

    children = [forked(in_fresh_process(parts.settings, initialize)) for _ in range(4)]
    gate.open()
    outcomes = [outcome for child in children for outcome in child.result()]
    assert outcomes.count("created") == 1
    assert set(outcomes) <= {"created", "there", "ClaimedError"}
    assert stands_right(parts, user_id) == []
    assert audit_actions(parts.manager).count("tenant.provision") == 1


def _outcome(result: object) -> str:
    if isinstance(result, BaseException):
        return named(result)
    return "created" if result.created else "there"  # type: ignore[attr-defined]  # Provisioned


@pytest.mark.parametrize("mode", ["true", "false"], ids=["a-database-each", "one-shared-database"])
def test_a_catalog_migrated_by_four_processes_at_once_is_migrated_once(make_settings, mode):
    settings = make_settings(multi_tenant_mode=mode)
    gate = Gate()

    def prepare(fresh: Parts) -> list[str] | str:
        gate.wait()
        try:
            return fresh.manager.prepare_catalog()
        except ClaimedError:
            return "another makes the shared database"

    children = [forked(in_fresh_process(settings, prepare)) for _ in range(4)]
    gate.open()
    outcomes = [child.result() for child in children]
    whole = list(Chain(PROJECT / "migrations" / "admin", CATALOG_VERSION_TABLE).checksums)
    assert outcomes.count(whole) <= 1
    if mode == "true":
        assert sorted(outcomes) == [[], [], [], whole]
    assert in_child(in_fresh_process(settings, lambda fresh: fresh.manager.prepare_catalog())) == []


# --- deleting, suspending -------------------------------------------------------------------------------


def test_deleting_removes_the_files_and_the_configuration_and_a_new_database_is_another(parts, folder):
    (user_id,) = add_tenants(parts, 1)
    add_task(parts.manager, user_id, "gone soon")
    first = tenant_of(parts.manager, user_id).tenant_id
    parts.manager.delete_user_database(user_id)
    assert list(folder.glob("user_*")) == []
    with pytest.raises(TenantNotFoundError), parts.manager.session(user_id):
        raise AssertionError("it was opened")
    assert parts.manager.provision(user_id).tenant.tenant_id != first
    assert titles(parts.manager, user_id) == []
    assert audit_actions(parts.manager) == ["tenant.provision", "tenant.delete", "tenant.provision"]


@pytest.mark.parametrize("how", ["error", "kill"])
def test_a_deletion_stopped_at_any_step_is_finished_by_another_run(parts, folder, how):
    (other,) = add_tenants(parts, 1)
    met = 0
    for position in range(1, MOST_STEPS):
        (user_id,) = add_tenants(parts, 1)
        add_task(parts.manager, user_id, "gone soon")
        if not stopped_deleting(parts, user_id, position, how):
            break
        met += 1
        if how == "error" and position <= 2:  # before the fence stood nothing was gone: it is as it was
            assert titles(parts.manager, user_id) == ["gone soon"]
        else:
            with pytest.raises(TenantNotReadyError, match="archived"), parts.manager.session(user_id):
                raise AssertionError("it was opened")
        if how == "error":
            assert tenant_of(parts.manager, user_id).last_error == "Stopped"
        with_step(parts.manager, FaultAt())
        expire_claims(parts.manager) if how == "kill" else None
        parts.manager.delete_user_database(user_id)
        assert tenant_of(parts.manager, user_id) is None
        assert [path.name for path in folder.glob("user_*.db")] == [f"user_{other}.db"]
        assert parts.manager.provision(user_id).created
        parts.manager.delete_user_database(user_id)
    assert met == 4  # fence, commit, drop, forget
    assert stands_right(parts, other) == []


def stopped_deleting(parts: Parts, user_id: int, position: int, how: str) -> bool:
    if how == "kill":
        return killed_at(position, parts, lambda fresh: fresh.manager.delete_user_database(user_id))
    try:
        with_step(parts.manager, FaultAt(position)).delete_user_database(user_id)
    except Stopped:
        return True
    return False


def test_a_database_of_another_in_the_place_of_ones_own_survives_its_deletion(parts, folder):
    mine, other = add_tenants(parts, 2)
    add_task(parts.manager, other, "theirs")
    parts.manager.engines.close()
    copy = (folder / f"user_{other}.db").read_bytes()
    (folder / f"user_{mine}.db").write_bytes(copy)
    parts.manager.delete_user_database(mine)
    assert (folder / f"user_{mine}.db").read_bytes() == copy
    assert tenant_of(parts.manager, mine) is None
    assert titles(parts.manager, other) == ["theirs"]


def test_suspending_stops_all_work_and_resuming_begins_it_again(parts):
    (user_id,) = add_tenants(parts, 1)
    parts.manager.suspend(user_id)
    parts.manager.suspend(user_id)
    for write in (False, True):
        with pytest.raises(TenantNotReadyError, match="suspended"), parts.manager.session(user_id, write=write):
            raise AssertionError("it was opened")
    with pytest.raises(TenantNotReadyError, match="suspended"):
        parts.manager.provision(user_id)
    parts.manager.resume(user_id)
    parts.manager.resume(user_id)
    add_task(parts.manager, user_id, "after")
    assert titles(parts.manager, user_id) == ["after"]
    assert audit_actions(parts.manager)[1:] == ["tenant.suspended", "tenant.ready"]


@pytest.mark.parametrize("how", ["error", "kill"])
@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_suspending_or_resuming_stopped_at_any_step_is_finished_by_another_run(parts, verb, how):
    undo = {"suspend": "resume", "resume": "suspend"}[verb]
    (user_id,) = add_tenants(parts, 1)
    if verb == "resume":
        parts.manager.suspend(user_id)
    for position in (1, 2):
        if how == "kill":
            assert killed_at(position, parts, lambda fresh: getattr(fresh.manager, verb)(user_id))
            expire_claims(parts.manager)
        else:
            with pytest.raises(Stopped):
                getattr(with_step(parts.manager, FaultAt(position)), verb)(user_id)
            with_step(parts.manager, FaultAt())
        getattr(parts.manager, verb)(user_id)
        getattr(parts.manager, undo)(user_id)
    if verb == "resume":
        parts.manager.resume(user_id)
    add_task(parts.manager, user_id, "after all")
    assert stands_right(parts, user_id) == []


def test_asking_for_another_type_than_the_one_there_is_refused(parts):
    (user_id,) = add_tenants(parts, 1)
    with parts.catalog.writing() as connection:
        tenants.change(connection, tenants.get(connection, user_id), db_path="user_77.db")
    with pytest.raises(TenantExistsError) as refused:
        parts.manager.provision(user_id, DatabaseFields(db_type="sqlite"))
    assert refused.value.field == "db_path"


@pytest.mark.parametrize(("meanwhile", "outcome"), [(State.READY, "there"), (State.ARCHIVED, "TenantNotReadyError")])
def test_what_another_runner_did_between_the_look_and_the_claim_is_seen(parts, monkeypatch, meanwhile, outcome):
    """On a server's catalog others write between two statements of a transaction: here they do on SQLite's too."""
    (user_id,) = add_tenants(parts, 1)
    change_config(parts.manager, user_id, state=meanwhile)
    look = tenants.of_account

    def before(connection, user_id):
        return look(connection, user_id).with_(state=State.PROVISIONING, revision=None)

    monkeypatch.setattr(tenants, "of_account", before)
    (answer,) = together([lambda: parts.manager.provision(user_id)])
    assert _outcome(answer) == outcome
    assert tenant_of(parts.manager, user_id).state is meanwhile
    assert audit_actions(parts.manager) == ["tenant.provision"]
