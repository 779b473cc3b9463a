"""Hold the engine to its word on files that are lost or replaced while it serves them.

A process that has a file open can go on writing to it after it was deleted: every write would be acknowledged, and
gone with the process.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import compose
from tenancy.errors import CatalogNotReadyError, DatabaseMissingError, IdentityError
from tests.tenancy.support import add_task, add_tenants, titles


@pytest.fixture
def folder(parts) -> Path:
    return parts.settings.tenant_data_dir


def remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def copy_of(file: Path, place: Path) -> None:
    with closing(sqlite3.connect(file)) as read, closing(sqlite3.connect(place)) as write:
        read.backup(write)


def test_nothing_is_acknowledged_by_a_connection_whose_file_was_deleted(parts, folder):
    lost, other = add_tenants(parts, 2)
    add_task(parts.manager, lost, "before")
    add_task(parts.manager, other, "theirs")
    remove(folder / f"user_{lost}.db")
    for _ in range(3):
        with pytest.raises(DatabaseMissingError):
            add_task(parts.manager, lost, "after")
        with pytest.raises(DatabaseMissingError):
            titles(parts.manager, lost)
    assert list(folder.glob(f"user_{lost}.db*")) == []
    assert titles(parts.manager, other) == ["theirs"]
    assert parts.manager.engines.budget.open <= 2


def test_a_file_put_in_place_of_an_open_one_is_opened_anew_and_compared(parts, folder, tmp_path):
    first, second = add_tenants(parts, 2)
    add_task(parts.manager, first, "of the first")
    add_task(parts.manager, second, "of the second")
    copies = {user_id: tmp_path / f"copy_{user_id}.db" for user_id in (first, second)}
    for user_id, copy in copies.items():
        copy_of(folder / f"user_{user_id}.db", copy)
    add_task(parts.manager, first, "after the copy")
    remove(folder / f"user_{first}.db")
    shutil.copy(copies[second], folder / f"user_{first}.db")
    with pytest.raises(IdentityError):
        titles(parts.manager, first)
    remove(folder / f"user_{first}.db")
    shutil.copy(copies[first], folder / f"user_{first}.db")
    assert titles(parts.manager, first) == ["of the first"]
    assert titles(parts.manager, second) == ["of the second"]


def test_a_catalog_that_is_lost_while_it_serves_is_said_and_not_made_anew(parts, tmp_path):
    parts.accounts.create("ada@example.org")
    remove(tmp_path / "admin.db")
    for _ in range(2):
        with pytest.raises(CatalogNotReadyError, match="cannot be opened"):
            parts.accounts.count()
    assert not (tmp_path / "admin.db").exists()


def test_initializing_a_database_that_is_gone_says_so(parts, folder):
    (user_id,) = add_tenants(parts, 1)
    parts.manager.engines.close()
    remove(folder / f"user_{user_id}.db")
    with pytest.raises(DatabaseMissingError, match="restore it"):
        parts.manager.provision(user_id)
    (result,) = parts.manager.initialize_all(lambda result: None)
    assert (result.ok, type(result.error)) == (False, DatabaseMissingError)
    assert not (folder / f"user_{user_id}.db").exists()


def test_only_migrating_the_catalog_makes_its_file(make_settings, tmp_path):
    parts = compose.build(make_settings())
    with pytest.raises(CatalogNotReadyError, match="create-config-table"):
        parts.accounts.count()
    assert parts.manager.catalog_status()["reachable"] is False
    assert not (tmp_path / "admin.db").exists()
    parts.manager.prepare_catalog()
    assert parts.accounts.count() == 0
    parts.close()
