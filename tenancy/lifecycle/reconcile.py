"""Reconcile databases with the catalog after an operation that was cut off and that nobody runs again.

A commit may reach a database although its runner was told that it failed, or was killed. The database then says
suspended or moving, under an epoch that the catalog does not know, and refuses every write. To reconcile a tenant is to
write into its database what the catalog says of it, once more, under a claim of its own.
"""

from __future__ import annotations

import logging
import time

from tenancy import context
from tenancy.catalog import Catalog, claims
from tenancy.deadline import REQUEST_S, within
from tenancy.errors import DatabaseUnreachableError, code_and_message
from tenancy.lifecycle.suspend_delete import Retirement
from tenancy.models import State

log = logging.getLogger(__name__)

AFTER = {State.READY: State.READY, State.SUSPENDED: State.SUSPENDED, State.MOVING: State.READY}
"""The state of a tenant after reconciliation; an interrupted exchange keeps the old database."""

MOST = 20
ROUND_S = 10.0
"""The most tenants reconciled per round, and the seconds after which none is begun."""

AGAIN_S, LONGEST_S = 60.0, 3600.0
"""A tenant that could not be reconciled waits, each time twice as long."""


class Reconciler:
    """Reconcile tenants in rounds; a process remembers in memory what it tried in vain."""

    def __init__(self, catalog: Catalog, retirement: Retirement) -> None:
        self._catalog = catalog
        self._retirement = retirement
        self._waits: dict[int, tuple[float, float]] = {}
        """For each user, when to try again, and how long the last wait was."""

    def round(self) -> list[int]:
        """Reconcile the tenants whose turn it is; return the users whose databases can be used again.

        Where a server did not answer for one of its databases, the other databases there wait as well.
        """
        with self._catalog.reading() as connection:
            found = claims.cut_off(connection, AFTER)
        self._waits = {user_id: wait for user_id, wait in self._waits.items() if user_id in found}
        began, away, settled = time.monotonic(), set[object](), []
        due = [user_id for user_id in found if self._waits.get(user_id, (0.0, 0.0))[0] <= began]
        with context.acting(context.HOUSEKEEPING):
            for user_id in due[:MOST]:
                state, server = found[user_id]
                if server in away or time.monotonic() - began > ROUND_S:
                    continue
                error = self._reconcile(user_id, state)
                if error is None:
                    settled.append(user_id)
                elif isinstance(error, DatabaseUnreachableError) and server is not None:
                    away.add(server)
        return settled

    def _reconcile(self, user_id: int, state: State) -> Exception | None:
        try:
            with within(REQUEST_S, at_last=True):
                self._retirement.set_state(user_id, state, AFTER[state])
        except Exception as error:  # noqa: BLE001 - a user's own database may raise anything; the others go on
            wait_s = min(LONGEST_S, max(AGAIN_S, 2 * self._waits.get(user_id, (0.0, 0.0))[1]))
            self._waits[user_id] = time.monotonic() + wait_s, wait_s
            log.warning("the database of user %s could not be settled: %s", user_id, code_and_message(error)[1])
            return error
        log.info("an operation on the database of user %s was cut off: it is %s", user_id, AFTER[state])
        return None
