"""Give one runner at a time the right to operate on a tenant.

A claim is a row with an attempt number, an expiry by the catalog's clock and the runner's name. Every
write of the runner goes through ``Claim.writing``, which first renews the row under its own attempt: a
runner that slept past its expiry and was replaced finds nothing to renew and is stopped (ClaimLostError).
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenancy.catalog import Catalog, met_another, now
from tenancy.errors import ClaimedError, ClaimLostError
from tenancy.models import claims
from tenancy.types import utc_now

DEFAULT_TTL_S = 60.0

_tenant: sa.BindParameter[uuid.UUID] = sa.bindparam("of")
_mine = (claims.c.tenant_id == _tenant, claims.c.attempt == sa.bindparam("mine"), claims.c.expires_at > utc_now())
_of_tenant = sa.select(claims).where(claims.c.tenant_id == _tenant)
_of_tenant_locked = _of_tenant.with_for_update()
_first = claims.insert()
_next = claims.update().where(claims.c.tenant_id == _tenant)
_renew = claims.update().where(*_mine)
_held = sa.select(claims.c.attempt).where(*_mine).with_for_update()


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
                raise self._lost()
            yield

    @contextmanager
    def ending(self) -> Iterator[sa.Connection]:
        """Open the runner's last write transaction: it only commits while this claim holds, and ends it."""
        with self.catalog.writing() as connection:
            self.release(connection)
            yield connection

    def release(self, connection: sa.Connection) -> None:
        """End the claim, or raise ClaimLostError; the attempt number stays, so that it is never used again."""
        self._expire(connection, None)

    def _expire(self, connection: sa.Connection, at: datetime | None) -> None:
        held = {"of": self.tenant_id, "mine": self.attempt}
        if connection.execute(_renew, {**held, "expires_at": at}).rowcount != 1:
            raise self._lost()

    def _lost(self) -> ClaimLostError:
        return ClaimLostError(
            f"the claim on tenant {self.tenant_id} was lost: another runner took over.", tenant_id=self.tenant_id
        )


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


def _next_attempt(connection: sa.Connection, tenant_id: uuid.UUID, operation: str, ttl_s: float, first: bool) -> int:
    """Write the claim and give its number; those who write a tenant's first claim at once meet in its primary key."""
    moment = now(connection)
    of = {"of": tenant_id}
    row = None
    # Looked at first without a lock: MySQL locks the gap where a missing row would be, against its neighbours too.
    if not first and connection.execute(_of_tenant, of).first():
        row = connection.execute(_of_tenant_locked, of).first()
    held = {"operation": operation, "runner": _runner(), "expires_at": moment + timedelta(seconds=ttl_s)}
    if row is None:
        connection.execute(_first, {"tenant_id": tenant_id, "attempt": 1, **held})
        return 1
    if row.expires_at is not None and row.expires_at > moment:
        raise _busy(tenant_id, row.operation)
    attempt = int(row.attempt) + 1
    connection.execute(_next, {**of, "attempt": attempt, **held})
    return attempt


def _busy(tenant_id: uuid.UUID, operation: str) -> ClaimedError:
    return ClaimedError(
        f"tenant {tenant_id} is busy ({operation}): wait until it ends and try again.",
        tenant_id=tenant_id,
        operation=operation,
    )


def _runner() -> str:
    """Describe this runner for people; nothing is decided by it."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_native_id()}"[:128]
