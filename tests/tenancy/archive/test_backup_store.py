"""Backups in a storage: the record comes last and decides, and counts only where it was written."""

from __future__ import annotations

import io
from itertools import islice

import pytest

from tenancy.archive.backup_store import BackupStore, Place, Unreadable
from tenancy.archive.records import Deletion, Record, sealed
from tenancy.credentials.signing import SigningKeys, generate_signing_key
from tenancy.errors import (
    ArchiveDamagedError,
    ArchiveSignatureError,
    BackupExistsError,
    BackupNotFoundError,
    ConfigurationError,
    StorageUnavailableError,
)
from tenancy.types import new_id
from tests.tenancy.archive.conftest import MOMENT, kept, record_of

CATALOG = {"kind": "catalog", "tenant_id": None, "user_id": None}


def keys(storage):
    return [each.key for each in storage.list()]


@pytest.mark.parametrize("changed", [{}, CATALOG], ids=["tenant", "catalog"])
def test_a_backup_comes_back_with_its_record(store, changed):
    record = kept(store, b"0123456789" * 1000, **changed)
    assert record.signed_by == store.signing.key_ids[0]
    assert store.record(Place.of(record)) == record
    with store.open(record) as archive:
        assert archive.read() == b"0123456789" * 1000
    store.check(record)


def test_files_lie_where_the_documents_say(store):
    tenant, catalog = kept(store), kept(store, **CATALOG)
    store.add_deletion(Deletion(tenant.tenant_id, 7, MOMENT, "7e5800"))
    assert keys(store.storage) == [
        f"catalog/{catalog.backup_id}.age",
        f"catalog/{catalog.backup_id}.json",
        f"deleted/{tenant.tenant_id}.json",
        f"tenants/{tenant.tenant_id}/{tenant.backup_id}.age",
        f"tenants/{tenant.tenant_id}/{tenant.backup_id}.json",
    ]


def test_the_records_of_all_or_of_one_tenant_are_found(store):
    mine, theirs, catalog = kept(store), kept(store), kept(store, **CATALOG)
    assert {found.backup_id for found in store.records()} == {mine.backup_id, theirs.backup_id, catalog.backup_id}
    assert list(store.records(mine.tenant_id)) == [mine]


def test_nothing_is_ever_written_over(store):
    record = kept(store)
    with pytest.raises(BackupExistsError):
        store.add(record, io.BytesIO(b"an archive"))
    store.check(record)


@pytest.mark.parametrize("content", [b"", b"an archiv", b"an archive.", b"an Archive"])
def test_an_archive_that_is_not_what_its_record_says_is_not_taken(store, content):
    with pytest.raises(ArchiveDamagedError):
        store.add(record_of(), io.BytesIO(content))
    assert list(store.records()) == []


@pytest.mark.parametrize("content", [b"", b"an archiv", b"an archive.", b"an Archive"])
def test_an_archive_that_was_changed_since_is_found_at_its_end(store, content):
    record = kept(store)
    path = store.storage.folder / Place.of(record).key(".age")
    path.write_bytes(content)
    with pytest.raises(ArchiveDamagedError), store.open(record) as archive:
        archive.read()
    with pytest.raises(ArchiveDamagedError):
        store.check(record)


def test_a_record_that_was_copied_to_another_tenants_key_is_refused(store):
    record = kept(store)
    seal = store.storage.open(Place.of(record).key(".json")).read()
    for copied in (Place(record.backup_id, new_id()), Place(new_id(), record.tenant_id), Place(record.backup_id)):
        store.storage.create(copied.key(".json"), io.BytesIO(seal))
        with pytest.raises(ArchiveSignatureError, match="another backup"):
            store.record(copied)
    refused = [each for each in store.records() if isinstance(each, Unreadable)]
    assert len(refused) == 3


def test_a_deletion_does_not_pass_for_a_backup_nor_a_backup_for_a_deletion(store):
    record, deletion = kept(store), Deletion(new_id(), 7, MOMENT, "7e5800")
    place = Place(new_id(), deletion.tenant_id)
    store.storage.create(place.key(".json"), io.BytesIO(sealed(deletion, store.signing)))
    with pytest.raises(ArchiveSignatureError):
        store.record(place)
    store.storage.create(f"deleted/{record.tenant_id}.json", io.BytesIO(sealed(record, store.signing)))
    (found,) = store.deletions()
    assert isinstance(found, Unreadable)


def test_records_of_others_are_told_apart_and_hide_none(store):
    """Whoever may write to the storage can encrypt for our keys, but not sign."""
    forger = BackupStore(store.storage, SigningKeys([generate_signing_key()]))
    record = kept(store)
    for _ in range(3):
        kept(forger, tenant_id=record.tenant_id)
    store.storage.create(Place(new_id(), record.tenant_id).key(".json"), io.BytesIO(b"{}"))
    store.storage.create(Place(new_id(), record.tenant_id).key(".json"), io.BytesIO(b""))
    found = list(store.records())
    assert [each for each in found if isinstance(each, Record)] == [record]
    assert {each.error.code for each in found if isinstance(each, Unreadable)} == {"archive_signature"}


def test_a_backup_without_record_is_partial_and_never_good(store):
    record = record_of()
    store.storage.create(Place.of(record).key(".age"), io.BytesIO(b"an archive"))
    whole = kept(store, tenant_id=record.tenant_id)
    assert [each.place for each in store.partials()] == [Place.of(record)]
    assert [each.backup_id for each in store.records()] == [whole.backup_id]
    with pytest.raises(BackupNotFoundError):
        store.record(Place.of(record))


def test_a_record_without_archive_is_partial_too(store):
    record = kept(store)
    store.storage.delete(Place.of(record).key(".age"))
    (found,) = store.partials()
    assert (found.place, found.archive) == (Place.of(record), None)


def test_a_deletion_that_was_interrupted_leaves_what_is_partial(store, monkeypatch):
    record = kept(store)
    delete, asked = type(store.storage).delete, []

    def once(storage, key):
        asked.append(key)
        if len(asked) > 1:
            raise StorageUnavailableError("gone")
        delete(storage, key)

    monkeypatch.setattr(type(store.storage), "delete", once)
    with pytest.raises(StorageUnavailableError):
        store.delete(Place.of(record))
    monkeypatch.undo()
    assert [each.place for each in store.partials()] == [Place.of(record)]
    store.delete(Place.of(record))
    assert keys(store.storage) == []


def test_a_storage_that_fails_in_the_middle_is_not_an_empty_one(store, monkeypatch):
    for _ in range(3):
        kept(store)
    real = type(store.storage).list_pieces

    def half(storage, prefix):
        yield from islice(real(storage, prefix), 3)
        raise StorageUnavailableError("it stopped in the middle")

    monkeypatch.setattr(type(store.storage), "list_pieces", half)
    with pytest.raises(StorageUnavailableError):
        list(store.records())


def test_files_of_others_are_passed_over(store):
    record = kept(store)
    for key in ("readme.txt", "tenants/x/y.json", f"tenants/{record.tenant_id}/x.age", "deleted/x.json", "other/a.age"):
        store.storage.create(key, io.BytesIO(b"?"))
    assert list(store.records()) == [record]
    assert list(store.partials()) == list(store.deletions()) == []


def test_deletions_are_kept_once(store):
    deletion = Deletion(new_id(), 9, MOMENT, "7e5800")
    store.add_deletion(deletion)
    with pytest.raises(BackupExistsError):
        store.add_deletion(deletion)
    assert list(store.deletions()) == [deletion]


def test_the_highest_user_id_is_found_in_backups_and_deletions(store):
    assert store.newest_user_id() == 0
    kept(store, user_id=3)
    kept(store, **CATALOG)
    kept(BackupStore(store.storage, SigningKeys([generate_signing_key()])), user_id=999)
    assert store.newest_user_id() == 3
    store.add_deletion(Deletion(new_id(), 12, MOMENT, "7e5800"))
    assert store.newest_user_id() == 12


def test_without_a_signing_key_nothing_is_written(storage):
    with pytest.raises(ConfigurationError, match="unify credentials generate-signing-key"):
        kept(BackupStore(storage, SigningKeys([])))
    assert keys(storage) == []
