"""``doctor`` says what would keep backups from being made, or from being used when they are needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import compose
from tenancy.archive import encryption
from tenancy.archive.backup_store import Place
from tenancy.catalog import backups, job_workers
from tenancy.catalog.backups import BackupState
from tenancy.credentials.signing import generate_signing_key
from tenancy.monitoring.doctor import BAD, GOOD, NOTE, WARN, Doctor
from tenancy.types import new_id
from tests.support.backups import store_backup

pytest.importorskip("pyrage")
PUBLIC, SECRET = encryption.generate_identity()
OTHER_PUBLIC, OTHER_SECRET = encryption.generate_identity()


@pytest.fixture
def parts(make_parts, tmp_path):
    identity = tmp_path / "identity.txt"
    identity.write_text(f"# public key: {PUBLIC}\n{SECRET}\n")
    return make_parts(backup_recipients=PUBLIC, backup_identity_file=identity)


def examined(parts, **changed):
    """Give what is found, by check; ``changed`` are settings of backups."""
    services = parts.manager.services
    changed_services = replace(services, backups=replace(services.backups, **changed))
    return {found.check: found for found in Doctor(changed_services).examine()}


def test_a_system_with_all_it_needs_is_good(parts, user):
    record = store_backup(parts.manager, catalog=True)
    mine = parts.manager.tenant_of(user.id)
    store_backup(parts.manager, tenant_id=mine.tenant_id, user_id=user.id)
    with parts.catalog.writing() as connection:
        job_workers.beat(connection, new_id(), {"host": "here", "pid": 1, "threads": 1, "running": 0})
    found = examined(parts)
    assert {check: each.state for check, each in found.items()} == dict.fromkeys(found, GOOD)
    assert len(found) == 9
    assert record.key_ids[0] in found["recipients"].text


def test_it_writes_one_probe_however_often_it_is_asked(parts):
    for _ in range(3):
        assert examined(parts)["storage"].state == GOOD
    folder = Path(parts.settings.backup_url)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["probe.txt"]


def test_missing_keys_are_bad_and_name_the_command_that_makes_one(parts):
    found = examined(parts, signing_keys=(), recipients=(), identity_file=None)
    for check, command in (("signing key", "generate-signing-key"), ("recipients", "generate-identity")):
        assert found[check].state == BAD
        assert f"unify credentials {command}" in found[check].text
    assert found["secret key"].state == NOTE


def test_a_secret_key_of_somebody_else_opens_nothing(parts, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(OTHER_SECRET)
    assert examined(parts, identity_file=other)["secret key"].state == BAD


@pytest.mark.parametrize("content", [None, "", "# nothing\n", "AGE-SECRET-KEY-1XYZ", "\0\xff"])
def test_a_file_without_a_secret_key_is_bad_and_shows_nothing_of_it(parts, tmp_path, content):
    path = tmp_path / "broken.txt"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    found = examined(parts, identity_file=path)["secret key"]
    assert (found.state, "XYZ" in found.text) == (BAD, False)


def test_a_storage_that_cannot_be_used_is_bad(parts, tmp_path):
    (tmp_path / "file").write_text("")
    found = examined(parts, url=str(tmp_path / "file"))
    assert found["storage"].state == BAD
    assert found["signing key"].state == GOOD, "the other checks go on"


@pytest.mark.parametrize("what", ["archive gone", "archive short", "record gone", "record forged", "catalog differs"])
def test_a_newest_backup_that_is_not_whole_is_bad(parts, what):
    record = store_backup(parts.manager)
    place, folder = Place.of(record), Path(parts.settings.backup_url)
    if what == "archive gone":
        (folder / place.key(".age")).unlink()
    elif what == "archive short":
        (folder / place.key(".age")).write_bytes(b"an arch")
    elif what == "record gone":
        (folder / place.key(".json")).unlink()
    elif what == "record forged":
        (folder / place.key(".json")).write_bytes(b"{}\n{}\n")
    else:
        with parts.catalog.writing() as connection:
            connection.execute(backups.backups.update(), {"checksum": "00" * 32})
    assert examined(parts)["newest backups"].state == BAD


def test_stored_backups_whose_keys_are_gone_are_bad_and_listed(parts):
    record = store_backup(parts.manager)
    store_backup(parts.manager, state=BackupState.GONE)
    found = examined(parts, signing_keys=(generate_signing_key(),))["keys of backups"]
    assert found.state == BAD
    (use,) = found.keys
    assert (use.setting, use.key_id, use.backups) == ("BACKUP_SIGNING_KEYS", record.signed_by, 1)
    assert [each.id for each in use.newest] == [record.backup_id]
    found = examined(parts, recipients=(OTHER_PUBLIC,), identity_file=None)["keys of backups"]
    assert [(use.setting, use.key_id) for use in found.keys] == [("BACKUP_RECIPIENTS", record.key_ids[0])]
    assert examined(parts, recipients=(OTHER_PUBLIC,))["keys of backups"].state == GOOD, "the secret half is here"


def test_old_backups_and_missing_workers_are_warned_of(parts, user):
    found = examined(parts)
    assert (found["age of backups"].state, found["workers"].state) == (WARN, WARN)
    assert "1 of 1 databases and the catalog" in found["age of backups"].text


def test_no_finding_shows_a_secret(parts, tmp_path):
    url = "s3://AKIDEXAMPLE:hunter2hunter2@bucket/x?endpoint=http://127.0.0.1:9"
    store_backup(parts.manager)
    shown = str([each.to_dict() for each in examined(parts, url=url, identity_file=tmp_path / "none").values()])
    assert "hunter2" not in shown
    assert SECRET not in shown
    assert not any(key in shown for key in parts.settings.backup_signing_keys)


def test_the_composed_parts_have_the_settings(settings):
    assert compose.backup_settings(settings).url == settings.backup_url


def test_a_backup_that_a_passphrase_opens_needs_the_passphrase(parts):
    store_backup(parts.manager, key_ids=("passphrase",))
    (use,) = examined(parts)["keys of backups"].keys
    assert (use.setting, use.backups) == ("BACKUP_PASSPHRASE", 1)
    assert examined(parts, passphrase="correct horse battery staple")["keys of backups"].state == GOOD
