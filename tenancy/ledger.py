"""Write into each tenant database what was applied there, and read it back.

The row is written in the revision's own transaction. The version table decides; the ledger tells.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy.models import ledger
from tenancy.types import new_id

_date = ledger.update()
_in_order = (ledger.c.applied_at, ledger.c.id)
_all = sa.select(ledger).order_by(*_in_order)
_told = sa.select(ledger.c.revision, ledger.c.direction, ledger.c.checksum).order_by(*_in_order)


def record(
    connection: sa.Connection, revision: str, direction: str, checksum: str, duration_ms: int, app_version: str
) -> None:
    """Add one row for one revision; ``direction`` is ``upgrade`` or ``downgrade``."""
    connection.execute(
        ledger.insert(),
        {
            "id": new_id(),
            "revision": revision,
            "direction": direction,
            "checksum": checksum,
            "applied_at": datetime.now(UTC),
            "duration_ms": duration_ms,
            "app_version": app_version,
        },
    )


def date_as_new(connection: sa.Connection) -> None:
    """Say of a copied template that its revisions were applied in this database now."""
    connection.execute(_date, {"applied_at": datetime.now(UTC), "duration_ms": 0})


def entries(connection: sa.Connection) -> list[dict[str, Any]]:
    """List what was applied, oldest first."""
    return [dict(row) for row in connection.execute(_all).mappings()]


def standing(connection: sa.Connection) -> dict[str, str]:
    """Give the revisions that are applied here by the ledger's word, oldest first, each with its checksum."""
    found: dict[str, str] = {}
    for row in connection.execute(_told):
        if row.direction == "upgrade":
            found[row.revision] = row.checksum
        else:
            found.pop(row.revision, None)
    return found


def contradiction(connection: sa.Connection, wanted: list[str]) -> str | None:
    """Say where the rows do not tell how a database came to stand at ``wanted``, oldest first; None where they do."""
    standing: list[str] = []
    for row in connection.execute(_told):
        if (row.direction == "upgrade") is (row.revision in standing):
            return (
                f"the ledger tells twice that {row.revision} was {'applied' if row.revision in standing else 'undone'}"
            )
        standing.append(row.revision) if row.direction == "upgrade" else standing.remove(row.revision)
    missing = [name for name in wanted if name not in standing]
    return f"the ledger does not tell of {', '.join(missing)}" if missing else None
