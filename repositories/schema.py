"""Define the application's tables in every tenant database.

The tables are created by ``migrations/tenant``; a test checks on every product that both agree. ``user_id`` is the
first column of each table's key and indexes, so connecting to a wrong database is not enough to see another user's
rows.

An event's ``starts_at`` may be NULL in the database, so that raw SQL needs no more than ``id``, ``user_id`` and
``title``; the repository requires it. A task's ``position`` is its place in the manual order, as a timestamp: later
means higher, so a new task is on top, and there is room between any two. ``due_time`` ("HH:MM") is local time of the
owner on ``due_date``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tenancy.models import TenantSchema
from tenancy.names import fold
from tenancy.types import NAMING, KeyText, Line, LongText, RowId, Timestamp, new_id, utc_now

TITLE_MAX = 200
LOCATION_MAX = 200
CATEGORY_NAME_MAX = 100
CATEGORY_KEY_MAX = 300
SETTING_KEY_MAX = 64
KIND_MAX = 16
STATUSES = ("todo", "doing", "done")
PRIORITIES = range(4)
UNCATEGORIZED = "Uncategorized"
UNCATEGORIZED_KEY = fold(UNCATEGORIZED)
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations" / "tenant"

metadata = sa.MetaData(naming_convention=NAMING)

# Without these MySQL and MariaDB use the server's defaults, and collations differ in whether "a" equals "A".
_PORTABLE: dict[str, Any] = {
    f"{product}_{option}": value
    for product in ("mysql", "mariadb")
    for option, value in {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}.items()
}


def _table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(name, metadata, *items, **_PORTABLE)


def _key() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", RowId(), primary_key=True),
    ]


def _category() -> list[sa.schema.SchemaItem]:
    """Return the column, foreign key and index of a category; the owner is part of the key, so it must be the same."""
    return [
        sa.Column("category_id", RowId()),
        sa.ForeignKeyConstraint(["user_id", "category_id"], ["categories.user_id", "categories.id"]),
        sa.Index(None, "user_id", "category_id"),
    ]


def _history() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("updated_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    ]


def _paged() -> list[sa.schema.SchemaItem]:
    return [*_history(), sa.Index(None, "user_id", "created_at", "id")]


categories = _table(
    "categories",
    *_key(),
    sa.Column("name", Line(CATEGORY_NAME_MAX), nullable=False),
    sa.Column("name_key", KeyText(CATEGORY_KEY_MAX), nullable=False),
    sa.Column("color", sa.String(7)),
    *_paged(),
    sa.UniqueConstraint("user_id", "name_key"),
)

tasks = _table(
    "tasks",
    *_key(),
    sa.Column("title", Line(TITLE_MAX), nullable=False),
    sa.Column("description", LongText()),
    sa.Column("status", sa.String(8), nullable=False, server_default=STATUSES[0]),
    sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("due_date", sa.Date),
    *_category(),
    *_paged(),
    sa.Column("position", Timestamp, nullable=False, server_default=utc_now()),
    sa.Column("due_time", sa.String(5)),
    sa.CheckConstraint("status IN ('todo', 'doing', 'done')", name="status"),
    sa.CheckConstraint("priority BETWEEN 0 AND 3", name="priority"),
    sa.Index(None, "user_id", "position", "id"),
    sa.Index(None, "user_id", "due_date"),
)

notes = _table(
    "notes",
    *_key(),
    sa.Column("title", Line(TITLE_MAX), nullable=False),
    sa.Column("body", LongText()),
    sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()),
    *_category(),
    *_paged(),
    sa.Index(None, "user_id", "pinned", "updated_at", "id"),
)

events = _table(
    "events",
    *_key(),
    sa.Column("title", Line(TITLE_MAX), nullable=False),
    sa.Column("description", LongText()),
    sa.Column("location", Line(LOCATION_MAX)),
    sa.Column("starts_at", Timestamp),
    sa.Column("ends_at", Timestamp),
    sa.Column("all_day", sa.Boolean, nullable=False, server_default=sa.false()),
    *_category(),
    *_paged(),
    sa.Index(None, "user_id", "starts_at"),
)

settings = _table(
    "settings",
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", KeyText(SETTING_KEY_MAX), primary_key=True),
    sa.Column("value", LongText(), nullable=False),
    *_history(),
)

bin = _table(
    "bin",
    *_key(),
    sa.Column("batch", RowId(), nullable=False),
    sa.Column("kind", sa.String(KIND_MAX), nullable=False),
    sa.Column("title", Line(TITLE_MAX), nullable=False),
    sa.Column("row", LongText(), nullable=False),
    sa.Column("deleted_at", Timestamp, nullable=False, server_default=utc_now()),
    sa.Index(None, "user_id", "deleted_at", "id"),
    sa.Index(None, "user_id", "batch"),
)

KINDS: Mapping[str, sa.Table] = {
    table.name: table for table in metadata.sorted_tables if {"id", "version"} <= {*table.c.keys()}
}
"""The tables whose rows the bin takes, in the order of restoring: referenced tables first."""

HOLDING = tuple(table for table in metadata.tables.values() if "category_id" in table.c)
"""The tables whose rows have a category."""


def label(table: sa.Table) -> str:
    """Return the column that names a row: the first text that has to be given."""
    texts = (column for column in table.c if isinstance(column.type, sa.String))
    return next(column.name for column in texts if not column.nullable and column.server_default is None)


def first_rows(user_id: int) -> Sequence[tuple[sa.Table, dict[str, Any]]]:
    """Return the rows of a new user's database: the category "Uncategorized"."""
    now = datetime.now(UTC)
    category = {"user_id": user_id, "id": new_id(), "name": UNCATEGORIZED, "name_key": UNCATEGORIZED_KEY}
    return [(categories, category | {"created_at": now, "updated_at": now})]


def tenant_schema(app_version: str) -> TenantSchema:
    """Describe these tables for ``tenancy``."""
    return TenantSchema(metadata=metadata, migrations=MIGRATIONS, first_rows=first_rows, app_version=app_version)
