"""Give one runner at a time the right to operate on a tenant.

A claim is a row with an attempt number, an expiry by the catalog's clock and the runner's name. Every
write of the runner goes through ``Claim.writing``, which first renews the row under its own attempt: a
runner that slept past its expiry and was replaced finds nothing to renew and is stopped (ClaimLostError).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenancy.catalog import Catalog, met_another, now
from tenancy.errors import CatalogError, ClaimedError, ClaimLostError
from tenancy.models import claims
from tenancy.types import utc_now

log = logging.getLogger(__name__)

DEFAULT_TTL_S = 60.0
_BEATS = 4
"""So many times a claim is renewed before it would expire."""

_tenant: sa.BindParameter[uuid.UUID] = sa.bindparam("of")
_mine = (claims.c.tenant_id == _tenant, claims.c.attempt == sa.bindparam("mine"), claims.c.expires_at > utc_now())
_of_tenant = sa.select(claims).where(claims.c.tenant_id == _tenant)
_of_tenant_locked = _of_tenant.with_for_update()
_first = claims.insert()
_next = claims.update().where(claims.c.tenant_id == _tenant)
_next_after = _next.where(claims.c.attempt == sa.bindparam("seen"))
_renew = claims.update().where(*_mine)
_held_now = sa.select(claims.c.attempt).where(*_mine)
_held = _held_now.with_for_update()
_of_many = sa.select(claims).where(claims.c.tenant_id.in_(sa.bindparam("these", expanding=True)))
_some = claims.c.tenant_id.in_(sa.bindparam("of", expanding=True))
_ours = (_some, claims.c.attempt == sa.bindparam("mine"), claims.c.expires_at > utc_now())
_renew_ours = claims.update().where(*_ours)
_held_ours = sa.select(claims.c.tenant_id).where(*_ours)
_held_ours_locked = _held_ours.with_for_update()
_end_some = claims.update().where(_some).values(expires_at=None)


@dataclass(frozen=True)
class Claim:
    """Hold a tenant for one operation."""

    catalog: Catalog
    tenant_id: uuid.UUID
    attempt: int
    ttl_s: float

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a catalog write transaction that only commits while this claim holds."""
        with self.catalog.writing() as connection:
            self.renew(connection)
            yield connection

    def renew(self, connection: sa.Connection) -> None:
        """Beat: move the expiry on, or raise ClaimLostError."""
        self._expire(connection, now(connection) + timedelta(seconds=self.ttl_s))

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep this claim from ending while the block runs, or raise ClaimLostError; the catalog stays unchanged."""
        with self.catalog.writing() as connection:
            if connection.execute(_held, {"of": self.tenant_id, "mine": self.attempt}).first() is None:
                self.lost()
            yield

    @contextmanager
    def ending(self) -> Iterator[sa.Connection]:
        """Open the runner's last write transaction: it only commits while this claim holds, and ends it."""
        with self.catalog.writing() as connection:
            self.release(connection)
            yield connection

    def check(self) -> None:
        """Raise ClaimLostError unless this claim holds now."""
        with self.catalog.reading() as connection:
            if connection.execute(_held_now, {"of": self.tenant_id, "mine": self.attempt}).first() is None:
                self.lost()

    def release(self, connection: sa.Connection) -> None:
        """End the claim, or raise ClaimLostError; the attempt number stays, so that it is never used again."""
        self._expire(connection, None)

    def _expire(self, connection: sa.Connection, at: datetime | None) -> None:
        held = {"of": self.tenant_id, "mine": self.attempt}
        if connection.execute(_renew, {**held, "expires_at": at}).rowcount != 1:
            self.lost()

    def lost(self) -> NoReturn:
        """Say that another runner took over."""
        raise ClaimLostError(
            f"the claim on tenant {self.tenant_id} was lost: another runner took over.", tenant_id=self.tenant_id
        )


@dataclass(frozen=True)
class Claims:
    """Hold several new tenants for one operation, each by a claim of its own, which may be lost by itself."""

    catalog: Catalog
    tenant_ids: frozenset[uuid.UUID]
    ttl_s: float
    attempt: int = 1

    def one(self, tenant_id: uuid.UUID) -> Claim:
        return Claim(self.catalog, tenant_id, self.attempt, self.ttl_s)

    @contextmanager
    def holding(self) -> Iterator[frozenset[uuid.UUID]]:
        """Keep from ending, while the block runs, the claims that still hold; give their tenants."""
        with self.catalog.writing() as connection:
            yield self._still(connection, self.tenant_ids, _held_ours_locked)

    @contextmanager
    def ending(self, of: Collection[uuid.UUID]) -> Iterator[tuple[sa.Connection, frozenset[uuid.UUID]]]:
        """Open the last write transaction on some of them: it ends the claims that still hold, and gives their tenants.

        What is lost is not to be written to: another runner took over.
        """
        with self.catalog.writing() as connection:
            held = self._renewed(connection, of)
            if held:
                connection.execute(_end_some, {"of": list(held)})
            yield connection, held

    def _renewed(self, connection: sa.Connection, of: Collection[uuid.UUID]) -> frozenset[uuid.UUID]:
        """Move the expiries on; a written row stays as it is to the end of the transaction, on every product."""
        mine = {"of": list(of), "mine": self.attempt}
        until = now(connection) + timedelta(seconds=self.ttl_s)
        if connection.execute(_renew_ours, {**mine, "expires_at": until}).rowcount == len(of):
            return frozenset(of)
        return self._still(connection, of, _held_ours)

    def _still(
        self, connection: sa.Connection, of: Collection[uuid.UUID], question: sa.Select[Any]
    ) -> frozenset[uuid.UUID]:
        return frozenset(connection.execute(question, {"of": list(of), "mine": self.attempt}).scalars())


def held(connection: sa.Connection, tenant_id: uuid.UUID) -> dict[str, Any] | None:
    """Give the claim that holds a tenant now: operation, attempt, runner, expires_at."""
    query = sa.select(claims.c.operation, claims.c.attempt, claims.c.runner, claims.c.expires_at)
    row = connection.execute(query.where(claims.c.tenant_id == tenant_id, claims.c.expires_at > utc_now())).first()
    return None if row is None else dict(row._mapping)


def take(
    catalog: Catalog,
    connection: sa.Connection,
    tenant_id: uuid.UUID,
    operation: str,
    ttl_s: float,
    *,
    first: bool = False,
) -> Claim:
    """Claim a tenant inside the caller's write transaction, or raise ClaimedError.

    ``first`` says that this transaction made the tenant, so that no claim on it needs to be looked for.
    """
    try:
        return Claim(catalog, tenant_id, _next_attempt(connection, tenant_id, operation, ttl_s, first), ttl_s)
    except DBAPIError as error:
        if not met_another(error):
            raise
        raise _busy(tenant_id, operation) from error


def take_many(
    catalog: Catalog, connection: sa.Connection, tenant_ids: Sequence[uuid.UUID], operation: str, ttl_s: float
) -> list[Claim]:
    """Claim those of these tenants that nobody holds, in the caller's write transaction; the others are left out.

    Where another runner claims one of them for the first time at that moment, the transaction fails and is repeated
    by the caller (``Catalog.repeating``).
    """
    moment = now(connection)
    # Looked at first without a lock: MySQL locks the gap where a missing row would be, against its neighbours too.
    known = {row.tenant_id for row in connection.execute(_of_many, {"these": tenant_ids})}
    rows = connection.execute(_of_many.with_for_update(), {"these": list(known)}).all() if known else []
    attempts = {
        row.tenant_id: int(row.attempt) + 1 for row in rows if row.expires_at is None or row.expires_at <= moment
    }
    held = {"operation": operation, "runner": runner(), "expires_at": moment + timedelta(seconds=ttl_s)}
    if attempts:
        connection.execute(_next, [{"of": of, "attempt": attempt, **held} for of, attempt in attempts.items()])
    fresh = [of for of in tenant_ids if of not in known]
    if fresh:
        connection.execute(_first, [{"tenant_id": of, "attempt": 1, **held} for of in fresh])
    attempts |= dict.fromkeys(fresh, 1)
    return [Claim(catalog, of, attempts[of], ttl_s) for of in tenant_ids if of in attempts]


@contextmanager
def beating(catalog: Catalog, held: Sequence[Claim]) -> Iterator[None]:
    """Keep claims from expiring while the block runs, however long: a thread moves their expiry on.

    It only delays what others may do: whoever writes under a claim still has to find it held.
    """
    done = threading.Event()
    every_s = min((claim.ttl_s for claim in held), default=DEFAULT_TTL_S) / _BEATS

    def beat() -> None:
        while not done.wait(every_s):
            try:
                with catalog.writing() as connection:
                    moment = now(connection)
                    for claim in held:
                        expires = moment + timedelta(seconds=claim.ttl_s)
                        connection.execute(
                            _renew, {"of": claim.tenant_id, "mine": claim.attempt, "expires_at": expires}
                        )
            except CatalogError as error:
                log.warning("claims could not be renewed: %s", error.message)

    thread = threading.Thread(target=beat, name="unify-claims", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def take_new(
    catalog: Catalog, connection: sa.Connection, tenant_ids: Collection[uuid.UUID], operation: str, ttl_s: float
) -> Claims:
    """Claim tenants that the caller's transaction made, all in one statement."""
    until = now(connection) + timedelta(seconds=ttl_s)
    shared = {"operation": operation, "attempt": 1, "runner": runner(), "expires_at": until}
    if tenant_ids:
        connection.execute(_first, [{"tenant_id": tenant_id, **shared} for tenant_id in tenant_ids])
    return Claims(catalog, frozenset(tenant_ids), ttl_s)


def _next_attempt(connection: sa.Connection, tenant_id: uuid.UUID, operation: str, ttl_s: float, first: bool) -> int:
    """Write the claim and give its number; those who write a tenant's first claim at once meet in its primary key."""
    moment = now(connection)
    of = {"of": tenant_id}
    row = None
    # Looked at first without a lock: MySQL locks the gap where a missing row would be, against its neighbours too.
    if not first and connection.execute(_of_tenant, of).first():
        row = connection.execute(_of_tenant_locked, of).first()
    held = {"operation": operation, "runner": runner(), "expires_at": moment + timedelta(seconds=ttl_s)}
    if row is None:
        connection.execute(_first, {"tenant_id": tenant_id, "attempt": 1, **held})
        return 1
    if row.expires_at is not None and row.expires_at > moment:
        raise _busy(tenant_id, row.operation)
    attempt = int(row.attempt) + 1
    if connection.execute(_next_after, {**of, "seen": row.attempt, "attempt": attempt, **held}).rowcount != 1:
        raise _busy(tenant_id, operation)  # the row was read under a lock, where the product has one to give
    return attempt


def _busy(tenant_id: uuid.UUID, operation: str) -> ClaimedError:
    return ClaimedError(
        f"tenant {tenant_id} is busy ({operation}): wait until it ends and try again.",
        tenant_id=tenant_id,
        operation=operation,
    )


def runner() -> str:
    """Describe this runner for people; nothing is decided by it."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_native_id()}"[:128]
