"""Store fleet runs: what was asked for, and one row for each tenant with what was done to it.

``fleet_runs`` has a row for each run, ``fleet_items`` one for each tenant that the run has to change. Tenants that were
at the wanted revision when the run was made have no row and are only counted (``already``). A runner locks the run's
row before it takes or records anything.

The queries that a runner makes while it holds that lock (``get``, ``lowest_waves``, ``available``, ``failures``) read
one range of an index each, no longer than a batch, however many tenants the run has. Only ``counted`` and ``places``
read all rows of a run; they are for read transactions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from tenancy import context
from tenancy.catalog import damage
from tenancy.catalog.claims import beyond, is_void
from tenancy.catalog.tables import claims, fleet_items, fleet_runs, user_database_configs as table, users
from tenancy.errors import RunNotFoundError
from tenancy.models import State

Place = tuple[str, int | None]
"""A kind of database and a registered server (None for files and for users' own servers)."""


class RunState(StrEnum):
    """List the states of a run."""

    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"
    DONE = "done"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"


UNFINISHED = (RunState.RUNNING, RunState.PAUSED, RunState.HALTED)


class ItemState(StrEnum):
    """List what a run did, or has still to do, with one tenant."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    OFFLINE = "offline"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    UNDONE = "undone"


OPEN = (ItemState.WAITING, ItemState.RUNNING)
LEFT = (ItemState.FAILED, ItemState.OFFLINE, ItemState.SKIPPED)
"""States of tenants that a run did not migrate; resuming it tries them again."""

WORKABLE = (State.READY, State.FAILED, State.MIGRATING)
"""States of tenants whose schema may be changed; others are skipped and need another run later."""


@dataclass(frozen=True)
class Selection:
    """Choose tenants by users, server and type; by default all of them."""

    users: tuple[int, ...] = ()
    server_id: int | None = None
    db_type: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.users:
            # Literals, which is safe for numbers: SQL Server takes at most 2,100 parameters.
            ids: sa.BindParameter[Any] = sa.bindparam("users", self.users, expanding=True, literal_execute=True)
            found.append(table.c.user_id.in_(ids))
        if self.server_id is not None:
            found.append(table.c.server_id == self.server_id)
        if self.db_type is not None:
            found.append(table.c.db_type == self.db_type)
        return found

    def written(self) -> str:
        return json.dumps({"users": list(self.users), "server_id": self.server_id, "db_type": self.db_type})


@dataclass(frozen=True)
class Rules:
    """Describe how a run is rolled out.

    ``waves`` are cumulative percentages of all tenants, rising to 100; ``canary`` tenants are migrated before the first
    wave. ``halt_after`` is the number of failures (with ``halt_percent`` their percentage) that halts a run; a failed
    canary always does. ``snapshot`` keeps a restore point of each tenant even if no revision is destructive; ``bare``
    keeps none even if one is.
    """

    canary: int = 0
    waves: tuple[float, ...] = (100.0,)
    halt_after: float | None = None
    halt_percent: bool = False
    snapshot: bool = False
    bare: bool = False

    def bounds(self, total: int) -> list[int]:
        """Return the cumulative number of tenants at the end of each wave, beginning with the canary."""
        shares = [-(-total * share // 100) for share in self.waves]
        return [int(bound) for bound in (self.canary, *shares[:-1])] + [total]

    def too_many(self, failed: int, total: int) -> bool:
        """Return whether this number of failures halts a run."""
        if self.halt_after is None:
            return False
        return failed * 100 >= self.halt_after * total if self.halt_percent else failed >= self.halt_after

    def written(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def read(cls, text: str) -> Rules:
        kept = json.loads(text)
        return cls(**kept | {"waves": tuple(kept["waves"])})


@dataclass(frozen=True)
class RunRow:
    """Describe a run by its own row, without counting its tenants."""

    id: int
    kind: str
    state: RunState
    target: str | None
    reverts: int | None
    selection: str
    rules: Rules
    already: int
    reason: str | None
    actor_id: int | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Run(RunRow):
    """Describe a run; ``counts`` is the number of its tenants in each ``ItemState``."""

    counts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        return self.total - sum(self.counts.get(state, 0) for state in OPEN)

    def to_dict(self) -> dict[str, Any]:
        """Return the run for programs and pages: plain values, times as datetimes."""
        rules = {name: getattr(self.rules, name) for name in self.rules.__dataclass_fields__}
        shown = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("rules", "selection")}
        more = {"state": str(self.state), "selection": json.loads(self.selection), "total": self.total}
        return shown | more | {"finished": self.finished, "rules": rules | {"waves": list(self.rules.waves)}}


_FIELDS = tuple(name for name in RunRow.__dataclass_fields__ if name != "rules")
_columns = [fleet_runs.c[name] for name in _FIELDS] + [fleet_runs.c.options]
_run = sa.select(*_columns).where(fleet_runs.c.id == sa.bindparam("run"))
_counts = (
    sa.select(fleet_items.c.state, sa.func.count())
    .where(fleet_items.c.run_id == sa.bindparam("run"))
    .group_by(fleet_items.c.state)
)


def get(connection: sa.Connection, run_id: int, *, lock: bool = False) -> RunRow:
    """Return a run, or raise RunNotFoundError; with ``lock`` its row stays locked until the transaction ends."""
    row = connection.execute(_run.with_for_update() if lock else _run, {"run": run_id}).first()
    if row is None:
        raise RunNotFoundError(
            f"there is no fleet run {run_id}: `unify fleet runs` or `manager.fleet.recent()` lists them.", run_id=run_id
        )
    return RunRow(**_values(row))


def counted(connection: sa.Connection, run_id: int) -> Run:
    """Return a run with the counts of its tenants by state, or raise RunNotFoundError."""
    row = get(connection, run_id)
    counts = {row[0]: row[1] for row in connection.execute(_counts, {"run": run_id})}
    return Run(**vars(row), counts=counts)


def recent(connection: sa.Connection, limit: int, before: int | None = None) -> list[Run]:
    """List runs, newest first."""
    query = sa.select(*_columns).order_by(fleet_runs.c.id.desc()).limit(limit)
    rows = damage.dicts(connection, query if before is None else query.where(fleet_runs.c.id < before))
    counts: dict[int, dict[str, int]] = {row["id"]: {} for row in rows}
    grouped = sa.select(fleet_items.c.run_id, fleet_items.c.state, sa.func.count()).group_by(
        fleet_items.c.run_id, fleet_items.c.state
    )
    for run, state, number in connection.execute(grouped.where(fleet_items.c.run_id.in_(list(counts)))):
        counts[run][state] = number
    return [Run(**_listed(row), counts=counts[row["id"]]) for row in rows]


def unfinished(connection: sa.Connection) -> RunRow | None:
    """Return the run that has not ended; there is one at most."""
    row = connection.execute(sa.select(*_columns).where(fleet_runs.c.state.in_(UNFINISHED))).first()
    return None if row is None else RunRow(**_values(row))


def add(
    connection: sa.Connection,
    kind: str,
    selection: str,
    rules: Rules,
    *,
    target: str | None = None,
    reverts: int | None = None,
    already: int = 0,
) -> int:
    """Insert a run and return its id."""
    row = {"kind": kind, "state": RunState.RUNNING, "target": target, "reverts": reverts, "selection": selection}
    more = {"options": rules.written(), "already": already, "actor_id": context.current().actor_id}
    done = connection.execute(fleet_runs.insert(), row | more | {"created_at": datetime.now(UTC)})
    key = done.inserted_primary_key
    assert key is not None  # noqa: S101 - one row was inserted
    return int(key[0])


def change(connection: sa.Connection, run_id: int, state: RunState, reason: str | None = None) -> None:
    """Set a run's state, and the time if it ends by this."""
    ended = None if state in UNFINISHED else datetime.now(UTC)
    values = {"state": state, "reason": reason, "ended_at": ended}
    connection.execute(fleet_runs.update().where(fleet_runs.c.id == run_id), values)


def add_items(
    connection: sa.Connection,
    run_id: int,
    wanted: Sequence[sa.ColumnElement[bool]],
    target: sa.ColumnElement[Any],
    bounds: Sequence[int],
) -> None:
    """Insert a row for each tenant that meets the conditions, in one INSERT ... SELECT."""
    place = sa.func.row_number().over(order_by=table.c.user_id)
    wave = sa.case(*((place <= bound, index) for index, bound in enumerate(bounds)), else_=len(bounds) - 1)
    ready = sa.and_(table.c.state.in_(WORKABLE), table.c.is_active)
    rows = sa.select(
        sa.literal(run_id),
        table.c.user_id,
        table.c.tenant_id,
        table.c.db_type,
        table.c.server_id,
        wave,
        sa.case((ready, sa.literal(str(ItemState.WAITING))), else_=sa.literal(str(ItemState.SKIPPED))),
        table.c.revision,
        target,
        sa.case((ready, sa.null()), else_=sa.literal("it is ") + table.c.state),
        sa.case((ready, sa.null()), else_=sa.literal("tenant_not_ready")),
    ).where(*wanted)
    into = ("run_id", "user_id", "tenant_id", "db_type", "server_id", "wave", "state", "from_revision", "to_revision")
    connection.execute(fleet_items.insert().from_select([*into, "error", "error_code"], rows))


def add_reverse_items(connection: sa.Connection, run_id: int, undone: int) -> None:
    """Copy the rows that another run has done, with its two revisions swapped; rows that did not move are left out."""
    did = (fleet_items.c.run_id == undone, fleet_items.c.state == ItemState.DONE)
    moved = fleet_items.c.from_revision != fleet_items.c.to_revision
    columns = ("user_id", "tenant_id", "db_type", "server_id", "restore_point")
    rows = sa.select(
        sa.literal(run_id),
        sa.literal(0),
        sa.literal(str(ItemState.WAITING)),
        fleet_items.c.to_revision,
        fleet_items.c.from_revision,
        *(fleet_items.c[name] for name in columns),
    ).where(*did, moved)
    into = ("run_id", "wave", "state", "from_revision", "to_revision", *columns)
    connection.execute(fleet_items.insert().from_select(into, rows))


def items(
    connection: sa.Connection,
    run_id: int,
    *,
    states: Sequence[str] = (),
    with_points: bool = False,
    after: int = 0,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """List a run's rows by user id, with the users' addresses; ``with_points`` only those with a restore point."""
    query = (
        sa.select(fleet_items, users.c.email)
        .outerjoin(users, users.c.id == fleet_items.c.user_id)
        .where(fleet_items.c.run_id == run_id, fleet_items.c.user_id > after)
        .order_by(fleet_items.c.user_id)
        .limit(limit)
    )
    if states:
        query = query.where(fleet_items.c.state.in_(states))
    if with_points:
        query = query.where(fleet_items.c.restore_point)
    return damage.dicts(connection, query)


def turn(connection: sa.Connection, run_id: int, before: Sequence[str], after: ItemState) -> int:
    """Move a run's rows from some states to another; return how many. Rows that wait again start from scratch."""
    values: dict[str, Any] = {"state": after}
    if after is ItemState.WAITING:
        values |= {"tries": 0, "error": None, "error_code": None, "ended_at": None}
    mine = (fleet_items.c.run_id == run_id, fleet_items.c.state.in_(before))
    return connection.execute(fleet_items.update().where(*mine), values).rowcount


def lowest_waves(connection: sa.Connection, run_id: int) -> dict[ItemState, int]:
    """Return the lowest wave in which a run has a row of each state; states without rows are left out."""
    row = connection.execute(_lowest_waves, {"run": run_id}).one()
    return {state: wave for state, wave in zip(ItemState, row, strict=True) if wave is not None}


def current_wave(lowest: Mapping[ItemState, int]) -> int | None:
    """Return the wave that is being worked on, from ``lowest_waves``; None where all is done."""
    return min((lowest[state] for state in OPEN if state in lowest), default=None)


def places(connection: sa.Connection, run_id: int) -> dict[Place, int]:
    """Count a run's tenants at each place, most first; reads all rows of the run."""
    columns = (fleet_items.c.db_type, fleet_items.c.server_id)
    query = sa.select(*columns, sa.func.count()).where(fleet_items.c.run_id == run_id).group_by(*columns)
    found = {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}
    return dict(sorted(found.items(), key=lambda place: -place[1]))


def at_work(connection: sa.Connection, run_id: int) -> dict[Place, int]:
    """Count the runners at work at each place; places without any are left out."""
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(_at_work, {"run": run_id})}


def available(
    connection: sa.Connection, run_id: int, wave: int, place: Place, *, limit: int, at_work: bool
) -> list[dict[str, Any]]:
    """List rows of one place that nobody holds: a single one whose runner is gone, else up to ``limit`` that wait.

    A tenant whose runner died is never put into a batch, because it may kill the next runner too. ``at_work`` is
    whether any runner has begun a row there; if none has, only waiting rows are looked for.
    """
    db_type, server_id = place
    there = fleet_items.c.server_id.is_(None) if server_id is None else fleet_items.c.server_id == server_id
    query = _free.where(fleet_items.c.db_type == db_type, there)
    longest = beyond(connection)
    for state, most in ((ItemState.RUNNING, int(at_work)), (ItemState.WAITING, limit)):
        asked = {"run": run_id, "in": state, "wave": wave, "beyond": longest}
        found = connection.execute(query.limit(most), asked).mappings().all() if most else []
        if found:
            return [dict(row) for row in found]
    return []


def failures(connection: sa.Connection, run_id: int) -> int:
    """Count the tenants that a run failed to migrate."""
    return int(connection.execute(_failures, {"run": run_id}).scalar_one())


_of_run = fleet_items.c.run_id == sa.bindparam("run")
_in_state = fleet_items.c.state == sa.bindparam("in")
_lowest_waves = sa.select(
    *(
        sa.select(fleet_items.c.wave)
        .where(_of_run, fleet_items.c.state == state)
        .order_by(fleet_items.c.wave)
        .limit(1)
        .scalar_subquery()
        .label(str(state))
        for state in ItemState
    )
)
"""One column a state, each read from the first entry of its range in the index."""

_at_work = (
    sa.select(fleet_items.c.db_type, fleet_items.c.server_id, sa.func.count(sa.distinct(fleet_items.c.runner)))
    .where(_of_run, fleet_items.c.state == ItemState.RUNNING)
    .group_by(fleet_items.c.db_type, fleet_items.c.server_id)
)
_failures = sa.select(sa.func.count()).where(_of_run, fleet_items.c.state == ItemState.FAILED)
_free = (
    sa.select(fleet_items)
    .outerjoin(claims, claims.c.tenant_id == fleet_items.c.tenant_id)
    .where(
        _of_run,
        _in_state,
        fleet_items.c.wave == sa.bindparam("wave"),
        sa.or_(claims.c.expires_at.is_(None), is_void),
    )
    .order_by(fleet_items.c.user_id)
)
_item = fleet_items.update().where(
    fleet_items.c.run_id == sa.bindparam("run"), fleet_items.c.user_id == sa.bindparam("of")
)


def begin_items(connection: sa.Connection, run_id: int, user_ids: Sequence[int], *, runner: str, before: State) -> None:
    """Mark rows as begun by a runner; ``before`` is their tenants' state, stored unless an earlier runner did so."""
    mine = (fleet_items.c.run_id == run_id, fleet_items.c.user_id.in_(user_ids))
    begun = {"state": ItemState.RUNNING, "runner": runner, "started_at": datetime.now(UTC)}
    kept = {
        fleet_items.c.tries: fleet_items.c.tries + 1,
        fleet_items.c.before_state: sa.func.coalesce(fleet_items.c.before_state, before),
    }
    connection.execute(fleet_items.update().where(*mine).values(kept).values(begun))


def change_items(connection: sa.Connection, run_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Update rows by their ``user_id``; all must name the same columns."""
    if rows:
        values = [
            {"run": run_id, "of": row["user_id"]} | {k: v for k, v in row.items() if k != "user_id"} for row in rows
        ]
        connection.execute(_item, values)


def begun(connection: sa.Connection, run_id: int) -> Sequence[sa.Row[int, str, datetime]]:
    """List ``user_id``, ``runner`` and ``started_at`` of the rows that runners are at work on."""
    columns = (fleet_items.c.user_id, fleet_items.c.runner, fleet_items.c.started_at)
    running = (fleet_items.c.run_id == run_id, fleet_items.c.state == ItemState.RUNNING)
    return connection.execute(sa.select(*columns).where(*running)).all()


def blame(connection: sa.Connection, run_id: int, user_id: int, code: str) -> None:
    """Write into an unfinished row why its runner was ended."""
    one = (fleet_items.c.run_id == run_id, fleet_items.c.user_id == user_id, fleet_items.c.state.in_(OPEN))
    connection.execute(fleet_items.update().where(*one), {"error_code": code})


def leave_offline(connection: sa.Connection, run_id: int, server_id: int, message: str, code: str) -> None:
    """Mark all rows that wait on a server as offline, because it does not answer."""
    mine = (fleet_items.c.run_id == run_id, fleet_items.c.server_id == server_id)
    waiting = fleet_items.c.state == ItemState.WAITING
    values = {"state": ItemState.OFFLINE, "error": message, "error_code": code}
    connection.execute(fleet_items.update().where(*mine, waiting), values)


def pace(connection: sa.Connection) -> dict[str, float]:
    """Return by type the average milliseconds that a tenant took in earlier runs."""
    mine = (fleet_items.c.state == ItemState.DONE, fleet_items.c.duration_ms.is_not(None))
    query = sa.select(fleet_items.c.db_type, sa.func.avg(fleet_items.c.duration_ms)).where(*mine)
    return {db_type: float(ms) for db_type, ms in connection.execute(query.group_by(fleet_items.c.db_type))}


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a run's values for a list; if its state or rules are damaged, it counts as cancelled."""
    shown = {name: row[name] for name in _FIELDS}
    try:
        return shown | {"state": RunState(row["state"]), "rules": Rules.read(row["options"])}
    except (ValueError, TypeError, KeyError):
        damaged = {"state": RunState.CANCELLED, "rules": Rules(), "reason": "its row in the catalog is damaged"}
        return shown | damaged


def _values(row: Any) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _FIELDS}
    return values | {"state": RunState(row.state), "rules": Rules.read(row.options)}
