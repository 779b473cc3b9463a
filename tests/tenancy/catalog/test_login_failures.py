"""Counters of failed sign-ins: they count before a password is looked at, each for itself, until their window ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import login_failures as login_failure_rows
from tenancy.catalog.tables import login_failures
from tenancy.errors import ThrottledError
from tests.support.threads import at_once

KEY = login_failure_rows.scope("account", "ada@example.org")


def reserve(catalog, key=KEY):
    return catalog.repeating(lambda connection: login_failure_rows.reserve(connection, key))


def fill(catalog, key=KEY):
    for _ in range(login_failure_rows.LIMIT):
        reserve(catalog, key)


def end_window(catalog):
    with catalog.writing() as connection:
        connection.execute(login_failures.update().values(window_ends_at=datetime.now(UTC) - timedelta(seconds=1)))


def failures(catalog):
    with catalog.reading() as connection:
        return {row.scope: row.failures for row in connection.execute(sa.select(login_failures))}


def test_the_limit_is_reached_and_refuses_with_the_time_to_wait(catalog):
    fill(catalog)
    with pytest.raises(ThrottledError) as refused:
        reserve(catalog)
    assert 0 < refused.value.fields["retry_after_s"] <= login_failure_rows.WINDOW_S
    assert failures(catalog) == {KEY: login_failure_rows.LIMIT}


def test_one_counter_knows_nothing_of_another(catalog):
    fill(catalog)
    other = login_failure_rows.scope("device", "1.abc")
    reserve(catalog, other)
    assert failures(catalog) == {KEY: login_failure_rows.LIMIT, other: 1}


def test_refused_attempts_do_not_lengthen_the_window(catalog):
    fill(catalog)
    with catalog.reading() as connection:
        before = connection.scalar(sa.select(login_failures.c.window_ends_at))
    for _ in range(3):
        with pytest.raises(ThrottledError):
            reserve(catalog)
    with catalog.reading() as connection:
        assert connection.scalar(sa.select(login_failures.c.window_ends_at)) == before


def test_when_the_window_has_ended_counting_begins_anew(catalog):
    fill(catalog)
    end_window(catalog)
    fill(catalog)
    with pytest.raises(ThrottledError):
        reserve(catalog)


def test_a_success_clears_its_own_counter(catalog):
    other = login_failure_rows.scope("device", "1.abc")
    fill(catalog)
    fill(catalog, other)
    with catalog.writing() as connection:
        login_failure_rows.clear(connection, KEY)
    fill(catalog)
    with pytest.raises(ThrottledError):
        reserve(catalog, other)


def test_counters_whose_window_ended_are_cleared_away(catalog):
    reserve(catalog)
    end_window(catalog)
    reserve(catalog, live := login_failure_rows.scope("x"))
    with catalog.writing() as connection:
        login_failure_rows.purge(connection)
    assert failures(catalog) == {live: 1}


def test_a_window_that_a_clock_which_was_ahead_began_holds_nobody(catalog):
    fill(catalog)
    with catalog.writing() as connection:
        connection.execute(login_failures.update().values(window_ends_at=datetime.now(UTC) + timedelta(days=1)))
    reserve(catalog)
    assert failures(catalog) == {KEY: 1}
    with catalog.writing() as connection:
        connection.execute(login_failures.update().values(window_ends_at=datetime.now(UTC) + timedelta(days=1)))
        login_failure_rows.purge(connection)
    assert failures(catalog) == {}


@pytest.mark.parametrize("begun", [False, True], ids=["the-first-ones", "later-ones"])
def test_guesses_sent_at_once_cannot_exceed_the_limit(whole_product, catalog, begun):
    if begun:
        reserve(catalog)
    answers = at_once(24, lambda number: reserve(catalog))
    let_through = [answer for answer in answers if answer is None]
    refused = [answer for answer in answers if isinstance(answer, ThrottledError)]
    assert len(let_through) == login_failure_rows.LIMIT - begun, answers
    assert len(refused) == 24 - len(let_through)


def test_first_guesses_at_many_accounts_at_once_are_all_counted(whole_product, catalog):
    for turn in range(5):
        keys = [login_failure_rows.scope("account", str(turn), str(number)) for number in range(16)]
        assert at_once(16, lambda number, keys=keys: reserve(catalog, keys[number])) == [None] * 16
        assert failures(catalog) == dict.fromkeys(keys, 1)
        with catalog.writing() as connection:
            connection.execute(login_failures.delete())


def test_addresses_are_stored_hashed(catalog):
    reserve(catalog)
    assert "ada" not in str(failures(catalog))


def test_scopes_of_different_parts_never_meet():
    assert (
        len(
            {
                login_failure_rows.scope("a", "bc"),
                login_failure_rows.scope("ab", "c"),
                login_failure_rows.scope("abc"),
                login_failure_rows.scope("a b"),
            }
        )
        == 4
    )
    assert login_failure_rows.scope("account", "\ud800@x") != login_failure_rows.scope("account", "?@x")


def test_machines_whose_clocks_differ_count_together(catalog, monkeypatch):
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=2 * login_failure_rows.WINDOW_S)

    for number in range(login_failure_rows.LIMIT):
        with monkeypatch.context() as other_machine:
            if number % 2:
                other_machine.setattr(login_failure_rows, "datetime", Ahead, raising=False)
            reserve(catalog)
    with pytest.raises(ThrottledError):
        reserve(catalog)
