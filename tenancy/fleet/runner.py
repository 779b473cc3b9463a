"""Work on a fleet run: take a batch of tenants, migrate each, record the outcomes, until nothing is left.

Any number of processes may work on one run, and any of them may be killed. Each tenant is claimed in the transaction
that marks it as begun. The claims of a killed runner expire, and another runner takes its tenants, one at a time.
Batches are small, so that no tenant is closed to writes for more than a moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from tenancy import context
from tenancy.backends.base import Backend
from tenancy.catalog import claims, runs, tenants as tenant_rows, users
from tenancy.catalog.claims import Claim
from tenancy.catalog.runs import ItemState, Place, RunRow, RunState
from tenancy.errors import (
    DatabaseUnreachableError,
    IdentityError,
    MigrationError,
    TenancyError,
    TooManyConnectionsError,
)
from tenancy.fleet.restore_points import RestorePoints
from tenancy.fleet.runs import ROLLBACK, close_run
from tenancy.lifecycle.operation import Operation, Services
from tenancy.lifecycle.upgrade import Reached, Upgrade
from tenancy.models import State, Tenant
from tenancy.routing.guards import explained

log = logging.getLogger(__name__)

BATCH_S = 0.15
MOST_AT_ONCE = 32
"""The largest batch: taking it and recording it each hold the run's lock for a few milliseconds."""
LOST_TOO_OFTEN = 3
PER_SERVER = 4
CLAIM_TTL_S = 15.0
"""Lifetime of claims, which are renewed during the work; after a kill others wait this long for a tenant."""
_LOOK_AGAIN_S = 0.1

TOO_LONG = "took_too_long"
"""The error code of a tenant whose runner was killed because it took too long over it."""


@dataclass(frozen=True)
class Job:
    """Hold one tenant to migrate, and its claim."""

    run: RunRow
    item: dict[str, Any]
    tenant: Tenant
    claim: Claim
    kept: list[bool] = field(default_factory=list)
    """Whether a restore point was created; empty until that is known."""


@dataclass(frozen=True)
class Outcome:
    """Describe what became of a tenant; ``reached`` is None if the state of its database is unknown."""

    job: Job
    state: ItemState
    took_ms: int
    reached: Reached | None = None
    error: TenancyError | None = None
    kept: bool = False

    @property
    def server_is_away(self) -> bool:
        """Return whether every other database on this server would fail in the same way."""
        away = isinstance(self.error, DatabaseUnreachableError | TooManyConnectionsError)
        return away and self.state is ItemState.OFFLINE and self.job.item["server_id"] is not None


class Runner(Operation):
    """Work on fleet runs in one process."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._places: dict[int, dict[Place, int]] = {}

    def work(self, run_id: int, *, alive: Callable[[], bool] = lambda: True, per_server: int = PER_SERVER) -> None:
        """Work until the run ends, is paused or halts, or ``alive`` returns False."""
        with context.acting(context.FLEET, f"run-{run_id}"):
            self._work(run_id, alive, per_server)

    def _work(self, run_id: int, alive: Callable[[], bool], per_server: int) -> None:
        with self.catalog.reading() as connection:
            self._places_of(connection, run_id)
        size = 1
        nothing_comes = threading.Event()
        while alive():
            jobs = self.catalog.repeating(partial(self._take, run_id=run_id, size=size, per_server=per_server))
            if jobs is None:
                return
            if not jobs:  # other runners have what is left, or their claims must expire
                nothing_comes.wait(_LOOK_AGAIN_S)
                continue
            started = time.perf_counter()
            with claims.beating(self.catalog, [job.claim for job in jobs]):
                outcomes = self._migrate_all(jobs)
            self.catalog.repeating(partial(self._record, run_id=run_id, outcomes=outcomes))
            each_s = (time.perf_counter() - started) / len(jobs)
            size = max(1, min(MOST_AT_ONCE, size * 2, round(BATCH_S / each_s)))

    # --- taking -----------------------------------------------------------------------------------------

    def _take(self, connection: sa.Connection, run_id: int, size: int, per_server: int) -> list[Job] | None:
        """Claim and mark some tenants of one place; [] if others hold all that is left, None if the run is over."""
        run = runs.get(connection, run_id, lock=True)
        if run.state is not RunState.RUNNING:
            return None
        lowest = runs.lowest_waves(connection, run_id)
        wave = runs.current_wave(lowest)
        if wave is None:
            close_run(connection, run_id, lowest)
            return None
        rows = self._available(connection, run_id, wave, size, per_server)
        tenants = tenant_rows.of_users(connection, [row["user_id"] for row in rows])
        reasons = {row["user_id"]: self._reason_to_skip(run, row, tenants.get(row["user_id"])) for row in rows}
        _skip(connection, run_id, {user_id: reason for user_id, reason in reasons.items() if reason})
        there = [row for row in rows if self._is_at_target(row, tenants.get(row["user_id"]))]
        _mark_done(connection, run_id, there)
        rows = [row for row in rows if row not in there and not reasons[row["user_id"]]]
        if not rows:
            return []
        above = {row["tenant_id"]: tenants[row["user_id"]].epoch + 1 for row in rows}
        ttl_s = min(CLAIM_TTL_S, self.services.claim_ttl_s)
        held = {c.tenant_id: c for c in claims.take_many(self.catalog, connection, above, "fleet", ttl_s)}
        for row in rows:  # as ``Operation.claim`` does
            if row["tenant_id"] in held and held[row["tenant_id"]].interrupted:
                users.keep_database_epoch(connection, row["user_id"], held[row["tenant_id"]].epoch)
        jobs = [
            Job(run, row, tenants[row["user_id"]], held[row["tenant_id"]]) for row in rows if row["tenant_id"] in held
        ]
        self._mark(connection, run_id, jobs)
        return jobs

    def _available(
        self, connection: sa.Connection, run_id: int, wave: int, size: int, per_server: int
    ) -> list[dict[str, Any]]:
        """List rows to take, from the place with the fewest runners; of equal places from that with most tenants."""
        busy = runs.at_work(connection, run_id)
        places = self._places_of(connection, run_id)
        for place in sorted(places, key=lambda place: busy.get(place, 0)):
            on_server = place[1] is not None
            most = 0 if on_server and busy.get(place, 0) >= per_server else size
            rows = runs.available(connection, run_id, wave, place, limit=most, at_work=place in busy)
            if rows:
                return rows
        return []

    def _places_of(self, connection: sa.Connection, run_id: int) -> dict[Place, int]:
        """Count a run's tenants by place; read once, as rows are only added when a run is made."""
        if run_id not in self._places:
            self._places[run_id] = runs.places(connection, run_id)
        return self._places[run_id]

    def _reason_to_skip(self, run: RunRow, row: dict[str, Any], tenant: Tenant | None) -> str | None:
        """Return why a tenant must not be touched, or None."""
        if tenant is None or tenant.tenant_id != row["tenant_id"]:
            return "its database was deleted since"
        if tenant.state not in runs.WORKABLE or not tenant.is_active:
            return f"it is {tenant.state}"
        if run.kind == ROLLBACK and not row["tries"] and tenant.revision != row["from_revision"]:
            return f"it is at revision {tenant.revision} by now"
        return None

    def _is_at_target(self, row: dict[str, Any], tenant: Tenant | None) -> bool:
        """Return whether a tenant is already where the run wants it."""
        wanted = (row["tenant_id"], State.READY, row["to_revision"], self.chain.fingerprints[row["to_revision"]])
        found = tenant and (tenant.tenant_id, tenant.state, tenant.revision, tenant.schema_fingerprint)
        return found == wanted

    def _mark(self, connection: sa.Connection, run_id: int, jobs: list[Job]) -> None:
        resting: dict[State, list[int]] = {}
        for job in jobs:
            resting.setdefault(_state_after_failure(job.tenant.state), []).append(job.item["user_id"])
        for before, ids in resting.items():
            runs.begin_items(connection, run_id, ids, runner=claims.runner(), before=before)
        tenant_rows.change_alike(connection, [job.tenant.tenant_id for job in jobs], state=State.MIGRATING)

    # --- doing ------------------------------------------------------------------------------------------

    def _migrate_all(self, jobs: list[Job]) -> list[Outcome]:
        """Migrate one tenant after another; once a server does not answer, the rest on it are not tried."""
        outcomes: list[Outcome] = []
        silent: Outcome | None = None
        for job in jobs:
            if silent is not None:
                outcomes.append(Outcome(job, silent.state, 0, None, silent.error))
                continue
            outcomes.append(self._outcome_of(job))
            if outcomes[-1].server_is_away:
                silent = outcomes[-1]
        return outcomes

    def _outcome_of(self, job: Job) -> Outcome:
        started = time.perf_counter()
        reached: Reached | None = None
        problem: TenancyError | None = None
        try:
            backend = self.services.backend(job.tenant)
            with explained(backend):
                reached = self._migrate(job, backend)
        except TenancyError as error:
            problem, reached = error, error.fields.pop("reached", None)  # type: ignore[assignment]  # set by migrate_to
        except Exception as error:
            log.exception("tenant %s of user %s could not be migrated", job.tenant.tenant_id, job.tenant.user_id)
            problem = MigrationError(f"{type(error).__name__}: see the log.")
        took_ms = round((time.perf_counter() - started) * 1000)
        return Outcome(job, self._verdict(job, problem), took_ms, reached, problem, any(job.kept))

    def _migrate(self, job: Job, backend: Backend) -> Reached:
        """Migrate a tenant, but fail without trying if several runners died over it or it took too long."""
        upgrade, item = Upgrade(self.services), job.item
        late = item["error_code"] == TOO_LONG
        if not late and item["tries"] < LOST_TOO_OFTEN:
            return self._migrate_or_restore(job, backend)
        reached: Reached | None = None
        try:
            reached = upgrade.reopen(job.tenant, job.claim, backend)
        except IdentityError:
            if job.run.reverts is None or not item["restore_point"]:  # half restored, it stays closed
                raise
        why = "it took too long and was ended" if late else f"its runner was lost {item['tries']} times over it"
        raise MigrationError(f"{why}: what it runs into is in the database, or in the revision.", reached=reached)

    def _migrate_or_restore(self, job: Job, backend: Backend) -> Reached:
        """Migrate a tenant, after creating a restore point if one is wanted, or restore the one it has."""
        points, run, item = RestorePoints(self.services), job.run, job.item
        held = (job.tenant, job.claim, backend)
        if run.reverts is not None and item["restore_point"]:
            return points.restore(*held, item, run.reverts)
        wanted = run.reverts is None and points.wanted(run.rules, item["from_revision"], item["to_revision"])
        if wanted:
            job.kept.append(points.create(*held, item))
        return Upgrade(self.services).migrate_to(*held, item["to_revision"], closed=wanted)

    def _verdict(self, job: Job, problem: TenancyError | None) -> ItemState:
        if problem is None:
            return ItemState.DONE
        lasting = isinstance(problem, DatabaseUnreachableError) and not self.backends.on_server(job.tenant.db_type)
        return ItemState.OFFLINE if problem.retryable and not lasting else ItemState.FAILED

    # --- recording --------------------------------------------------------------------------------------

    def _record(self, connection: sa.Connection, run_id: int, outcomes: list[Outcome]) -> None:
        """Write the outcomes of tenants whose claims are still held; others were taken over, and are recorded there."""
        run = runs.get(connection, run_id, lock=True)
        unknown = [o.job.tenant.tenant_id for o in outcomes if o.error is not None and o.reached is None]
        held = claims.release_many(connection, [outcome.job.claim for outcome in outcomes], lapsed=unknown)
        kept = [outcome for outcome in outcomes if outcome.job.tenant.tenant_id in held]
        for lost in {outcome.job.tenant.tenant_id for outcome in outcomes} - held:
            log.warning("tenant %s: another runner took over", lost)
        runs.change_items(connection, run_id, [_item_changes(outcome) for outcome in kept])
        tenant_rows.change_grouped(connection, [self._tenant_changes(outcome) for outcome in kept])
        if run.kind == ROLLBACK and run.reverts is not None:
            undone = [{"user_id": o.job.item["user_id"], "state": ItemState.UNDONE} for o in kept if o.error is None]
            runs.change_items(connection, run.reverts, undone)
        self._report(connection, run, kept)
        failed = [outcome for outcome in kept if outcome.state is ItemState.FAILED]
        if failed and run.state is RunState.RUNNING:
            self._halt(connection, run, any(outcome.job.item["wave"] == 0 for outcome in failed))

    def _tenant_changes(self, outcome: Outcome) -> dict[str, Any]:
        """Return the new columns of a tenant; a failed one is as usable as before."""
        tenant, reached, error = outcome.job.tenant, outcome.reached, outcome.error
        before = outcome.job.item["before_state"] or _state_after_failure(tenant.state)
        revision = reached.revision if reached else tenant.revision
        moved = reached is not None and (error is None or revision != tenant.revision)
        fingerprint = self.chain.fingerprints.get(revision or "") if moved else tenant.schema_fingerprint
        return {
            "tenant_id": tenant.tenant_id,
            "state": State.READY if error is None else before,
            "revision": revision,
            "schema_fingerprint": None
            if error is not None and revision == outcome.job.item["to_revision"]
            else fingerprint,
            "usable_from": self.chain.usable_from(revision) if reached else tenant.usable_from,
            "epoch": reached.epoch if reached else tenant.epoch,
            "version": tenant.version + (reached is not None and reached.epoch != tenant.epoch),
            "last_error": error and error.message,
            "last_error_code": error and error.code,
        }

    def _report(self, connection: sa.Connection, run: RunRow, outcomes: list[Outcome]) -> None:
        """Write the audit log and collect errors; what waits on an unreachable server is marked as offline."""
        for outcome in outcomes:
            if outcome.error is None:
                continue
            self.services.on_error(outcome.job.tenant, outcome.error)
            if outcome.server_is_away:
                server = outcome.job.item["server_id"]
                runs.leave_offline(connection, run.id, server, outcome.error.message, outcome.error.code)
            whose = [(outcome.job.tenant.user_id, outcome.job.tenant.tenant_id)]
            self.catalog.audit.failed(connection, run.kind, outcome.error, whose, run=run.id)
        action = "tenant.downgrade" if run.kind == ROLLBACK else "tenant.upgrade"
        for revision in sorted({o.job.item["to_revision"] for o in outcomes if o.error is None}):
            done = [o.job.tenant for o in outcomes if o.error is None and o.job.item["to_revision"] == revision]
            of = [(tenant.user_id, tenant.tenant_id) for tenant in done]
            self.catalog.audit.append_many(connection, action, of, detail={"revision": revision, "run": run.id})

    def _halt(self, connection: sa.Connection, run: RunRow, first_failed: bool) -> None:
        """Halt a run if a canary failed, or more tenants than its rules allow."""
        canary = bool(run.rules.canary) and first_failed
        failed = runs.failures(connection, run.id)
        total = sum(self._places_of(connection, run.id).values())
        if canary or run.rules.too_many(failed, total):
            why = "a canary failed" if canary else f"{failed} of {total} tenants failed"
            runs.change(connection, run.id, RunState.HALTED, why)


def _skip(connection: sa.Connection, run_id: int, reasons: dict[int, str]) -> None:
    skipped = {"state": ItemState.SKIPPED, "ended_at": datetime.now(UTC), "error_code": "tenant_not_ready"}
    rows = [{"user_id": user_id, "error": reason} | skipped for user_id, reason in reasons.items()]
    runs.change_items(connection, run_id, rows)


def _mark_done(connection: sa.Connection, run_id: int, rows: list[dict[str, Any]]) -> None:
    """Mark tenants as done that need nothing; equal revisions make a rollback leave them out."""
    done = {"state": ItemState.DONE, "ended_at": datetime.now(UTC), "duration_ms": 0}
    changes = [{"user_id": row["user_id"], "from_revision": row["to_revision"]} | done for row in rows]
    runs.change_items(connection, run_id, changes)


def _item_changes(outcome: Outcome) -> dict[str, Any]:
    return {
        "user_id": outcome.job.item["user_id"],
        "state": outcome.state,
        "ended_at": datetime.now(UTC),
        "duration_ms": outcome.took_ms,
        "restore_point": outcome.kept or outcome.job.item["restore_point"],
        "error": outcome.error and outcome.error.message,
        "error_code": outcome.error and outcome.error.code,
    }


def _state_after_failure(state: State) -> State:
    """Return the state that a tenant has after a failure; one found in ``migrating`` was ready before."""
    return State.READY if state is State.MIGRATING else state
