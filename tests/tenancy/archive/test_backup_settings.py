"""The settings of backups: without somebody who can open them nothing is written, and the error says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenancy.archive import encryption
from tenancy.archive.backup_settings import BackupSettings
from tenancy.archive.encryption import BY_PASSPHRASE
from tenancy.errors import ArchiveKeyError, ConfigurationError

pytest.importorskip("pyrage")
PUBLIC, SECRET = encryption.generate_identity()
PASSPHRASE = "correct horse battery staple"


def test_without_recipients_and_passphrase_the_command_that_makes_a_pair_is_named():
    with pytest.raises(ArchiveKeyError, match="unify credentials generate-identity"):
        BackupSettings().encrypt_to()


def test_recipients_come_before_the_passphrase():
    assert BackupSettings(recipients=(PUBLIC,), passphrase=PASSPHRASE).encrypt_to().key_ids != (BY_PASSPHRASE,)
    assert BackupSettings(passphrase=PASSPHRASE).encrypt_to().key_ids == (BY_PASSPHRASE,)


def test_a_machine_without_a_secret_key_says_that_it_has_none():
    with pytest.raises(ArchiveKeyError, match="do this where the key is"):
        BackupSettings(recipients=(PUBLIC,)).identities()


def test_a_backup_is_opened_by_what_it_was_encrypted_to(tmp_path):
    path = tmp_path / "identity.txt"
    path.write_text(f"# created by somebody\n# public key: {PUBLIC}\n{SECRET}\n\n")
    settings = BackupSettings(identity_file=path, passphrase=PASSPHRASE)
    mine = encryption.key_id(PUBLIC)
    assert settings.identities().key_ids == settings.identities([mine]).key_ids == (mine,)
    assert settings.identities([BY_PASSPHRASE]).key_ids == (BY_PASSPHRASE,)
    assert BackupSettings(passphrase=PASSPHRASE).identities().key_ids == (BY_PASSPHRASE,)


@pytest.mark.parametrize("content", [None, b"", b"# only this\n", b"\xff\xfe", b"AGE-SECRET-KEY-1HIDDEN\n"])
def test_a_file_that_holds_no_secret_key_is_refused_without_its_content(tmp_path, content):
    path = tmp_path / "identity.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        BackupSettings(identity_file=path).identities()
    assert refused.value.field == "BACKUP_IDENTITY_FILE"
    assert "HIDDEN" not in str(refused.value)


def test_complete_settings_have_a_place_a_reader_and_a_signer():
    whole = {"url": "/srv/backups", "signing_keys": ("x",), "recipients": (PUBLIC,)}
    assert BackupSettings(**whole).complete
    assert BackupSettings(**(whole | {"recipients": (), "passphrase": PASSPHRASE})).complete
    for name, empty in (("url", ""), ("signing_keys", ()), ("recipients", ())):
        assert not BackupSettings(**(whole | {name: empty})).complete


def test_no_secret_is_in_the_repr():
    settings = BackupSettings(
        url="s3://key:hidden@bucket",
        delete_url="s3://other:hidden@bucket",
        passphrase="hidden" * 5,
        identity_file=Path("identity.txt"),
        signing_keys=("hidden",),
    )
    assert "hidden" not in repr(settings)
