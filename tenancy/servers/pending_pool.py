"""Keep databases ready on servers, so that a new user's database is taken from a pool and not created first.

They are created like any tenant's, with an identity row that has no owner yet; ``Provisioner`` hands them over.
Databases that are behind the code, half made or too many are retired: marked, dropped, and their row deleted, in this
order. One process at a time fills a server's pool, under a claim; if it is killed, the next one cleans up after it.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from tenancy import context
from tenancy.backends.base import Attempt, Whose
from tenancy.backends.server.backend import fresh_password
from tenancy.catalog import claims, pending, servers
from tenancy.catalog.claims import Claim
from tenancy.errors import ClaimedError, ClaimLostError, TenancyError, code_and_message
from tenancy.forks import after_fork
from tenancy.lifecycle.operation import Operation, Services, told
from tenancy.lifecycle.seed import Seeding
from tenancy.models import Pending, Server, ServerState, State
from tenancy.routing.guards import explained
from tenancy.types import new_id
from tenancy.upkeep import Upkeep

log = logging.getLogger(__name__)

LOOK_EVERY_TICKS = 6
"""The pools are looked at on every n-th tick of the housekeeping."""

_CLAIMS = uuid.UUID("5d0f3f3e-6f0c-5c1b-9d0a-1f3d8f0a7b11")
_CLOSING_S = 10.0


@dataclass(frozen=True)
class Filled:
    """Describe a server's pool after filling; ``busy`` if another process was filling it."""

    name: str
    wanted: int
    ready: int
    made: int = 0
    retired: int = 0
    busy: bool = False
    code: str | None = None
    error: str | None = None


class PendingPool(Operation):
    """Keep ``size`` databases ready on every accepting server."""

    def __init__(self, services: Services, size: int) -> None:
        super().__init__(services)
        self._seeding = Seeding(services)
        self.size = size
        self._reset()
        after_fork(self._reset)

    # --- filling ----------------------------------------------------------------------------------------

    def fill(self, name: str | None = None) -> list[dict[str, Any]]:
        """Fill the pool of one server, or of all, now; return the state of each pool, with the error if one failed."""
        with self.catalog.reading() as connection:
            found = servers.every(connection) if name is None else [servers.by_name(connection, name)]
        return [asdict(self._filled(server, self.size)) for server in found]

    def empty(self, server: Server) -> None:
        """Retire all pending databases of a server that is about to be removed, or raise an error."""
        try:
            with self._claimed(server) as claim:
                for found in self._there(server):
                    self._retire(found, claim)
        except ClaimedError as error:
            raise ClaimedError(
                f"databases are being made ready on server {server.name!r}: wait until that ends and try again.",
                operation="fill",
            ) from error

    def _filled(self, server: Server, size: int) -> Filled:
        wanted = size if server.state is ServerState.ACCEPTING else 0
        made = retired = 0
        busy, problem = False, {}
        try:
            with self._claimed(server) as claim:
                made, retired = self._work(server, claim, wanted)
        except ClaimedError:
            busy = True
        except Exception as error:  # noqa: BLE001 - reported; the other servers' pools must be filled
            code, message = code_and_message(error)
            problem = {"code": code, "error": message}
            log.warning("the pool of server %r is not full: %s", server.name, message)
        ready = sum(map(self._is_ready, self._there(server)))
        return Filled(server.name, wanted, ready, made, retired, busy, **problem)

    @contextmanager
    def _claimed(self, server: Server) -> Iterator[Claim]:
        """Claim the pool of a server, or raise ClaimedError."""
        with self.catalog.writing() as connection:
            key = uuid.uuid5(_CLAIMS, str(server.id))
            claim = claims.take(self.catalog, connection, key, "fill", self.services.claim_ttl_s)
        try:
            yield claim
        finally:
            try:
                with claim.ending():
                    pass
            except ClaimLostError:
                log.warning("another process took over the pool of server %r", server.name)

    def _work(self, server: Server, claim: Claim, wanted: int) -> tuple[int, int]:
        """Retire useless databases, then create missing ones; return the numbers made and retired."""
        there = self._there(server)
        good = [each for each in there if self._is_ready(each)]
        useless = [each for each in there if self._is_useless(each)] + good[wanted:]
        retired = sum(self._retire(each, claim) for each in useless)
        made = 0
        while len(good) + made < wanted and not self.upkeep.stopped.is_set() and self._make(server, claim):
            made += 1
        return made, retired

    def _there(self, server: Server) -> list[Pending]:
        with self.catalog.reading() as connection:
            return pending.of_server(connection, server.id)

    def _is_ready(self, found: Pending) -> bool:
        return found.state is State.READY and found.schema_fingerprint == self.chain.fingerprint

    def _is_useless(self, found: Pending) -> bool:
        """Return whether one is half made, failed or behind; those of a newer version of the code are left alone."""
        if found.state is not State.READY:
            return True
        return not self._is_ready(found) and self.chain.knows(found.revision or "")

    # --- one database -----------------------------------------------------------------------------------

    def _make(self, server: Server, claim: Claim) -> bool:
        """Create one more database; return False if the server had no room for it."""
        self.step("record pending")
        with claim.writing() as connection:
            here = servers.hold(connection, server.id)
            if here.state is not ServerState.ACCEPTING or not here.has_room:
                return False
            found = pending.add(connection, self._planned(here))
        try:
            self._build(found)
            self.step("pending ready")
            with claim.writing() as connection:
                done = {"state": State.READY, "revision": self.chain.head}
                pending.change(connection, found, **done, schema_fingerprint=self.chain.fingerprint)
        except ClaimLostError:
            self._drop_own(found)
            raise
        except Exception as error:
            self._failed_to_make(found, claim, error)
            raise
        return True

    def _build(self, found: Pending) -> None:
        backend = self.backends.get(found.db_type)
        attempt = Attempt(1, self.step)
        with explained(backend):
            backend.create(found, self.services.access(found), self._seeding.blueprint(found, backend), attempt)

    def _planned(self, server: Server) -> dict[str, Any]:
        """Return the columns of a database that is about to be created, with its sealed password."""
        self.services.server_login(server)  # verifies the seal: an edited row must not redirect a password
        tenant_id = new_id()
        place = self.backends.get(server.db_type).plan(Whose(None, tenant_id), {}, server) | {"tenant_id": tenant_id}
        binding = Pending(user_id=None, state=State.PROVISIONING, version=1, epoch=1, **place).binding
        return place | {"db_password": self.services.keyring.seal(fresh_password(), binding)}

    def _drop_own(self, found: Pending) -> None:
        """Drop a database that was created after the claim was lost; nobody else knows of it."""
        try:
            self._drop(found)
        except TenancyError as error:
            log.error("pending database %s could not be removed again: %s", found.db_name, error.message)

    def _drop(self, found: Pending) -> None:
        backend = self.backends.get(found.db_type)
        with explained(backend):
            backend.drop(found, self.services.access(found))

    def _failed_to_make(self, found: Pending, claim: Claim, error: Exception) -> None:
        """Record a failure; the row stays until the remains of its database were dropped."""
        what = f"pending database {found.db_name} could not be made"
        try:
            with told(what, error) as last, claim.writing() as connection:
                pending.change(connection, found, state=State.FAILED, **last)
        except ClaimLostError:
            self._drop_own(found)

    def _retire(self, found: Pending, claim: Claim) -> bool:
        """Drop a database, unless a user took it meanwhile; first it is marked as archived, so nobody can take it."""
        self.step("retire")
        with claim.writing() as connection:
            servers.hold(connection, found.server_id or 0)
            if not pending.change(connection, found, state=State.ARCHIVED):
                return False
        self.step("drop pending")
        self._drop(found)
        self.step("forget pending")
        with claim.writing() as connection:
            pending.remove(connection, found.tenant_id)
        return True

    # --- in the background ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Wake the pools' thread on every LOOK_EVERY_TICKS-th call; called by the housekeeping."""
        if self.size == 0:
            return
        self.upkeep.ensure()
        if self._ticks % LOOK_EVERY_TICKS == 0:
            self._wake.set()
        self._ticks += 1

    def wake(self) -> None:
        """Wake the pools' thread, because a user took a database or found none."""
        self._wake.set()

    def close(self) -> None:
        """Stop the thread after the database that it is creating."""
        self.upkeep.stopped.set()
        self._wake.set()
        self.upkeep.stop(_CLOSING_S)

    def _reset(self) -> None:
        self._ticks = 0
        self._wake = threading.Event()
        self.upkeep = Upkeep("unify-pool", self._run)

    def _run(self) -> None:
        upkeep = self.upkeep
        while self._wake.wait() and not upkeep.stopped.is_set():
            self._wake.clear()
            try:
                with context.acting(context.HOUSEKEEPING):
                    self.fill()
            except Exception:  # the thread must go on; the error is in the log
                log.exception("the pools could not be filled")
