"""Accounts: one a folded address on every engine, ids that never come back."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tenancy.catalog import users
from tenancy.catalog.tables import users as table
from tenancy.errors import ConfigurationError, UserExistsError, UserNotFoundError
from tests.support.threads import at_once


def add(catalog, email, name="Somebody", **fields):
    with catalog.writing() as connection:
        return users.add(connection, email, name, fields.get("password_hash"), fields.get("is_admin", False))


@pytest.mark.parametrize(
    "same",
    [
        "ada@example.org",
        "ADA@Example.ORG",
        "ada@example.org ",
        "  ada@example.org",
        "ada@example\uff0eorg",  # a full-width full stop
        "\uff21da@example.org",  # a full-width A
        "\U0001d41aDA@example.org",  # a mathematical bold a
    ],
)
def test_an_address_is_taken_however_it_is_written(catalog, ada, same):
    with pytest.raises(UserExistsError) as refused:
        add(catalog, same)
    assert refused.value.field == "email"
    with catalog.reading() as connection:
        assert users.by_email(connection, same) == ada


@pytest.mark.parametrize("another", ["ada@example.com", "adá@example.org", "a.da@example.org", "ad@example.org"])
def test_another_address_is_another_account(catalog, ada, another):
    assert add(catalog, another).id > ada.id


def test_sharp_s_and_double_s_are_one_address(catalog):
    add(catalog, "strasse@example.org")
    with pytest.raises(UserExistsError):
        add(catalog, "Straße@example.org")


def test_of_sixteen_that_take_one_address_at_once_one_gets_it(whole_product, catalog):
    answers = at_once(16, lambda number: add(catalog, ("Ada" if number % 2 else "ada") + "@example.org"))
    refused = [answer for answer in answers if isinstance(answer, UserExistsError)]
    assert len(refused) == 15, answers


def test_the_id_of_a_deleted_account_is_never_given_again(catalog):
    first, last = add(catalog, "a@example.org"), add(catalog, "b@example.org")
    with catalog.writing() as connection:
        connection.execute(table.delete().where(table.c.id == last.id))
    assert add(catalog, "c@example.org").id > last.id > first.id


def test_the_id_of_an_account_that_failed_halfway_harms_nobody(catalog):
    with pytest.raises(ZeroDivisionError), catalog.writing() as connection:
        users.add(connection, "a@example.org", "A", None, False)
        raise ZeroDivisionError
    user = add(catalog, "a@example.org")
    with catalog.reading() as connection:
        assert users.get(connection, user.id) == user
        assert users.count(connection) == 1


def test_an_account_comes_back_as_it_was_given(catalog):
    made = add(catalog, "Zoë.O'Hara@example.org", "Zoë 😀 O'Hara", is_admin=True)
    with catalog.reading() as connection:
        found = users.get(connection, made.id)
    assert found == made
    assert (found.email, found.display_name) == ("Zoë.O'Hara@example.org", "Zoë 😀 O'Hara")
    assert (found.is_admin, found.is_active) == (True, True)
    assert found.created_at.tzinfo is not None


def test_nobody_is_found_by_what_cannot_be_an_address(catalog, ada):
    for text in ("", "ada", "nul\x00@example.org", "\ud800@example.org", "%@example.org", "ada@example.org;--"):
        with catalog.reading() as connection:
            assert users.secret_of(connection, text) is None
            with pytest.raises(UserNotFoundError):
                users.by_email(connection, text)


def test_an_account_that_is_not_there_is_named(catalog):
    with catalog.reading() as connection, pytest.raises(UserNotFoundError, match="no user 77"):
        users.get(connection, 77)


def test_pages_follow_the_ids_and_search_takes_text_as_it_stands(whole_product, catalog):
    made = [add(catalog, f"user{number}@example.org", f"Name {number}") for number in range(5)]
    percent = add(catalog, "hundred%percent@example.org", "Under_score")
    with catalog.reading() as connection:
        first = users.page(connection, 0, 2, None)
        assert first == made[:2]
        assert users.page(connection, first[-1].id, 2, None) == made[2:4]
        assert users.page(connection, 0, 50, "%") == [percent]
        assert users.page(connection, 0, 50, "R_S") == [percent]
        assert users.page(connection, 0, 50, "NAME 3") == [made[3]]
        with pytest.raises(ConfigurationError) as refused:
            users.page(connection, 0, 50, "\x00")
    assert refused.value.field == "query"


def test_the_hash_leaves_by_its_own_door_only(catalog):
    user = add(catalog, "ada@example.org", password_hash="$argon2id$secret")
    assert "$argon2id$" not in repr(user)
    with catalog.reading() as connection:
        assert users.secret_of(connection, "ADA@example.org") == (user, "$argon2id$secret")
        assert users.hash_of(connection, user.id) == "$argon2id$secret"


def test_the_first_account_is_seen(catalog):
    with catalog.reading() as connection:
        assert not users.any_there(connection)
    add(catalog, "a@example.org")
    with catalog.reading() as connection:
        assert users.any_there(connection)
        assert connection.execute(sa.select(table.c.email_key)).scalar_one() == "a@example.org"
