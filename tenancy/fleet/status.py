"""Report at which revisions the fleet's tenants are, from the catalog alone; no tenant's database is opened."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage
from tenancy.catalog.tables import user_database_configs as table, users
from tenancy.errors import (
    ConnectionRefusedByServerError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    TooManyConnectionsError,
)
from tenancy.lifecycle.operation import Operation
from tenancy.models import State
from tenancy.schema.chain import Chain

SILENT = tuple(
    error.code
    for error in (
        DatabaseUnreachableError,
        ConnectionRefusedByServerError,
        DatabaseTimeoutError,
        TooManyConnectionsError,
    )
)
"""The codes of a database or server that did not answer when it was last asked."""

AT_HEAD, BEHIND, AHEAD, EDITED, UNKNOWN = "at_head", "behind", "ahead", "edited", "unknown"


class Status(Operation):
    """Count tenants by how they compare with head, and list those that are not at head."""

    def status(self) -> dict[str, Any]:
        """Return ``{"head", "total", "at_head", "behind", "ahead", "edited", "unknown", "failed", "offline", ...}``.

        ``by_revision`` has the number of tenants at each revision and how many revisions that is behind (None if this
        code does not know it). ``failed`` and ``offline`` count, among those not at head, the tenants whose last
        operation failed and those whose database did not answer.
        """
        standings = (
            table.c.db_type,
            table.c.state,
            table.c.revision,
            table.c.schema_fingerprint,
            table.c.last_error_code,
        )
        with self.catalog.reading() as connection:
            rows = connection.execute(sa.select(*standings, sa.func.count()).group_by(*standings)).all()
        found: dict[str, Any] = dict.fromkeys((AT_HEAD, BEHIND, AHEAD, EDITED, UNKNOWN, "failed", "offline"), 0)
        by_revision: dict[str | None, int] = {}
        by_type: dict[str, dict[str, int]] = {}
        for db_type, state, revision, fingerprint, code, number in rows:
            standing = standing_of(self.chain, revision, fingerprint)
            found[standing] += number
            by_revision[revision] = by_revision.get(revision, 0) + number
            of_type = by_type.setdefault(db_type, {"total": 0, AT_HEAD: 0})
            of_type["total"] += number
            of_type[AT_HEAD] += number if standing == AT_HEAD else 0
            if standing != AT_HEAD:
                found["offline"] += number if code in SILENT else 0
                found["failed"] += number if code not in (None, *SILENT) or state == State.FAILED else 0
        total = sum(by_revision.values())
        known = [
            {"revision": revision, "tenants": number, "behind_by": self._behind_by(revision)}
            for revision, number in sorted(by_revision.items(), key=lambda pair: pair[0] or "")
        ]
        return {"head": self.chain.head, "total": total, **found, "by_revision": known, "by_type": by_type}

    def behind(self, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """List tenants that are not at head by user id, each with how it compares and the reason."""
        columns = (
            table.c.user_id,
            table.c.tenant_id,
            table.c.db_type,
            table.c.state,
            table.c.revision,
            table.c.schema_fingerprint,
            table.c.last_error,
            table.c.last_error_code,
        )
        there = sa.and_(
            table.c.revision.is_not(None),
            table.c.revision == self.chain.head,
            table.c.schema_fingerprint.is_not(None),
            table.c.schema_fingerprint == self.chain.fingerprint,
        )
        query = (
            sa.select(*columns, users.c.email)
            .join(users, users.c.id == table.c.user_id)
            .where(table.c.user_id > after, sa.not_(there))
            .order_by(table.c.user_id)
            .limit(limit)
        )
        with self.catalog.reading() as connection:
            return [self._to_row(row) for row in damage.dicts(connection, query)]

    def _to_row(self, row: Any) -> dict[str, Any]:
        standing = standing_of(self.chain, row["revision"], row["schema_fingerprint"])
        shown = {name: value for name, value in row.items() if name != "schema_fingerprint"}
        return shown | {
            "tenant_id": str(row["tenant_id"]),
            "standing": standing,
            "behind_by": self._behind_by(row["revision"]),
            "offline": row["last_error_code"] in SILENT,
            "reason": row["last_error"] or _REASONS[standing],
        }

    def _behind_by(self, revision: str | None) -> int | None:
        if revision is None or not self.chain.knows(revision):
            return None
        return len(self.chain.between(revision, self.chain.head))


_REASONS = {
    AT_HEAD: "",
    BEHIND: "it was not migrated yet",
    AHEAD: "a newer version of the application migrated it",
    EDITED: "a revision was edited after it was applied here",
    UNKNOWN: "its database was never finished",
}


def standing_of(chain: Chain, revision: str | None, fingerprint: str | None) -> str:
    """Compare a tenant's revision and fingerprint in the catalog with this code's."""
    if revision is None:
        return UNKNOWN
    if not chain.knows(revision):
        return AHEAD
    if fingerprint is not None and fingerprint != chain.fingerprints[revision]:
        return EDITED
    if fingerprint is None and revision == chain.head:
        return UNKNOWN
    return AT_HEAD if revision == chain.head else BEHIND
