"""Preferences: few short texts beside the account, that come along with whoever sends a request."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest

from tenancy.accounts.accounts import Accounts
from tenancy.catalog import Catalog
from tenancy.catalog.tables import users
from tenancy.errors import ConfigurationError, UserNotFoundError
from tenancy.models import User
from tests.support.applications import together


def kept(accounts: Accounts, ada: User) -> dict[str, str]:
    return dict(accounts.get(ada.id).preferences)


def test_what_is_chosen_stays_and_what_is_not_named_is_left_alone(accounts: Accounts, ada: User) -> None:
    assert kept(accounts, ada) == {}
    accounts.set_preferences(ada.id, {"time_zone": "Europe/Vienna", "theme": "dark"})
    changed = accounts.set_preferences(ada.id, {"theme": None, "week_start": "sunday"})
    assert changed.preferences == kept(accounts, ada) == {"time_zone": "Europe/Vienna", "week_start": "sunday"}


def test_the_last_one_taken_away_leaves_nothing(catalog: Catalog, accounts: Accounts, ada: User) -> None:
    accounts.set_preferences(ada.id, {"theme": "dark"})
    accounts.set_preferences(ada.id, {"theme": None, "never.there": None})
    assert accounts.get(ada.id).preferences_json is None


def test_they_come_along_with_session_and_key(accounts: Accounts, ada: User) -> None:
    accounts.set_preferences(ada.id, {"theme": "dark"})
    by_session = accounts.principal_by_session(accounts.sign_in_without_password(ada.id).token)
    by_key = accounts.principal_by_key(accounts.issue_key(ada.id)[1])
    assert by_session is not None
    assert by_key is not None
    assert by_session.user.preferences == by_key.user.preferences == {"theme": "dark"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"Theme": "dark"}, "preferences"),
        ({"": "dark"}, "preferences"),
        ({"a" * 33: "dark"}, "preferences"),
        ({"theme": "x" * 201}, "theme"),
        ({"theme": "a\x00b"}, "theme"),
        ({"theme": "\ud800"}, "theme"),
        ({f"p.{letter}{other}": "x" for letter in "abcdef" for other in "abcdef"}, "preferences"),
    ],
    ids=["capitals", "no name", "long name", "long text", "NUL", "half a character", "too many"],
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(
    accounts: Accounts, ada: User, changes: dict[str, str], field: str
) -> None:
    accounts.set_preferences(ada.id, {"time_zone": "UTC"})
    with pytest.raises(ConfigurationError) as refused:
        accounts.set_preferences(ada.id, changes)
    assert refused.value.field == field
    assert kept(accounts, ada) == {"time_zone": "UTC"}


def test_nobody_has_no_preferences(accounts: Accounts) -> None:
    with pytest.raises(UserNotFoundError):
        accounts.set_preferences(4711, {"theme": "dark"})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"dark"', '{"theme": 3}', "[" * 100_000, "\x00"], ids=range(8))
def test_broken_text_counts_as_nothing_chosen(text: str) -> None:
    broken = User(1, "a@example.org", "A", False, True, datetime.now(UTC), None, text)
    assert broken.preferences == {}


def test_what_was_broken_by_hand_is_mended_by_the_next_choice(catalog: Catalog, accounts: Accounts, ada: User) -> None:
    with catalog.writing() as connection:
        connection.execute(users.update(), {"preferences": "{broken"})
    accounts.set_preferences(ada.id, {"theme": "light"})
    assert kept(accounts, ada) == {"theme": "light"}


def test_two_choices_at_once_are_both_kept(whole_product, accounts: Accounts, ada: User) -> None:
    names = ["theme", "week_start", "time_zone", "shortcuts"]
    outcomes = together([partial(accounts.set_preferences, ada.id, {name: "x"}) for name in names])
    assert [error for error in outcomes if isinstance(error, Exception)] == []
    assert kept(accounts, ada) == dict.fromkeys(names, "x")
