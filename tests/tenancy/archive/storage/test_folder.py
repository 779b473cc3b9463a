"""A folder of backups: private, synced, never written over, and plain about a disk that is full or read-only."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tenancy.archive.storage import folder, open_storage
from tenancy.errors import BackupExistsError, StorageRefusedError, StorageUnavailableError


@pytest.fixture
def storage(tmp_path):
    return open_storage(str(tmp_path / "deep" / "backups"))


@pytest.fixture
def mounted(tmp_path):
    """Give a function that mounts a small disk; its options are those of tmpfs."""
    places = []

    def mount(options):
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True
            )
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no file system can be mounted here")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


def keep(storage, key, content=b"content"):
    storage.create(key, io.BytesIO(content))


def files(top: Path):
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())


def test_nobody_else_may_read_files_or_folders(storage):
    before = os.umask(0)
    try:
        keep(storage, "a/b/c.age")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [storage.folder, *storage.folder.rglob("*")]}
    assert modes == {"backups": 0o700, "a": 0o700, "b": 0o700, "c.age": 0o600}


def test_a_file_url_is_a_folder_too(tmp_path):
    keep(open_storage(f"file://{tmp_path}/a%20b"), "x.age")
    assert files(tmp_path) == ["a b/x.age"]


def test_file_and_folders_are_synced_before_the_file_counts(storage, monkeypatch):
    synced = []

    def fsync(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}").rpartition("/")[2])

    monkeypatch.setattr(folder.os, "fsync", fsync)
    keep(storage, "a/b.age")
    assert synced[:3] == [Path(storage.folder).parents[1].name, "deep", "backups"]
    assert synced[3].startswith(".draft-")
    assert synced[4:] == ["a"]


def test_without_hard_links_nothing_is_written_over_either(storage, monkeypatch):
    def no_links(*args):
        raise OSError(folder.errno.EPERM, "no links here")

    monkeypatch.setattr(folder.os, "link", no_links)
    keep(storage, "a.age", b"1")
    with pytest.raises(BackupExistsError):
        keep(storage, "a.age", b"2")
    assert storage.open("a.age").read() == b"1"
    assert files(storage.folder) == ["a.age"]


def test_drafts_are_not_listed_and_go_when_they_are_old(storage):
    keep(storage, "a/b.age")
    old, young = (storage.folder / "a" / f".draft-{name}" for name in ("old", "young"))
    for draft in (old, young):
        draft.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    assert [each.key for each in storage.list()] == ["a/b.age"]
    assert storage.tidy() == 1
    assert files(storage.folder) == ["a/.draft-young", "a/b.age"]


def test_what_is_no_file_is_not_read(storage, tmp_path):
    keep(storage, "a.age")
    (tmp_path / "secret").write_text("of somebody else")
    (storage.folder / "link.age").symlink_to(tmp_path / "secret")
    os.mkfifo(storage.folder / "pipe.age")
    (storage.folder / "folder.age").mkdir()
    assert [each.key for each in storage.list()] == ["a.age"]
    for name in ("link.age", "pipe.age", "folder.age"):
        with pytest.raises(StorageRefusedError, match=name):
            storage.open(name).read()


def test_a_full_disk_says_so_and_keeps_nothing_of_the_file(mounted):
    place = mounted("size=256k")
    storage = open_storage(str(place / "backups"))
    keep(storage, "a.age", b"1" * 1000)
    with pytest.raises(StorageUnavailableError, match="full"):
        keep(storage, "b.age", b"2" * (1 << 20))
    assert files(place) == ["backups/a.age"]
    keep(storage, "c.age", b"3" * 1000)


def test_a_disk_that_is_read_only_says_so(mounted):
    place = mounted("size=256k")
    storage = open_storage(str(place))
    keep(storage, "a.age", b"1")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    for refused in (lambda: keep(storage, "b.age"), lambda: keep(storage, "a.age"), lambda: storage.delete("a.age")):
        with pytest.raises(StorageRefusedError, match="Read-only"):
            refused()
    assert storage.open("a.age").read() == b"1"


def test_a_place_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    storage = open_storage(str(tmp_path / "file"))
    with pytest.raises(StorageRefusedError):
        keep(storage, "a.age")
    with pytest.raises(StorageRefusedError):
        list(storage.list())


def test_a_file_that_cannot_be_read_to_its_end_says_so(storage, monkeypatch):
    keep(storage, "a.age")

    def broken(*args):
        raise OSError(5, "Input/output error")

    stream = storage.open("a.age")
    monkeypatch.setattr(folder.os, "read", broken)
    with pytest.raises(StorageUnavailableError, match="Input/output"):
        stream.read()
