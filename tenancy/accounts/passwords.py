"""Hash and verify passwords of accounts with argon2id at 46 MiB (OWASP's recommendation), at most two at once."""

from __future__ import annotations

import secrets
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tenancy.errors import PasswordTooWeakError, ThrottledError
from tenancy.names import fold

MIN_LENGTH = 10
MAX_LENGTH = 1024
_AT_ONCE = 2
_PATIENCE_S = 2.0


def check_rules(password: str, email: str) -> None:
    """Refuse a password that is too short, too long, or equal to the e-mail address."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise PasswordTooWeakError(
            f"a password has at least {MIN_LENGTH} and at most {MAX_LENGTH} characters.", field="password"
        )
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise PasswordTooWeakError("password contains half of a character (a lone surrogate).", field="password")
    if fold(password) == fold(email):
        raise PasswordTooWeakError("the password is the e-mail address: choose another.", field="password")


class Passwords:
    """Hash and verify; more than two calls at once wait, then ThrottledError, to limit the memory used."""

    def __init__(self, memory_kib: int = 47104) -> None:
        self._hasher = PasswordHasher(time_cost=1, memory_cost=memory_kib, parallelism=1)
        self._slots = BoundedSemaphore(_AT_ONCE)
        self._decoy: str | None = None

    def hash(self, password: str) -> str:
        with _Slot(self._slots):
            return self._hasher.hash(password)

    def verify(self, hashed: str | None, password: str) -> bool:
        """Return whether the password is right; without a hash a decoy is verified, so that both take equally long."""
        with _Slot(self._slots):
            if self._decoy is None:
                self._decoy = self._hasher.hash(secrets.token_urlsafe())
            try:
                self._hasher.verify(hashed or self._decoy, password)
            except (VerificationError, InvalidHashError, UnicodeEncodeError):
                return False
            return bool(hashed)

    def outdated(self, hashed: str) -> bool:
        return self._hasher.check_needs_rehash(hashed)


class _Slot:
    def __init__(self, slots: BoundedSemaphore) -> None:
        self._slots = slots

    def __enter__(self) -> None:
        if not self._slots.acquire(timeout=_PATIENCE_S):
            raise ThrottledError("too many sign-ins at once: try again in a moment.", retry_after_s=1)

    def __exit__(self, *_: object) -> None:
        self._slots.release()
