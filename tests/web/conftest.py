"""Give the web's tests an application in each mode, callers with keys, and browsers with sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import event
from sqlalchemy.engine import Engine

import web
from tenancy.models import User
from web.auth.sessions import cookie_name

if TYPE_CHECKING:
    from compose import Parts


@dataclass
class Caller:
    """Ask the application as a program does, with one user's key."""

    client: FlaskClient
    user: User
    key: str

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def ask(path: str, **kwargs: Any) -> Any:
            headers = {"Authorization": f"Bearer {self.key}"} | kwargs.pop("headers", {})
            return getattr(self.client, verb)(path, headers=headers, **kwargs)

        return ask


@dataclass
class Browser:
    """Ask the application as a page's script does, with a session and a CSRF token."""

    client: FlaskClient
    user: User
    token: str
    csrf: str

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def ask(path: str, **kwargs: Any) -> Any:
            headers = {"X-CSRFToken": self.csrf} | kwargs.pop("headers", {})
            return getattr(self.client, verb)(path, headers=headers, **kwargs)

        return ask


@pytest.fixture
def app(parts: Parts) -> Flask:
    return web.create(parts)


@pytest.fixture
def any_app(any_parts: Parts) -> Flask:
    """Give the application in each mode in turn."""
    return web.create(any_parts)


@pytest.fixture
def anonymous(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def first(parts: Parts) -> User:
    return account(parts, "ada@example.org")


@pytest.fixture
def ada(app: Flask, first: User) -> Caller:
    return caller(app, first)


@pytest.fixture
def bob(app: Flask, parts: Parts) -> Caller:
    return caller(app, account(parts, "bob@example.org"))


@pytest.fixture
def browser(app: Flask, first: User) -> Browser:
    return browser_of(app, first)


@pytest.fixture
def admin(app: Flask, parts: Parts) -> Caller:
    return caller(app, make_admin(parts))


def account(parts: Parts, email: str) -> User:
    """Make an account with a database and without a password, which costs its hash only where one signs in with it."""
    user = parts.accounts.create(email)
    parts.manager.provision(user.id)
    return user


def make_admin(parts: Parts) -> User:
    """Make an administrator, who has no database: administering needs none."""
    return parts.accounts.create("root@example.org", is_admin=True)


def caller(app: Flask, user: User, **key: Any) -> Caller:
    """Give a caller with a new key of a user's."""
    _, secret = app.extensions["unify"].accounts.issue_key(user.id, **key)
    return Caller(app.test_client(), user, secret)


def browser_of(app: Flask, user: User) -> Browser:
    """Give a browser in which a user is signed in (the login page itself has tests of its own)."""
    client = app.test_client()
    token = app.extensions["unify"].accounts.sign_in_without_password(user.id).token
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = token, True
        session["csrf_token"] = "c" * 40
    signer = URLSafeTimedSerializer(app.config["WTF_CSRF_SECRET_KEY"], salt="wtf-csrf-token")
    return Browser(client, user, token, str(signer.dumps("c" * 40)))


def cookie(app: Flask, what: str = "session") -> str:
    """Give the name of one of this installation's cookies."""
    return cookie_name(what, app.extensions["unify"].settings)


@contextmanager
def statements() -> Iterator[list[tuple[str, str]]]:
    """Collect (database file, SQL) of everything any engine sends inside the block."""
    sent: list[tuple[str, str]] = []

    def keep(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        sent.append((str(connection.engine.url.database), statement))

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def users_of(parts: Parts) -> tuple[User, User]:
    """Make two users with databases."""
    return account(parts, "ada@example.org"), account(parts, "bob@example.org")
