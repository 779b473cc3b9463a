"""Migrate a tenant that is behind when it is first asked for, where the operator wants that (MIGRATE_ON_FIRST_TOUCH).

A process migrates one tenant at a time, under the tenant's claim. No request waits longer than a budget: a migration
that takes longer goes on in its thread, and the request is told to come back in a moment. A database that is locked or
cannot be reached stays as it was and is tried again after a pause, not by every request.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from contextvars import copy_context

from tenancy.backends.base import DatabaseFields
from tenancy.deadline import lifted
from tenancy.errors import TenancyError, TenantNotReadyError
from tenancy.lifecycle.provision import Provisioner
from tenancy.models import State, Tenant

log = logging.getLogger(__name__)

BUDGET_S = 2.0
AGAIN_S = 1
PAUSE_S = 5.0
"""How long to wait before trying a locked or unreachable database again."""


class UpgradeOnFirstUse:
    """Bring tenants to head when they are asked for."""

    def __init__(self, provisioner: Provisioner, budget_s: float = BUDGET_S) -> None:
        self._provisioner = provisioner
        self._budget_s = budget_s
        self._one_at_a_time = threading.Lock()
        self._put_off: dict[uuid.UUID, tuple[float, TenancyError]] = {}

    def upgrade(self, tenant: Tenant) -> None:
        """Return once a tenant is migrated, or raise what its migration failed with.

        TenantNotReadyError where it takes long; the error of the database where that may pass by itself.
        """
        if tenant.state is not State.READY or tenant.user_id is None:
            return
        self._refuse_too_soon(tenant)
        if not self._one_at_a_time.acquire(blocking=False):
            raise _in_a_moment(tenant)
        done = threading.Event()
        here = copy_context()
        worker = threading.Thread(
            target=lambda: here.run(self._work, tenant, done), name="unify-first-touch", daemon=True
        )
        try:
            worker.start()
        except BaseException:
            self._one_at_a_time.release()
            raise
        if not done.wait(self._budget_s):
            raise _in_a_moment(tenant)
        self._refuse_too_soon(tenant)

    def _work(self, tenant: Tenant, done: threading.Event) -> None:
        """Migrate a tenant in a thread of its own.

        A failure is recorded in the catalog, and raised to whoever asks next.
        """
        try:
            with lifted():  # the request that asked for it does not wait so long
                self._provisioner.provision(tenant.user_id or 0, DatabaseFields())
        except TenancyError as error:
            log.warning("tenant %s was not migrated when it was touched: %s", tenant.tenant_id, error.message)
            if error.retryable:
                self._put_off[tenant.tenant_id] = (time.monotonic() + PAUSE_S, error)
        except Exception:  # told with its traceback; nobody waits for this thread's own error
            log.exception("tenant %s was not migrated when it was touched", tenant.tenant_id)
        finally:
            self._one_at_a_time.release()
            done.set()

    def _refuse_too_soon(self, tenant: Tenant) -> None:
        """Raise again the error of an attempt a moment ago."""
        ends, error = self._put_off.get(tenant.tenant_id, (0.0, None))
        if error is None:
            return
        if time.monotonic() < ends:
            raise type(error)(error.message, **error.fields | {"retry_after_s": PAUSE_S})
        self._put_off.pop(tenant.tenant_id, None)


def _in_a_moment(tenant: Tenant) -> TenantNotReadyError:
    return TenantNotReadyError(
        "your database is being brought up to date: it will be there in a moment.",
        state=str(State.MIGRATING),
        user_id=tenant.user_id,
        tenant_id=tenant.tenant_id,
        retry_after_s=AGAIN_S,
    )
