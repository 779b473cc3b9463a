"""Sessions: the token's hash alone is kept, and one statement says who sent a request and where their rows live."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import Catalog, api_keys, sessions, tenants, touch, users
from tenancy.catalog.tables import catalog_metadata, sessions as table
from tenancy.models import State
from tenancy.types import new_id
from tests.tenancy.conftest import AUDIT_KEY

HOUR = timedelta(hours=1)
ABOUT = {"user_agent": "Browser 😀", "address": "127.0.0.1"}


def begin(catalog, user, lasts=HOUR):
    token = sessions.new_token()
    with catalog.writing() as connection:
        sessions.add(connection, user.id, token, datetime.now(UTC) + lasts, ABOUT)
    return token


def change(catalog, work):
    with catalog.writing() as connection:
        return work(connection)


@contextmanager
def counted(catalog):
    """Gather the statements sent to the catalog inside the block."""
    sent = []

    def note(connection, cursor, statement, *_):
        sent.append(statement)

    sa.event.listen(catalog.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(catalog.engine, "before_cursor_execute", note)


@pytest.fixture
def place(catalog, ada):
    return change(catalog, lambda c: tenants.add(c, ada.id, {"tenant_id": new_id(), "db_type": "sqlite"}))


@pytest.fixture
def shared_place(catalog):
    return change(catalog, lambda c: tenants.add(c, None, {"tenant_id": new_id(), "db_type": "sqlite"}))


def test_a_token_says_whose_it_is_and_where_their_rows_live(catalog, ada, place):
    token = begin(catalog, ada)
    who = sessions.principal_by_token(catalog, token)
    assert (who.user, who.tenant) == (ada, place)
    assert (who.session_hash, who.key_id, who.read_only) == (sessions.token_hash(token), None, False)


def test_the_principal_is_found_by_one_statement(catalog, ada, place):
    token = begin(catalog, ada)
    _, key = change(catalog, lambda c: api_keys.add(c, ada.id, "", False, None))
    for look in (
        lambda: sessions.principal_by_token(catalog, token),
        lambda: sessions.principal_by_token(catalog, "nobody's"),
        lambda: sessions.principal_by_key(catalog, key),
    ):
        look()  # a server's first connection asks the server about itself
        with counted(catalog) as sent:
            look()
        assert len(sent) == 1, sent


def test_the_tenant_is_of_the_mode_the_catalog_works_in(catalog, ada, place, shared_place):
    token = begin(catalog, ada)
    _, key = change(catalog, lambda c: api_keys.add(c, ada.id, "", False, None))
    shared = Catalog(catalog.engine, AUDIT_KEY, multi_tenant=False)
    assert sessions.principal_by_token(catalog, token).tenant == place
    assert sessions.principal_by_key(catalog, key).tenant == place
    assert sessions.principal_by_token(shared, token).tenant == shared_place
    assert sessions.principal_by_key(shared, key).tenant == shared_place
    with counted(shared) as sent:
        sessions.principal_by_token(shared, token)
    assert len(sent) == 1


def test_somebody_without_a_database_is_known_all_the_same(catalog, ada):
    who = sessions.principal_by_token(catalog, begin(catalog, ada))
    assert (who.user, who.tenant) == (ada, None)


def test_only_the_hash_of_a_token_is_stored(catalog, ada):
    token = begin(catalog, ada)
    _, key = change(catalog, lambda c: api_keys.add(c, ada.id, "", False, None))
    with catalog.reading() as connection:
        everything = [
            str(value)
            for kept in catalog_metadata.sorted_tables
            for row in connection.execute(sa.select(kept))
            for value in row
        ]
    assert sessions.token_hash(token) in everything
    assert not [value for value in everything if token in value or key in value]


def test_an_unknown_token_is_nobodys(catalog, ada):
    token = begin(catalog, ada)
    for other in ("", "x", token + "x", token[:-1], token.swapcase(), sessions.token_hash(token), "\ud800", "\x00"):
        assert sessions.principal_by_token(catalog, other) is None


def test_an_expired_session_is_over(catalog, ada):
    assert sessions.principal_by_token(catalog, begin(catalog, ada, -timedelta(seconds=1))) is None


def test_an_ended_session_is_over_for_good(catalog, ada):
    token, other = begin(catalog, ada), begin(catalog, ada)
    assert change(catalog, lambda c: sessions.end(c, token)) == 1
    assert change(catalog, lambda c: sessions.end(c, token)) == 0
    assert sessions.principal_by_token(catalog, token) is None
    assert sessions.principal_by_token(catalog, other).user == ada


def test_a_session_of_a_deactivated_account_is_nobodys(catalog, ada):
    token = begin(catalog, ada)
    change(catalog, lambda c: users.change(c, ada.id, is_active=False))
    assert sessions.principal_by_token(catalog, token) is None
    change(catalog, lambda c: users.change(c, ada.id, is_active=True))
    assert sessions.principal_by_token(catalog, token).user == ada


def test_a_change_of_the_tenant_shows_in_the_next_look(catalog, ada, place):
    token = begin(catalog, ada)
    sessions.principal_by_token(catalog, token)
    change(catalog, lambda c: tenants.change(c, place, state=State.SUSPENDED, version=2))
    found = sessions.principal_by_token(catalog, token).tenant
    assert (found.state, found.version) == (State.SUSPENDED, 2)


def test_all_sessions_but_one_can_be_ended(catalog, ada):
    bob = change(catalog, lambda c: users.add(c, "bob@example.org", "Bob", None, False))
    kept, *ended = [begin(catalog, ada) for _ in range(3)]
    bobs = begin(catalog, bob)
    assert change(catalog, lambda c: sessions.end_all(c, ada.id, kept)) == 2
    assert [sessions.principal_by_token(catalog, token) for token in ended] == [None, None]
    assert sessions.principal_by_token(catalog, kept).user == ada
    assert sessions.principal_by_token(catalog, bobs).user == bob
    assert change(catalog, lambda c: sessions.end_all(c, ada.id)) == 1


def test_an_owner_sees_their_live_sessions_newest_first(catalog, ada):
    begin(catalog, ada, -HOUR)
    older, newer = begin(catalog, ada), begin(catalog, ada)
    listed = change(catalog, lambda c: sessions.of_user(c, ada.id))
    assert [row["token_hash"] for row in listed] == [sessions.token_hash(newer), sessions.token_hash(older)]
    assert (listed[0]["user_agent"], listed[0]["address"]) == (ABOUT["user_agent"], ABOUT["address"])
    assert listed[0]["id"] == sessions.token_hash(newer)[:12]
    assert listed[0]["expires_at"].tzinfo is not None


def test_expired_sessions_are_cleared_away_and_live_ones_stay(catalog, ada):
    begin(catalog, ada, -HOUR)
    live = begin(catalog, ada)
    assert change(catalog, sessions.purge) == 1
    with catalog.reading() as connection:
        assert connection.scalars(sa.select(table.c.token_hash)).all() == [sessions.token_hash(live)]


def test_last_seen_is_written_for_those_who_were(catalog, ada):
    seen, unseen = begin(catalog, ada), begin(catalog, ada)
    moment = datetime.now(UTC) + HOUR
    moments = {sessions.token_hash(seen): moment, "gone": moment}
    change(catalog, lambda c: touch(c, table.c.token_hash, table.c.last_seen_at, moments))
    listed = {row["token_hash"]: row["last_seen_at"] for row in change(catalog, lambda c: sessions.of_user(c, ada.id))}
    assert listed[sessions.token_hash(seen)] == moment
    assert listed[sessions.token_hash(unseen)] < moment
