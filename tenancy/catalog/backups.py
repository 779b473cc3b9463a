"""Know the backups in the storage: what of, from when, and whether they are good.

The signed records in the storage are the truth, and an empty table is filled from them again (``learn``). Each row of
``user_database_configs`` has in ``backed_up_at`` when the tenant's last good backup began; every function here that
changes a backup keeps it, in the same transaction. A backup whose time is still to come (a clock was wrong) is the last
good one only of a tenant that has no other, and does not count in ``backed_up_at``.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from tenancy.catalog import damage, now
from tenancy.catalog.tables import backups, shared_database, user_database_configs
from tenancy.errors import BackupNotFoundError
from tenancy.models import State

SHORTEST_PREFIX = 8
TENANT, CATALOG = "tenant", "catalog"
_AT_ONCE = 200
_SHOWN = 5

_rows = backups.c
_configs = user_database_configs.c
_newest_first = (_rows.started_at.desc(), _rows.id.desc())
_HOLDS_ROWS = (State.READY, State.READ_ONLY, State.SUSPENDED, State.MIGRATING, State.MOVING)
"""States of tenants whose databases have rows that can be lost."""


class BackupState(StrEnum):
    """List what a backup can be."""

    GOOD = "good"
    FAILED = "failed"
    """It was not made; ``error`` says why."""

    DAMAGED = "damaged"
    """It was made, and was found damaged since."""

    GONE = "gone"
    """The storage has it no more."""


@dataclass(frozen=True)
class Backup:
    """Describe a backup as the catalog knows it; the record in the storage has the rows and checksums of each table."""

    id: uuid.UUID
    kind: str
    tenant_id: uuid.UUID | None
    user_id: int | None
    epoch: int
    db_type: str
    started_at: datetime
    state: str
    revision: str | None = None
    app_version: str = ""
    finished_at: datetime | None = None
    size_bytes: int | None = None
    row_count: int | None = None
    checksum: str | None = None
    plain_checksum: str | None = None
    imprint: str | None = None
    key_ids: str = ""
    """Ids of the keys that open it, with commas between them; empty for a passphrase."""

    signed_by: str = ""
    installation: str = ""
    error: str | None = None
    error_code: str | None = None
    verified_at: datetime | None = None
    verified_by: str | None = None


class Place(NamedTuple):
    """Say where in the list a page ends: what ``page`` needs of the last backup on it."""

    started_at: datetime
    id: uuid.UUID


@dataclass(frozen=True)
class BackupFilter:
    """Describe the wanted backups; None means any."""

    user_id: int | None = None
    tenant_id: uuid.UUID | None = None
    kind: str | None = None
    state: str | None = None
    signed_by: str | None = None
    key_ids: str | None = None
    """Exactly these, with commas between them."""

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        wanted = {
            _rows.user_id: self.user_id,
            _rows.tenant_id: self.tenant_id,
            _rows.kind: self.kind,
            _rows.state: self.state,
            _rows.signed_by: self.signed_by,
            _rows.key_ids: self.key_ids,
        }
        found = [column == value for column, value in wanted.items() if value is not None]
        # An index finds the few backups of the catalog by this; there is none on the kind.
        return [*found, _rows.tenant_id.is_(None)] if self.kind == CATALOG else found


EVERY = BackupFilter()


@dataclass(frozen=True)
class Summary:
    """Say how well all tenants are backed up; ``stale`` have no good backup since ``since``, ``never`` none at all."""

    since: datetime
    tenants: int
    stale: int
    never: int
    oldest_at: datetime | None
    """When the last good backup of the tenant began whose last is the oldest."""

    newest_at: datetime | None
    catalog_at: datetime | None
    """When the catalog's last good backup began."""

    failed: int
    """Backups that failed since ``since``."""


_FIELDS = tuple(each.name for each in fields(Backup))
_all = sa.select(*(_rows[name] for name in _FIELDS))


def add(connection: sa.Connection, backup: Backup) -> None:
    """Insert a backup that has just been made, or that failed."""
    connection.execute(backups.insert(), _values(backup))
    _settle(connection, [backup.tenant_id])


def learn(connection: sa.Connection, found: Sequence[Backup]) -> int:
    """Insert backups whose records were found in the storage; return how many were not known.

    One that is known as failed or gone is good again; one that is known as damaged stays so.
    """
    known: dict[uuid.UUID, str] = {}
    for some in _portions([each.id for each in found]):
        query = sa.select(_rows.id, _rows.state).where(_rows.id.in_(some))
        known |= {row.id: row.state for row in connection.execute(query)}
    unknown = {each.id: each for each in found if each.id not in known}
    if unknown:
        connection.execute(backups.insert(), [_values(each) for each in unknown.values()])
    again = [each for each in found if known.get(each.id) in (BackupState.FAILED, BackupState.GONE)]
    for each in again:
        connection.execute(backups.update().where(_rows.id == each.id), _values(each))
    _settle(connection, [each.tenant_id for each in (*unknown.values(), *again)])
    return len(unknown)


def get(connection: sa.Connection, backup_id: uuid.UUID) -> Backup:
    """Return a backup, or raise BackupNotFoundError, which says what there is."""
    found = _read(connection, _all.where(_rows.id == backup_id))
    if not found:
        raise _none(connection, str(backup_id), EVERY)
    return found[0]


def find(connection: sa.Connection, text: str, wanted: BackupFilter = EVERY) -> Backup:
    """Return the only backup whose id begins with ``text``; BackupNotFoundError if there is none, or more than one."""
    digits = text.strip().lower().replace("-", "")
    if not (SHORTEST_PREFIX <= len(digits) <= 32 and all(each in "0123456789abcdef" for each in digits)):
        raise _none(connection, text, wanted, f"an id has at least {SHORTEST_PREFIX} of its hexadecimal digits")
    least, most = uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))
    query = _all.where(_rows.id >= least, _rows.id <= most, *wanted.conditions()).order_by(*_newest_first)
    found = _read(connection, query.limit(_SHOWN))
    if len(found) == 1:
        return found[0]
    if found:
        raise BackupNotFoundError(f"more than one backup begins with {text}: {_ids(found)}.", backup=text)
    raise _none(connection, text, wanted)


def page(
    connection: sa.Connection, wanted: BackupFilter = EVERY, *, limit: int = 50, after: Backup | Place | None = None
) -> list[Backup]:
    """List backups, newest first, up to ``limit`` behind ``after``."""
    query = _all.where(*wanted.conditions()).order_by(*_newest_first)
    if after is not None:
        same = sa.and_(_rows.started_at == after.started_at, _rows.id < after.id)
        query = query.where(_rows.started_at <= after.started_at, sa.or_(_rows.started_at < after.started_at, same))
    return _read(connection, query.limit(limit))


def every(connection: sa.Connection, wanted: BackupFilter = EVERY) -> Iterator[Backup]:
    """Go through all wanted backups, newest first, reading some at a time."""
    last: Backup | None = None
    while found := page(connection, wanted, limit=1000, after=last):
        yield from found
        last = found[-1]


def last_good(connection: sa.Connection, user_ids: Collection[int]) -> dict[int, Backup]:
    """Return the last good backup of each user's present tenant, by user id; those without one are left out."""
    owners: dict[uuid.UUID, int] = {}
    for some in _portions(list(user_ids)):
        query = sa.select(_configs.tenant_id, _configs.user_id).where(_configs.user_id.in_(some))
        owners |= {row.tenant_id: row.user_id for row in connection.execute(query)}
    return {owners[tenant_id]: found for tenant_id, found in last_good_of(connection, list(owners)).items()}


def last_good_of(connection: sa.Connection, tenant_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Backup]:
    """Return the last good backup of each tenant, by its id; those without one are left out."""
    found: dict[uuid.UUID, Backup] = {}
    for some in _portions(list(tenant_ids)):
        found |= _newest(connection, some, _rows.started_at <= now(connection))
        missing = [each for each in some if each not in found]
        if missing:
            found |= _newest(connection, missing, sa.true())
    return found


def last_good_catalog(connection: sa.Connection) -> Backup | None:
    """Return the last good backup of the catalog itself; None if there is none."""
    good = _all.where(_rows.tenant_id.is_(None), _rows.state == BackupState.GOOD, _rows.kind == CATALOG)
    found = _read(connection, good.order_by(*_newest_first).limit(1))
    return found[0] if found else None


def mark(
    connection: sa.Connection,
    found: Sequence[Backup],
    state: BackupState,
    *,
    error: str | None = None,
    error_code: str | None = None,
) -> None:
    """Set the state of backups, with the reason."""
    for some in _portions([each.id for each in found]):
        values = {"state": str(state), "error": error, "error_code": error_code}
        connection.execute(backups.update().where(_rows.id.in_(some)), values)
    _settle(connection, [each.tenant_id for each in found])


def verified(connection: sa.Connection, backup: Backup, how: str) -> None:
    """Record that a backup was found whole just now; ``how`` says by what: ``checksum``, ``reading`` or ``restore``."""
    values = {"state": str(BackupState.GOOD), "error": None, "error_code": None, "verified_by": how}
    changed = backups.update().where(_rows.id == backup.id)
    connection.execute(changed, values | {"verified_at": now(connection)})
    _settle(connection, [backup.tenant_id])


def forget(connection: sa.Connection, found: Sequence[Backup]) -> None:
    """Delete the rows of backups that were deleted from the storage."""
    for some in _portions([each.id for each in found]):
        connection.execute(backups.delete().where(_rows.id.in_(some)))
    _settle(connection, [each.tenant_id for each in found])


def summary(connection: sa.Connection, since: datetime, *, multi_tenant: bool = True) -> Summary:
    """Count the tenants that have no good backup since a moment: one statement, which reads indexes only."""
    failed = sa.select(sa.func.count()).where(_rows.state == BackupState.FAILED, _rows.started_at >= since)
    catalog = sa.select(sa.func.max(_rows.started_at)).where(
        _rows.tenant_id.is_(None), _rows.state == BackupState.GOOD, _rows.kind == CATALOG
    )
    counted = _of_users(since) if multi_tenant else _of_shared()
    asked = {"failed": failed, "catalog_at": catalog} | counted
    row = connection.execute(sa.select(*(query.scalar_subquery().label(name) for name, query in asked.items()))).one()
    found: dict[str, Any] = dict(row._mapping)
    if not multi_tenant:
        last = found["oldest_at"]
        never, old = last is None, last is not None and last < since
        found |= {"newest_at": last, "never": never * found["tenants"], "old": old * found["tenants"]}
    return Summary(since=since, stale=found["never"] + found.pop("old"), **found)


def stale(connection: sa.Connection, since: datetime, limit: int = 20) -> list[tuple[int, datetime | None]]:
    """List users whose database has no good backup since a moment and when the last one began; without one first."""
    late = sa.or_(_configs.backed_up_at.is_(None), _configs.backed_up_at < since)
    query = sa.select(_configs.user_id, _configs.backed_up_at).where(late, _configs.state.in_(_HOLDS_ROWS))
    first = sa.case((_configs.backed_up_at.is_(None), 0), else_=1)
    ordered = query.order_by(first, _configs.backed_up_at, _configs.user_id).limit(limit)
    return [(int(row.user_id), row.backed_up_at) for row in connection.execute(ordered)]


def keys_in_use(connection: sa.Connection) -> tuple[Counter[str], Counter[tuple[str, ...]]]:
    """Count backups by the key that signed them, and by the keys that open them; those that are gone are left out."""
    there = _rows.state.in_([BackupState.GOOD, BackupState.DAMAGED])
    query = sa.select(_rows.signed_by, _rows.key_ids, sa.func.count()).where(there)
    signers: Counter[str] = Counter()
    openers: Counter[tuple[str, ...]] = Counter()
    for signed_by, key_ids, count in connection.execute(query.group_by(_rows.signed_by, _rows.key_ids)):
        signers[signed_by] += count
        openers[tuple(filter(None, key_ids.split(",")))] += count
    return signers, openers


def _newest(
    connection: sa.Connection, tenant_ids: Sequence[uuid.UUID], when: sa.ColumnElement[bool]
) -> dict[uuid.UUID, Backup]:
    """Return each tenant's newest good backup: one look into the index for each, whatever the number of all."""
    asked = sa.select(_rows.tenant_id).where(_rows.tenant_id.in_(tenant_ids)).distinct().subquery("asked")
    mine = (_rows.tenant_id == asked.c.tenant_id, _rows.state == BackupState.GOOD, when)
    newest = sa.select(_rows.id).where(*mine).order_by(*_newest_first).limit(1).correlate(asked).scalar_subquery()
    ids = [each for each in connection.execute(sa.select(newest.label("id")).select_from(asked)).scalars() if each]
    found = _read(connection, _all.where(_rows.id.in_(ids)).order_by(_rows.id))
    return {each.tenant_id: each for each in found if each.tenant_id is not None}


def _of_users(since: datetime) -> dict[str, sa.Select[Any]]:
    """Return the queries that count users' tenants, by what they count."""
    holding = _configs.state.in_(_HOLDS_ROWS)
    count = sa.select(sa.func.count()).select_from(user_database_configs).where(holding)
    return {
        "tenants": count,
        "never": count.where(_configs.backed_up_at.is_(None)),
        "old": count.where(_configs.backed_up_at < since),
        "oldest_at": sa.select(sa.func.min(_configs.backed_up_at)).where(holding),
        "newest_at": sa.select(sa.func.max(_configs.backed_up_at)).where(holding),
    }


def _of_shared() -> dict[str, sa.Select[Any]]:
    """Return the queries about the one shared database; it has no row that tells when it was backed up last."""
    mine = _rows.tenant_id.in_(sa.select(shared_database.c.tenant_id))
    return {
        "tenants": sa.select(sa.func.count()).select_from(shared_database),
        "oldest_at": sa.select(sa.func.max(_rows.started_at)).where(mine, _rows.state == BackupState.GOOD),
    }


def _settle(connection: sa.Connection, tenant_ids: Sequence[uuid.UUID | None]) -> None:
    """Write again when the last good backup of these tenants began."""
    at = (
        sa.select(sa.func.max(_rows.started_at))
        .where(
            _rows.tenant_id == _configs.tenant_id,
            _rows.state == BackupState.GOOD,
            _rows.started_at <= sa.bindparam("at"),
        )
        .scalar_subquery()
    )
    of = {each for each in tenant_ids if each is not None}
    if not of:
        return
    moment = now(connection)
    for some in _portions(sorted(of)):
        # The lock comes first: a concurrent transaction's backup must be seen by whoever writes last.
        mine = sa.select(_configs.id).where(_configs.tenant_id.in_(some)).order_by(_configs.id)
        connection.execute(mine.with_for_update()).all()
        changed = user_database_configs.update().where(_configs.tenant_id.in_(some)).values(backed_up_at=at)
        connection.execute(changed, {"at": moment})


def _values(backup: Backup) -> dict[str, Any]:
    return {name: getattr(backup, name) for name in _FIELDS}


def _read(connection: sa.Connection, query: sa.Select[Any]) -> list[Backup]:
    rows = damage.read(connection, query)
    return [Backup(**dict(zip(_FIELDS, row.values, strict=True))) for row in rows]


def _portions(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Divide what is asked about: servers take only so many parameters."""
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


def _none(connection: sa.Connection, text: str, wanted: BackupFilter, hint: str = "") -> BackupNotFoundError:
    newest = page(connection, wanted, limit=_SHOWN)
    there = f"the newest are {_ids(newest)}" if newest else "there is none yet"
    return BackupNotFoundError(
        f"there is no backup {text[:40]}{f' ({hint})' if hint else ''}: {there}; "
        "`unify backup list` or `manager.backups.listed()` shows all.",
        backup=text,
    )


def _ids(found: Sequence[Backup]) -> str:
    return ", ".join(f"{each.id} ({each.started_at:%Y-%m-%d %H:%M} UTC)" for each in found)
