"""Write deleted rows into the bin as JSON, and read them back; ``repositories/bin.py`` lists and restores them.

A row is restored with the same id, values and version. A category is stored with the ids of its rows (its members),
which are in "Uncategorized" meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from repositories.base.scoped import ScopedRepository
from repositories.base.sorting import Row, Rows
from repositories.base.statements import read_id
from repositories.errors import ConflictError
from repositories.schema import KINDS, TITLE_MAX, bin, label
from tenancy.types import Timestamp, new_id

KEPT_DAYS = 30
PURGED_AT_ONCE = 100

Members = dict[str, list[str]]
"""The rows of a category: ids by the name of their table."""


def keep(repository: ScopedRepository, rows: Rows, members: Sequence[Members], batch: UUID) -> None:
    """Insert rows of a repository into its owner's bin."""
    kind, named_by, now = repository.table.name, label(repository.table), datetime.now(UTC)
    entries = [
        repository.set_user_id(
            {
                "id": new_id(),
                "batch": batch,
                "kind": kind,
                "title": row[named_by][:TITLE_MAX],
                "row": _written({"row": row, "members": held}),
                "deleted_at": now,
            }
        )
        for row, held in zip(rows, members, strict=True)
    ]
    repository.session.execute(sa.insert(bin), entries)


def purge(repository: ScopedRepository) -> None:
    """Delete some expired entries of the owner's bin; only a few, because it runs along with other requests."""
    statement = repository.apply_user_filter(sa.select(bin.c.id)).where(bin.c.deleted_at < kept_since())
    old = repository.session.execute(statement.order_by(bin.c.deleted_at).limit(PURGED_AT_ONCE)).scalars().all()
    if old:
        repository.session.execute(repository.apply_user_filter(sa.delete(bin)).where(bin.c.id.in_(old)))


def kept_since() -> datetime:
    """Return the time before which entries of the bin are expired."""
    return datetime.now(UTC) - timedelta(days=KEPT_DAYS)


def table_of(kind: str) -> sa.Table:
    """Return the table of a kind of rows; raise ConflictError if this version of the application has none."""
    if kind not in KINDS:
        raise ConflictError(f"This version of the application does not know rows of the kind {kind!r}.", field="kind")
    return KINDS[kind]


def read(kind: str, text: str) -> tuple[Row, Members]:
    """Return a row for its table, and its members; columns that no longer exist are left out."""
    kept, table = json.loads(text), table_of(kind)
    row = {name: _value(table.c[name].type, value) for name, value in kept["row"].items() if name in table.c}
    return row, kept["members"]


def _written(entry: Row) -> str:
    return json.dumps(entry, default=_plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return value.hex
    raise TypeError(f"a value of type {type(value).__name__} cannot be kept")


def _value(kind: sa.types.TypeEngine[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, Timestamp):
        return datetime.fromisoformat(value)
    if isinstance(kind, sa.Date):
        return date.fromisoformat(value)
    return read_id(value) if isinstance(kind, sa.Uuid) else value
