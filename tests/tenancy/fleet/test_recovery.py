"""Recovery: catalog and databases come back from backups and keys, and an old catalog harms nothing that is newer."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import compose
from tenancy.archive.encryption import generate_identity
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.catalog import backups, claims, leftovers, recovery, tenants
from tenancy.catalog.claims import take
from tenancy.catalog.leftovers import Reason
from tenancy.catalog.runs import Rules, RunState, Selection
from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.credentials.keyring import generate_key
from tenancy.credentials.signing import generate_signing_key
from tenancy.errors import (
    ArchiveKeyError,
    BackupNotFoundError,
    CatalogError,
    ClaimedError,
    ConfigurationError,
    DatabaseUnreachableError,
    RevisionMismatchError,
    TenancyError,
    UnknownKeyError,
)
from tenancy.fleet.standing import BEYOND
from tenancy.lifecycle.migrate_catalog import migrate_catalog
from tenancy.lifecycle.operation import Operation
from tenancy.models import State
from tests.conftest import make_user
from tests.migrations.test_admin_chain import CHAIN
from tests.support.applications import (
    FaultAt,
    SignalAt,
    Stopped,
    add_task,
    change_config,
    expire_claims,
    forked,
    keep_server,
    set_back,
    tenant_of,
    titles,
)
from tests.support.engines import fresh_database, server_address, use
from tests.support.recovery import backup_keys, note_deletion

Machine = Callable[..., compose.Parts]


@pytest.fixture
def old(make_parts, tmp_path) -> compose.Parts:
    """Give an installation with two users, of whom Ada has a row, a key and a session."""
    parts = make_parts(**backup_keys(tmp_path))
    for name in ("ada", "bob"):
        make_user(parts, f"{name}@example.org")
    add_task(parts.manager, 1, "before")
    return parts


@pytest.fixture
def machine(old, tmp_path) -> Iterator[Machine]:
    """Give a function that makes a machine with the keys of ``old`` and nothing else; settings can be given by name."""
    made: list[compose.Parts] = []

    def make(**changes: Any) -> compose.Parts:
        nowhere = {"admin_database_url": f"sqlite:///{tmp_path / 'new' / 'admin.db'}"}
        made.append(compose.build(replace(old.settings, **nowhere | changes)))
        return made[-1]

    yield make
    for parts in made:
        parts.close()


def lose(parts: compose.Parts) -> None:
    """Lose the users' databases."""
    parts.manager.engines.close()
    shutil.rmtree(parts.settings.tenant_data_dir)


def keep_all(parts: compose.Parts) -> None:
    parts.manager.backups.create_catalog()
    for user_id in (1, 2):
        parts.manager.backups.create(user_id)


def outcomes(report) -> dict[int, str]:
    return {result.tenant.user_id: str(result.outcome) for result in report.results}


def audited(parts: compose.Parts, action: str) -> list[dict[str, Any]]:
    return [row for row in parts.manager.audit.entries() if row["action"] == action]


def make_newer(parts: compose.Parts, user_id: int) -> None:
    """Have an operation change a database after the catalog's backup was made."""
    parts.manager.suspend(user_id)
    parts.manager.resume(user_id)


# --- everything lost --------------------------------------------------------------------------------------------------


def test_catalog_and_databases_come_back_from_backups_and_keys(old, machine):
    keep_all(old)
    lose(old)
    new = machine()
    report = new.manager.recovery.run()
    assert (outcomes(report), report.ended) == ({1: "restored", 2: "restored"}, True)
    assert titles(new.manager, 1) == ["before"]
    add_task(new.manager, 1, "after")
    assert titles(new.manager, 1) == ["after", "before"]
    assert [found.code for each in new.manager.fleet.verify(Selection()) for found in each.found] == []


@pytest.fixture
def catalog_url(engine_name: str, tmp_path: Path) -> Iterator[str]:
    with fresh_database(engine_name, tmp_path) as url:
        yield url


def test_a_catalog_of_any_product_comes_back_on_any_other(old, machine, catalog_url):
    keep_all(old)
    new = machine(admin_database_url=catalog_url)
    assert outcomes(new.manager.recovery.run()) == {1: "kept", 2: "kept"}
    assert new.accounts.find("ada@example.org").id == 1
    assert new.manager.audit.verify()["rows"] == old.manager.audit.verify()["rows"] + 2
    assert new.accounts.create("new@example.org").id == 3
    new.manager.backups.create_catalog()
    again = machine()
    again.manager.recovery.run()
    assert [user.email for user in again.accounts.list()] == [user.email for user in new.accounts.list()]


def test_the_catalog_knows_the_backups_that_were_made_after_its_own(old, machine):
    keep_all(old)
    new = machine()
    new.manager.recovery.run()
    with new.catalog.reading() as connection:
        assert len(list(backups.every(connection))) == 3
        assert set(backups.last_good(connection, [1, 2])) == {1, 2}


def test_the_audit_log_goes_on_from_the_last_head_that_the_backup_knew(old, machine):
    head = old.manager.audit.verify()["head"]
    keep_all(old)
    new = machine()
    new.manager.recovery.run()
    assert new.manager.audit.verify(expect=head)["head"] != head
    (row,) = audited(new, "catalog.recover")
    assert row["detail"]["head"] == head


def test_it_needs_no_database_of_the_catalogs_and_a_dry_run_makes_none(old, machine, tmp_path):
    keep_all(old)
    lose(old)
    new = machine()
    report = new.manager.recovery.run(dry_run=True)
    assert (outcomes(report), report.dry_run) == ({1: "restored", 2: "restored"}, True)
    assert not (tmp_path / "new").exists()
    assert not old.settings.tenant_data_dir.exists()


def test_what_is_in_its_place_is_kept_as_it_is(old, machine):
    keep_all(old)
    add_task(old.manager, 1, "after the backup")
    new = machine()
    assert outcomes(new.manager.recovery.run()) == {1: "kept", 2: "kept"}
    assert titles(new.manager, 1) == ["after the backup", "before"]


def test_a_database_without_a_backup_is_named_and_the_others_come_back(old, machine):
    old.manager.backups.create_catalog()
    old.manager.backups.create(2)
    lose(old)
    report = machine().manager.recovery.run()
    assert outcomes(report) == {1: "lost", 2: "restored"}
    assert "no backup of it" in report.results[0].why


def test_a_damaged_backup_is_named_and_the_one_before_it_is_taken(old, machine, tmp_path):
    for title in ("second", "third"):
        keep_all(old)
        add_task(old.manager, 1, title)
    for newest in (old.manager.backups.create_catalog(), old.manager.backups.create(1)):
        folder = "catalog" if newest.tenant_id is None else f"tenants/{newest.tenant_id}"
        file = tmp_path / "backups" / folder / f"{newest.id}.age"
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    lose(old)
    new = machine()
    report = new.manager.recovery.run()
    assert outcomes(report) == {1: "restored", 2: "restored"}
    assert titles(new.manager, 1) == ["before", "second"]
    assert "is damaged" in report.ignored[0]
    assert "is damaged" in report.results[0].why


def test_an_older_backup_is_migrated_on_the_way_in(old, machine):
    set_back(old.manager, [1], "0001")
    old.manager.backups.create_catalog()
    old.manager.backups.create(1)
    lose(old)
    new = machine()
    assert outcomes(new.manager.recovery.run())[1] == "restored"
    assert tenant_of(new.manager, 1).revision == new.manager.head
    assert titles(new.manager, 1) == ["before"]


def test_a_forged_record_is_ignored_and_named(old, machine, tmp_path):
    keep_all(old)
    forger = machine(backup_signing_keys=(generate_signing_key(),))
    forged = [keep_catalog_as(old, forger), keep_tenant_as(old, forger)]
    lose(old)
    report = machine().manager.recovery.run()
    assert outcomes(report) == {1: "restored", 2: "restored"}
    assert {str(backup.id) for backup in forged} == {
        each.partition(".json")[0].rpartition("/")[2] for each in report.ignored
    }
    assert report.catalog["backup_id"] != str(forged[0].id)


def keep_catalog_as(old, other):
    """Make a backup that another installation's key signs."""
    with swapped(old, other):
        return old.manager.backups.create_catalog()


def keep_tenant_as(old, other):
    with swapped(old, other):
        return old.manager.backups.create(1)


@contextmanager
def swapped(old, other):
    mine = old.manager.services.backups
    old.manager.services.backups = other.manager.services.backups
    yield
    old.manager.services.backups = mine


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"tenant_credential_keys": (generate_key(),)}, UnknownKeyError),
        ({"audit_key": "another key that sealed another installation's log"}, ConfigurationError),
        ({"backup_signing_keys": (generate_signing_key(),)}, BackupNotFoundError),
        ({"backup_identity_file": None, "backup_passphrase": None}, ArchiveKeyError),
    ],
    ids=["credentials", "audit", "signing", "identity"],
)
def test_wrong_keys_are_told_before_anything_is_written(old, machine, tmp_path, changes, error):
    keep_server(old.manager, "north")
    keep_all(old)
    new = machine(**changes)
    with pytest.raises(error):
        new.manager.recovery.run()
    assert not (tmp_path / "new").exists()


def test_another_secret_key_opens_nothing(old, machine, tmp_path):
    keep_all(old)
    other = tmp_path / "other.txt"
    other.write_text(generate_identity()[1])
    with pytest.raises(ArchiveKeyError):
        machine(backup_identity_file=other).manager.recovery.run()
    assert not (tmp_path / "new").exists()


def test_a_catalog_that_holds_anything_is_not_touched(old, machine):
    keep_all(old)
    with pytest.raises(CatalogError, match="is not empty"):
        old.manager.recovery.run()
    assert old.accounts.find(1).email == "ada@example.org"


def test_a_database_of_other_tables_is_refused(old, machine, tmp_path):
    keep_all(old)
    (tmp_path / "new").mkdir()
    new = machine()
    with sa.create_engine(f"sqlite:///{tmp_path / 'new' / 'admin.db'}").begin() as connection:
        connection.exec_driver_sql("CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(CatalogError, match="theirs"):
        new.manager.recovery.run()


def test_a_storage_without_a_catalogs_backup_says_so(old, machine):
    old.manager.backups.create(1)
    with pytest.raises(BackupNotFoundError, match="no backup of a catalog"):
        machine().manager.recovery.run()


def test_users_who_share_a_database_are_not_recovered(old, machine):
    with pytest.raises(ConfigurationError, match="MULTI_TENANT_MODE=false"):
        machine(multi_tenant_mode=False).manager.recovery.run()


def test_two_at_once_are_one(old, machine):
    keep_all(old)
    new = machine()
    new.manager.prepare_catalog()
    with new.catalog.writing() as connection:
        take(new.catalog, connection, recovery.CLAIM, "recover", 60.0)
    with pytest.raises(ClaimedError, match="another recovery is at work"):
        new.manager.recovery.run()


# --- cut off ----------------------------------------------------------------------------------------------------------


def test_a_recovery_that_stops_at_any_step_is_finished_by_the_next(old, machine, tmp_path):
    old.manager.backups.create_catalog()
    old.manager.backups.create(1)
    lose(old)
    for position in count(1):
        new = machine()
        new.manager.services.step = steps = FaultAt(position)
        with suppress(Stopped):
            new.manager.recovery.run()
        again = machine()
        again.manager.recovery.run()
        assert titles(again.manager, 1) == ["before"]
        assert again.manager.leftovers.listed() == []
        assert again.manager.audit.verify()["rows"]
        if len(steps.seen) < position:
            break
        again.close()
        shutil.rmtree(tmp_path / "new")
        shutil.rmtree(tmp_path / "users", ignore_errors=True)
    assert position > 5


@pytest.mark.parametrize("revision", list(CHAIN.checksums))
def test_a_catalog_that_was_being_migrated_goes_on_from_any_revision(old, machine, revision):
    keep_all(old)
    new = machine()
    migrate_catalog(new.catalog, new.manager.backends, new.manager.catalog_chain, revision)
    assert outcomes(new.manager.recovery.run()) == {1: "kept", 2: "kept"}


def test_a_newer_catalog_is_refused(old, machine):
    keep_all(old)
    new = machine()
    new.manager.prepare_catalog()
    with new.catalog.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {CATALOG_VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(RevisionMismatchError, match="9999"):
        new.manager.recovery.run()


# --- an old catalog in a newer world ----------------------------------------------------------------------------------


def test_sessions_end_and_keys_are_held_until_they_are_confirmed(old, machine):
    revoked, key = old.accounts.issue_key(1)
    _, link = old.accounts.issue_key(1, purpose="calendar")
    token = old.accounts.sign_in_without_password(1).token
    keep_all(old)
    old.accounts.revoke_key(1, revoked["id"])
    new = machine()
    report = new.manager.recovery.run()
    assert (report.catalog["sessions"], report.catalog["keys"]) == (1, 2)
    assert new.accounts.principal_by_session(token) is None
    assert new.accounts.principal_by_key(key) is new.accounts.principal_by_key(link, "calendar") is None
    calendar = next(each for each in new.accounts.held_keys() if each["purpose"] == "calendar")
    new.accounts.confirm_key(calendar["id"])
    assert new.accounts.principal_by_key(link, "calendar") is not None
    assert new.accounts.principal_by_key(key) is None


def test_claims_end_and_due_jobs_are_cancelled_and_named(old, machine):
    job = old.manager.jobs.add("fleet_run", {"run_id": 1})
    with old.catalog.writing() as connection:
        tenant = tenants.get(connection, 1)
        take(old.catalog, connection, tenant.tenant_id, "migrate", 60.0, least=5)
    old.manager.backups.create_catalog()
    new = machine()
    report = new.manager.recovery.run()
    assert [each["id"] for each in report.catalog["jobs"]] == [job.id]
    assert [each["operation"] for each in report.catalog["claims"]] == ["migrate"]
    assert new.manager.jobs.get(job.id).state == "cancelled"
    with new.catalog.reading() as connection:
        assert claims.held(connection, tenant.tenant_id) is None


def test_a_fleet_run_waits_for_somebody_to_resume_it(old, machine):
    set_back(old.manager, [1, 2])
    run = old.manager.fleet.start(Selection(), Rules())
    keep_all(old)
    new = machine()
    assert new.manager.recovery.run().catalog["runs"] == [run.id]
    assert new.manager.fleet.get(run.id).state is RunState.PAUSED


def test_databases_that_were_deleted_since_stay_deleted(old, machine):
    keep_all(old)
    tenant = tenant_of(old.manager, 1)
    old.manager.delete_user_database(1)
    lose(old)
    new = machine()
    report = new.manager.recovery.run()
    assert outcomes(report) == {2: "restored"}
    assert [each["user_id"] for each in report.catalog["deleted"]] == [1]
    assert tenant_of(new.manager, 1) is None
    assert new.manager.leftovers.listed() == []
    assert new.manager.provision(1).tenant.epoch > tenant.epoch
    assert titles(new.manager, 1) == []


def test_what_is_left_of_a_deleted_database_is_removed(old, machine):
    keep_all(old)
    note_deletion(old.manager, 1)
    new = machine()
    new.manager.recovery.run()
    assert not (old.settings.tenant_data_dir / "user_1.db").exists()
    assert (old.settings.tenant_data_dir / "user_2.db").exists()


def test_no_id_of_a_user_is_given_twice(old, machine):
    keep_all(old)
    for name in ("cy", "di", "eve"):
        make_user(old, f"{name}@example.org")
    old.manager.backups.create(4)
    new = machine()
    report = new.manager.recovery.run()
    assert report.highest_user == 5  # the file of the fifth is there
    assert [each["user_id"] for each in report.unknown] == [4]
    assert new.accounts.create("fay@example.org").id == 6


def test_ids_are_passed_over_where_a_server_did_not_answer(old, machine):
    keep_server(old.manager, "north")
    keep_all(old)
    new = machine()
    report = new.manager.recovery.run()
    assert (len(report.silent), report.ended) == (1, False)
    assert new.accounts.create("fay@example.org").id == 2 + BEYOND + 1


def test_a_database_that_is_newer_is_listed_and_left_alone(old, machine):
    keep_all(old)
    make_newer(old, 1)
    add_task(old.manager, 1, "after")
    before = tenant_of(old.manager, 1)
    new = machine()
    report = new.manager.recovery.run()
    assert outcomes(report) == {1: "newer", 2: "kept"}
    assert "manager.recovery.run(adopt=True)" in report.results[0].why
    with pytest.raises(TenancyError):
        titles(new.manager, 1)
    for deed in (new.manager.resume, new.manager.suspend, new.manager.provision):
        with pytest.raises(TenancyError):
            deed(1)
    assert titles(old.manager, 1) == ["after", "before"]  # nothing was written to it
    assert tenant_of(old.manager, 1) == before


def test_a_database_that_is_newer_is_taken_where_that_is_asked_for(old, machine):
    keep_all(old)
    make_newer(old, 1)
    epoch = tenant_of(old.manager, 1).epoch
    new = machine()
    new.manager.recovery.run()
    assert outcomes(new.manager.recovery.run(adopt=True)) == {1: "adopted", 2: "kept"}
    assert titles(new.manager, 1) == ["before"]
    add_task(new.manager, 1, "on")
    assert tenant_of(new.manager, 1).epoch > epoch
    assert [row["user_id"] for row in audited(new, "tenant.adopt")] == [1]
    with pytest.raises(TenancyError):
        add_task(old.manager, 1, "late")  # whoever still has the old catalog is fenced off


def test_a_database_that_was_suspended_since_stays_suspended(old, machine):
    keep_all(old)
    old.manager.suspend(1)
    new = machine()
    assert outcomes(new.manager.recovery.run(adopt=True))[1] == "adopted"
    assert tenant_of(new.manager, 1).state is State.SUSPENDED
    new.manager.resume(1)
    assert titles(new.manager, 1) == ["before"]


def test_a_database_that_another_took_the_place_of_is_not_opened(old, machine):
    keep_all(old)
    with old.catalog.writing() as connection:
        tenant = tenants.get(connection, 1)
        claim = take(old.catalog, connection, tenant.tenant_id, "restore", 60.0, least=tenant.epoch + 1)
    Operation(old.manager.services).mark(tenant, claim, old.manager.backends.get("sqlite"), State.MOVING)
    new = machine()
    for adopt in (False, True):
        report = new.manager.recovery.run(adopt=adopt)
        assert outcomes(report)[1] == "replaced"
    with pytest.raises(TenancyError):
        titles(new.manager, 1)


def test_a_newer_database_under_another_name_is_found_and_taken(old, machine):
    keep_all(old)
    restore_elsewhere(old)
    add_task(old.manager, 1, "after")
    old.manager.engines.close()
    new = machine()
    report = new.manager.recovery.run()
    assert outcomes(report) == {1: "newer", 2: "kept"}
    assert tenant_of(old.manager, 1).db_path in report.results[0].why
    assert outcomes(new.manager.recovery.run(adopt=True)) == {1: "adopted", 2: "kept"}
    assert titles(new.manager, 1) == ["after", "before"]


def restore_elsewhere(parts: compose.Parts) -> None:
    """Have a restore give the first user a database of another name."""
    backup = parts.manager.backups.create(1)
    with parts.catalog.reading() as connection:
        tenant = tenants.get(connection, 1)
    parts.manager.engines.close()
    parts.manager.backends.get(tenant.db_type).drop(tenant, parts.manager.services.access(tenant))
    parts.manager.restores.restore(1, backup.id)


def test_what_a_restore_had_only_begun_to_make_is_not_taken_for_a_newer_one(old, machine):
    keep_all(old)
    lose(old)
    new = machine()
    new.manager.services.step = at_loading = FaultAt()
    new.manager.recovery.run()
    position = at_loading.seen.index("compare") + 1
    shutil.rmtree(old.settings.tenant_data_dir)
    shutil.rmtree(Path(new.settings.admin_database_url.removeprefix("sqlite:///")).parent)
    child = forked(lambda: killed_at(new.settings, position))
    assert child.killed()
    again = machine()
    expire_claims(again.manager)
    assert outcomes(again.manager.recovery.run(adopt=True)) == {1: "restored", 2: "restored"}
    assert titles(again.manager, 1) == ["before"]


def test_no_copy_of_a_catalog_stays_behind(old, machine, tmp_path, monkeypatch):
    keep_all(old)
    (copies := tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    new = machine()
    assert forked(lambda: killed_at(new.settings, 2)).killed()  # "load catalog", while the copy is there
    assert len(list(copies.iterdir())) == 1
    expire_claims(new.manager)
    new.manager.recovery.run()
    assert list(copies.iterdir()) == []


def killed_at(settings, position: int) -> None:
    parts = compose.build(settings)
    parts.manager.services.step = SignalAt(position, signal.SIGKILL)
    parts.manager.recovery.run()


def test_an_older_copy_is_named_and_left_alone(old, machine, tmp_path):
    old.manager.engines.close()
    copy = (tmp_path / "users" / "user_1.db").read_bytes()
    make_newer(old, 1)
    keep_all(old)
    old.manager.engines.close()
    for file in (tmp_path / "users").glob("user_1.db*"):
        file.unlink()
    (tmp_path / "users" / "user_1.db").write_bytes(copy)
    assert outcomes(machine().manager.recovery.run())[1] == "older"


def test_one_that_was_being_made_is_kept_if_it_was_finished_since(old, machine):
    keep_catalog_before_it_was_finished(old)
    new = machine()
    assert outcomes(new.manager.recovery.run())[1] == "newer"
    with pytest.raises(TenancyError):
        new.manager.provision(1)
    assert outcomes(new.manager.recovery.run(adopt=True))[1] == "adopted"
    assert titles(new.manager, 1) == ["before"]


def test_one_that_was_being_made_and_never_was_can_be_made(old, machine):
    keep_catalog_before_it_was_finished(old)
    lose(old)
    new = machine()
    assert outcomes(new.manager.recovery.run())[1] == "unmade"
    assert new.manager.provision(1).created


def test_one_that_was_being_made_comes_back_from_a_later_backup(old, machine):
    keep_catalog_before_it_was_finished(old)
    old.manager.backups.create(1)
    lose(old)
    new = machine()
    assert outcomes(new.manager.recovery.run())[1] == "restored"
    assert titles(new.manager, 1) == ["before"]


def keep_catalog_before_it_was_finished(old: compose.Parts) -> None:
    tenant = tenant_of(old.manager, 1)
    change_config(old.manager, 1, state=State.PROVISIONING, revision=None, schema_fingerprint=None)
    old.manager.backups.create_catalog()
    change_config(old.manager, 1, state=State.READY, revision=tenant.revision)


def test_a_suspended_database_comes_back_suspended(old, machine):
    old.manager.suspend(1)
    keep_all(old)
    lose(old)
    new = machine()
    assert outcomes(new.manager.recovery.run())[1] == "restored"
    assert tenant_of(new.manager, 1).state is State.SUSPENDED


def test_databases_that_were_left_behind_are_not_dropped_by_an_old_list(old, machine):
    """A leftover may be in use again: the row of a database in the making is one until it is in use."""
    with old.catalog.writing() as connection:
        leftovers.add(connection, tenants.get(connection, 1), Reason.HALF_MADE)
    keep_all(old)
    new = machine()
    report = new.manager.recovery.run()
    assert report.catalog["forgotten"] == ["user_1.db"]
    assert new.manager.leftovers.listed() == []
    assert titles(new.manager, 1) == ["before"]


def test_an_epoch_that_a_backup_names_is_never_given_again(old, machine):
    old.manager.backups.create_catalog()
    make_newer(old, 1)
    old.manager.backups.create(1)
    epoch = tenant_of(old.manager, 1).epoch
    lose(old)
    new = machine()
    assert outcomes(new.manager.recovery.run())[1] == "restored"
    assert tenant_of(new.manager, 1).epoch > epoch


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["postgresql", "mysql", "sqlserver"])
def placed(request, make_parts, tmp_path) -> Iterator[compose.Parts]:
    """Give an installation whose users' databases are on a server; what is made there is dropped by ``machine``."""
    product = use(request, request.param)
    parts = make_parts(default_tenant_db_type=product, **backup_keys(tmp_path))
    address = server_address(product)
    parts.manager.servers.add("test", product, address.render_as_string(hide_password=False))
    for name in ("ada", "bob"):
        make_user(parts, f"{name}@example.org")
    add_task(parts.manager, 1, "before")
    yield parts
    drop_all(parts)


def drop_all(parts: compose.Parts) -> None:
    """Drop the users' databases with their logins, as a server that was lost has none."""
    parts.manager.engines.close()
    for user_id in (1, 2):
        with parts.catalog.reading() as connection:
            tenant = tenants.get(connection, user_id)
        parts.manager.backends.get(tenant.db_type).drop(tenant, parts.manager.services.access(tenant))


def test_databases_on_a_server_come_back_there(placed, tmp_path):
    keep_all(placed)
    drop_all(placed)
    new = compose.build(replace(placed.settings, admin_database_url=f"sqlite:///{tmp_path / 'new' / 'admin.db'}"))
    try:
        assert outcomes(new.manager.recovery.run()) == {1: "restored", 2: "restored"}
        add_task(new.manager, 1, "after")
        assert titles(new.manager, 1) == ["after", "before"]
        assert tenant_of(new.manager, 1).server_id == tenant_of(placed.manager, 1).server_id
        assert [found.code for each in new.manager.fleet.verify(Selection()) for found in each.found] == []
        assert outcomes(new.manager.recovery.run()) == {1: "kept", 2: "kept"}
    finally:
        drop_all(new)
        new.close()


def test_a_newer_database_under_another_name_on_a_server_gets_a_new_password(placed, tmp_path):
    keep_all(placed)
    restore_elsewhere(placed)
    new = compose.build(replace(placed.settings, admin_database_url=f"sqlite:///{tmp_path / 'new' / 'admin.db'}"))
    try:
        assert outcomes(new.manager.recovery.run()) == {1: "newer", 2: "kept"}
        assert outcomes(new.manager.recovery.run(adopt=True)) == {1: "adopted", 2: "kept"}
        add_task(new.manager, 1, "after")
        assert titles(new.manager, 1) == ["after", "before"]
        assert [found.code for each in new.manager.fleet.verify(Selection()) for found in each.found] == []
    finally:
        drop_all(new)
        new.close()


def test_what_a_server_that_is_away_has_is_named_and_comes_back_later(old, machine, monkeypatch):
    keep_all(old)
    lose(old)
    monkeypatch.setattr(SQLiteBackend, "connect_to_migrate", away)
    new = machine()
    report = new.manager.recovery.run()
    assert (outcomes(report), report.ended) == ({1: "unreachable", 2: "unreachable"}, False)
    assert not new.manager.recovery.status().report["ended"]
    monkeypatch.undo()
    report = new.manager.recovery.run()
    assert (outcomes(report), report.ended) == ({1: "restored", 2: "restored"}, True)
    assert new.manager.recovery.status().ended_at is not None


def away(*_: object) -> None:
    raise DatabaseUnreachableError("the server does not answer.")
