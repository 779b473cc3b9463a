"""Keep databases that were left behind until they are gone, and the highest epoch that each user's databases had.

Revision 0007. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import Line, LongText, RowId, Timestamp, utc_now

revision = "0007"
down_revision = "0006"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
TABLE = "leftover_databases"
INDEX = "ix_leftover_databases_user_id"
EPOCH = "database_epoch"


def upgrade() -> None:
    if not (repeats() and TABLE in sa.inspect(op.get_bind()).get_table_names()):
        create()
    if not (repeats() and INDEX in indexes_of(TABLE)):
        op.create_index(op.f(INDEX), TABLE, ["user_id"])
    if not (repeats() and EPOCH in columns_of("users")):
        op.add_column("users", sa.Column(EPOCH, sa.Integer))


def downgrade() -> None:
    if not repeats() or EPOCH in columns_of("users"):
        op.drop_column("users", EPOCH)
    if not repeats() or TABLE in sa.inspect(op.get_bind()).get_table_names():
        op.drop_table(TABLE)


def create() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer),
        sa.Column("reason", sa.String(16), nullable=False),
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
        sa.Column("measured_at", Timestamp),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leftover_databases")),
        sqlite_autoincrement=True,
        **PORTABLE,
    )


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def columns_of(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def indexes_of(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
