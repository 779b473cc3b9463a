"""Passwords: argon2id at 46 MiB, two at once in a process, the same work where there is no account."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenancy.accounts import passwords
from tenancy.accounts.passwords import Passwords, check_rules
from tenancy.errors import PasswordTooWeakError, ThrottledError

EMAIL = "ada@example.org"


class SlowHasher:
    """Stand where argon2 would work, and stay there until told to go on."""

    def __init__(self):
        self.working = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.at_once = self.most_at_once = 0
        self._count = threading.Lock()

    def hash(self, password):
        with self._count:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.working.release()
        assert self.go_on.wait(30)
        with self._count:
            self.at_once -= 1
        return "hashed"

    def verify(self, hashed, password):
        self.hash(password)


@pytest.fixture
def slow(monkeypatch):
    """Give passwords whose hashing takes until the test lets it end."""
    hasher = SlowHasher()
    made = Passwords(memory_kib=64)
    monkeypatch.setattr(made, "_hasher", hasher)
    monkeypatch.setattr(made, "_decoy", "hashed")
    return made, hasher


def test_a_hash_is_argon2id_at_46_mib():
    assert Passwords().hash("correct horse").startswith("$argon2id$v=19$m=47104,t=1,p=1$")
    assert 46 * 1024 == 47104


def test_a_password_is_right_or_wrong():
    made = Passwords(memory_kib=64)
    hashed = made.hash("correct horse 😀")
    assert made.verify(hashed, "correct horse 😀")
    for wrong in ("", "correct horse", "Correct horse 😀", "correct horse 😀 ", "\ud800", "\x00"):
        assert not made.verify(hashed, wrong)


@pytest.mark.parametrize("broken", [None, "", "$argon2id$", "plain text", "$2b$12$abc"])
def test_no_password_is_right_where_none_is_stored_or_it_is_broken(broken):
    assert not Passwords(memory_kib=64).verify(broken, "")
    assert not Passwords(memory_kib=64).verify(broken, "no account has this password")


def test_a_hash_made_with_less_memory_is_outdated():
    weak, strong = Passwords(memory_kib=64), Passwords(memory_kib=128)
    hashed = weak.hash("correct horse")
    assert strong.outdated(hashed)
    assert not weak.outdated(hashed)
    assert strong.verify(hashed, "correct horse")


@pytest.mark.parametrize(
    "operation",
    [lambda made: made.hash("x"), lambda made: made.verify("hashed", "x"), lambda made: made.verify(None, "x")],
)
def test_while_two_are_at_work_a_third_is_told_to_come_again(slow, monkeypatch, operation):
    made, hasher = slow
    monkeypatch.setattr(passwords, "_PATIENCE_S", 0)
    with ThreadPoolExecutor(2) as pool:
        two = [pool.submit(made.hash, "x") for _ in range(2)]
        for _ in two:
            assert hasher.working.acquire(timeout=30)
        with pytest.raises(ThrottledError) as refused:
            operation(made)
        hasher.go_on.set()
        assert [one.result() for one in two] == ["hashed", "hashed"]
    assert refused.value.fields["retry_after_s"] >= 1
    assert hasher.most_at_once == 2
    operation(made)


def test_those_who_wait_a_little_are_served_in_turn(slow):
    made, hasher = slow
    hasher.go_on.set()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(made.hash, "abcdefgh")) == ["hashed"] * 8
    assert hasher.most_at_once <= 2


def test_a_place_is_given_back_after_an_error():
    made = Passwords(memory_kib=64)
    for _ in range(5):
        with pytest.raises(UnicodeEncodeError):
            made.hash("\ud800")
    assert made.hash("correct horse")


@pytest.mark.parametrize("good", ["0123456789", "x" * 1024, "пароль пароль", "😀" * 10])
def test_ten_to_1024_characters_will_do(good):
    check_rules(good, EMAIL)


@pytest.mark.parametrize(
    "weak", ["", "123456789", "x" * 1025, EMAIL, "ADA@Example.org", " ada@example.org ", "\ud800" * 10]
)
def test_shorter_longer_or_the_address_itself_will_not(weak):
    with pytest.raises(PasswordTooWeakError) as refused:
        check_rules(weak, EMAIL)
    assert refused.value.field == "password"
    assert not weak or weak not in refused.value.message
