"""The keyring: a sealed password opens for its own row, unchanged, and for nothing else."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, strategies as st

from tenancy.credentials.keyring import Keyring, check_keys, generate_key
from tenancy.errors import ConfigurationError, TamperedCredentialError, UnknownKeyError
from tenancy.models import State, Tenant
from tenancy.types import new_id

KEY, OLDER, OTHER = generate_key(), generate_key(), generate_key()
RING = Keyring([KEY, OLDER])
SECRET = "p4ss;wörd '\"\\ 😀"
ROW = Tenant(
    new_id(),
    7,
    "postgresql",
    State.READY,
    version=1,
    epoch=1,
    db_host="db.example.org",
    db_port=5432,
    db_name="user_7",
    db_user="user_7",
    db_options='{"tls": "require"}',
)


def test_a_secret_opens_for_its_own_row():
    assert RING.open(RING.seal(SECRET, ROW.binding), ROW.binding) == SECRET


@given(st.text())
def test_any_text_comes_back(secret):
    assert RING.open(RING.seal(secret, ROW.binding), ROW.binding) == secret


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant_id": new_id()},
        {"user_id": 8},
        {"user_id": None},
        {"db_type": "mysql"},
        {"db_host": "evil.example.org"},
        {"db_host": None},
        {"db_port": 5433},
        {"db_port": None},
        {"db_name": "user_8"},
        {"db_user": "postgres"},
        {"db_options": '{"tls": "disable"}'},
        {"db_options": None},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_row_changed_in_one_field_opens_nothing(changed):
    sealed = RING.seal(SECRET, ROW.binding)
    with pytest.raises(TamperedCredentialError):
        RING.open(sealed, ROW.with_(**changed).binding)


def test_every_field_a_connection_is_made_of_is_bound():
    assert set(ROW.binding) == {
        "purpose",
        "tenant_id",
        "user_id",
        "db_type",
        "db_host",
        "db_port",
        "db_name",
        "db_user",
        "db_options",
        "server_id",
        "origin",
    }


def test_a_secret_of_another_purpose_opens_nothing():
    sealed = RING.seal(SECRET, {**ROW.binding, "purpose": "server-password"})
    with pytest.raises(TamperedCredentialError):
        RING.open(sealed, ROW.binding)


@pytest.mark.parametrize("changed", [{"state": State.FAILED}, {"version": 9}, {"epoch": 2}, {"last_error": "x"}])
def test_what_no_connection_depends_on_may_change(changed):
    assert RING.open(RING.seal(SECRET, ROW.binding), ROW.with_(**changed).binding) == SECRET


def test_a_ciphertext_moved_to_another_row_opens_nothing():
    theirs = ROW.with_(tenant_id=new_id(), user_id=8)
    with pytest.raises(TamperedCredentialError, match="another row"):
        RING.open(RING.seal(SECRET, theirs.binding), ROW.binding)


@given(st.data())
def test_a_ciphertext_changed_anywhere_opens_nothing(data):
    sealed = RING.seal("secret", ROW.binding)
    at = data.draw(st.integers(0, len(sealed) - 2))  # the last characters are padding
    other = data.draw(st.characters().filter(lambda character: character != sealed[at]))
    if sealed[at:].strip("=") in ("", sealed[-3:-2]):
        return
    with pytest.raises((TamperedCredentialError, UnknownKeyError)):
        RING.open(sealed[:at] + other + sealed[at + 1 :], ROW.binding)


@pytest.mark.parametrize(("letter", "spelling"), [("-", "+"), ("_", "/")])
def test_a_ciphertext_in_another_spelling_opens_nothing(letter, spelling):
    sealed = next(text for _ in range(1000) if letter in (text := RING.seal("secret", ROW.binding)))
    for other in (sealed.replace(letter, spelling), sealed + "\n", sealed.replace(".", ". ")):
        with pytest.raises(TamperedCredentialError):
            RING.open(other, ROW.binding)


@pytest.mark.parametrize("junk", ["", ".", "x", "KEY.", "KEY.x", "KEY.\ud800"])
def test_junk_opens_nothing(junk):
    with pytest.raises((TamperedCredentialError, UnknownKeyError)):
        RING.open(junk.replace("KEY", RING.newest), ROW.binding)


@pytest.mark.parametrize("payload", ['"text"', "[]", "null", "{}", "7", "not json", json.dumps({"secret": "x"})])
def test_what_the_key_sealed_for_somebody_else_opens_nothing(payload):
    token = Fernet(KEY).encrypt(payload.encode()).decode()
    with pytest.raises(TamperedCredentialError):
        RING.open(f"{RING.newest}.{token}", ROW.binding)


def test_the_newest_key_seals_and_every_key_opens():
    old = Keyring([OLDER]).seal(SECRET, ROW.binding)
    assert RING.open(old, ROW.binding) == SECRET
    assert Keyring.key_of(RING.seal(SECRET, ROW.binding)) == RING.newest == Keyring([KEY]).newest
    assert Keyring.key_of(old) == Keyring([OLDER]).newest == RING.key_ids[1]


def test_a_key_that_is_not_there_is_named_by_its_id():
    theirs = Keyring([OTHER])
    with pytest.raises(UnknownKeyError, match=theirs.newest):
        RING.open(theirs.seal(SECRET, ROW.binding), ROW.binding)


def test_two_seals_of_one_secret_differ():
    assert RING.seal(SECRET, ROW.binding) != RING.seal(SECRET, ROW.binding)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "is empty"),
        ([""], "key 1"),
        ([KEY, KEY[:20]], "key 2"),
        ([KEY[:-4]], "key 1"),
        ([KEY, "not base64 at all! not base64 at all!"], "key 2"),
        ([KEY, "ключ" * 11], "key 2"),
        ([KEY, "\ud800"], "key 2"),
        ([KEY, OLDER, KEY], "key 3 is there twice"),
        ([KEY, KEY + "\n"], "key 2"),
    ],
)
def test_keys_that_are_missing_short_or_repeated_are_refused_without_a_byte_of_them(keys, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        Keyring(keys)
    assert refused.value.field == "TENANT_CREDENTIAL_KEYS"
    chain, shown = refused.value, ""
    while chain is not None:
        shown += f"{chain} {chain.args} {getattr(chain, 'fields', '')}"
        chain = chain.__cause__
    for key in keys:
        for start in range(max(0, len(key) - 7)):
            assert key[start : start + 8] not in shown


def test_a_generated_key_is_good_and_never_the_same():
    assert len({generate_key() for _ in range(20)}) == 20
    check_keys([generate_key()])


def test_no_text_about_a_keyring_shows_a_key():
    assert KEY not in repr(RING) + str(RING) + str(RING.key_ids)
