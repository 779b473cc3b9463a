"""Know the backups that lie in the storage, and when each user's database was last backed up.

Revision 0008. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import Line, LongText, RowId, Timestamp

revision = "0008"
down_revision = "0007"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
TABLE = "backups"
INDEXES = {
    "ix_backups_tenant_id_state_started_at": ["tenant_id", "state", "started_at"],
    "ix_backups_user_id_started_at": ["user_id", "started_at"],
    "ix_backups_state_started_at": ["state", "started_at"],
    "ix_backups_started_at_id": ["started_at", "id"],
}
CONFIGS = "user_database_configs"
COLUMN = "backed_up_at"
COLUMN_INDEX = "ix_user_database_configs_backed_up_at_state"


def upgrade() -> None:
    if not (repeats() and TABLE in sa.inspect(op.get_bind()).get_table_names()):
        create()
    for name, columns in INDEXES.items():
        if not (repeats() and name in indexes_of(TABLE)):
            op.create_index(op.f(name), TABLE, columns)
    if not (repeats() and COLUMN in columns_of(CONFIGS)):
        op.add_column(CONFIGS, sa.Column(COLUMN, Timestamp))
    if not (repeats() and COLUMN_INDEX in indexes_of(CONFIGS)):
        op.create_index(op.f(COLUMN_INDEX), CONFIGS, [COLUMN, "state"])


def downgrade() -> None:
    if not repeats() or COLUMN_INDEX in indexes_of(CONFIGS):
        op.drop_index(op.f(COLUMN_INDEX), table_name=CONFIGS)
    if not repeats() or COLUMN in columns_of(CONFIGS):
        op.drop_column(CONFIGS, COLUMN)
    if not repeats() or TABLE in sa.inspect(op.get_bind()).get_table_names():
        op.drop_table(TABLE)


def create() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", RowId(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("tenant_id", RowId()),
        sa.Column("user_id", sa.Integer),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("db_type", sa.String(16), nullable=False),
        sa.Column("revision", sa.String(64)),
        sa.Column("app_version", Line(64), nullable=False),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("finished_at", Timestamp),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("row_count", sa.BigInteger),
        sa.Column("checksum", sa.String(64)),
        sa.Column("plain_checksum", sa.String(64)),
        sa.Column("imprint", sa.String(64)),
        sa.Column("key_ids", Line(500), nullable=False),
        sa.Column("signed_by", sa.String(16), nullable=False),
        sa.Column("installation", sa.String(16), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("error", LongText()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("verified_at", Timestamp),
        sa.Column("verified_by", sa.String(16)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backups")),
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
