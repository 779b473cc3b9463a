"""Signed records: what was signed comes back; nothing else is believed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from tenancy.archive.records import MOST_BYTES, Deletion, opened, sealed
from tenancy.credentials.signing import SigningKeys, generate_signing_key
from tenancy.errors import ArchiveSignatureError
from tenancy.types import new_id
from tests.tenancy.archive.conftest import MOMENT, record_of

SIGNING = SigningKeys([generate_signing_key()])
CATALOG = {"kind": "catalog", "tenant_id": None, "user_id": None}
DELETION = Deletion(new_id(), 7, MOMENT, "7e5800")


@pytest.mark.parametrize(
    "changed", [{}, CATALOG, {"imprint": "17:ab", "key_ids": ()}], ids=["tenant", "catalog", "bare"]
)
def test_a_record_comes_back_with_the_key_that_signed_it(changed):
    record = record_of(**changed)
    assert opened(sealed(record, SIGNING), SIGNING) == replace(record, signed_by=SIGNING.key_ids[0])


def test_a_deletion_comes_back_and_names_no_person():
    data = sealed(DELETION, SIGNING)
    assert opened(data, SIGNING) == DELETION
    assert set(json.loads(data.splitlines()[0])) == {
        *("unify", "version", "tenant_id", "user_id", "deleted_at", "installation")
    }


def test_the_same_record_has_one_spelling():
    record = record_of()
    turned = replace(record, rows=dict(reversed(record.rows.items())))
    assert sealed(record, SIGNING) == sealed(turned, SIGNING)


def test_a_value_that_a_later_version_adds_is_passed_over():
    document = json.loads(sealed(record_of(), SIGNING).splitlines()[0])
    line = json.dumps(document | {"new": 1}, sort_keys=True, separators=(",", ":")).encode()
    key_id, signature = SIGNING.sign(b"unify backup record 1\n" + line)
    seal = {"key_id": key_id, "signature": __import__("base64").b64encode(signature).decode()}
    assert opened(line + b"\n" + json.dumps(seal).encode() + b"\n", SIGNING).user_id == 7


def test_a_record_signed_with_another_key_is_refused_by_the_keys_id():
    theirs = SigningKeys([generate_signing_key()])
    with pytest.raises(ArchiveSignatureError, match=theirs.key_ids[0]):
        opened(sealed(record_of(), theirs), SIGNING)


def test_an_older_key_still_verifies():
    key = generate_signing_key()
    data = sealed(record_of(), SigningKeys([key]))
    assert opened(data, SigningKeys([generate_signing_key(), key])).user_id == 7


@given(st.data())
def test_a_record_changed_in_one_bit_is_refused(data):
    good = sealed(record_of(), SIGNING)
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    with pytest.raises(ArchiveSignatureError):
        opened(bytes(bad), SIGNING)


@given(st.data())
def test_a_record_that_was_cut_off_is_refused(data):
    good = sealed(record_of(), SIGNING)
    with pytest.raises(ArchiveSignatureError):
        opened(good[: data.draw(st.integers(0, len(good) - 1))], SIGNING)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\n\n",
        b"{}\n{}\n",
        b"{}\n[]\n",
        b'{}\n"key_id"\n',
        b'{}\n{"key_id":1,"signature":""}\n',
        b'{}\n{"key_id":"12345678","signature":"%%%"}\n',
        b'{}\n{"key_id":"12345678","signature":""}\n',
        b"{}\n" + b"[" * 390 + b"\n",
        b"x" * (MOST_BYTES + 1),
        "ключ\n".encode() * 2,
        b"\xff\xfe\n\xff\xfe\n",
        sealed(record_of(), SIGNING) * 2,
        sealed(record_of(), SIGNING).splitlines()[0] + b"\n",
    ],
)
def test_what_was_not_signed_is_refused(junk):
    with pytest.raises(ArchiveSignatureError):
        opened(junk, SIGNING)


def test_a_signature_over_something_else_is_refused():
    """Another purpose of the same key does not sign records."""
    line = sealed(record_of(), SIGNING).splitlines()[0]
    key_id, signature = SIGNING.sign(line)
    seal = json.dumps({"key_id": key_id, "signature": __import__("base64").b64encode(signature).decode()})
    with pytest.raises(ArchiveSignatureError):
        opened(line + b"\n" + seal.encode() + b"\n", SIGNING)
