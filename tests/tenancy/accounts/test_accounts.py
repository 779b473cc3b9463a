"""Accounts on every engine: making them, signing in with the same work for everybody, passwords, keys."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy import names
from tenancy.accounts.accounts import SignIn
from tenancy.accounts.passwords import Passwords
from tenancy.catalog import login_failures as login_failure_rows, users
from tenancy.catalog.tables import audit_log, login_failures, sessions as session_rows, users as user_rows
from tenancy.errors import (
    BadCredentialsError,
    ConfigurationError,
    KeyNotFoundError,
    LastAdministratorError,
    PasswordTooWeakError,
    RegistrationClosedError,
    ThrottledError,
    UserExistsError,
    UserNotFoundError,
)
from tenancy.models import User
from tenancy.types import new_id
from tests.support.threads import at_once

PASSWORD = "correct horse battery"
NEW = "another horse entirely"


class CountingPasswords(Passwords):
    """Count how often argon2 looked at a password."""

    def __init__(self):
        super().__init__(memory_kib=64)
        self.looks = 0
        self.verify(None, "makes the decoy")
        real, self.looks = self._hasher, 0
        counting = self

        class Hasher:
            hash = staticmethod(real.hash)
            check_needs_rehash = staticmethod(real.check_needs_rehash)

            @staticmethod
            def verify(hashed, password):
                counting.looks += 1
                return real.verify(hashed, password)

        self._hasher = Hasher()


class PausingPasswords(Passwords):
    """Look at a password, then wait with the answer until the test has done something."""

    def __init__(self):
        super().__init__(memory_kib=64)
        self.pausing = False
        self.looked, self.go_on = threading.Event(), threading.Event()

    def verify(self, hashed, password):
        right = super().verify(hashed, password)
        if self.pausing:
            self.pausing = False
            self.looked.set()
            assert self.go_on.wait(30)
        return right


def actions(catalog):
    with catalog.reading() as connection:
        return connection.scalars(sa.select(audit_log.c.action).order_by(audit_log.c.id)).all()


def audit_holds(catalog):
    with catalog.reading() as connection:
        return catalog.audit.verify(connection)["rows"]


@pytest.fixture
def member(accounts):
    return accounts.create("Ada@example.org", display_name="Ada", password=PASSWORD)


# --- making and changing accounts ---------------------------------------------------------------------------


def test_an_operator_makes_an_account(catalog, accounts):
    user = accounts.create(" Ada@Example.org ", display_name="  Ada   Lovelace ")
    assert (user.email, user.display_name, user.is_admin) == ("Ada@Example.org", "Ada Lovelace", False)
    assert accounts.get(user.id) == accounts.find(user.id) == accounts.find(str(user.id)) == user
    assert accounts.find("ada@EXAMPLE.org") == user
    assert actions(catalog) == ["user.create"]


def test_an_account_without_a_name_is_called_by_its_address(accounts):
    assert accounts.create("grace@example.org").display_name == "grace"


def test_an_account_without_a_password_cannot_be_signed_in_to(accounts):
    accounts.create("grace@example.org")
    for guess in ("", "None", PASSWORD):
        with pytest.raises(BadCredentialsError):
            accounts.sign_in("grace@example.org", guess)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"email": "no address"}, "email"),
        ({"email": "a\x00@example.org"}, "email"),
        ({"display_name": "x" * 101}, "display_name"),
        ({"display_name": "\ud800"}, "display_name"),
        ({"display_name": "a\x00"}, "display_name"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"password": "\ud800" * 12}, "password"),
        ({"password": "ADA@example.org"}, "password"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_field(accounts, fields, field):
    given = {"email": "ada@example.org", "password": PASSWORD, "display_name": ""} | fields
    with pytest.raises((ConfigurationError, PasswordTooWeakError)) as refused:
        accounts.register(given["email"], given["password"], given["display_name"])
    assert refused.value.field == field
    assert accounts.count() == 0


def test_a_taken_address_is_refused_and_leaves_no_trace(catalog, accounts, member):
    with pytest.raises(UserExistsError):
        accounts.register("ADA@example.org", PASSWORD)
    assert actions(catalog) == ["user.create"]
    assert accounts.list() == [member]


def test_closed_registration_takes_nobody_but_the_operator_does(make_accounts):
    closed = make_accounts(registration_open=False)
    with pytest.raises(RegistrationClosedError):
        closed.register("ada@example.org", PASSWORD)
    assert closed.create("ada@example.org", password=PASSWORD).id


def test_an_address_of_an_administrator_is_made_by_an_operator_alone(make_accounts):
    accounts = make_accounts(admin_emails=frozenset({"root@example.org"}))
    for written in ("root@example.org", "ROOT@Example.org", "\uff52oot@example.org"):
        with pytest.raises(ConfigurationError) as refused:
            accounts.register(written, PASSWORD)
        assert refused.value.field == "email"
    assert accounts.create("Root@example.org").is_admin
    assert not accounts.register("ada@example.org", PASSWORD).is_admin


def test_the_first_account_becomes_administrator_where_it_may(make_accounts):
    accounts = make_accounts(bootstrap_first_admin=True)
    assert accounts.bootstrap_open()
    assert accounts.register("ada@example.org", PASSWORD, may_bootstrap=True).is_admin
    assert not accounts.bootstrap_open()
    assert not accounts.register("bob@example.org", PASSWORD, may_bootstrap=True).is_admin


@pytest.mark.parametrize(("rule", "may"), [(False, True), (True, False), (False, False)])
def test_the_first_account_stays_ordinary_where_it_may_not(make_accounts, rule, may):
    accounts = make_accounts(bootstrap_first_admin=rule)
    assert not accounts.register("ada@example.org", PASSWORD, may_bootstrap=may).is_admin


def test_of_sixteen_that_register_first_at_once_one_becomes_administrator(whole_product, catalog, make_accounts):
    accounts = make_accounts(bootstrap_first_admin=True)
    made = at_once(16, lambda n: accounts.register(f"user{n}@example.org", PASSWORD, may_bootstrap=True))
    assert [type(user) for user in made] == [User] * 16, made
    assert sum(user.is_admin for user in made) == 1
    assert audit_holds(catalog) == 16


def test_the_token_that_opens_the_first_account_is_compared_whole(accounts):
    assert accounts.is_bootstrap_token(accounts.bootstrap_token)
    for wrong in ("", accounts.bootstrap_token[:-1], accounts.bootstrap_token + "x", "\ud800", "\x00"):
        assert not accounts.is_bootstrap_token(wrong)


def test_promotion_is_seen_by_the_next_look_and_told(catalog, accounts, member):
    token = accounts.sign_in_without_password(member.id).token
    assert not accounts.principal_by_session(token).user.is_admin
    assert accounts.promote(member.id).is_admin
    assert accounts.principal_by_session(token).user.is_admin
    assert actions(catalog)[-1] == "user.promote"


def test_a_deactivated_account_is_shut_out_everywhere(accounts, member):
    token = accounts.sign_in("ada@example.org", PASSWORD).token
    _, key = accounts.issue_key(member.id)
    assert not accounts.deactivate(member.id).is_active
    assert accounts.principal_by_session(token) is None
    assert accounts.principal_by_key(key) is None
    with pytest.raises(BadCredentialsError):
        accounts.sign_in("ada@example.org", PASSWORD)
    with pytest.raises(BadCredentialsError):
        accounts.sign_in_without_password(member.id)
    assert accounts.activate(member.id).is_active
    assert accounts.principal_by_session(token) is None
    assert accounts.principal_by_key(key).user.id == member.id
    assert accounts.sign_in("ada@example.org", PASSWORD)


@pytest.mark.parametrize("takes_away", ["deactivate", "demote"])
def test_the_only_administrator_stays_unless_it_is_forced(accounts, member, takes_away):
    root = accounts.create("root@example.org", is_admin=True)
    gone = accounts.create("gone@example.org", is_admin=True)
    assert not getattr(accounts, takes_away)(gone.id).is_admin or takes_away == "deactivate"
    with pytest.raises(LastAdministratorError) as refused:
        getattr(accounts, takes_away)(root.id)
    assert "--force" in refused.value.message
    kept = accounts.get(root.id)
    assert (kept.is_admin, kept.is_active) == (True, True)
    assert not accounts.deactivate(member.id).is_active
    forced = getattr(accounts, takes_away)(root.id, force=True)
    assert (forced.is_admin, forced.is_active) != (True, True)


def test_two_administrators_who_shut_each_other_out_at_once_leave_one(whole_product, accounts, catalog):
    for turn in range(3):
        two = [accounts.create(f"root{turn}{n}@example.org", is_admin=True).id for n in range(2)]
        answers = at_once(2, lambda number, two=two: accounts.deactivate(two[1 - number]))
        assert sorted(type(answer).__name__ for answer in answers) == ["LastAdministratorError", "User"]
        (left,) = [user_id for user_id in two if accounts.get(user_id).is_active]
        accounts.deactivate(left, force=True)


@pytest.mark.parametrize("operation", ["promote", "activate", "deactivate", "demote", "get"])
def test_an_account_that_is_not_there_is_said_not_to_be(accounts, operation):
    with pytest.raises(UserNotFoundError):
        getattr(accounts, operation)(999)


@pytest.mark.parametrize("reference", ["0", "-1", "1;drop", "ada", "", 2**63])
def test_what_names_no_account_is_refused_by_its_field(accounts, reference):
    with pytest.raises(ConfigurationError) as refused:
        accounts.find(reference)
    assert refused.value.field == "user_id"


# --- signing in ---------------------------------------------------------------------------------------------


def test_signing_in_begins_a_session(catalog, accounts, member):
    before = datetime.now(UTC)
    signed_in = accounts.sign_in(" ADA@example.org", PASSWORD, user_agent="Bröwser\n\x00 😀" * 50, address="::1")
    assert signed_in.user == member
    assert timedelta(hours=12) <= signed_in.expires_at - before < timedelta(hours=12, minutes=5)
    assert accounts.principal_by_session(signed_in.token).user == member
    (listed,) = accounts.sessions(member.id)
    assert (listed["address"], len(listed["user_agent"])) == ("::1", 200)
    assert actions(catalog)[-1] == "user.sign_in"


def test_remembering_is_a_longer_session(accounts, member):
    lasts = accounts.sign_in("ada@example.org", PASSWORD, remember=True).expires_at - datetime.now(UTC)
    assert timedelta(days=29) < lasts <= timedelta(days=30)


def test_signing_out_ends_the_session_for_good(accounts, member):
    token = accounts.sign_in("ada@example.org", PASSWORD).token
    accounts.sign_out(token)
    accounts.sign_out(token)
    assert accounts.principal_by_session(token) is None


def test_unknown_known_and_inactive_accounts_answer_alike_with_the_same_work(make_accounts):
    hasher = CountingPasswords()
    accounts = make_accounts(hasher=hasher)
    accounts.create("ada@example.org", password=PASSWORD)
    accounts.create("nopassword@example.org")
    accounts.deactivate(accounts.create("inactive@example.org", password=PASSWORD).id)
    answers = []
    for email, password in (
        ("ada@example.org", "a wrong password"),
        ("nobody@example.org", PASSWORD),
        ("nopassword@example.org", PASSWORD),
        ("inactive@example.org", PASSWORD),
        ("inactive@example.org", "a wrong password"),
        ("no address", PASSWORD),
        ("nul\x00@example.org", PASSWORD),
        ("\ud800@example.org", PASSWORD),
        ("", PASSWORD),
    ):
        hasher.looks = 0
        with pytest.raises(BadCredentialsError) as refused:
            accounts.sign_in(email, password)
        answers.append((str(refused.value), refused.value.fields, refused.value.code, hasher.looks))
    assert answers == [answers[0]] * len(answers)
    assert answers[0][-1] == 1


def test_unknown_accounts_are_throttled_as_known_ones_are(accounts, member):
    for email in ("ada@example.org", "nobody@example.org"):
        refusals = []
        for _ in range(login_failure_rows.LIMIT + 1):
            with pytest.raises((BadCredentialsError, ThrottledError)) as refused:
                accounts.sign_in(email, "a wrong password")
            refusals.append(type(refused.value))
        assert refusals == [BadCredentialsError] * login_failure_rows.LIMIT + [ThrottledError]


def test_a_throttled_account_refuses_the_right_password_too_and_without_looking(make_accounts):
    hasher = CountingPasswords()
    accounts = make_accounts(hasher=hasher)
    accounts.create("ada@example.org", password=PASSWORD)
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError):
            accounts.sign_in("ada@example.org", "a wrong password")
    hasher.looks = 0
    with pytest.raises(ThrottledError) as refused:
        accounts.sign_in("ADA@example.org", PASSWORD)
    assert 0 < refused.value.fields["retry_after_s"] <= login_failure_rows.WINDOW_S
    assert refused.value.message == "too many failed sign-ins: try again in 15 minutes."
    assert hasher.looks == 0


def test_guesses_from_elsewhere_never_lock_out_a_browser_that_signed_in_before(accounts, member):
    device = accounts.sign_in("ada@example.org", PASSWORD).device
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError):
            accounts.sign_in("ada@example.org", "a guess from elsewhere")
    with pytest.raises(ThrottledError):
        accounts.sign_in("ada@example.org", PASSWORD)
    again = accounts.sign_in("ada@example.org", PASSWORD, device=device)
    assert again.device == device


def test_a_browser_that_signed_in_before_has_its_own_limit(accounts, member):
    device = accounts.sign_in("ada@example.org", PASSWORD).device
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError):
            accounts.sign_in("ada@example.org", "a typing error", device=device)
    with pytest.raises(ThrottledError):
        accounts.sign_in("ada@example.org", PASSWORD, device=device)
    assert accounts.sign_in("ada@example.org", PASSWORD).device != device


def test_a_browser_known_to_one_account_is_a_stranger_to_another(accounts, member):
    bob = accounts.create("bob@example.org", password=PASSWORD)
    device = accounts.sign_in("bob@example.org", PASSWORD).device
    assert device.startswith(f"{bob.id}.")
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError):
            accounts.sign_in("ada@example.org", "a guess", device=device)
    with pytest.raises(ThrottledError):
        accounts.sign_in("ada@example.org", PASSWORD)
    assert accounts.sign_in("bob@example.org", PASSWORD, device=device)


def test_after_the_window_the_account_opens_again(catalog, accounts, member):
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError):
            accounts.sign_in("ada@example.org", "a wrong password")
    with catalog.writing() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(login_failures.update().values(window_ends_at=past))
    assert accounts.sign_in("ada@example.org", PASSWORD)


def test_guesses_sent_at_once_are_looked_at_no_more_often_than_the_limit(whole_product, make_accounts):
    hasher = CountingPasswords()
    accounts = make_accounts(hasher=hasher)
    accounts.create("ada@example.org", password=PASSWORD)
    answers = at_once(24, lambda number: accounts.sign_in("ada@example.org", f"guess number {number}"))
    assert {type(answer) for answer in answers} == {BadCredentialsError, ThrottledError}, answers
    assert hasher.looks <= login_failure_rows.LIMIT


def test_owners_who_sign_in_at_once_all_come_in(whole_product, catalog, accounts):
    for number in range(8):
        accounts.create(f"user{number}@example.org", password=PASSWORD)
    answers = at_once(8, lambda number: accounts.sign_in(f"user{number}@example.org", PASSWORD))
    assert [type(answer) for answer in answers] == [SignIn] * 8, answers
    assert audit_holds(catalog) == 16


def test_an_outdated_hash_is_renewed_when_its_owner_signs_in(catalog, make_accounts):
    make_accounts(Passwords(memory_kib=64)).create("ada@example.org", password=PASSWORD)
    stronger = make_accounts(Passwords(memory_kib=128))
    stronger.sign_in("ada@example.org", PASSWORD)
    with catalog.reading() as connection:
        assert "m=128," in connection.scalar(sa.select(user_rows.c.password_hash))
    assert stronger.sign_in("ada@example.org", PASSWORD)


@pytest.mark.parametrize("engine_name", ["mysql"], indirect=True)
def test_a_sign_in_that_meets_another_attempt_is_done_again(catalog, accounts, member, monkeypatch):
    key, holds, has_it = login_failure_rows.scope("account", names.fold(member.email)), [], threading.Event()
    hold = users.hold

    def attempt() -> None:
        with catalog.writing() as connection:
            for number in range(50):  # of two that wait for each other MySQL ends the one that has written less
                login_failure_rows.reserve(connection, login_failure_rows.scope("other", str(number)))
            hold(connection, member.id)
            has_it.set()
            login_failure_rows.clear(connection, key)

    def held(connection, user_id):
        holds.append(user_id)
        if len(holds) == 1:
            other.append(pool.submit(attempt))
            assert has_it.wait(30)
        return hold(connection, user_id)

    monkeypatch.setattr(users, "hold", held)
    other: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:
        assert accounts.sign_in(member.email, PASSWORD).user == member
        other[0].result(30)
    assert holds == [member.id] * 2


# --- passwords ----------------------------------------------------------------------------------------------


def test_a_new_password_ends_the_other_sessions(catalog, accounts, member):
    mine, other = (accounts.sign_in("ada@example.org", PASSWORD).token for _ in range(2))
    accounts.change_password(member.id, PASSWORD, NEW, keep_token=mine)
    assert accounts.principal_by_session(mine).user == member
    assert accounts.principal_by_session(other) is None
    with pytest.raises(BadCredentialsError):
        accounts.sign_in("ada@example.org", PASSWORD)
    assert accounts.sign_in("ada@example.org", NEW)
    assert "user.password" in actions(catalog)


def test_a_wrong_current_password_changes_nothing_and_is_throttled(accounts, member):
    token = accounts.sign_in("ada@example.org", PASSWORD).token
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError) as refused:
            accounts.change_password(member.id, "a wrong password", NEW, keep_token=None)
        assert refused.value.field == "current_password"
    with pytest.raises(ThrottledError):
        accounts.change_password(member.id, PASSWORD, NEW, keep_token=None)
    assert accounts.principal_by_session(token).user == member
    assert accounts.sign_in("ada@example.org", PASSWORD)


def test_a_password_confirms_and_wrong_ones_count_with_those_of_a_change(accounts, member):
    accounts.confirm_password(member.id, PASSWORD)
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError) as refused:
            accounts.confirm_password(member.id, "a wrong password")
        assert refused.value.field == "current_password"
    for confirm in (
        lambda: accounts.confirm_password(member.id, PASSWORD),
        lambda: accounts.change_password(member.id, PASSWORD, NEW, keep_token=None),
    ):
        with pytest.raises(ThrottledError):
            confirm()
    assert accounts.sign_in("ada@example.org", PASSWORD)


def test_a_right_password_ends_the_count_of_wrong_ones(accounts, member):
    for _ in range(2):
        for _ in range(login_failure_rows.LIMIT - 1):
            with pytest.raises(BadCredentialsError):
                accounts.confirm_password(member.id, "")
        accounts.confirm_password(member.id, PASSWORD)


def test_an_account_without_a_password_confirms_nothing(accounts):
    user = accounts.create("without@example.org")
    for typed in ("", "x", PASSWORD):
        with pytest.raises(BadCredentialsError):
            accounts.confirm_password(user.id, typed)


def test_a_weak_new_password_is_no_failed_guess(accounts, member):
    for _ in range(login_failure_rows.LIMIT + 1):
        with pytest.raises(PasswordTooWeakError):
            accounts.change_password(member.id, PASSWORD, "short", keep_token=None)
    accounts.change_password(member.id, PASSWORD, NEW, keep_token=None)


@pytest.mark.parametrize("meanwhile", ["password", "deactivated"])
def test_who_signs_in_with_a_password_that_ends_meanwhile_does_not_come_in(catalog, make_accounts, meanwhile):
    hasher = PausingPasswords()
    accounts = make_accounts(hasher=hasher)
    user = accounts.create("ada@example.org", password=PASSWORD)
    hasher.pausing = True
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(accounts.sign_in, "ada@example.org", PASSWORD)
        assert hasher.looked.wait(30)
        if meanwhile == "password":
            accounts.change_password(user.id, PASSWORD, NEW, keep_token=None)
        else:
            accounts.deactivate(user.id)
        hasher.go_on.set()
        with pytest.raises(BadCredentialsError):
            entering.result()
    with catalog.reading() as connection:
        assert connection.execute(sa.select(session_rows)).all() == []


def test_of_two_password_changes_the_later_does_not_undo_the_earlier(make_accounts):
    hasher = PausingPasswords()
    accounts = make_accounts(hasher=hasher)
    user = accounts.create("ada@example.org", password=PASSWORD)
    hasher.pausing = True
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(accounts.change_password, user.id, PASSWORD, "the thief's password", keep_token=None)
        assert hasher.looked.wait(30)
        accounts.change_password(user.id, PASSWORD, NEW, keep_token=None)
        hasher.go_on.set()
        with pytest.raises(BadCredentialsError):
            slow.result()
    assert accounts.sign_in("ada@example.org", NEW)


def test_an_operator_sets_a_password_and_every_session_ends(catalog, accounts, member):
    token = accounts.sign_in("ada@example.org", PASSWORD).token
    for _ in range(login_failure_rows.LIMIT):
        with pytest.raises(BadCredentialsError):
            accounts.sign_in("ada@example.org", "forgotten")
    assert accounts.set_password(member.id, NEW) == member
    assert accounts.principal_by_session(token) is None
    assert accounts.sign_in("ada@example.org", NEW)
    with pytest.raises(PasswordTooWeakError):
        accounts.set_password(member.id, "short")
    with pytest.raises(UserNotFoundError):
        accounts.set_password(999, NEW)


def test_passwords_and_tokens_are_in_no_row_of_the_catalog(catalog, accounts, member):
    signed_in = accounts.sign_in("ada@example.org", PASSWORD)
    with suppress(BadCredentialsError):
        accounts.sign_in("ada@example.org", "a mistyped secret")
    _, key = accounts.issue_key(member.id, "CI")
    with catalog.reading() as connection:
        stored = ""
        for table in (user_rows, session_rows, login_failures, audit_log):
            stored += "".join(map(str, connection.execute(sa.select(table)).all()))
    for secret in (PASSWORD, "a mistyped secret", signed_in.token, key):
        assert secret not in stored


# --- sessions and keys --------------------------------------------------------------------------------------


def test_all_sessions_but_this_one_are_ended(catalog, accounts, member):
    tokens = [accounts.sign_in_without_password(member.id).token for _ in range(3)]
    assert accounts.end_sessions(member.id, keep_token=tokens[0]) == 2
    assert accounts.principal_by_session(tokens[0]).user == member
    assert accounts.end_sessions(member.id) == 1
    assert actions(catalog)[-1] == "user.sign_out_all"


def test_a_key_is_issued_told_and_revoked(catalog, accounts, member):
    row, key = accounts.issue_key(member.id, "  my   script ", read_only=True)
    assert (row["name"], row["read_only"]) == ("my script", True)
    assert accounts.keys(member.id) == [accounts.key(member.id, row["id"])] == [row]
    assert accounts.principal_by_key(key).read_only
    accounts.revoke_key(member.id, row["id"])
    assert accounts.principal_by_key(key) is None
    assert accounts.keys(member.id) == []
    assert actions(catalog)[-2:] == ["key.create", "key.revoke"]


def test_nobody_revokes_the_key_of_another_but_an_operator_does(accounts, member):
    bob = accounts.create("bob@example.org")
    row, key = accounts.issue_key(member.id)
    for attempt in (lambda: accounts.revoke_key(bob.id, row["id"]), lambda: accounts.revoke_key_by_id(new_id())):
        with pytest.raises(KeyNotFoundError):
            attempt()
    accounts.revoke_key_by_id(row["id"])
    assert accounts.principal_by_key(key) is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"expires_days": 0}, "expires"),
        ({"expires_days": 3651}, "expires"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
        ({"name": "x" * 101}, "name"),
        ({"name": "\x00"}, "name"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_by_its_field(accounts, member, given, field):
    with pytest.raises(ConfigurationError) as refused:
        accounts.issue_key(member.id, **given)
    assert refused.value.field == field
    assert accounts.keys(member.id) == []


def test_a_key_for_nobody_is_refused(accounts):
    with pytest.raises(UserNotFoundError):
        accounts.issue_key(999)


def test_a_key_expires_on_its_day(accounts, member):
    row, key = accounts.issue_key(member.id, expires_days=3)
    assert timedelta(days=2, hours=23) < row["expires_at"] - datetime.now(UTC) <= timedelta(days=3)
    assert accounts.principal_by_key(key).user == member


def test_a_key_of_one_purpose_opens_nothing_else(accounts, ada):
    link, secret = accounts.issue_key(ada.id, "Calendar", purpose="calendar")
    _, key = accounts.issue_key(ada.id, "Script")
    assert secret.startswith("unifycal_")
    assert secret.startswith(link["prefix"])
    assert accounts.principal_by_key(secret, purpose="calendar").user == ada
    assert accounts.principal_by_key(secret) is None
    assert accounts.principal_by_key(key, purpose="calendar") is None
    assert [row["name"] for row in accounts.keys(ada.id)] == ["Script"]
    assert [row["name"] for row in accounts.keys(ada.id, purpose="calendar")] == ["Calendar"]
    with pytest.raises(KeyNotFoundError):
        accounts.key(ada.id, link["id"])
    accounts.revoke_key(ada.id, link["id"])
    assert accounts.principal_by_key(secret, purpose="calendar") is None


def test_a_purpose_that_is_not_known_is_refused(accounts, ada):
    with pytest.raises(ConfigurationError) as refused:
        accounts.issue_key(ada.id, purpose="everything")
    assert refused.value.field == "purpose"


def test_an_account_is_renamed_and_keeps_a_name(accounts, ada):
    assert accounts.rename(ada.id, "  Ada   Lovelace ").display_name == "Ada Lovelace"
    assert accounts.rename(ada.id, " ").display_name == "ada"
    with pytest.raises(ConfigurationError) as refused:
        accounts.rename(ada.id, "x" * 101)
    assert refused.value.field == "display_name"


def test_one_of_ones_own_sessions_is_ended_and_nobody_elses(accounts, ada):
    other = accounts.create("eve@example.org")
    mine, theirs = (accounts.sign_in_without_password(user.id).token for user in (ada, other))
    (row,) = accounts.sessions(ada.id)
    with pytest.raises(KeyNotFoundError) as refused:
        accounts.end_session(other.id, row["token_hash"])
    assert refused.value.code == "session_not_found"
    accounts.end_session(ada.id, row["token_hash"])
    assert accounts.principal_by_session(mine) is None
    assert accounts.principal_by_session(theirs) is not None
    with pytest.raises(KeyNotFoundError):
        accounts.end_session(ada.id, row["token_hash"])
