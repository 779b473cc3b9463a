from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet

import compose
from tenancy.catalog.tables import user_database_configs
from tenancy.credentials.keyring import generate_key
from tests.support.applications import keep_server


def test_a_generated_key_stands_alone_and_needs_no_settings(shell):
    made = shell("credentials", "generate-key", SECRET_KEY="", TENANT_CREDENTIAL_KEYS="")
    assert made.returncode == 0, made.stderr
    Fernet(made.stdout.removesuffix("\n"))
    assert json.loads(shell("credentials", "generate-key", "--json").stdout)["key"] != made.stdout.strip()


@pytest.fixture
def sealed(ready, settings):
    """A user whose configuration holds a password, sealed under the settings' key."""
    assert ready("users", "create", "--email", "a@example.org").exit_code == 0
    parts = compose.build(settings)
    tenant = parts.manager.tenant_of(1)
    secret = parts.manager.keyring.seal("hunter2-hunter2", tenant.binding)
    with parts.catalog.writing() as connection:
        connection.execute(user_database_configs.update(), {"db_password": secret})
    parts.close()
    return settings


@pytest.fixture
def newer(sealed):
    """The same settings with a fresh key before the old one."""
    return replace(sealed, tenant_credential_keys=(generate_key(), *sealed.tenant_credential_keys))


def test_rotation_seals_anew_and_names_the_key_that_is_not_needed(call, sealed, newer):
    before = json.loads(call("credentials", "status", "--json", settings=newer).stdout)
    assert before["to_rotate"] == 1
    assert [key["needed"] for key in before["keys"]] == [True, True]
    rotated = call("credentials", "rotate", settings=newer)
    assert rotated.exit_code == 0, rotated.stderr
    assert "1 password sealed" in rotated.stdout
    after = json.loads(call("credentials", "status", "--json", settings=newer).stdout)
    assert (after["to_rotate"], [key["needed"] for key in after["keys"]]) == (0, [True, False])
    assert f"No longer needed in TENANT_CREDENTIAL_KEYS: {after['keys'][1]['key_id']}." in rotated.stdout
    only_new = replace(newer, tenant_credential_keys=newer.tenant_credential_keys[:1])
    assert "put it back" not in call("credentials", "status", settings=only_new).stdout


def test_a_password_whose_key_is_gone_is_named_and_kept(call, sealed):
    lost = replace(sealed, tenant_credential_keys=(generate_key(),))
    assert "put it back" in call("credentials", "status", settings=lost).stdout
    failed = call("credentials", "rotate", settings=lost)
    assert failed.exit_code == 1
    assert "user 1 (credential_key_unknown)" in failed.stderr
    assert call("credentials", "rotate", settings=sealed).exit_code == 0


def test_a_server_whose_key_is_gone_is_named(ready, settings):
    parts = compose.build(settings)
    keep_server(parts.manager, "north")
    parts.close()
    failed = ready("credentials", "rotate", settings=replace(settings, tenant_credential_keys=(generate_key(),)))
    assert failed.exit_code == 1
    assert "server north (credential_key_unknown)" in failed.stderr
    assert ready("credentials", "rotate").exit_code == 0


def test_no_key_and_no_password_is_ever_shown(call, newer):
    for words in (("credentials", "status"), ("credentials", "rotate"), ("db", "info", 1), ("db", "list")):
        for form in ((), ("--json",)):
            told = call(*words, *form, settings=newer).output
            assert "hunter2" not in told
            assert not any(key in told for key in newer.tenant_credential_keys)


def test_a_pair_of_keys_for_backups_is_a_file_of_the_age_format(shell):
    """Where backups are encrypted it needs no settings, as it is made before there are any."""
    pyrage = pytest.importorskip("pyrage")
    made = shell("credentials", "generate-identity", SECRET_KEY="", BACKUP_SIGNING_KEYS="")
    assert made.returncode == 0, made.stderr
    comment, secret = made.stdout.splitlines()
    public = str(pyrage.x25519.Identity.from_str(secret).to_public())
    assert comment == f"# public key: {public}"
    assert f"BACKUP_RECIPIENTS={public}" in made.stderr
    assert secret not in made.stderr
    document = json.loads(shell("credentials", "generate-identity", "--json").stdout)
    assert set(document) == {"public", "secret"}
    assert document["secret"] != secret


def test_a_signing_key_stands_alone_and_is_taken_by_the_settings(shell, make_settings):
    made = shell("credentials", "generate-signing-key", SECRET_KEY="")
    key = made.stdout.removesuffix("\n")
    assert make_settings(BACKUP_SIGNING_KEYS=key).backup_signing_keys == (key,)
    assert json.loads(shell("credentials", "generate-signing-key", "--json").stdout)["key"] != key
