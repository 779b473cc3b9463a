"""Make the catalog: accounts, where their databases live, claims, sessions, keys, counters, audit log.

Revision 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

from tenancy.types import KeyText, Line, LongText, RowId, Timestamp, utc_now

revision = "0001"
down_revision = None

PORTABLE = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def placement_columns() -> list[sa.Column]:
    return [
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
    ]


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("email", Line(254), nullable=False),
        sa.Column("email_key", KeyText(320), nullable=False),
        sa.Column("display_name", Line(100), nullable=False),
        sa.Column("password_hash", sa.String(255)),
        sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("updated_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("last_seen_at", Timestamp),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email_key", name="uq_users_email_key"),
        sqlite_autoincrement=True,
        **PORTABLE,
    )
    op.create_table(
        "user_database_configs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        *placement_columns(),
        sa.PrimaryKeyConstraint("id", name="pk_user_database_configs"),
        sa.UniqueConstraint("user_id", name="uq_user_database_configs_user_id"),
        sa.UniqueConstraint("tenant_id", name="uq_user_database_configs_tenant_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_database_configs_user_id"),
        sqlite_autoincrement=True,
        **PORTABLE,
    )
    op.create_index("ix_user_database_configs_state", "user_database_configs", ["state", "user_id"])
    op.create_index("ix_user_database_configs_revision", "user_database_configs", ["revision", "user_id"])
    op.create_table(
        "shared_database",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        *placement_columns(),
        sa.PrimaryKeyConstraint("id", name="pk_shared_database"),
        sa.UniqueConstraint("tenant_id", name="uq_shared_database_tenant_id"),
        **PORTABLE,
    )
    op.create_table(
        "claims",
        sa.Column("tenant_id", RowId(), nullable=False),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("runner", Line(128)),
        sa.Column("expires_at", Timestamp),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_claims"),
        **PORTABLE,
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("expires_at", Timestamp, nullable=False),
        sa.Column("last_seen_at", Timestamp),
        sa.Column("user_agent", Line(200)),
        sa.Column("address", Line(64)),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
        **PORTABLE,
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "api_keys",
        sa.Column("id", RowId(), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("name", Line(100), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("read_only", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("expires_at", Timestamp),
        sa.Column("last_used_at", Timestamp),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id"),
        **PORTABLE,
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])
    op.create_table(
        "login_failures",
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("window_ends_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("scope", name="pk_login_failures"),
        **PORTABLE,
    )
    op.create_index("ix_login_failures_window_ends_at", "login_failures", ["window_ends_at"])
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("actor_id", sa.Integer),
        sa.Column("user_id", sa.Integer),
        sa.Column("tenant_id", RowId()),
        sa.Column("request_id", sa.String(64)),
        sa.Column("detail", LongText(), nullable=False),
        sa.Column("seal", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        **PORTABLE,
    )
    op.create_index("ix_audit_log_user_id", "audit_log", ["user_id"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("last_id", sa.Integer, nullable=False),
        sa.Column("seal", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        **PORTABLE,
    )
    # Here from the beginning, so that whoever appends first has a row to lock.
    op.bulk_insert(head, [{"id": 1, "last_id": 0, "seal": ""}])


def downgrade() -> None:
    for table in (
        "audit_head",
        "audit_log",
        "login_failures",
        "api_keys",
        "sessions",
        "claims",
        "shared_database",
        "user_database_configs",
        "users",
    ):
        op.drop_table(table)
