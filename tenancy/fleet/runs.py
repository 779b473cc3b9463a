"""Start, pause, resume, cancel and roll back fleet runs; this changes rows of the catalog only.

There is one unfinished run at most. Asking for the same run again joins it; asking for another one is refused. The work
itself is done by ``runner.py``, in any number of processes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import runs
from tenancy.catalog.runs import ItemState, Rules, Run, RunRow, RunState, Selection
from tenancy.catalog.tables import user_database_configs as table
from tenancy.errors import ConfigurationError, RunStateError
from tenancy.lifecycle.operation import Operation

MIGRATE, ROLLBACK = "migrate", "rollback"


class Runs(Operation):
    """Control fleet runs."""

    def start(self, selection: Selection, rules: Rules, target: str | None = None) -> Run:
        """Start a run that migrates tenants forward to a revision (by default head), or join an equal one."""
        target = self.target(target)
        if rules.snapshot and rules.bare:
            raise ConfigurationError(
                "choose either a restore point of each database or none, not both.", field="snapshot"
            )

        def work(connection: sa.Connection) -> Run:
            known = self._unfinished(connection)
            if known is not None:
                joined = _check_joinable(known, MIGRATE, target=target, selection=selection.written())
                return runs.counted(connection, joined.id)
            found = self._counted(connection, selection, target)
            already = found["all"] - found["wanted"]
            run_id = runs.add(connection, MIGRATE, selection.written(), rules, target=target, already=already)
            wanted, bounds = self.wanting(selection, target), rules.bounds(found["wanted"])
            if found["wanted"]:
                runs.add_items(connection, run_id, wanted, sa.literal(target), bounds)
            return self._announced(connection, run_id, {"target": target})

        return self.catalog.repeating(work)

    def plan(self, selection: Selection, target: str | None = None) -> dict[str, Any]:
        """Return what a run would do to each tenant, without starting one.

        ``{"target", "already", "tenants": [{user_id, db_type, state, from, revisions}], "estimate_s"}``. The estimate
        is for one tenant after another, from the durations of earlier runs; None without any.
        """
        target = self.target(target)
        columns = (table.c.user_id, table.c.db_type, table.c.state, table.c.revision)
        with self.catalog.reading() as connection:
            found = self._counted(connection, selection, target)
            wanted = sa.select(*columns).where(*self.wanting(selection, target)).order_by(table.c.user_id)
            rows = connection.execute(wanted).all()
            pace = runs.pace(connection)
        known = all(row.db_type in pace for row in rows)
        return {
            "target": target,
            "already": found["all"] - found["wanted"],
            "tenants": [
                {
                    "user_id": row.user_id,
                    "db_type": row.db_type,
                    "state": row.state,
                    "from": row.revision,
                    "revisions": self.chain.between(row.revision, target) if self.chain.knows(row.revision) else [],
                }
                for row in rows
            ],
            "estimate_s": round(sum(pace[row.db_type] for row in rows) / 1000, 3) if known else None,
        }

    def rollback(self, run_id: int) -> Run:
        """Start a run that undoes exactly what another one did, tenant by tenant, or join an equal one."""

        def work(connection: sa.Connection) -> Run:
            known = self._unfinished(connection)
            if known is not None:
                return runs.counted(connection, _check_joinable(known, ROLLBACK, reverts=run_id).id)
            undone = runs.get(connection, run_id)
            if undone.kind != MIGRATE:
                again = "`unify fleet migrate` or `manager.fleet.start()` brings databases to head again"
                raise RunStateError(f"run {run_id} is itself a rollback: {again}.", run_id=run_id)
            fresh = runs.add(connection, ROLLBACK, undone.selection, Rules(), target=undone.target, reverts=run_id)
            runs.add_reverse_items(connection, fresh, run_id)
            return self._announced(connection, fresh, {"reverts": run_id})

        return self.catalog.repeating(work)

    def pause(self, run_id: int) -> Run:
        """Pause a run: runners finish what they have begun and take no more."""
        return self._change_state(run_id, [RunState.RUNNING], RunState.PAUSED, "fleet.pause")

    def resume(self, run_id: int, *, failed_only: bool = False) -> Run:
        """Continue a run with all tenants that it has not migrated or, with ``failed_only``, those that failed."""

        def before(connection: sa.Connection) -> None:
            if failed_only:
                runs.turn(connection, run_id, [ItemState.WAITING], ItemState.CANCELLED)
            left = [ItemState.FAILED] if failed_only else [*runs.LEFT, ItemState.CANCELLED]
            runs.turn(connection, run_id, left, ItemState.WAITING)

        return self._change_state(run_id, list(RunState), RunState.RUNNING, "fleet.resume", before)

    def cancel(self, run_id: int) -> Run:
        """Cancel waiting tenants; runners finish what they have begun."""

        def before(connection: sa.Connection) -> None:
            runs.turn(connection, run_id, [ItemState.WAITING], ItemState.CANCELLED)

        return self._change_state(run_id, list(runs.UNFINISHED), RunState.RUNNING, "fleet.cancel", before)

    def get(self, run_id: int) -> Run:
        with self.catalog.reading() as connection:
            return runs.counted(connection, run_id)

    def recent(self, limit: int = 20, before: int | None = None) -> list[Run]:
        with self.catalog.reading() as connection:
            return runs.recent(connection, limit, before)

    def items(
        self, run_id: int, *, states: Sequence[str] = (), after: int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """List what a run did to each tenant, by user id."""
        with self.catalog.reading() as connection:
            runs.get(connection, run_id)
            return runs.items(connection, run_id, states=states, after=after, limit=limit)

    def target(self, revision: str | None) -> str:
        """Return the revision, head for None, or refuse an unknown one."""
        if revision is None:
            return self.chain.head
        if not self.chain.knows(revision):
            raise ConfigurationError(f"there is no revision {revision[:64]!r} in this application.", field="to")
        return revision

    def wanting(self, selection: Selection, target: str) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for selected tenants that are neither at a revision nor past it, by the catalog."""
        order = list(self.chain.checksums)
        past = table.c.revision.in_(order[order.index(target) + 1 :])
        there = sa.and_(
            table.c.revision == target,
            table.c.schema_fingerprint.is_not(None),
            table.c.schema_fingerprint == self.chain.fingerprints[target],
        )
        return [*selection.conditions(), table.c.revision.is_not(None), sa.not_(sa.or_(there, past))]

    def _counted(self, connection: sa.Connection, selection: Selection, target: str) -> dict[str, int]:
        count = sa.select(sa.func.count()).select_from(table)
        made = count.where(*selection.conditions(), table.c.revision.is_not(None))
        wanted = count.where(*self.wanting(selection, target))
        return {"all": connection.execute(made).scalar_one(), "wanted": connection.execute(wanted).scalar_one()}

    def _unfinished(self, connection: sa.Connection) -> RunRow | None:
        """Return the unfinished run; the audit head stays locked, so nobody else can start one meanwhile."""
        self.catalog.audit.lock(connection)
        return runs.unfinished(connection)

    def _announced(self, connection: sa.Connection, run_id: int, detail: dict[str, Any]) -> Run:
        made = runs.counted(connection, run_id)
        detail = {"run": run_id, "tenants": made.total, **detail}
        self.catalog.audit.append(connection, f"fleet.{made.kind}", detail=detail)
        if made.finished < made.total:
            return made
        close_run(connection, made.id, made.counts)
        return runs.counted(connection, run_id)

    def _change_state(
        self,
        run_id: int,
        allowed: Sequence[RunState],
        state: RunState,
        action: str,
        before: Any = lambda connection: None,
    ) -> Run:
        def work(connection: sa.Connection) -> Run:
            run = runs.get(connection, run_id, lock=True)  # before the audit log's head, as runners do
            other = self._unfinished(connection)
            if run.state not in allowed:
                raise RunStateError(f"run {run_id} is {run.state}.", run_id=run_id, state=str(run.state))
            if other is not None and other.id != run_id and state in runs.UNFINISHED:
                raise _another(other)
            before(connection)
            runs.change(connection, run_id, state)
            self.catalog.audit.append(connection, action, detail={"run": run_id})
            if state is RunState.RUNNING:
                lowest = runs.lowest_waves(connection, run_id)
                if runs.current_wave(lowest) is None:
                    close_run(connection, run_id, lowest)
            return runs.counted(connection, run_id)

        return self.catalog.repeating(work)


def close_run(connection: sa.Connection, run_id: int, there: Collection[str]) -> None:
    """End a run in which nothing is left to do; ``there`` are the states in which it has rows."""
    left = any(state in there for state in runs.LEFT)
    closed = RunState.CANCELLED if ItemState.CANCELLED in there else RunState.DONE
    runs.change(connection, run_id, RunState.INCOMPLETE if left else closed)


def _check_joinable(known: RunRow, kind: str, **wanted: object) -> RunRow:
    if known.kind != kind or any(getattr(known, name) != value for name, value in wanted.items()):
        raise _another(known)
    if known.state is not RunState.RUNNING:
        raise RunStateError(
            f"run {known.id} is {known.state}: "
            f"go on with `unify fleet resume {known.id}` or `manager.fleet.resume({known.id})`, "
            f"or give it up with `unify fleet cancel {known.id}` or `manager.fleet.cancel({known.id})`.",
            run_id=known.id,
            state=str(known.state),
        )
    return known


def _another(known: RunRow) -> RunStateError:
    return RunStateError(
        f"run {known.id} ({known.kind}, {known.state}) has not ended: "
        f"see `unify fleet show {known.id}` or `manager.fleet.get({known.id})`, "
        f"and wait, or give it up with `unify fleet cancel {known.id}` or `manager.fleet.cancel({known.id})`.",
        run_id=known.id,
        state=str(known.state),
    )
