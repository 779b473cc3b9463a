"""Write deleted rows into the bin as JSON, and read them back; people's half is ``repositories/bin.py``.

A row comes back as it was: same id, same values, same version. A category is kept with the ids of the rows that it
held (its members), which are in "Uncategorized" meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from repositories.base.scoped import ScopedRepository
from repositories.base.sorting import Row, Rows
from repositories.base.statements import read_id
from repositories.schema import bin, categories, events, notes, tasks
from tenancy.types import Timestamp, new_id

KEPT_DAYS = 30
PURGED_AT_ONCE = 100
KINDS: Mapping[str, sa.Table] = {table.name: table for table in (categories, tasks, notes, events)}
"""The tables whose rows the bin takes, in the order in which they come back: what is referred to first."""

Members = dict[str, list[str]]
"""Names of tables, and the ids of the rows in them that a category held."""


def keep(repository: ScopedRepository, rows: Rows, members: Sequence[Members], batch: UUID) -> None:
    """Write rows of a repository into its owner's bin."""
    kind, now = repository.table.name, datetime.now(UTC)
    entries = [
        repository.set_user_id(
            {
                "id": new_id(),
                "batch": batch,
                "kind": kind,
                "title": row["name"] if kind == categories.name else row["title"],
                "row": _written({"row": row, "members": held}),
                "deleted_at": now,
            }
        )
        for row, held in zip(rows, members, strict=True)
    ]
    repository.session.execute(sa.insert(bin), entries)


def purge(repository: ScopedRepository) -> None:
    """Delete some of what has been in the owner's bin for too long: few at once, for it is done on the way."""
    statement = repository.apply_user_filter(sa.select(bin.c.id)).where(bin.c.deleted_at < kept_since())
    old = repository.session.execute(statement.order_by(bin.c.deleted_at).limit(PURGED_AT_ONCE)).scalars().all()
    if old:
        repository.session.execute(repository.apply_user_filter(sa.delete(bin)).where(bin.c.id.in_(old)))


def kept_since() -> datetime:
    """Give the moment before which everything in the bin counts as gone."""
    return datetime.now(UTC) - timedelta(days=KEPT_DAYS)


def read(kind: str, text: str) -> tuple[Row, Members]:
    """Give the row as its table takes it, and its members; a column that is no more is left out."""
    kept, table = json.loads(text), KINDS[kind]
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
