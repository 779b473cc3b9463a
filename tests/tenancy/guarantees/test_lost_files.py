"""Hold the engine to its word on files that are lost or replaced while it serves them.

A process that has a file open can go on writing to it after it was deleted: every write would be acknowledged, and
gone with the process.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import compose
from tenancy.catalog import READ
from tenancy.errors import CatalogNotReadyError, DatabaseMissingError, DatabaseUnreachableError, IdentityError
from tests.support.applications import add_task, add_tenants, titles


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


def overwrite(file: Path, content: Path) -> None:
    """Write over a file as an operator does, from a process of its own: the file stays the one that it is."""
    before = file.stat().st_ino
    subprocess.run(["cp", content, file], check=True)
    assert file.stat().st_ino == before


def damaged(file: Path, place: Path) -> Path:
    """Give a copy of a file whose pages but the first two are empty."""
    content = file.read_bytes()
    place.write_bytes(content[:8192] + bytes(len(content) - 8192))
    return place


def test_a_file_that_is_damaged_and_mended_in_place_is_used_by_the_next_request(parts, folder, tmp_path):
    """Every handle to it is opened anew: the one that saw the damage, one in the pool, and one in use."""
    (user_id,) = add_tenants(parts, 1)
    for number in range(100):
        add_task(parts.manager, user_id, f"{number:03}" * 40)
    file, good = folder / f"user_{user_id}.db", tmp_path / "good.db"
    parts.manager.engines.close()
    copy_of(file, good)
    engine = parts.manager.engine_for(user_id).execution_options(**READ)
    with engine.connect() as in_use:
        with engine.connect() as pooled:
            for connection in (in_use, pooled):
                assert connection.exec_driver_sql("SELECT count(*) FROM tenancy_identity").scalar() == 1
        overwrite(file, damaged(good, tmp_path / "damaged.db"))
        for _ in range(2):
            with pytest.raises(DatabaseUnreachableError, match="damaged"):
                titles(parts.manager, user_id)
        with pytest.raises(sa.exc.DatabaseError):
            in_use.exec_driver_sql("SELECT max(title) FROM tasks")
    overwrite(file, good)
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            assert connection.exec_driver_sql("SELECT max(title) FROM tasks").scalar() == "099" * 40
    add_task(parts.manager, user_id, "after")
    assert len(titles(parts.manager, user_id)) == 101


def test_a_catalog_that_is_damaged_and_mended_in_place_is_used_again(parts, tmp_path):
    file, good = tmp_path / "admin.db", tmp_path / "good.db"
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("CREATE TABLE long (x)")
        driver.executemany("INSERT INTO long VALUES (?)", [(f"{number:03}" * 40,) for number in range(100)])

    def longest() -> str:
        with parts.catalog.reading() as connection:
            return str(connection.exec_driver_sql("SELECT max(x) FROM long").scalar_one())

    parts.catalog.engine.dispose()
    copy_of(file, good)
    assert parts.catalog.revision()  # the handle has read that, and not yet what will be damaged
    overwrite(file, damaged(good, tmp_path / "damaged.db"))
    for _ in range(2):
        with pytest.raises(CatalogNotReadyError, match="damaged"):
            longest()
    overwrite(file, good)
    assert longest() == "099" * 40


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
    assert parts.manager.reports.catalog()["reachable"] is False
    assert not (tmp_path / "admin.db").exists()
    parts.manager.prepare_catalog()
    assert parts.accounts.count() == 0
    parts.close()
