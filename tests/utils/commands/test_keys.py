from __future__ import annotations

import json

import pytest


@pytest.fixture
def owned(ready):
    assert ready("users", "create", "--email", "a@example.org").exit_code == 0
    return ready


def test_a_key_is_printed_alone_and_only_once(owned):
    made = owned("keys", "create", "--user", "a@example.org")
    assert made.exit_code == 0, made.stderr
    key = made.stdout.removesuffix("\n")
    assert key
    assert not any(character.isspace() for character in key)
    assert key not in owned("keys", "list", "--user", 1).output
    assert key not in owned("keys", "list", "--user", 1, "--json").output


def test_a_key_works_until_it_is_revoked(owned, settings):
    import compose

    key = owned("keys", "create", "--user", 1, "--read-only", "--expires", 7, "--name", "report").stdout.strip()
    parts = compose.build(settings)
    try:
        principal = parts.accounts.principal_by_key(key)
        assert principal is not None
        assert principal.read_only
        (row,) = json.loads(owned("keys", "list", "--user", 1, "--json").stdout)["items"]
        assert (row["name"], row["read_only"]) == ("report", True)
        assert row["expires_at"].endswith("Z")
        assert owned("keys", "revoke", row["id"]).exit_code == 0
        assert parts.accounts.principal_by_key(key) is None
    finally:
        parts.close()


def test_a_key_can_be_asked_for_as_json(owned):
    made = json.loads(owned("keys", "create", "--user", 1, "--json").stdout)
    assert made["key"].startswith(made["prefix"])


def test_revoking_what_is_no_key_fails(owned):
    assert owned("keys", "revoke", "0190a3b2-0000-7000-8000-000000000000").exit_code == 1
    assert owned("keys", "revoke", "key").exit_code == 2


@pytest.mark.parametrize("days", ["0", "-1", "x", "99999999999"])
def test_an_impossible_expiry_is_wrong_usage(owned, days):
    assert owned("keys", "create", "--user", 1, f"--expires={days}").exit_code == 2
