"""A SQLite file is removed only where it is still the one that was to go: version 0.3.0 uses a name again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from compose import Parts
from tenancy.backends.sqlite import files
from tenancy.errors import TenancyError
from tenancy.fleet.orphans import Orphans
from tests.support.applications import FaultAt, add_task, add_tenants, tenant_of


def the_file(parts: Parts, user_id: int) -> Path:
    return parts.settings.tenant_data_dir / (tenant_of(parts.manager, user_id).db_path or "")


@pytest.fixture
def parts(make_parts) -> Parts:
    return make_parts()


def as_another_tenants(parts: Parts, file: Path) -> None:
    """Put the file of a second user under this name, as 0.3.0 would that of the same user's next tenant."""
    (other,) = add_tenants(parts, 1)
    add_task(parts.manager, other, "theirs")
    with closing(sqlite3.connect(the_file(parts, other))) as theirs, closing(sqlite3.connect(":memory:")) as copy:
        theirs.backup(copy)
        content = copy.serialize()
    files.publish(a_draft(file, files.in_wal(content)), file)


def a_draft(file: Path, content: bytes) -> Path:
    draft = file.with_name("draft.new")
    draft.write_bytes(content)
    return draft


def test_a_late_deletion_leaves_the_file_that_0_3_0_made_under_the_same_name(parts):
    (user_id,) = add_tenants(parts, 1)
    file = the_file(parts, user_id)

    def meanwhile(name: str) -> None:
        if name == "drop":
            file.unlink()
            as_another_tenants(parts, file)

    parts.manager.services.step = meanwhile
    parts.manager.delete_user_database(user_id)
    parts.manager.services.step = FaultAt()
    with closing(sqlite3.connect(file)) as there:
        assert there.execute("SELECT title FROM tasks").fetchall() == [("theirs",)]


def test_a_file_that_came_between_the_look_and_the_removal_gets_its_name_back(parts, monkeypatch):
    (user_id,) = add_tenants(parts, 1)
    file = the_file(parts, user_id)
    remove = files.remove

    def late(seen: files.Seen, mark: str) -> bool:
        monkeypatch.undo()
        file.rename(file.with_name("elsewhere"))
        as_another_tenants(parts, file)
        with closing(sqlite3.connect(file, isolation_level=None)) as open_meanwhile:
            open_meanwhile.execute("UPDATE tasks SET title = 'begun before'")
            went = remove({file: seen[file]}, mark)
            open_meanwhile.execute("UPDATE tasks SET title = 'gone on after'")
        return went

    monkeypatch.setattr("tenancy.backends.sqlite.backend.remove", late)
    parts.manager.delete_user_database(user_id)
    with closing(sqlite3.connect(file)) as there:
        assert there.execute("SELECT title FROM tasks").fetchall() == [("gone on after",)]
    assert not list(file.parent.glob("*.gone"))


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\x00 and no more"])
def test_a_damaged_or_empty_file_is_removed(parts, content):
    (user_id,) = add_tenants(parts, 1)
    file = the_file(parts, user_id)

    def damage(name: str) -> None:
        if name == "drop":
            file.unlink()
            file.write_bytes(content)

    parts.manager.services.step = damage
    parts.manager.delete_user_database(user_id)
    assert not file.exists()


def test_what_a_kill_left_of_a_removal_is_removed_with_the_next_one(parts, monkeypatch):
    (user_id,) = add_tenants(parts, 1)
    file = the_file(parts, user_id)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        rename(path, target)
        raise OSError("killed")

    with monkeypatch.context() as once, pytest.raises(TenancyError):
        once.setattr(Path, "rename", killed)
        parts.manager.delete_user_database(user_id)
    assert [stray.name for stray in file.parent.glob("*.gone")]
    parts.manager.delete_user_database(user_id)
    assert not list(file.parent.glob("user_*"))
    assert [finding.what for finding in Orphans(parts.manager.services).found()] == []


def test_what_litestream_keeps_beside_a_file_goes_with_it_and_is_passed_over(parts):
    """It holds pages of the database. A folder that a replica needs stays, and is no orphan."""
    gone, stays = add_tenants(parts, 2)
    folders = [the_file(parts, each).with_name(f".{the_file(parts, each).name}-litestream") for each in (gone, stays)]
    for folder in folders:
        (folder / "ltx" / "0").mkdir(parents=True)
        (folder / "ltx" / "0" / "0001.ltx").write_bytes(b"pages")
    parts.manager.delete_user_database(gone)
    assert [folder.exists() for folder in folders] == [False, True]
    assert list(Orphans(parts.manager.services).found()) == []
