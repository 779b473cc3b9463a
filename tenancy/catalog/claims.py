"""Let one runner at a time operate on a tenant: a claim is a lease with a fencing token.

A claim is a row with an attempt number (the fencing token), an expiry by the catalog's clock and the runner's name; no
transaction stays open for it. The runner writes to the catalog through ``Claim.writing``, which first renews the row
WHERE the attempt is its own. A runner that was suspended past its expiry and replaced updates no row and is stopped by
ClaimLostError. In the tenant's own database the attempt number is written as the epoch (``schema/identity.py``).

A claim whose operation succeeded has no expiry. An expired one was left by an operation that failed or was cut off,
whose runner may have done anything, or may still do it. The next claim is then ``interrupted``, and its runner raises
the epoch first.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenancy.catalog import Catalog, now
from tenancy.catalog.tables import claims, user_database_configs
from tenancy.errors import CatalogError, ClaimedError, ClaimLostError
from tenancy.models import State
from tenancy.types import utc_now

log = logging.getLogger(__name__)

DEFAULT_TTL_S = 60.0
LONGEST_TTL_S = 2 * DEFAULT_TTL_S
"""The longest lifetime of a claim; one that ends later was written while the catalog's clock was ahead, and is void."""
QUIET = frozenset({"backup"})
"""Operations that only read a database: one that was cut off left nothing to settle."""

_BEATS = 4
"""How often a claim is renewed within its lifetime."""

is_void: sa.ColumnElement[bool] = sa.or_(claims.c.expires_at <= utc_now(), claims.c.expires_at > sa.bindparam("beyond"))
"""The condition for expired claims; its parameter ``beyond`` is what ``beyond()`` returns."""

_tenant: sa.BindParameter[uuid.UUID] = sa.bindparam("of")
_mine = (claims.c.tenant_id == _tenant, claims.c.attempt == sa.bindparam("mine"), claims.c.expires_at > utc_now())
_of_tenant = sa.select(claims).where(claims.c.tenant_id == _tenant)
_of_tenant_locked = _of_tenant.with_for_update()
_first = claims.insert()
_next = claims.update().where(claims.c.tenant_id == _tenant)
_next_after = _next.where(claims.c.attempt == sa.bindparam("seen"))
_renew = claims.update().where(*_mine)
_held_now = sa.select(claims.c.attempt).where(*_mine)
_loud = claims.c.operation.not_in(QUIET)
_expires = sa.select(claims.c.expires_at).where(claims.c.tenant_id == _tenant, _loud)
_let_go = _next.values(expires_at=utc_now())
_of_many = sa.select(claims).where(claims.c.tenant_id.in_(sa.bindparam("these", expanding=True)))
_some = claims.c.tenant_id.in_(sa.bindparam("of", expanding=True))
_ours = (_some, claims.c.attempt == sa.bindparam("mine"), claims.c.expires_at > utc_now())
_renew_ours = claims.update().where(*_ours)
_held_ours = sa.select(claims.c.tenant_id).where(*_ours)
_expire_some = claims.update().where(_some)


@dataclass(frozen=True)
class Claim:
    """Hold the exclusive right to run one operation on a tenant."""

    catalog: Catalog
    tenant_id: uuid.UUID
    attempt: int
    ttl_s: float
    interrupted: bool = False
    """Whether the previous operation failed or was cut off."""

    operation: str = ""

    @property
    def epoch(self) -> int:
        """The number that this runner writes into the tenant's own database."""
        return self.attempt

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a catalog write transaction that commits only while this claim is held."""
        with self.catalog.writing() as connection:
            self.renew(connection)
            yield connection

    def renew(self, connection: sa.Connection) -> None:
        """Extend the expiry, or raise ClaimLostError."""
        self._expire(connection, now(connection) + timedelta(seconds=self.ttl_s))

    @contextmanager
    def ending(self) -> Iterator[sa.Connection]:
        """Open the runner's last write transaction, which releases the claim, or raise ClaimLostError."""
        with self.catalog.writing() as connection:
            self.release(connection)
            yield connection

    @contextmanager
    def failing(self) -> Iterator[sa.Connection]:
        """Open a failed runner's last write transaction: the claim expires, so the next one is ``interrupted``."""
        with self.catalog.writing() as connection:
            self.lapse(connection)
            yield connection

    def lapse(self, connection: sa.Connection) -> None:
        """Let the claim expire now, as of an operation that was cut off, or raise ClaimLostError."""
        self._expire(connection, now(connection))

    def keep(self, connection: sa.Connection) -> None:
        """Extend the expiry of a row that the caller's transaction has locked by ``renew``, however long ago that was.

        Nobody can have taken the claim meanwhile.
        """
        until = now(connection) + timedelta(seconds=self.ttl_s)
        connection.execute(_next_after, {"of": self.tenant_id, "seen": self.attempt, "expires_at": until})

    def pass_over(self, epoch: int) -> None:
        """Make the next claim's number higher than an epoch found in the database; only while this claim is held.

        While it is held no other runner can have written that epoch: the catalog was restored from an older backup.
        """
        with self.catalog.writing() as connection:
            mine = {"of": self.tenant_id, "mine": self.attempt}
            connection.execute(_renew, {**mine, "attempt": epoch, "expires_at": now(connection)})

    def check(self) -> None:
        """Raise ClaimLostError unless this claim is held now."""
        with self.catalog.reading() as connection:
            if connection.execute(_held_now, {"of": self.tenant_id, "mine": self.attempt}).first() is None:
                self.lost()

    def release(self, connection: sa.Connection) -> None:
        """Release the claim, or raise ClaimLostError; the row stays, so that its attempt number is never reused."""
        self._expire(connection, None)

    def _expire(self, connection: sa.Connection, at: datetime | None) -> None:
        held = {"of": self.tenant_id, "mine": self.attempt}
        if connection.execute(_renew, {**held, "expires_at": at}).rowcount != 1:
            self.lost()

    def lost(self) -> NoReturn:
        """Raise ClaimLostError; the cause is another runner, or a commit whose answer was lost."""
        raise ClaimLostError(
            f"the claim on tenant {self.tenant_id} was lost: another runner took over, or the last commit "
            "went through although its answer was lost. Run it again: what is done stays done.",
            tenant_id=self.tenant_id,
        )


@dataclass(frozen=True)
class Claims:
    """Hold several new tenants for one operation, each by a claim of its own that can be lost separately."""

    catalog: Catalog
    tenant_ids: frozenset[uuid.UUID]
    ttl_s: float
    attempt: int = 1

    def one(self, tenant_id: uuid.UUID) -> Claim:
        return Claim(self.catalog, tenant_id, self.attempt, self.ttl_s, operation="provision")

    @contextmanager
    def ending(self, of: Collection[uuid.UUID]) -> Iterator[tuple[sa.Connection, frozenset[uuid.UUID]]]:
        """Open the last write transaction on some of them; it releases the claims that are still held.

        Yields the connection and the tenants of these claims. The others must not be written to: they were taken over.
        """
        with self.catalog.writing() as connection:
            held = self._renewed(connection, of)
            if held:
                connection.execute(_expire_some, {"of": list(held), "expires_at": None})
            yield connection, held

    def _renewed(self, connection: sa.Connection, of: Collection[uuid.UUID]) -> frozenset[uuid.UUID]:
        """Extend the expiries, which locks the rows (UPDATE); return the tenants whose claims are held."""
        mine = {"of": list(of), "mine": self.attempt}
        until = now(connection) + timedelta(seconds=self.ttl_s)
        if connection.execute(_renew_ours, {**mine, "expires_at": until}).rowcount == len(of):
            return frozenset(of)
        return frozenset(connection.execute(_held_ours, {"of": list(of), "mine": self.attempt}).scalars())


def held(connection: sa.Connection, tenant_id: uuid.UUID) -> dict[str, Any] | None:
    """Return operation, attempt, runner and expires_at of the claim on a tenant; None if nobody holds it."""
    query = sa.select(claims.c.operation, claims.c.attempt, claims.c.runner, claims.c.expires_at)
    row = connection.execute(query.where(claims.c.tenant_id == tenant_id, claims.c.expires_at > utc_now())).first()
    return None if row is None or not _holds(row.expires_at, now(connection)) else dict(row._mapping)


def interrupted(connection: sa.Connection, tenant_id: uuid.UUID) -> bool:
    """Return whether the last operation on a tenant failed or was cut off and no other is running."""
    expires_at = connection.execute(_expires, {"of": tenant_id}).scalar()
    return expires_at is not None and not _holds(expires_at, now(connection))


def cut_off(
    connection: sa.Connection, states: Collection[State]
) -> dict[int, tuple[State, tuple[str, int | None] | None]]:
    """Return users in one of the states whose last operation failed or was cut off, the oldest first.

    The values are the state and the database's server as (host, port), or None for a file.
    """
    theirs = user_database_configs
    query = (
        sa.select(theirs.c.user_id, theirs.c.state, theirs.c.db_host, theirs.c.db_port)
        .join(claims, claims.c.tenant_id == theirs.c.tenant_id)
        .where(is_void, _loud, theirs.c.state.in_([str(state) for state in states]))
        .order_by(claims.c.expires_at)
    )
    rows = connection.execute(query, {"beyond": beyond(connection)})
    return {int(row.user_id): (State(row.state), (row.db_host, row.db_port) if row.db_host else None) for row in rows}


def beyond(connection: sa.Connection) -> datetime:
    """Return the latest time at which a claim can expire; a later expiry was written by a wrong clock."""
    return now(connection) + timedelta(seconds=LONGEST_TTL_S)


def release(connection: sa.Connection, tenant_id: uuid.UUID) -> dict[str, Any] | None:
    """End a claim for an operator who knows that its runner is gone; return what was held, or None.

    If the runner is still alive, it gets ClaimLostError.
    """
    found = held(connection, tenant_id)
    if found is not None:
        connection.execute(_let_go, {"of": tenant_id})
    return found


def take(
    catalog: Catalog,
    connection: sa.Connection,
    tenant_id: uuid.UUID,
    operation: str,
    ttl_s: float,
    *,
    first: bool = False,
    least: int = 1,
    user_id: int | None = None,
) -> Claim:
    """Claim a tenant inside the caller's write transaction, or raise ClaimedError.

    ``first``: this transaction inserted the tenant, so no earlier claim is looked for. ``least`` is the lowest attempt
    number to use. ``user_id`` is the tenant's owner, for the error's text.
    """
    wanted = _Wanted(operation, min(ttl_s, LONGEST_TTL_S), least, user_id)
    try:
        attempt, cut_off = _next_attempt(connection, tenant_id, wanted, first)
    except DBAPIError as error:
        if not catalog.is_conflict(error):
            raise
        raise _busy(tenant_id, wanted) from error
    return Claim(catalog, tenant_id, attempt, wanted.ttl_s, cut_off, operation)


@dataclass(frozen=True)
class _Wanted:
    """Describe the claim to take: operation, lifetime, lowest attempt number and the database's owner."""

    operation: str
    ttl_s: float
    least: int
    user_id: int | None = None


def take_many(
    catalog: Catalog, connection: sa.Connection, least: Mapping[uuid.UUID, int], operation: str, ttl_s: float
) -> list[Claim]:
    """Claim those of the tenants that nobody holds, in the caller's write transaction; the others are left out.

    ``least`` maps each tenant to its lowest attempt number. If another runner inserts the first claim on one of them
    at the same time, the transaction fails, and ``Catalog.repeating`` repeats it.
    """
    moment = now(connection)
    # Read without a lock first: for a missing row, MySQL's FOR UPDATE locks the gap, and with it neighbouring inserts.
    known = {row.tenant_id for row in connection.execute(_of_many, {"these": list(least)})}
    rows = connection.execute(_of_many.with_for_update(), {"these": list(known)}).all() if known else []
    free = [row for row in rows if not _holds(row.expires_at, moment)]
    attempts = {row.tenant_id: max(int(row.attempt) + 1, least[row.tenant_id]) for row in free}
    cut_off = {row.tenant_id for row in free if _was_cut_off(row)}
    held = {"operation": operation, "runner": runner(), "expires_at": moment + timedelta(seconds=ttl_s)}
    if attempts:
        taken = [held | {"of": row.tenant_id, "operation": _named(operation, row)} for row in free]
        connection.execute(_next, [row | {"attempt": attempts[row["of"]]} for row in taken])
    fresh = {of: number for of, number in least.items() if of not in known}
    if fresh:
        connection.execute(_first, [{"tenant_id": of, "attempt": number, **held} for of, number in fresh.items()])
    attempts |= fresh
    return [Claim(catalog, of, attempts[of], ttl_s, of in cut_off, operation) for of in least if of in attempts]


def release_many(
    connection: sa.Connection, ours: Collection[Claim], lapsed: Collection[uuid.UUID] = ()
) -> frozenset[uuid.UUID]:
    """Release those of the claims that are still held, and return their tenants.

    Claims on tenants in ``lapsed`` expire instead, as it is unknown what was done to them last (``Claim.lapse``).
    """
    rows = connection.execute(_of_many.with_for_update(), {"these": [claim.tenant_id for claim in ours]}).all()
    moment = now(connection)
    there = {row.tenant_id: row.attempt for row in rows if row.expires_at is not None and row.expires_at > moment}
    held = frozenset(claim.tenant_id for claim in ours if there.get(claim.tenant_id) == claim.attempt)
    for of, expires_at in ((held.difference(lapsed), None), (held.intersection(lapsed), moment)):
        if of:
            connection.execute(_expire_some, {"of": list(of), "expires_at": expires_at})
    return held


@contextmanager
def beating(catalog: Catalog, held: Sequence[Claim]) -> Iterator[None]:
    """Keep claims from expiring while the block runs: a thread renews them.

    It does not replace the check at each write: a claim may be lost all the same.
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
    """Claim tenants that the caller's transaction inserted, all in one statement."""
    until = now(connection) + timedelta(seconds=ttl_s)
    shared = {"operation": operation, "attempt": 1, "runner": runner(), "expires_at": until}
    if tenant_ids:
        connection.execute(_first, [{"tenant_id": tenant_id, **shared} for tenant_id in tenant_ids])
    return Claims(catalog, frozenset(tenant_ids), ttl_s)


def _next_attempt(connection: sa.Connection, tenant_id: uuid.UUID, wanted: _Wanted, first: bool) -> tuple[int, bool]:
    """Write the claim; return its number and whether the previous one was cut off.

    If two runners insert a tenant's first claim at once, the primary key refuses the second.
    """
    moment = now(connection)
    of = {"of": tenant_id}
    row = None
    # Read without a lock first: for a missing row, MySQL's FOR UPDATE locks the gap, and with it neighbouring inserts.
    if not first and connection.execute(_of_tenant, of).first():
        row = connection.execute(_of_tenant_locked, of).first()
    until = moment + timedelta(seconds=wanted.ttl_s)
    held = {"operation": wanted.operation, "runner": runner(), "expires_at": until}
    if row is None:
        connection.execute(_first, {"tenant_id": tenant_id, "attempt": wanted.least, **held})
        return wanted.least, False
    if _holds(row.expires_at, moment):
        raise _busy(tenant_id, wanted, row)
    attempt = max(int(row.attempt) + 1, wanted.least)
    held["operation"] = _named(wanted.operation, row)
    if connection.execute(_next_after, {**of, "seen": row.attempt, "attempt": attempt, **held}).rowcount != 1:
        raise _busy(tenant_id, wanted)  # only on a product whose FOR UPDATE locks nothing
    return attempt, _was_cut_off(row)


def _was_cut_off(row: Any) -> bool:
    return row.expires_at is not None and row.operation not in QUIET


def _named(operation: str, before: Any) -> str:
    """Return the operation to write: a quiet one leaves the name of one that was cut off, which is still to settle."""
    return str(before.operation) if operation in QUIET and _was_cut_off(before) else operation


def _holds(expires_at: datetime | None, moment: datetime) -> bool:
    """Return whether a claim is held; an expiry too far in the future was written by a clock that was ahead."""
    return expires_at is not None and moment < expires_at <= moment + timedelta(seconds=LONGEST_TTL_S)


def _busy(tenant_id: uuid.UUID, wanted: _Wanted, holder: Any = None) -> ClaimedError:
    """Build the error that names the operation; its runner is a field only, as users must not see names of machines."""
    operation = wanted.operation if holder is None else holder.operation
    lasts = "" if holder is None else f" until {holder.expires_at:%H:%M:%S} UTC at the latest"
    whose = "the shared database" if wanted.user_id is None else f"the database of user {wanted.user_id}"
    ends = ""
    if holder is not None and wanted.user_id is not None:
        ends = (
            f" If its process is gone: `unify db release {wanted.user_id}` or "
            f"`manager.release_claim({wanted.user_id})`."
        )
    return ClaimedError(
        f"{whose} is busy ({operation}){lasts}: wait until it ends and try again.{ends}",
        tenant_id=tenant_id,
        operation=operation,
        runner=None if holder is None else holder.runner,
    )


def runner() -> str:
    """Return this thread's host, process and thread id, for people to read."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_native_id()}"[:128]
