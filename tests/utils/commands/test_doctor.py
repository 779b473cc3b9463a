from __future__ import annotations

import json
from dataclasses import replace

import pytest

import compose
from tenancy.archive import encryption
from tenancy.credentials.signing import generate_signing_key
from tests.support.backups import store_backup

pytest.importorskip("pyrage")


def test_what_is_missing_is_said_and_fails(ready, settings):
    failed = ready("doctor", settings=replace(settings, backup_signing_keys=()))
    assert failed.exit_code == 1
    assert "2 checks failed: signing key, recipients." in failed.stderr
    assert "unify credentials generate-identity" in failed.stdout
    assert "manager." not in failed.stdout
    assert "encryption." not in failed.stdout
    assert "- AUDIT_KEY" in failed.stdout


def test_a_system_that_can_make_backups_does_not_fail(ready, settings):
    good = replace(settings, backup_recipients=(encryption.generate_identity()[0],))
    done = ready("doctor", "--json", settings=good)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {check["state"] for check in document["checks"]} == {"good", "note", "warn"}
    assert len(document["keep"]) == 4


@pytest.fixture
def dotenv(tmp_path, monkeypatch):
    """Give a ``.env`` of this test's own, which the environment does not override."""
    import settings as module

    path = tmp_path / "dotenv"
    for name in ("BACKUP_SIGNING_KEYS", "TENANT_CREDENTIAL_KEYS", "BACKUP_RECIPIENTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "DOTENV", path)
    return path


@pytest.fixture
def make_backup():
    """Give a function that puts a backup into the storage of some settings, and into their catalog."""

    def make(settings, **how):
        parts = compose.build(settings)
        try:
            return store_backup(parts.manager, **how)
        finally:
            parts.close()

    return make


def ids(ready, settings):
    status = json.loads(ready("credentials", "status", "--json", settings=settings).stdout)
    return [use["key_id"] for use in status["backup_keys"]]


def test_a_key_that_nothing_needs_is_taken_out(ready, settings, dotenv):
    old = generate_signing_key()
    both = replace(settings, backup_signing_keys=(*settings.backup_signing_keys, old))
    dotenv.write_text(f"# mine\nHOST=127.0.0.1\nBACKUP_SIGNING_KEYS={','.join(both.backup_signing_keys)}\nPORT=5000\n")
    dotenv.chmod(0o600)
    done = ready("credentials", "remove-key", ids(ready, both)[1], settings=both)
    assert done.exit_code == 0, done.output
    assert dotenv.read_text() == (
        f"# mine\nHOST=127.0.0.1\nBACKUP_SIGNING_KEYS={settings.backup_signing_keys[0]}\nPORT=5000\n"
    )
    assert dotenv.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["signing", "recipient", "credential"])
def test_a_key_that_backups_need_stays_unless_forced(ready, settings, dotenv, kind, make_backup):
    mine = encryption.generate_identity()[0]
    with_it = replace(settings, backup_recipients=(mine,))
    record = make_backup(with_it, catalog=kind == "credential")
    status = json.loads(ready("credentials", "status", "--json", settings=with_it).stdout)
    by_setting = {use["setting"]: use["key_id"] for use in status["backup_keys"]}
    name, key_id = {
        "signing": ("BACKUP_SIGNING_KEYS", by_setting["BACKUP_SIGNING_KEYS"]),
        "recipient": ("BACKUP_RECIPIENTS", by_setting["BACKUP_RECIPIENTS"]),
        "credential": ("TENANT_CREDENTIAL_KEYS", status["keys"][0]["key_id"]),
    }[kind]
    dotenv.write_text(f"{name}=what it was\n")
    refused = ready("credentials", "remove-key", key_id, settings=with_it)
    assert refused.exit_code == 1
    assert str(record.backup_id) in refused.stderr
    assert "1 stored backup and 0 stored passwords need key" in refused.stderr
    assert dotenv.read_text() == f"{name}=what it was\n"
    forced = ready("credentials", "remove-key", key_id, "--force", settings=with_it)
    if kind == "credential":
        assert "may not be empty" in forced.stderr
    else:
        assert forced.exit_code == 0, forced.output
        assert dotenv.read_text() == f"{name}=\n"


def test_a_key_that_the_environment_gives_is_taken_out_there(ready, settings, dotenv, monkeypatch):
    monkeypatch.setenv("BACKUP_SIGNING_KEYS", settings.backup_signing_keys[0])
    failed = ready("credentials", "remove-key", ids(ready, settings)[0])
    assert failed.exit_code == 1
    assert "take out key 1 of 1 there" in failed.stderr


def test_an_unknown_key_is_answered_with_those_that_are_there(ready, settings):
    failed = ready("credentials", "remove-key", "12345678")
    assert failed.exit_code == 1
    assert ids(ready, settings)[0] in failed.stderr
