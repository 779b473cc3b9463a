"""What every storage does alike: a file is written once and comes back whole; nothing is written over."""

from __future__ import annotations

import io
import os
from datetime import timedelta

import pytest

from tenancy.archive.storage import base, open_storage
from tenancy.errors import BackupExistsError, BackupNotFoundError
from tests.support.moments import now
from tests.support.threads import at_once


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path):
    if request.param == "folder":
        return open_storage(str(tmp_path / "deep" / "backups"))
    return open_storage(request.getfixturevalue("s3_server").bucket())


@pytest.fixture
def small_pieces(monkeypatch):
    """Cut files at 1000 bytes."""
    from tenancy.archive.storage import objects

    for module in (base, objects):
        monkeypatch.setattr(module, "PIECE_BYTES", 1000)


def keep(storage, key, content=b"content"):
    storage.create(key, io.BytesIO(content))


def read(storage, key):
    with storage.open(key) as stream:
        return stream.read()


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2000, 5500])
def test_a_file_of_any_size_comes_back(storage, small_pieces, size):
    content = os.urandom(size)
    keep(storage, "a/b.age", content)
    assert read(storage, "a/b.age") == content
    (stored,) = storage.list()
    assert (stored.key, stored.size_bytes) == ("a/b.age", size)
    assert abs(stored.modified_at - now()) < timedelta(minutes=5)


def test_what_comes_in_small_portions_is_one_file(storage, small_pieces):
    class Slow(io.BytesIO):
        def read(self, size=-1, /):
            return super().read(min(size, 7))

    storage.create("a.age", Slow(b"0123456789" * 250))
    assert read(storage, "a.age") == b"0123456789" * 250


@pytest.mark.parametrize("size", [10, 1000, 3500])
def test_a_second_file_of_the_same_name_is_refused_and_the_first_one_stays(storage, small_pieces, size):
    keep(storage, "a.age", b"1" * size)
    for content in (b"2" * size, b"1" * size, b""):
        with pytest.raises(BackupExistsError):
            keep(storage, "a.age", content)
    assert read(storage, "a.age") == b"1" * size
    assert len(list(storage.list())) == 1


@pytest.mark.parametrize("size", [10, 2500])
def test_of_many_who_write_one_name_at_once_one_wins_wholly(storage, small_pieces, size):
    def write(number):
        try:
            keep(storage, "a.age", bytes([number]) * size)
        except BackupExistsError:
            return None
        return number

    (winner,) = [number for number in at_once(8, write) if number is not None]
    assert read(storage, "a.age") == bytes([winner]) * size


def test_what_is_not_there_is_said(storage):
    keep(storage, "there.age")
    for key in ("not.age", "there/not.age", "there.age.000001"):
        with pytest.raises(BackupNotFoundError, match=key):
            storage.open(key)
        storage.delete(key)
    assert list(storage.list("nowhere")) == []


def test_a_list_has_whole_folders_in_order_and_no_neighbours(storage):
    keys = ["t/5/a.age", "t/5/a.json", "t/55/b.age", "t/5-6/c.age", "u.age", "t/5/z/d.age"]
    for key in keys:
        keep(storage, key)
    assert sorted(each.key for each in storage.list()) == sorted(keys)
    assert [each.key for each in storage.list("t/5")] == ["t/5/a.age", "t/5/a.json", "t/5/z/d.age"]


def test_a_deleted_file_is_gone_with_its_pieces(storage, small_pieces):
    keep(storage, "a.age", b"1" * 4500)
    keep(storage, "a.json")
    storage.delete("a.age")
    assert [each.key for each in storage.list()] == ["a.json"]
    storage.delete("a.age")
    keep(storage, "a.age", b"2")
    assert read(storage, "a.age") == b"2"


@pytest.mark.parametrize("key", ["", "../a", "a/../b", "/a", "a//b", "a/", "A", "a b", ".a", "a/.b", "ä", "a\0"])
def test_a_key_that_is_none_is_refused(storage, key):
    with pytest.raises(ValueError, match="no key"):
        keep(storage, key)


def test_a_source_that_fails_leaves_no_whole_file(storage, small_pieces):
    class Failing(io.BytesIO):
        def read(self, size=-1, /):
            data = super().read(size)
            if not data:
                raise RuntimeError("cut off")
            return data

    with pytest.raises(RuntimeError):
        storage.create("a.age", Failing(b"1" * 2500))
    assert all(each.size_bytes < 2500 for each in storage.list())
