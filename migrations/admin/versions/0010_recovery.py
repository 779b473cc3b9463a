"""Hold API keys until an operator confirms them, and keep that the catalog was recovered, and how far that came.

Revision 0010. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import LongText, RowId, Timestamp

revision = "0010"
down_revision = "0009"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
TABLE = "recovery"
HELD = "held"


def upgrade() -> None:
    if not (repeats() and HELD in columns_of("api_keys")):
        op.add_column("api_keys", sa.Column(HELD, sa.Boolean, nullable=False, server_default=sa.false()))
    if not (repeats() and there()):
        op.create_table(
            TABLE,
            sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
            sa.Column("backup_id", RowId(), nullable=False),
            sa.Column("made_at", Timestamp, nullable=False),
            sa.Column("begun_at", Timestamp, nullable=False),
            sa.Column("ended_at", Timestamp),
            sa.Column("report", LongText(), nullable=False),
            sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery")),
            **PORTABLE,
        )


def downgrade() -> None:
    if not repeats() or there():
        op.drop_table(TABLE)
    if not repeats() or HELD in columns_of("api_keys"):
        op.drop_column("api_keys", HELD, mssql_drop_default=True)


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def there() -> bool:
    return sa.inspect(op.get_bind()).has_table(TABLE)


def columns_of(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
