"""Let tasks be put in an order and have a time of day, keep deleted rows in a bin, and index the pages' lists.

Revision 0002, after 0001. Where a database commits each DDL statement by itself (MySQL) a run that was cut off
begins again here, so what stands already is passed over. SQLite changes a column by rebuilding its table, which the
application does on a connection that has foreign keys off and checks them before it commits.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import Line, LongText, RowId, Timestamp, utc_now

revision = "0002"
down_revision = "0001"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
INDEXES = {
    "ix_tasks_user_id_position_id": ("tasks", ["user_id", "position", "id"]),
    "ix_tasks_user_id_due_date": ("tasks", ["user_id", "due_date"]),
    "ix_notes_user_id_pinned_updated_at_id": ("notes", ["user_id", "pinned", "updated_at", "id"]),
}
BIN_INDEXES = {
    "ix_bin_user_id_deleted_at_id": ("bin", ["user_id", "deleted_at", "id"]),
    "ix_bin_user_id_batch": ("bin", ["user_id", "batch"]),
}


def upgrade() -> None:
    add_column(sa.Column("due_time", sa.String(5)))
    add_position()
    if not (repeats() and "bin" in sa.inspect(op.get_bind()).get_table_names()):
        create_bin()
    for name, (table, columns) in (INDEXES | BIN_INDEXES).items():
        if not (repeats() and name in indexes(table)):
            op.create_index(op.f(name), table, columns)


def add_position() -> None:
    """Put each task where it was made; from here on a new one begins at the present moment."""
    if op.get_context().dialect.name == "mssql":  # a default fills in the rows that are there
        add_column(sa.Column("position", Timestamp, nullable=False, server_default=utc_now()))
        op.execute("UPDATE tasks SET position = created_at")
        return
    # NULL at first: MySQL fills no rows in by a default that is not constant.
    add_column(sa.Column("position", Timestamp))
    op.execute("UPDATE tasks SET position = created_at WHERE position IS NULL")
    with op.batch_alter_table("tasks", copy_from=tasks()) as batch:
        batch.alter_column("position", existing_type=Timestamp(), nullable=False, server_default=utc_now())


def downgrade() -> None:
    if not repeats() or "bin" in sa.inspect(op.get_bind()).get_table_names():
        op.drop_table("bin")
    for name, (table, _) in INDEXES.items():
        if not repeats() or name in indexes(table):
            op.drop_index(op.f(name), table)
    for name in ("position", "due_time"):
        if not repeats() or name in columns_of_tasks():
            op.drop_column("tasks", name, mssql_drop_default=True)


def add_column(column: sa.Column[Any]) -> None:
    if not (repeats() and column.name in columns_of_tasks()):
        op.add_column("tasks", column)


def create_bin() -> None:
    op.create_table(
        "bin",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", RowId(), nullable=False),
        sa.Column("batch", RowId(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("title", Line(200), nullable=False),
        sa.Column("row", LongText(), nullable=False),
        sa.Column("deleted_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_bin")),
        **PORTABLE,
    )


def tasks() -> sa.Table:
    """Describe the tasks of revision 0001 with the new columns: what is rebuilt must not be guessed from SQLite."""
    metadata = sa.MetaData()
    sa.Table("categories", metadata, sa.Column("user_id", sa.Integer), sa.Column("id", RowId()))
    return sa.Table(
        "tasks",
        metadata,
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", RowId(), nullable=False),
        sa.Column("title", Line(200), nullable=False),
        sa.Column("description", LongText()),
        sa.Column("status", sa.String(8), nullable=False, server_default="todo"),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("due_date", sa.Date),
        sa.Column("category_id", RowId()),
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("updated_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("position", Timestamp),
        sa.Column("due_time", sa.String(5)),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_tasks")),
        sa.ForeignKeyConstraint(
            ["user_id", "category_id"],
            ["categories.user_id", "categories.id"],
            name=op.f("fk_tasks_user_id_category_id"),
        ),
        sa.CheckConstraint("status IN ('todo', 'doing', 'done')", name=op.f("ck_tasks_status")),
        sa.CheckConstraint("priority BETWEEN 0 AND 3", name=op.f("ck_tasks_priority")),
        sa.Index("ix_tasks_user_id_created_at_id", "user_id", "created_at", "id"),
        sa.Index("ix_tasks_user_id_category_id", "user_id", "category_id"),
    )


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def columns_of_tasks() -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns("tasks")}


def indexes(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
