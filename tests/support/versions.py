"""Give the tests of the fleet an application in several versions, and tenants that one of them made."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tenancy import TenantManager
from tests.support.applications import add_users, revision, small_manager

if TYPE_CHECKING:
    from compose import Parts

COLUMN = "op.add_column('things', sa.Column({0!r}, sa.Integer))"

Versions = Callable[..., TenantManager]


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    """Give a function that makes the manager of the n-th version, which has n revisions.

    ``last`` is the body of the n-th revision's upgrade. Version 1 makes a table with a child, both with rows to lose.
    """
    made: list[TenantManager] = []

    def make(number: int, last: str | None = None, name: str | None = None, header: str = "") -> TenantManager:
        folder = tmp_path / (name or f"version{number}")
        write_chain(folder, number, last)
        newest = folder / "versions" / f"000{number}.py"
        newest.write_text(newest.read_text() + header)
        made.append(small_manager(tmp_path, folder, app_version=f"{number}.0"))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


def write_chain(folder: Path, number: int, last: str | None = None) -> None:
    revision(
        folder,
        "0001",
        None,
        """
        op.create_table('things', sa.Column('id', sa.Integer, primary_key=True))
        op.create_table('parts', sa.Column('id', sa.Integer, primary_key=True),
            sa.Column('thing', sa.Integer, sa.ForeignKey('things.id', ondelete='CASCADE'), nullable=False))
        """,
    )
    for each in range(2, number + 1):
        drop = f"with op.batch_alter_table('things') as batch:\n    batch.drop_column('c{each}')"
        body = last if last is not None and each == number else COLUMN.format(f"c{each}")
        revision(folder, f"000{each}", f"000{each - 1}", body, drop)


def fill(manager: TenantManager, number: int) -> list[int]:
    """Make tenants with a thing and its part each."""
    ids = add_users(manager, number)
    for user_id in ids:
        manager.provision(user_id)
        manager.execute_update("INSERT INTO things (id) VALUES (7)", user_id=user_id)
        manager.execute_update("INSERT INTO parts (id, thing) VALUES (1, 7)", user_id=user_id)
    manager.engines.close()
    return ids


def look(tmp_path: Path, user_id: int) -> dict[str, object]:
    """Look into a tenant's file: version, ledger, columns, rows."""
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db")) as driver:
        return {
            "version": [row[0] for row in driver.execute("SELECT version_num FROM tenant_version")],
            "ledger": [
                (row[0], row[1])
                for row in driver.execute("SELECT revision, direction FROM tenancy_ledger ORDER BY applied_at, id")
            ],
            "columns": [row[1] for row in driver.execute("PRAGMA table_info(things)")],
            "parts": driver.execute("SELECT count(*) FROM parts JOIN things ON things.id = thing").fetchone()[0],
            "state": driver.execute("SELECT state FROM tenancy_identity").fetchone()[0],
        }


def hand(tmp_path: Path, user_id: int, sql: str) -> None:
    """Change a tenant's database behind the application's back."""
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{user_id}.db")) as driver, driver:
        driver.execute(sql)


def next_version(parts: Parts, folder: Path, upgrade: str, downgrade: str = "pass", header: str = "") -> TenantManager:
    """Make the manager of this application's next version, whose chain has one revision more."""
    if not folder.exists():
        shutil.copytree(parts.manager.schema.migrations, folder, ignore=shutil.ignore_patterns("__pycache__"))
    head = parts.manager.head
    path = revision(folder, f"{int(head) + 1:04}", head, upgrade, downgrade)
    path.write_text(path.read_text() + f"\n\n{header}\n")
    old = parts.manager
    return TenantManager(
        parts.catalog,
        old.backends,
        replace(old.schema, migrations=folder),
        old.keyring,
        old.options,
        catalog_chain=old.catalog_chain,
    )
