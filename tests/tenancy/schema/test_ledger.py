"""The ledger: what was applied in this database, written in the revision's own transaction."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import uuid_utils

from tenancy.backends.access import NO_ACCESS
from tenancy.errors import MigrationError, RevisionMismatchError
from tenancy.models import State
from tenancy.schema import ledger
from tests.support.applications import (
    FaultAt,
    SignalAt,
    add_tenants,
    add_users,
    change_config,
    expire_claims,
    forked,
    revision,
    small_manager,
    tenant_of,
)

COLUMN = "op.add_column('things', sa.Column({0!r}, sa.Integer))"


@pytest.fixture
def versions(tmp_path: Path):
    """Give a function that makes the manager of the application's n-th version; the n-th has n revisions."""
    made = []

    def make(number: int):
        folder = tmp_path / f"version{number}"
        revision(folder, "0001", None, "op.create_table('things', sa.Column('id', sa.Integer))")
        for each in range(2, number + 1):
            drop = f"op.drop_column('things', 'c{each}')"
            revision(folder, f"000{each}", f"000{each - 1}", COLUMN.format(f"c{each}"), drop)
        made.append(small_manager(tmp_path, folder, app_version=f"{number}.0"))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


def entries(manager, user_id: int) -> list[dict]:
    backend = manager.backends.get("sqlite")
    with backend.migrating(backend.connect(tenant_of(manager, user_id), NO_ACCESS)) as connection:
        return ledger.entries(connection)


def hand(tmp_path: Path, user_id: int, sql: str) -> None:
    """Change a tenant's database behind the application's back."""
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db")) as driver, driver:
        driver.execute(sql)


def test_a_row_says_what_was_applied_when_how_long_it_took_and_by_which_version(versions, tmp_path):
    first = versions(1)
    (user_id,) = add_users(first, 1)
    before = datetime.now(UTC)
    first.provision(user_id)
    first.engines.close()
    second = versions(2)
    second.provision(user_id)
    rows = entries(second, user_id)
    assert [(row["revision"], row["direction"], row["app_version"]) for row in rows] == [
        ("0001", "upgrade", "1.0"),
        ("0002", "upgrade", "2.0"),
    ]
    for row in rows:
        file = tmp_path / "version2" / "versions" / f"{row['revision']}.py"
        assert row["checksum"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert before <= row["applied_at"] <= datetime.now(UTC)
        assert 0 <= row["duration_ms"] < 60_000
    assert rows[0]["id"] != rows[1]["id"]


def test_a_copied_template_is_dated_as_what_was_applied_in_this_database_now(versions):
    manager = versions(3)
    first, second = add_users(manager, 2)
    manager.provision(first)
    between = datetime.now(UTC)
    manager.provision(second)
    assert all(row["applied_at"] <= between for row in entries(manager, first))
    assert all(row["applied_at"] >= between - timedelta(milliseconds=1) for row in entries(manager, second))
    assert [row["revision"] for row in entries(manager, second)] == ["0001", "0002", "0003"]


def test_going_back_is_told_too_and_the_end_of_the_ledger_is_where_the_database_stands(versions, tmp_path):
    manager = versions(3)
    (user_id,) = add_users(manager, 1)
    manager.provision(user_id)
    manager.engines.close()
    backend, provisioner = manager.backends.get("sqlite"), manager.provisioner.seeding
    with backend.migrating(backend.connect(tenant_of(manager, user_id), NO_ACCESS)) as connection:
        manager.chain.downgrade(
            connection, "0001", transactional_ddl=True, on_apply=lambda *seen: provisioner._applied(backend, *seen)
        )
        assert (
            list(ledger.applied_checksums(connection, manager.chain.checksums))
            == [manager.chain.current(connection)]
            == ["0001"]
        )
    change_config(manager, user_id, revision="0001")
    with pytest.raises(RevisionMismatchError), manager.session(user_id):
        raise AssertionError("it was opened")
    manager.provision(user_id)
    assert [(row["revision"], row["direction"]) for row in entries(manager, user_id)] == [
        ("0001", "upgrade"),
        ("0002", "upgrade"),
        ("0003", "upgrade"),
        ("0003", "downgrade"),
        ("0002", "downgrade"),
        ("0002", "upgrade"),
        ("0003", "upgrade"),
    ]


@pytest.mark.parametrize("how", ["error", "kill"])
def test_a_revision_and_its_row_come_and_go_together(versions, tmp_path, how):
    first = versions(1)
    (user_id,) = add_users(first, 1)
    first.provision(user_id)
    first.engines.close()
    position = 3  # record, migrate, applied 0002: after the row was written and before it is kept

    def upgrade(step) -> None:
        manager = versions(3)
        manager.services.step = step
        manager.provision(user_id)

    if how == "kill":
        assert forked(lambda: upgrade(SignalAt(position, signal.SIGKILL))).killed()
    else:
        with pytest.raises(MigrationError):
            upgrade(FaultAt(position))
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db")) as driver:
        assert [row[0] for row in driver.execute("SELECT revision FROM tenancy_ledger")] == ["0001"]
        assert driver.execute("SELECT version_num FROM tenant_version").fetchall() == [("0001",)]
        assert [row[1] for row in driver.execute("PRAGMA table_info(things)")] == ["id"]
    third = versions(3)
    expire_claims(third)
    third.provision(user_id)
    assert [row["revision"] for row in entries(third, user_id)] == ["0001", "0002", "0003"]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM tenancy_ledger",
        "DELETE FROM tenancy_ledger WHERE revision = '0002'",
        "UPDATE tenant_version SET version_num = '0001'",
    ],
)
def test_a_ledger_that_disagrees_with_the_version_table_is_a_named_error(versions, tmp_path, change):
    second = versions(2)
    (user_id,) = add_users(second, 1)
    second.provision(user_id)
    second.engines.close()
    hand(tmp_path, user_id, change)
    third = versions(3)
    with pytest.raises(RevisionMismatchError, match=r"the version table says .*, the ledger"):
        third.provision(user_id)
    tenant = tenant_of(third, user_id)
    assert (tenant.state, tenant.last_error_code) == (State.FAILED, "revision_mismatch")
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db")) as driver:
        assert [row[1] for row in driver.execute("PRAGMA table_info(things)")] == ["id", "c2"]


@pytest.fixture
def clock(monkeypatch):
    """Give a function that sets how far this machine's clock is ahead of the right time, for ids and moments alike."""
    right = time.time

    def ahead(seconds: float) -> None:
        class Moment(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromtimestamp(right() + seconds, tz)

        def made() -> uuid.UUID:
            return uuid.UUID(bytes=uuid_utils.uuid7(nanoseconds=int((right() + seconds) * 1e9)).bytes)

        monkeypatch.setattr(ledger, "datetime", Moment)
        monkeypatch.setattr(ledger, "new_id", made)

    return ahead


@pytest.mark.parametrize("ahead_s", [300, -300])
def test_machines_whose_clocks_differ_migrate_one_database_after_each_other(versions, clock, ahead_s):
    """The database is made by a machine whose clock is right, and goes on by one that is fast or slow, and back."""
    first, second, third = versions(1), versions(2), versions(3)
    (user_id,) = add_users(first, 1)
    clock(0)
    first.provision(user_id)
    first.engines.close()
    clock(ahead_s)
    second.provision(user_id)
    second.engines.close()
    clock(0)
    third.provision(user_id)
    rows = entries(third, user_id)
    assert [row["revision"] for row in rows] == ["0001", "0002", "0003"]
    moments = [row["applied_at"] for row in rows]
    assert moments != sorted(moments), "each row says when it was by the clock of the machine that wrote it"
    assert third.fetch_all("SELECT c2, c3 FROM things", user_id=user_id) == []


def test_a_database_that_older_code_migrated_with_a_slow_clock_is_migrated_on(versions, tmp_path):
    """Older code made each id by its machine's clock: what came last may stand first."""
    second = versions(2)
    (user_id,) = add_users(second, 1)
    second.provision(user_id)
    second.engines.close()
    hand(
        tmp_path,
        user_id,
        "UPDATE tenancy_ledger SET id = '0' || substr(id, 2), applied_at = '2020-01-01' WHERE revision = '0002'",
    )
    third = versions(3)
    third.provision(user_id)
    backend = third.backends.get("sqlite")
    with backend.migrating(backend.connect(tenant_of(third, user_id), NO_ACCESS)) as connection:
        assert list(ledger.applied_checksums(connection, third.chain.checksums)) == ["0001", "0002", "0003"]
        assert ledger.contradiction(connection, ["0001", "0002", "0003"]) is None


def test_what_was_applied_again_by_a_slow_machine_counts_as_it_was_applied_last(versions, tmp_path, clock):
    """Applied by a fast machine, undone, edited, applied again by a slow one: the edited file is what stands here."""
    second = versions(2)
    (user_id,) = add_users(second, 1)
    clock(300)
    second.provision(user_id)
    backend = second.backends.get("sqlite")
    with backend.migrating(backend.connect(tenant_of(second, user_id), NO_ACCESS)) as connection:
        clock(-300)
        for direction, checksum in (("downgrade", "old"), ("upgrade", "edited")):
            ledger.record(connection, "0002", direction, checksum, 0, "2.0")
        assert ledger.applied_checksums(connection, second.chain.checksums)["0002"] == "edited"
        ledger.record(connection, "0002", "downgrade", "edited", 0, "2.0")
        assert list(ledger.applied_checksums(connection, second.chain.checksums)) == ["0001"]
        assert ledger.contradiction(connection, ["0001"]) is None
        ledger.record(connection, "0002", "downgrade", "edited", 0, "2.0")
        assert ledger.contradiction(connection, ["0001"]) == "the ledger tells twice that 0002 was undone"


def test_rows_read_back_in_the_order_they_were_applied(parts):
    (user_id,) = add_tenants(parts, 1)
    with parts.manager.session(user_id) as session:
        found = ledger.entries(session.connection())
        assert [row["revision"] for row in found] == list(parts.manager.chain.checksums)
        assert session.execute(sa.text("SELECT count(*) FROM tenancy_ledger")).scalar() == len(found)
