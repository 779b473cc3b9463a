"""Migrate a tenant that is behind when it is first asked for, where the operator wants that (MIGRATE_ON_FIRST_TOUCH).

One at a time in a process, under the tenant's claim, and no request waits longer than a budget: what takes longer goes
on behind it, and the request is answered that the database will be there in a moment.
"""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context

from tenancy.backends.base import DatabaseFields
from tenancy.errors import TenancyError, TenantNotReadyError
from tenancy.models import Placement, State
from tenancy.provision import Provisioner

log = logging.getLogger(__name__)

BUDGET_S = 2.0
AGAIN_S = 1


class FirstTouch:
    """Bring tenants to head when they are asked for."""

    def __init__(self, provisioner: Provisioner, budget_s: float = BUDGET_S) -> None:
        self._provisioner = provisioner
        self._budget_s = budget_s
        self._one_at_a_time = threading.Lock()

    def bring(self, tenant: Placement) -> None:
        """Return once a tenant is migrated, or has failed and says why; TenantNotReadyError where it takes long."""
        if tenant.state is not State.READY or tenant.user_id is None:
            return
        if not self._one_at_a_time.acquire(blocking=False):
            raise _in_a_moment(tenant)
        done = threading.Event()

        def work() -> None:
            try:
                self._provisioner.provision(tenant.user_id or 0, DatabaseFields())
            except TenancyError as error:  # it stands in the catalog, and is told to whoever asks next
                log.warning("tenant %s was not migrated when it was touched: %s", tenant.tenant_id, error.message)
            finally:
                self._one_at_a_time.release()
                done.set()

        here = copy_context()
        threading.Thread(target=lambda: here.run(work), name="unify-first-touch", daemon=True).start()
        if not done.wait(self._budget_s):
            raise _in_a_moment(tenant)


def _in_a_moment(tenant: Placement) -> TenantNotReadyError:
    return TenantNotReadyError(
        "your database is being brought up to date: it will be there in a moment.",
        state=str(State.MIGRATING),
        user_id=tenant.user_id,
        tenant_id=tenant.tenant_id,
        retry_after_s=AGAIN_S,
    )
