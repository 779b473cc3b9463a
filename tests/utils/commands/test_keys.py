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


def test_held_keys_are_listed_and_confirmed_one_by_one_or_all(owned, settings):
    import compose
    from tenancy.catalog import api_keys

    first, second = (owned("keys", "create", "--user", 1).stdout.strip() for _ in range(2))
    parts = compose.build(settings)
    try:
        with parts.catalog.writing() as connection:
            api_keys.hold_all(connection)
        held = json.loads(owned("keys", "confirm", "--json").stdout)["items"]
        assert [key["email"] for key in held] == ["a@example.org"] * 2
        assert parts.accounts.principal_by_key(first) is None
        assert owned("keys", "confirm", held[0]["id"]).stdout == "1 key confirmed.\n"
        assert owned("keys", "confirm", held[0]["id"]).stdout == "0 keys confirmed.\n"
        assert parts.accounts.principal_by_key(first) is not None
        assert parts.accounts.principal_by_key(second) is None
        assert owned("keys", "confirm", "--user", 1).stdout == "1 key confirmed.\n"
        assert parts.accounts.principal_by_key(second) is not None
        assert owned("keys", "confirm").stdout == "No keys are held.\n"
        assert owned("audit", "list", "--action", "key.confirm", "--json").exit_code == 0
    finally:
        parts.close()


def test_confirming_takes_one_key_or_a_user_or_all(owned):
    assert owned("keys", "confirm", "--all").stdout == "0 keys confirmed.\n"
    assert owned("keys", "confirm", "--all", "--user", 1).exit_code == 2
    assert owned("keys", "confirm", "--user", 9).exit_code == 1
    assert owned("keys", "confirm", "0190a3b2-0000-7000-8000-000000000000").exit_code == 1
