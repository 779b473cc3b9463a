"""Write and read the ledger of a tenant's database: which revisions were applied there, when, with which checksum.

A row is written in the revision's own transaction. Which revision a database is at is decided by Alembic's version
table; the ledger is the history.

Several machines with different clocks may write to one ledger, so rows are ordered by id, and a new id is always higher
than the last one. Older versions made ids from the machine's clock alone. Therefore the applied revisions are found by
counting upgrades and downgrades, which needs no order, and listed in the order of the chain.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy.schema.tables import tenancy_ledger
from tenancy.types import new_id

_add = tenancy_ledger.insert()
_date = tenancy_ledger.update()
_all = sa.select(tenancy_ledger).order_by(tenancy_ledger.c.id)
_directions = sa.select(tenancy_ledger.c.revision, tenancy_ledger.c.direction, tenancy_ledger.c.checksum).order_by(
    tenancy_ledger.c.id
)
_last = sa.select(sa.type_coerce(tenancy_ledger.c.id, sa.String)).order_by(tenancy_ledger.c.id.desc()).limit(1)


def record(
    connection: sa.Connection, revision: str, direction: str, checksum: str, duration_ms: int, app_version: str
) -> None:
    """Add one row for one revision; ``direction`` is ``upgrade`` or ``downgrade``."""
    connection.execute(
        _add,
        {
            "id": _next_id(connection.execute(_last).scalar()),
            "revision": revision,
            "direction": direction,
            "checksum": checksum,
            "applied_at": datetime.now(UTC),
            "duration_ms": duration_ms,
            "app_version": app_version,
        },
    )


def date_as_new(connection: sa.Connection) -> None:
    """Set the time of all rows to now, in a database that was copied from a template."""
    connection.execute(_date, {"applied_at": datetime.now(UTC), "duration_ms": 0})


def entries(connection: sa.Connection) -> list[dict[str, Any]]:
    """List what was applied, oldest first."""
    return [dict(row) for row in connection.execute(_all).mappings()]


def applied_checksums(connection: sa.Connection, chain: Iterable[str]) -> dict[str, str]:
    """Return the revisions applied according to the ledger, each with the checksum of its last upgrade.

    They are in the order of ``chain``, oldest first; revisions unknown to it come last.
    """
    places = {revision: place for place, revision in enumerate(chain)}
    surplus: Counter[str] = Counter()
    checksums: dict[str, str] = {}
    for row in connection.execute(_directions):
        surplus[row.revision] += _weight(row.direction)
        if row.direction == "upgrade":
            checksums[row.revision] = row.checksum
    found = [revision for revision, times in surplus.items() if times > 0]
    return {name: checksums[name] for name in sorted(found, key=lambda name: places.get(name, len(places)))}


def contradiction(connection: sa.Connection, wanted: list[str]) -> str | None:
    """Return how the rows contradict the revisions ``wanted`` (oldest first), or None."""
    surplus: Counter[str] = Counter()
    for row in connection.execute(_directions):
        surplus[row.revision] += _weight(row.direction)
    for revision, times in surplus.items():
        if times not in (0, 1):
            return f"the ledger tells twice that {revision} was {'applied' if times > 0 else 'undone'}"
    missing = [name for name in wanted if not surplus[name]]
    return f"the ledger does not tell of {', '.join(missing)}" if missing else None


def _weight(direction: str) -> int:
    return 1 if direction == "upgrade" else -1


def _next_id(last: str | None) -> uuid.UUID:
    """Make an id that sorts after the last one, even if that was made by a clock ahead of ours."""
    made = new_id()
    return made if last is None or last < made.hex else uuid.UUID(int=int(last, 16) + 1)
