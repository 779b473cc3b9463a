"""Provision many users at once: files are written together, databases on servers one by one, a few at a time.

One catalog transaction records all tenants of a batch with their claims, and one makes them ready. What was cut off in
between is finished by ``Provisioner.provision``, or by initializing all again.
"""

from __future__ import annotations

import contextvars
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Attempt, Backend, DatabaseFields, Making, Whose
from tenancy.catalog import claims, tenants as tenant_rows, users as users_table
from tenancy.catalog.claims import Claims
from tenancy.errors import ClaimLostError, TenancyError
from tenancy.lifecycle.operation import Operation, told
from tenancy.lifecycle.placement import planned
from tenancy.lifecycle.provision import Provisioned, Provisioner
from tenancy.models import Origin, State, Tenant, User
from tenancy.types import new_id

log = logging.getLogger(__name__)

AT_ONCE = 4
"""The number of databases made on servers at a time."""


@dataclass(frozen=True)
class InitResult:
    """What became of one of several users whose databases were initialized."""

    user_id: int
    email: str
    ok: bool
    created: bool = False
    error: TenancyError | None = None


class Batch(Operation):
    """Initialize the databases of several users; one that fails is named, and the others go on."""

    def __init__(self, provisioner: Provisioner, one: Callable[[int], Provisioned]) -> None:
        super().__init__(provisioner.services)
        self._seeding = provisioner.seeding
        self._undo = provisioner.undo
        self._provision = one

    def initialize(self, users: Sequence[User]) -> Iterator[InitResult]:
        """Create or upgrade the database of each user; yield a result for each, in their order."""
        with self.catalog.reading() as connection:
            known = tenant_rows.of_users(connection, [user.id for user in users])
        fresh = [user for user in users if user.id not in known]
        backend = self.backends.get(self.services.default_type)
        done = {} if backend.on_server else self._together(fresh, backend)
        with ThreadPoolExecutor(AT_ONCE, "unify-initialize") as pool:
            waiting = {user.id: self._later(pool, user) for user in fresh if backend.on_server}
            try:
                for user in users:
                    later = waiting.get(user.id)
                    yield later.result() if later else done.get(user.id) or self.initialize_one(user)
            finally:
                pool.shutdown(cancel_futures=True)

    def initialize_one(self, user: User) -> InitResult:
        try:
            return InitResult(user.id, user.email, True, self._provision(user.id).created)
        except (TenancyError, OSError, sa.exc.SQLAlchemyError) as error:
            return _failure(user, error)

    def _later(self, pool: ThreadPoolExecutor, user: User) -> Future[InitResult]:
        """Run in a thread, in a copy of this context: the audit log names who acts."""
        return pool.submit(contextvars.copy_context().run, self.initialize_one, user)

    def _together(self, users: Sequence[User], backend: Backend) -> dict[int, InitResult]:
        """Create the databases of users that have none; return results by user id.

        A user who is left out got a database meanwhile, or is to be tried alone.
        """
        if not users:
            return {}
        try:
            self.step("record batch")
            tenants, held = self.catalog.repeating(lambda connection: self._recorded(connection, users, backend))
        except (TenancyError, sa.exc.SQLAlchemyError) as error:
            log.warning("no batch could be recorded, each is tried alone: %s", type(error).__name__)
            return {}
        by_id = {user.id: user for user in users}
        try:
            failed = self._made(tenants, held, backend) if tenants else {}
        except (TenancyError, OSError, sa.exc.SQLAlchemyError) as error:
            failed = {tenant.tenant_id: error for tenant in tenants}
        return {
            user.id: _failure(user, failed[tenant.tenant_id])
            if tenant.tenant_id in failed
            else InitResult(user.id, user.email, True, created=True)
            for tenant in tenants
            for user in (by_id[tenant.user_id or 0],)
        }

    def _recorded(
        self, connection: sa.Connection, users: Sequence[User], backend: Backend
    ) -> tuple[list[Tenant], Claims]:
        """Record where each database is about to be made, and claim them, in the caller's transaction."""
        ids = [user.id for user in users]
        # A user's later database begins above the epochs of the earlier ones: each of those is made alone.
        left_out = tenant_rows.of_users(connection, ids).keys() | users_table.with_earlier_databases(connection, ids)
        nothing_said: dict[str, Any] = {"fields": DatabaseFields(), "site": None, "origin": Origin.ADMIN}
        wanted = {
            user.id: planned(self.services, backend, Whose(user.id, new_id()), **nothing_said)
            for user in users
            if user.id not in left_out
        }
        tenants = tenant_rows.add_many(connection, wanted) if wanted else []
        new = [tenant.tenant_id for tenant in tenants]
        return tenants, claims.take_new(self.catalog, connection, new, "provision", self.services.claim_ttl_s)

    def _made(self, tenants: list[Tenant], held: Claims, backend: Backend) -> dict[uuid.UUID, Exception]:
        """Create what was recorded; return what went wrong, by tenant. The catalog records it too."""
        with self._told_of_all(tenants, held):
            failed = backend.create_many([self._making(tenant, held, backend) for tenant in tenants])
            self.step("ready batch")
            ready = self._ready([tenant for tenant in tenants if tenant.tenant_id not in failed], held)
        for tenant in tenants:
            claim = held.one(tenant.tenant_id)
            try:
                if tenant.tenant_id in failed:
                    error = failed[tenant.tenant_id]
                    self._failed(tenant, claim, State.FAILED, backend.explain(error) or error)
                elif tenant.tenant_id not in ready:
                    self._undo(tenant)
                    claim.lost()
            except ClaimLostError as lost:
                failed[tenant.tenant_id] = lost
        return failed

    def _making(self, tenant: Tenant, held: Claims, backend: Backend) -> Making:
        attempt = Attempt(held.attempt, self.step)
        return Making(tenant, self.services.access(tenant), self._seeding.blueprint(tenant, backend), attempt)

    def _ready(self, tenants: list[Tenant], held: Claims) -> frozenset[uuid.UUID]:
        """Make ready, in one transaction, the tenants whose claims still hold; return their ids."""
        with held.ending([tenant.tenant_id for tenant in tenants]) as (connection, mine):
            ready = [tenant for tenant in tenants if tenant.tenant_id in mine]
            if ready:
                tenant_rows.change_alike(connection, mine, **self._seeding.done())
                detail = {"type": ready[0].db_type, "revision": self.chain.head}
                of = [(tenant.user_id, tenant.tenant_id) for tenant in ready]
                self.catalog.audit.append_many(connection, "tenant.provision", of, detail=detail)
        return mine

    @contextmanager
    def _told_of_all(self, tenants: list[Tenant], held: Claims) -> Iterator[None]:
        """Record in the catalog what stops a whole batch, and end its claims."""
        try:
            yield
        except Exception as error:
            for tenant in tenants:
                self.services.on_error(tenant, error)
            what = f"making {len(tenants)} databases together failed"
            with told(what, error) as last, held.ending(held.tenant_ids) as (connection, mine):
                tenant_rows.change_alike(connection, mine, state=State.FAILED, **last)
                of = [(tenant.user_id, tenant.tenant_id) for tenant in tenants if tenant.tenant_id in mine]
                self.catalog.audit.failed(connection, "provision", error, of)
            raise


def _failure(user: User, error: Exception) -> InitResult:
    if not isinstance(error, TenancyError):
        log.error("user %s could not be initialized", user.id, exc_info=error)
        error = TenancyError(f"{type(error).__name__}: see the log.", user_id=user.id)
    return InitResult(user.id, user.email, False, error=error)
