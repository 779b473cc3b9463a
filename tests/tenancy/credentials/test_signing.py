"""The keys that sign records of backups: the newest signs, each verifies, and nothing shows them."""

from __future__ import annotations

import pytest

from tenancy.credentials.signing import SigningKeys, check_signing_keys, generate_signing_key
from tenancy.errors import ArchiveSignatureError, ConfigurationError

KEY, OLDER = generate_signing_key(), generate_signing_key()
RING = SigningKeys([KEY, OLDER])


def test_what_was_signed_is_believed():
    key_id, signature = RING.sign(b"data")
    RING.verify(key_id, signature, b"data")
    assert key_id == RING.key_ids[0] == SigningKeys([KEY]).key_ids[0]


@pytest.mark.parametrize("data", [b"", b"Data", b"data ", b"data\0"])
def test_other_bytes_are_not(data):
    key_id, signature = RING.sign(b"data")
    with pytest.raises(ArchiveSignatureError):
        RING.verify(key_id, signature, data)


@pytest.mark.parametrize("signature", [b"", b"x", bytes(64), bytes(65)])
def test_other_signatures_are_not(signature):
    with pytest.raises(ArchiveSignatureError):
        RING.verify(RING.key_ids[0], signature, b"data")


def test_a_signature_of_one_key_is_not_that_of_another():
    _, signature = SigningKeys([OLDER]).sign(b"data")
    RING.verify(RING.key_ids[1], signature, b"data")
    with pytest.raises(ArchiveSignatureError):
        RING.verify(RING.key_ids[0], signature, b"data")


@pytest.mark.parametrize("key_id", ["", "12345678", "x" * 1000, "\ud800"])
def test_an_unknown_key_is_named(key_id):
    with pytest.raises(ArchiveSignatureError, match="not in BACKUP_SIGNING_KEYS") as refused:
        RING.verify(key_id, bytes(64), b"data")
    assert len(str(refused.value)) < 200


def test_without_a_key_nothing_is_signed():
    with pytest.raises(ConfigurationError, match="unify credentials generate-signing-key"):
        SigningKeys([]).sign(b"data")
    with pytest.raises(ArchiveSignatureError):
        SigningKeys([]).verify(RING.key_ids[0], bytes(64), b"data")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([""], "key 1"),
        ([KEY, KEY[:20]], "key 2"),
        ([KEY[:-4]], "key 1"),
        ([KEY, "ключ" * 11], "key 2"),
        ([KEY, OLDER, KEY], "key 3 is there twice"),
        ([KEY + "\n"], "key 1"),
    ],
)
def test_keys_that_are_short_or_repeated_are_refused_without_a_byte_of_them(keys, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        check_signing_keys(keys)
    assert not any(key[:8] in str(refused.value) for key in keys if key)


def test_no_text_about_them_shows_a_key():
    assert KEY not in repr(RING) + str(vars(RING))
