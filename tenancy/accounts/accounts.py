"""Create accounts, sign users in and out, and manage their keys: one method per operation, for pages and commands.

Arguments and results are plain values; cookies, forms and client addresses are the caller's business.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tenancy import names
from tenancy.accounts import passwords, preferences
from tenancy.catalog import Catalog, api_keys, login_failures, sessions, users
from tenancy.errors import (
    BadCredentialsError,
    ConfigurationError,
    PasswordTooWeakError,
    RegistrationClosedError,
    ThrottledError,
)
from tenancy.models import Principal, User
from tenancy.monitoring.activity import Activity

MAX_KEY_DAYS = 3650
_WRONG = "e-mail address or password is not right."

Rows = list[dict[str, Any]]
Users = list[User]


@dataclass(frozen=True)
class AccountRules:
    """Hold the settings about accounts; ``admin_emails`` are folded (``names.fold``)."""

    registration_open: bool = True
    admin_emails: frozenset[str] = frozenset()
    bootstrap_first_admin: bool = False
    session_hours: int = 12
    remember_days: int = 30


@dataclass(frozen=True)
class SignIn:
    """Describe a new session; ``token`` is for the browser and stored nowhere else.

    ``device`` identifies the browser. The caller stores it there (signed) and passes it to the next sign-in.
    """

    user: User
    token: str
    device: str
    expires_at: datetime


class Accounts:
    """Manage accounts in the catalog; actor and request are taken from the context."""

    def __init__(
        self,
        catalog: Catalog,
        rules: AccountRules,
        activity: Activity,
        hasher: passwords.Passwords | None = None,
        *,
        bootstrap_token: str | None = None,
    ) -> None:
        self.catalog = catalog
        self.rules = rules
        self.bootstrap_token = bootstrap_token or secrets.token_urlsafe(16)
        self._activity = activity
        self._passwords = hasher or passwords.Passwords()

    # --- making and changing accounts -------------------------------------------------------------------

    def create(
        self, email: str, *, display_name: str = "", password: str | None = None, is_admin: bool = False
    ) -> User:
        """Create an account as an operator; addresses in ADMIN_EMAILS become administrators."""
        address, name, hashed = self._new(email, display_name, password)
        admin = is_admin or names.fold(address) in self.rules.admin_emails
        with self.catalog.writing() as connection:
            user = users.add(connection, address, name, hashed, admin)
            self.catalog.audit.append(connection, "user.create", user_id=user.id, detail={"is_admin": admin})
        return user

    def register(self, email: str, password: str, display_name: str = "", *, may_bootstrap: bool = False) -> User:
        """Create an account as a visitor; the first one of an empty catalog may become administrator."""
        if not self.rules.registration_open:
            raise RegistrationClosedError("registration is closed: ask an administrator for an account.")
        address, name, hashed = self._new(email, display_name, password)
        if names.fold(address) in self.rules.admin_emails:
            raise ConfigurationError("this address is reserved: an operator makes its account.", field="email")
        with self.catalog.writing() as connection:
            first = self.rules.bootstrap_first_admin and may_bootstrap
            if first:
                self.catalog.audit.lock(connection)  # two that register at once take turns, so only one is the first
                first = not users.any_there(connection)
            user = users.add(connection, address, name, hashed, first)
            self.catalog.audit.append(connection, "user.register", user_id=user.id, detail={"is_admin": first})
        return user

    def bootstrap_open(self) -> bool:
        """Return whether the next account may become administrator."""
        if not self.rules.bootstrap_first_admin:
            return False
        with self.catalog.reading() as connection:
            return not users.any_there(connection)

    def is_bootstrap_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.bootstrap_token.encode())

    def promote(self, user_id: int) -> User:
        return self._change(user_id, "user.promote", is_admin=True)

    def activate(self, user_id: int) -> User:
        return self._change(user_id, "user.activate", is_active=True)

    def demote(self, user_id: int, *, force: bool = False) -> User:
        """Take administrator rights away; from the only active administrator only with ``force``."""
        return self._change(user_id, "user.demote", force=force, is_admin=False)

    def deactivate(self, user_id: int, *, force: bool = False) -> User:
        """Lock an account out, from its next request on; the only active administrator only with ``force``."""
        return self._change(user_id, "user.deactivate", force=force, is_active=False)

    def rename(self, user_id: int, display_name: str) -> User:
        """Change the displayed name; an empty one becomes the address's local part."""
        name = _name(display_name, "display_name") or self.get(user_id).email.partition("@")[0]
        return self._change(user_id, "user.rename", display_name=name)

    def set_preferences(self, user_id: int, changes: Mapping[str, str | None]) -> User:
        """Change some of an account's preferences; None deletes one, and those not named stay."""
        preferences.check(changes)
        with self.catalog.writing() as connection:
            before = users.held_preferences(connection, user_id).preferences
            return users.change(connection, user_id, preferences=preferences.merged(before, changes))

    def change_password(self, user_id: int, current: str, new: str, *, keep_token: str | None) -> None:
        """Set a new password and end the other sessions; the current password must be right."""
        with self.catalog.reading() as connection:
            user = users.get(connection, user_id)
        passwords.check_rules(new, user.email)
        hashed, key = self._proven(user_id, current)
        fresh = self._hash(new, user.email)

        def change(connection: sa.Connection) -> None:
            login_failures.clear(connection, key)
            if users.hold(connection, user_id)[0] != hashed:
                raise _wrong_password()  # it was changed while it was being verified
            self._store_password(connection, user_id, fresh, keep_token)

        self.catalog.repeating(change)  # clearing and counting at once may deadlock on MySQL

    def confirm_password(self, user_id: int, typed: str) -> None:
        """Let a signed-in user confirm a dangerous action; raise BadCredentialsError if the password is wrong.

        Wrong ones are counted together with those of ``change_password``, and raise ThrottledError after some.
        """
        _, key = self._proven(user_id, typed)
        self.catalog.repeating(lambda connection: login_failures.clear(connection, key))

    def set_password(self, user_id: int, new: str) -> User:
        """Set a password as an operator; all the account's sessions end."""
        user = self.get(user_id)
        fresh = self._hash(new, user.email)

        def change(connection: sa.Connection) -> None:
            login_failures.clear(connection, login_failures.scope("account", names.fold(user.email)))
            self._store_password(connection, user_id, fresh, keep_token=None)

        self.catalog.repeating(change)
        return user

    # --- finding accounts -------------------------------------------------------------------------------

    def get(self, user_id: int) -> User:
        with self.catalog.reading() as connection:
            return users.get(connection, user_id)

    def find(self, reference: int | str) -> User:
        """Find an account by id or e-mail address."""
        with self.catalog.reading() as connection:
            if isinstance(reference, str) and "@" in reference:
                return users.by_email(connection, reference)
            return users.get(connection, names.user_id(reference))

    def list(self, *, after: int = 0, limit: int = 50, query: str | None = None) -> Users:
        with self.catalog.reading() as connection:
            return users.page(connection, after, limit, query)

    def count(self) -> int:
        with self.catalog.reading() as connection:
            return users.count(connection)

    # --- signing in and out -----------------------------------------------------------------------------

    def sign_in(
        self,
        email: str,
        password: str,
        *,
        device: str | None = None,
        remember: bool = False,
        user_agent: str = "",
        address: str = "",
    ) -> SignIn:
        """Begin a session, or raise BadCredentialsError, with the same message and work for unknown accounts."""
        with self.catalog.reading() as connection:
            found = users.secret_of(connection, email)
        user, hashed = found if found is not None else (None, None)
        known_device = device if user is not None and device and device.startswith(f"{user.id}.") else None
        key = (
            login_failures.scope("device", known_device)
            if known_device
            else login_failures.scope("account", names.fold(email))
        )
        self._reserve(key)
        right = self._passwords.verify(hashed, password)
        if user is None or not right or not user.is_active:
            raise BadCredentialsError(_WRONG)
        fresh = self._passwords.hash(password) if hashed and self._passwords.outdated(hashed) else None
        about = {"user_agent": user_agent, "address": address}
        return self._begin(user, remember, about, known_device, clear=key, proven=hashed, fresh_hash=fresh)

    def sign_in_without_password(
        self, user_id: int, *, remember: bool = False, user_agent: str = "", address: str = ""
    ) -> SignIn:
        """Begin a session for somebody authenticated otherwise (registration, an identity provider)."""
        return self._begin(self.get(user_id), remember, {"user_agent": user_agent, "address": address}, None)

    def sign_out(self, token: str) -> None:
        """End a session."""
        with self.catalog.writing() as connection:
            sessions.end(connection, token)

    def principal_by_session(self, token: str) -> Principal | None:
        """Look up a session's account and tenant in one statement."""
        return sessions.principal_by_token(self.catalog, token)

    def principal_by_key(self, key: str, purpose: str = "api") -> Principal | None:
        """Look up the account and tenant of a key for this purpose in one statement."""
        return sessions.principal_by_key(self.catalog, key, purpose)

    def seen(self, principal: Principal) -> None:
        """Record a request in memory; it is written later (``Activity``)."""
        self._activity.seen(principal)

    def sessions(self, user_id: int) -> Rows:
        with self.catalog.reading() as connection:
            return sessions.of_user(connection, user_id)

    def end_session(self, user_id: int, token_hash: str) -> None:
        """End one of a user's own sessions, or raise SessionNotFoundError."""
        with self.catalog.writing() as connection:
            sessions.end_one(connection, user_id, token_hash)
            self.catalog.audit.append(connection, "user.sign_out_one", user_id=user_id)

    def end_sessions(self, user_id: int, *, keep_token: str | None = None) -> int:
        with self.catalog.writing() as connection:
            ended = sessions.end_all(connection, user_id, keep_token)
            self.catalog.audit.append(connection, "user.sign_out_all", user_id=user_id, detail={"ended": ended})
            return ended

    # --- keys -------------------------------------------------------------------------------------------

    def issue_key(
        self,
        user_id: int,
        name: str = "",
        *,
        read_only: bool = False,
        expires_days: int | None = None,
        expires_at: datetime | None = None,
        purpose: str = "api",
        made_by: uuid.UUID | None = None,
    ) -> tuple[dict[str, Any], str]:
        """Make a key; return its public row and the key, which cannot be shown again.

        ``made_by`` is the key of the request: the new key must not have more rights or a longer life.
        """
        label = _name(name, "name")
        if purpose not in api_keys.PREFIXES:
            raise ConfigurationError(f"purpose must be one of {', '.join(api_keys.PREFIXES)}.", field="purpose")
        if expires_days is not None:
            if not 1 <= expires_days <= MAX_KEY_DAYS:
                raise ConfigurationError(f"expires must be 1 to {MAX_KEY_DAYS} days.", field="expires")
            expires_at = datetime.now(UTC) + timedelta(days=expires_days)
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise ConfigurationError("expires_at is in the past.", field="expires_at")
        with self.catalog.writing() as connection:
            users.get(connection, user_id)
            if made_by is not None:
                _check_no_more(api_keys.get(connection, user_id, made_by), read_only, expires_at)
            row, key = api_keys.add(connection, user_id, label, read_only, expires_at, purpose=purpose)
            detail = {"key_id": str(row["id"]), "read_only": read_only, "purpose": purpose}
            self.catalog.audit.append(connection, "key.create", user_id=user_id, detail=detail)
        return row, key

    def keys(self, user_id: int, purpose: str = "api") -> Rows:
        with self.catalog.reading() as connection:
            return api_keys.of_user(connection, user_id, purpose)

    def key(self, user_id: int, key_id: uuid.UUID) -> dict[str, Any]:
        with self.catalog.reading() as connection:
            return api_keys.get(connection, user_id, key_id)

    def revoke_key(self, user_id: int, key_id: uuid.UUID) -> None:
        """Revoke one of a user's keys, from its next request on."""
        self._revoke(key_id, user_id)

    def revoke_key_by_id(self, key_id: uuid.UUID) -> None:
        """Revoke anybody's key, as an operator."""
        self._revoke(key_id, None)

    def held_keys(self) -> Rows:
        """List the keys of all users that a recovery held: they give no access until they are confirmed."""
        with self.catalog.reading() as connection:
            return api_keys.held(connection)

    def confirm_key(self, key_id: uuid.UUID) -> bool:
        """Let a held key give access again; return whether it was held."""
        with self.catalog.writing() as connection:
            owner = api_keys.owner(connection, key_id)
            confirmed = api_keys.confirm(connection, key_id=key_id)
            if confirmed:
                self.catalog.audit.append(connection, "key.confirm", user_id=owner, detail={"key_id": str(key_id)})
        return bool(confirmed)

    def confirm_keys(self, user_id: int | None = None) -> int:
        """Let all held keys of a user, or (None) of everybody, give access again; return how many there were."""
        with self.catalog.writing() as connection:
            if user_id is not None:
                users.get(connection, user_id)
            confirmed = api_keys.confirm(connection, user_id=user_id)
            if confirmed:
                self.catalog.audit.append(connection, "key.confirm", user_id=user_id, detail={"keys": confirmed})
        return confirmed

    # --- inside -----------------------------------------------------------------------------------------

    def _new(self, email: str, display_name: str, password: str | None) -> tuple[str, str, str | None]:
        address = names.email(email)
        name = _name(display_name, "display_name") or address.partition("@")[0]
        return address, name, None if password is None else self._hash(password, address)

    def _hash(self, password: str, email: str) -> str:
        passwords.check_rules(password, email)
        try:
            return self._passwords.hash(password)
        except UnicodeEncodeError as error:
            raise PasswordTooWeakError(
                "the password holds characters that cannot be stored.", field="password"
            ) from error

    def _store_password(self, connection: sa.Connection, user_id: int, fresh: str, keep_token: str | None) -> None:
        users.change(connection, user_id, password_hash=fresh)
        ended = sessions.end_all(connection, user_id, keep_token)
        self.catalog.audit.append(connection, "user.password", user_id=user_id, detail={"sessions_ended": ended})

    def _change(self, user_id: int, action: str, *, force: bool = True, **changes: Any) -> User:
        """Change an account, with an audit row; without ``force`` an active administrator must remain."""

        def work(connection: sa.Connection) -> User:
            users.get(connection, user_id)
            if force:
                user = users.change(connection, user_id, **changes)
            else:
                self.catalog.audit.lock(connection)
                user = users.change_unless_last(connection, user_id, **changes)
            if not user.is_active:
                sessions.end_all(connection, user_id)
            self.catalog.audit.append(connection, action, user_id=user_id)
            return user

        return self.catalog.repeating(work)

    def _proven(self, user_id: int, typed: str) -> tuple[str | None, str]:
        """Verify a signed-in user's password; return its hash, and the key under which wrong ones are counted."""
        with self.catalog.reading() as connection:
            hashed = users.hash_of(connection, user_id)
        key = login_failures.scope("password", str(user_id))
        self._reserve(key)
        if not self._passwords.verify(hashed, typed):
            raise _wrong_password()
        return hashed, key

    def _reserve(self, key: str) -> None:
        try:
            self.catalog.repeating(lambda connection: login_failures.reserve(connection, key))
        except IntegrityError as error:
            raise ThrottledError("too many sign-ins at once: try again in a moment.", retry_after_s=1) from error

    def _begin(
        self,
        user: User,
        remember: bool,
        about: dict[str, str],
        device: str | None,
        *,
        clear: str | None = None,
        proven: str | None = None,
        fresh_hash: str | None = None,
    ) -> SignIn:
        """Store a session, unless the account was deactivated or its password hash is no longer ``proven``."""
        token = sessions.new_token()
        lasts = timedelta(days=self.rules.remember_days) if remember else timedelta(hours=self.rules.session_hours)
        signed_in = SignIn(user, token, device or f"{user.id}.{secrets.token_urlsafe(16)}", datetime.now(UTC) + lasts)
        shown = {"user_agent": _printable(about["user_agent"])[:200], "address": _printable(about["address"])[:64]}

        def store(connection: sa.Connection) -> None:
            if clear is not None:
                login_failures.clear(connection, clear)
            hashed, is_active = users.hold(connection, user.id)
            if not is_active or (proven is not None and hashed != proven):
                raise BadCredentialsError(_WRONG)
            if fresh_hash is not None:
                users.change(connection, user.id, password_hash=fresh_hash)
            sessions.add(connection, user.id, token, signed_in.expires_at, shown)
            self.catalog.audit.append(connection, "user.sign_in", user_id=user.id)

        self.catalog.repeating(store)
        return signed_in

    def _revoke(self, key_id: uuid.UUID, user_id: int | None) -> None:
        with self.catalog.writing() as connection:
            owner = api_keys.remove(connection, key_id, user_id)
            self.catalog.audit.append(connection, "key.revoke", user_id=owner, detail={"key_id": str(key_id)})


def _check_no_more(maker: dict[str, Any], read_only: bool, expires_at: datetime | None) -> None:
    if maker["read_only"] and not read_only:
        raise ConfigurationError("A key that may only read makes no key that writes.", field="read_only")
    end = maker["expires_at"]
    if end is not None and (expires_at is None or expires_at > end):
        raise ConfigurationError(
            f"A key makes no key that lives longer: expires_at must be {end:%Y-%m-%dT%H:%M:%SZ} or earlier.",
            field="expires_at",
        )


def _wrong_password() -> BadCredentialsError:
    return BadCredentialsError("the current password is not right.", field="current_password")


def _name(text: str, field: str) -> str:
    name = " ".join(names.storable(text, field).split())
    if len(name) > 100:
        raise ConfigurationError(f"{field} has at most 100 characters.", field=field)
    return name if names.is_visible(name) else ""


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
