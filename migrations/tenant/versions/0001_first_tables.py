"""Make categories, tasks, notes, events and settings.

Revision 0001, the first. Where a database commits each DDL statement by itself (MySQL) a run that was cut off
begins again here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import KeyText, Line, LongText, RowId, Timestamp, utc_now

revision = "0001"
down_revision = None

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def history() -> list[sa.Column]:
    return [
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("updated_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    ]


def upgrade() -> None:
    create_table(
        "categories",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", RowId(), nullable=False),
        sa.Column("name", Line(100), nullable=False),
        sa.Column("name_key", KeyText(300), nullable=False),
        sa.Column("color", sa.String(7)),
        *history(),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_categories")),
        sa.UniqueConstraint("user_id", "name_key", name=op.f("uq_categories_user_id_name_key")),
    )
    create_index("ix_categories_user_id_created_at_id", "categories", ["user_id", "created_at", "id"])
    create_table(
        "tasks",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", RowId(), nullable=False),
        sa.Column("title", Line(200), nullable=False),
        sa.Column("description", LongText()),
        sa.Column("status", sa.String(8), nullable=False, server_default="todo"),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("due_date", sa.Date),
        sa.Column("category_id", RowId()),
        *history(),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_tasks")),
        category_key("tasks"),
        sa.CheckConstraint("status IN ('todo', 'doing', 'done')", name=op.f("ck_tasks_status")),
        sa.CheckConstraint("priority BETWEEN 0 AND 3", name=op.f("ck_tasks_priority")),
    )
    create_index("ix_tasks_user_id_created_at_id", "tasks", ["user_id", "created_at", "id"])
    create_index("ix_tasks_user_id_category_id", "tasks", ["user_id", "category_id"])
    create_table(
        "notes",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", RowId(), nullable=False),
        sa.Column("title", Line(200), nullable=False),
        sa.Column("body", LongText()),
        sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("category_id", RowId()),
        *history(),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_notes")),
        category_key("notes"),
    )
    create_index("ix_notes_user_id_created_at_id", "notes", ["user_id", "created_at", "id"])
    create_index("ix_notes_user_id_category_id", "notes", ["user_id", "category_id"])
    create_table(
        "events",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", RowId(), nullable=False),
        sa.Column("title", Line(200), nullable=False),
        sa.Column("description", LongText()),
        sa.Column("location", Line(200)),
        sa.Column("starts_at", Timestamp),
        sa.Column("ends_at", Timestamp),
        sa.Column("all_day", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("category_id", RowId()),
        *history(),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_events")),
        category_key("events"),
    )
    create_index("ix_events_user_id_created_at_id", "events", ["user_id", "created_at", "id"])
    create_index("ix_events_user_id_category_id", "events", ["user_id", "category_id"])
    create_index("ix_events_user_id_starts_at", "events", ["user_id", "starts_at"])
    create_table(
        "settings",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("key", KeyText(64), nullable=False),
        sa.Column("value", LongText(), nullable=False),
        *history(),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_settings")),
    )


def downgrade() -> None:
    for table in ("settings", "events", "notes", "tasks", "categories"):
        if not repeats() or table in existing():
            op.drop_table(table)


def category_key(table: str) -> sa.ForeignKeyConstraint:
    """Hold a row to a category of its own owner. No ON clause: SET NULL would null the owner too."""
    return sa.ForeignKeyConstraint(
        ["user_id", "category_id"],
        ["categories.user_id", "categories.id"],
        name=op.f(f"fk_{table}_user_id_category_id"),
    )


def create_table(name: str, *items: Any) -> None:
    if not (repeats() and name in existing()):
        op.create_table(name, *items, **PORTABLE)


def create_index(name: str, table: str, columns: list[str]) -> None:
    if not (repeats() and name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}):
        op.create_index(op.f(name), table, columns)


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def existing() -> set[str]:
    return set(sa.inspect(op.get_bind()).get_table_names())
