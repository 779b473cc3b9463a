"""Keep fleet runs, databases that stand ready for users to come, and which code a tenant is usable by.

Revision 0004. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import Line, LongText, RowId, Timestamp, utc_now

revision = "0004"
down_revision = "0003"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
INDEXES = {
    "ix_pending_databases_server_id_state_id": ("pending_databases", ["server_id", "state", "id"]),
    "ix_fleet_runs_state": ("fleet_runs", ["state"]),
    "ix_fleet_items_run_id_state_wave_user_id": ("fleet_items", ["run_id", "state", "wave", "user_id"]),
}


WITH_TENANTS = ("user_database_configs", "shared_database")
USABLE_FROM = "usable_from"


def upgrade() -> None:
    for name, create in TABLES.items():
        if not (repeats() and name in tables()):
            create()
    for name, (table, columns) in INDEXES.items():
        if not (repeats() and name in indexes_of(table)):
            op.create_index(op.f(name), table, columns)
    for table in WITH_TENANTS:
        if not (repeats() and USABLE_FROM in columns_of(table)):
            op.add_column(table, sa.Column(USABLE_FROM, sa.String(64)))


def downgrade() -> None:
    for table in WITH_TENANTS:
        if not repeats() or USABLE_FROM in columns_of(table):
            op.drop_column(table, USABLE_FROM)
    for name in reversed(TABLES):
        if not repeats() or name in tables():
            op.drop_table(name)


def create_pending() -> None:
    op.create_table(
        "pending_databases",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("tenant_id", RowId(), nullable=False),
        sa.Column("db_type", Line(50), nullable=False, server_default="sqlite"),
        sa.Column("db_host", Line(255)),
        sa.Column("db_port", sa.Integer),
        sa.Column("db_name", Line(255)),
        sa.Column("db_user", Line(255)),
        sa.Column("db_password", LongText()),
        sa.Column("db_path", Line(500)),
        sa.Column("db_options", LongText()),
        sa.Column("owned", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("epoch", sa.Integer, nullable=False, server_default="1"),
        sa.Column("revision", sa.String(64)),
        sa.Column("schema_fingerprint", sa.String(64)),
        sa.Column("last_error", LongText()),
        sa.Column("last_error_code", sa.String(64)),
        sa.Column("last_used_at", Timestamp),
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("updated_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("server_id", sa.Integer),
        sa.Column("origin", sa.String(8)),
        sa.Column("usable_from", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_databases")),
        sa.UniqueConstraint("tenant_id", name=op.f("uq_pending_databases_tenant_id")),
        sqlite_autoincrement=True,
        **PORTABLE,
    )


def create_runs() -> None:
    op.create_table(
        "fleet_runs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("target", sa.String(64)),
        sa.Column("reverts", sa.Integer),
        sa.Column("selection", LongText(), nullable=False),
        sa.Column("options", LongText(), nullable=False),
        sa.Column("already", sa.Integer, nullable=False),
        sa.Column("reason", LongText()),
        sa.Column("actor_id", sa.Integer),
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("ended_at", Timestamp),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet_runs")),
        sqlite_autoincrement=True,
        **PORTABLE,
    )


def create_items() -> None:
    op.create_table(
        "fleet_items",
        sa.Column("run_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("user_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("tenant_id", RowId(), nullable=False),
        sa.Column("db_type", sa.String(16), nullable=False),
        sa.Column("server_id", sa.Integer),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("from_revision", sa.String(64)),
        sa.Column("to_revision", sa.String(64)),
        sa.Column("before_state", sa.String(16)),
        sa.Column("restore_point", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("runner", Line(128)),
        sa.Column("started_at", Timestamp),
        sa.Column("ended_at", Timestamp),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("error", LongText()),
        sa.Column("error_code", sa.String(64)),
        sa.PrimaryKeyConstraint("run_id", "user_id", name=op.f("pk_fleet_items")),
        **PORTABLE,
    )


TABLES = {"pending_databases": create_pending, "fleet_runs": create_runs, "fleet_items": create_items}


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
