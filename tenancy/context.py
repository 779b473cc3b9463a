"""Hold for whom the running code works: owner, tenant, actor, request and kind of caller.

The context lives in a ``ContextVar``. ``web`` runs every WSGI call in a copied context, so nothing set here outlives a
request; threads and asyncio tasks have their own context by Python's rules.
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
    """Describe for whom code runs.

    ``main`` is True (and ``owner`` None) after ``clear_user_context()``, which chooses the main database explicitly.
    A ``locked`` context (a web request, a ``tenant()`` block) refuses every user but ``held_for``. If that is None, it
    is an administrator's request, in which each call names its user. ``actor`` is the kind of caller as the audit log
    shows it: one of the constants below, or ``command`` with the operating system's user and host.
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


SELF, CONSOLE, HOUSEKEEPING, FLEET, JOB, LIBRARY = "self", "console", "housekeeping", "fleet", "job", "library"
"""The kinds of caller: a user, an administrator, background housekeeping, a fleet run, a job, an embedding program."""

_NOBODY = Context()
_current: ContextVar[Context] = ContextVar("tenancy_context", default=_NOBODY)


def current() -> Context:
    return _current.get()


def bind(context: Context) -> None:
    """Replace the whole context."""
    _current.set(context)


@contextmanager
def acting(actor: str, request_id: str | None = None) -> Iterator[None]:
    """Set the kind of caller inside the block, in this thread or task only; the block counts as one request."""
    token = _current.set(replace(_current.get(), actor=actor, request_id=request_id or new_request_id()))
    try:
        yield
    finally:
        _current.reset(token)


def new_request_id() -> str:
    return os.urandom(8).hex()


def set_user(user_id: int) -> None:
    """Work for a user from here on, or raise WrongTenantError if the context is held for another one."""
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
    """Return the user to work for: the one named, else the context's; raise NoTenantError if there is none."""
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
