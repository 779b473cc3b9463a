"""Keep preferences, what a key is for, sizes by day and errors of tenants; index what lists of the catalog sort by.

Revision 0002. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import LongText, Timestamp

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

COLUMNS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("users", "preferences"): (LongText(),),
    ("api_keys", "purpose"): (sa.String(16), "api"),
    ("user_database_configs", "size_bytes"): (sa.BigInteger(),),
    ("shared_database", "size_bytes"): (sa.BigInteger(),),
}
"""Give each new column's type and, where it may not be NULL, what rows of before have."""

INDEXES = {
    "ix_users_created_at_id": ("users", ["created_at", "id"]),
    "ix_users_last_seen_at_id": ("users", ["last_seen_at", "id"]),
    "ix_users_is_active_is_admin": ("users", ["is_active", "is_admin"]),
    "ix_users_email_key_display_name": ("users", ["email_key", "display_name"]),
    "ix_user_database_configs_state_db_type_revision_user_id": (
        "user_database_configs",
        ["state", "db_type", "revision", "user_id"],
    ),
    "ix_user_database_configs_size_bytes_user_id": ("user_database_configs", ["size_bytes", "user_id"]),
    "ix_tenant_errors_last_at": ("tenant_errors", ["last_at"]),
    "ix_audit_log_action": ("audit_log", ["action"]),
    "ix_audit_log_actor_id": ("audit_log", ["actor_id"]),
    "ix_audit_log_at": ("audit_log", ["at"]),
}


def upgrade() -> None:
    for (table, name), (kind, *default) in COLUMNS.items():
        if not (repeats() and name in columns_of(table)):
            before = {"nullable": False, "server_default": default[0]} if default else {}
            op.add_column(table, sa.Column(name, kind, **before))
    create_table(
        "tenant_sizes",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "day", name=op.f("pk_tenant_sizes")),
    )
    create_table(
        "tenant_errors",
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("message", LongText(), nullable=False),
        sa.Column("first_at", Timestamp, nullable=False),
        sa.Column("last_at", Timestamp, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.PrimaryKeyConstraint("user_id", "code", name=op.f("pk_tenant_errors")),
    )
    for name, (table, columns) in INDEXES.items():
        if not (repeats() and name in indexes_of(table)):
            op.create_index(op.f(name), table, columns)


def downgrade() -> None:
    for name, (table, _) in INDEXES.items():
        if not repeats() or (table in tables() and name in indexes_of(table)):
            op.drop_index(op.f(name), table_name=table)
    for table in ("tenant_errors", "tenant_sizes"):
        if not repeats() or table in tables():
            op.drop_table(table)
    for table, name in COLUMNS:
        if not repeats() or name in columns_of(table):
            op.drop_column(table, name, mssql_drop_default=True)


def create_table(name: str, *items: Any) -> None:
    if not (repeats() and name in tables()):
        op.create_table(name, *items, **PORTABLE)


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def tables() -> set[str]:
    return set(sa.inspect(op.get_bind()).get_table_names())


def columns_of(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def indexes_of(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
