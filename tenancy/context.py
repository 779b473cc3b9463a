"""Carry who the running code works for: tenant's owner, actor, request, and the way in that brought it here.

The context lives in a ``ContextVar``. ``web`` gives every WSGI call a copied context, so that nothing set
here outlives a request; threads and tasks have their own by Python's rules.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from tenancy import names
from tenancy.errors import NoTenantError, WrongTenantError
from tenancy.models import Tenant


@dataclass(frozen=True, slots=True)
class Context:
    """Say for whom code runs.

    ``owner`` is None and ``main`` True after ``clear_user_context()``: the main database, chosen explicitly.
    ``locked`` contexts (a web request, a ``tenant()`` block) refuse any user but ``held_for``; one that is held for
    nobody is an administrator's call, whose every step names its user. ``actor`` says by which way somebody acts, as
    the audit log shows it: one of the names below, or ``command`` with the operating system's user and host.
    """

    owner: int | None = None
    tenant: Tenant | None = None
    main: bool = False
    locked: bool = False
    held_for: int | None = None
    actor_id: int | None = None
    request_id: str | None = None
    actor: str | None = None

    @property
    def administers(self) -> bool:
        return self.locked and self.held_for is None


SELF, CONSOLE, HOUSEKEEPING, FLEET, LIBRARY = "self", "console", "housekeeping", "fleet", "library"
"""Name the ways in: an account in its own name, an administrator, the two that run by themselves, a program's call."""

_NOBODY = Context()
_current: ContextVar[Context] = ContextVar("tenancy_context", default=_NOBODY)


def current() -> Context:
    return _current.get()


def bind(context: Context) -> None:
    """Set the whole context, for as long as the surrounding copied context lives."""
    _current.set(context)


@contextmanager
def acting(actor: str, request_id: str | None = None) -> Iterator[None]:
    """Say inside the block, in this thread or task only, by which way somebody acts; it counts as one request."""
    token = _current.set(replace(_current.get(), actor=actor, request_id=request_id or new_request_id()))
    try:
        yield
    finally:
        _current.reset(token)


def new_request_id() -> str:
    return os.urandom(8).hex()


def set_user(user_id: int) -> None:
    """Work for a user from here on, or raise WrongTenantError where the context is held for another."""
    here = _current.get()
    _check_held(here, user_id)
    if here.owner != user_id:
        _current.set(replace(here, owner=user_id, tenant=None, main=False))


def choose_main() -> None:
    """Work on the main database from here on, in this context only."""
    _current.set(replace(_current.get(), owner=None, tenant=None, main=True))


@contextmanager
def held(user_id: int, actor_id: int | None) -> Iterator[None]:
    """Work for one user inside the block, in this thread or task only."""
    here = _current.get()
    _check_held(here, user_id)
    tenant = here.tenant if here.owner == user_id else None
    actor = actor_id if actor_id is not None else here.actor_id
    token = _current.set(Context(user_id, tenant, False, True, user_id, actor, here.request_id, here.actor))
    try:
        yield
    finally:
        _current.reset(token)


def owner(user_id: int | None = None) -> int:
    """Give the user to work for: the one named, else the context's; nobody is NoTenantError."""
    here = _current.get()
    if user_id is not None:
        user_id = names.user_id(user_id)
        if not here.administers:
            _check_held(here, user_id)
        return user_id
    if here.owner is None:
        raise NoTenantError("no user is set: name one, or enter `manager.tenant(user_id)` first.")
    return here.owner


def _check_held(here: Context, user_id: int) -> None:
    if here.locked and here.held_for != user_id:
        raise WrongTenantError(
            f"this context is open for another user and cannot switch to user {user_id}.", user_id=user_id
        )
