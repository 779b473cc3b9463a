"""API keys: shown once, kept as a hash and a prefix, honoured until revoked or expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import api_keys, sessions, touch, users
from tenancy.catalog.tables import api_keys as table
from tenancy.errors import KeyNotFoundError
from tenancy.types import new_id

HOUR = timedelta(hours=1)


def issue(catalog, user, name="", read_only=False, expires_at=None):
    with catalog.writing() as connection:
        return api_keys.add(connection, user.id, name, read_only, expires_at)


def change(catalog, work):
    with catalog.writing() as connection:
        return work(connection)


def who(catalog, key):
    return sessions.principal_by_key(catalog, key)


@pytest.fixture
def bob(catalog):
    return change(catalog, lambda c: users.add(c, "bob@example.org", "Bob", None, False))


def test_a_key_says_whose_it_is_and_what_it_may(catalog, ada):
    row, key = issue(catalog, ada)
    reading, reading_key = issue(catalog, ada, read_only=True)
    assert who(catalog, key).user == who(catalog, reading_key).user == ada
    assert (who(catalog, key).key_id, who(catalog, key).read_only) == (row["id"], False)
    assert (who(catalog, reading_key).key_id, who(catalog, reading_key).read_only) == (reading["id"], True)
    assert who(catalog, key).session_hash is None


def test_of_a_key_the_hash_and_the_first_characters_are_kept(catalog, ada):
    _, key = issue(catalog, ada, "CI")
    with catalog.reading() as connection:
        kept = connection.execute(sa.select(table)).mappings().one()
    assert kept["key_hash"] == sessions.token_hash(key)
    assert kept["prefix"] == key[:12]
    assert key[12:] not in str(dict(kept))
    assert len(key) > 12 + 30


def test_no_hash_is_in_what_an_owner_sees(catalog, ada):
    row, key = issue(catalog, ada, "CI 😀", True, datetime.now(UTC) + HOUR)
    listed = change(catalog, lambda c: api_keys.of_user(c, ada.id))
    assert listed == [row] == [change(catalog, lambda c: api_keys.get(c, ada.id, row["id"]))]
    assert set(row) == {"id", "name", "prefix", "read_only", "created_at", "expires_at", "last_used_at", "held"}
    assert sessions.token_hash(key) not in str(listed)


def test_keys_are_listed_oldest_first_and_only_ones_own(catalog, ada, bob):
    made = [issue(catalog, ada, str(number))[0] for number in range(3)]
    issue(catalog, bob)
    assert change(catalog, lambda c: api_keys.of_user(c, ada.id)) == made


def test_an_unknown_or_changed_key_is_nobodys(catalog, ada):
    row, key = issue(catalog, ada)
    for other in ("", key[:-1], key + "x", key.upper(), key[:12], str(row["id"]), "\ud800", "\x00"):
        assert who(catalog, other) is None


def test_an_expired_key_is_nobodys(catalog, ada):
    assert who(catalog, issue(catalog, ada, expires_at=datetime.now(UTC) - HOUR)[1]) is None
    assert who(catalog, issue(catalog, ada, expires_at=datetime.now(UTC) + HOUR)[1]).user == ada


def test_a_key_of_a_deactivated_account_is_nobodys(catalog, ada):
    _, key = issue(catalog, ada)
    change(catalog, lambda c: users.change(c, ada.id, is_active=False))
    assert who(catalog, key) is None


def test_a_revoked_key_is_nobodys_and_the_others_go_on(catalog, ada):
    (row, key), (_, other) = issue(catalog, ada), issue(catalog, ada)
    assert change(catalog, lambda c: api_keys.remove(c, row["id"], ada.id)) == ada.id
    assert who(catalog, key) is None
    assert who(catalog, other).user == ada
    with pytest.raises(KeyNotFoundError):
        change(catalog, lambda c: api_keys.remove(c, row["id"], ada.id))


def test_nobody_sees_or_revokes_the_key_of_another(catalog, ada, bob):
    row, key = issue(catalog, ada)
    for attempt in (
        lambda c: api_keys.get(c, bob.id, row["id"]),
        lambda c: api_keys.remove(c, row["id"], bob.id),
        lambda c: api_keys.get(c, ada.id, new_id()),
    ):
        with pytest.raises(KeyNotFoundError):
            change(catalog, attempt)
    assert who(catalog, key).user == ada


def test_an_operator_revokes_the_key_of_anybody_and_learns_whose_it_was(catalog, ada):
    row, key = issue(catalog, ada)
    assert change(catalog, lambda c: api_keys.remove(c, row["id"])) == ada.id
    assert who(catalog, key) is None


def test_last_used_is_written_for_those_that_were(catalog, ada):
    used, unused = issue(catalog, ada)[0]["id"], issue(catalog, ada)[0]["id"]
    moment = datetime.now(UTC) + HOUR
    change(catalog, lambda c: touch(c, table.c.id, table.c.last_used_at, {used: moment, new_id(): moment}))
    listed = {row["id"]: row["last_used_at"] for row in change(catalog, lambda c: api_keys.of_user(c, ada.id))}
    assert listed == {used: moment, unused: None}


def test_a_held_key_of_any_purpose_is_nobodys_until_it_is_confirmed(catalog, ada, bob):
    (row, key), (_, others) = issue(catalog, ada), issue(catalog, bob)
    _, link = change(catalog, lambda c: api_keys.add(c, ada.id, "feed", True, None, purpose="calendar"))
    assert change(catalog, api_keys.hold_all) == 3
    assert who(catalog, key) is who(catalog, others) is sessions.principal_by_key(catalog, link, "calendar") is None
    assert [one["email"] for one in change(catalog, api_keys.held)] == [ada.email, ada.email, bob.email]
    assert change(catalog, lambda c: api_keys.confirm(c, key_id=row["id"])) == 1
    assert who(catalog, key).user == ada
    assert change(catalog, lambda c: api_keys.confirm(c, user_id=ada.id)) == 1
    assert sessions.principal_by_key(catalog, link, "calendar").user == ada
    assert who(catalog, others) is None
    assert change(catalog, api_keys.confirm) == 1
    assert who(catalog, others).user == bob
    assert change(catalog, api_keys.held) == []


def test_a_key_made_while_others_are_held_works_at_once(catalog, ada):
    issue(catalog, ada)
    change(catalog, api_keys.hold_all)
    assert who(catalog, issue(catalog, ada)[1]).user == ada
