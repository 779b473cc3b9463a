"""Keep the database servers that operators register, and which of them each database stands on.

Revision 0003. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import KeyText, Line, LongText, Timestamp, utc_now

revision = "0003"
down_revision = "0002"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}

COLUMNS: dict[tuple[str, str], Any] = {
    (table, name): kind
    for table in ("user_database_configs", "shared_database")
    for name, kind in (("server_id", sa.Integer()), ("origin", sa.String(8)))
}
INDEX = "ix_user_database_configs_server_id_user_id"


def upgrade() -> None:
    if not (repeats() and "database_servers" in tables()):
        op.create_table(
            "database_servers",
            sa.Column("id", sa.Integer, nullable=False),
            sa.Column("name", Line(64), nullable=False),
            sa.Column("name_key", KeyText(64), nullable=False),
            sa.Column("db_type", sa.String(16), nullable=False),
            sa.Column("db_host", Line(255), nullable=False),
            sa.Column("db_port", sa.Integer, nullable=False),
            sa.Column("db_user", Line(255), nullable=False),
            sa.Column("db_password", LongText(), nullable=False),
            sa.Column("db_options", LongText()),
            sa.Column("max_tenants", sa.Integer),
            sa.Column("weight", sa.Integer, nullable=False, server_default="1"),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
            sa.Column("updated_at", Timestamp, nullable=False, server_default=utc_now()),
            sa.PrimaryKeyConstraint("id", name=op.f("pk_database_servers")),
            sa.UniqueConstraint("name_key", name=op.f("uq_database_servers_name_key")),
            sqlite_autoincrement=True,
            **PORTABLE,
        )
    for (table, name), kind in COLUMNS.items():
        if not (repeats() and name in columns_of(table)):
            op.add_column(table, sa.Column(name, kind))
    if not (repeats() and INDEX in indexes_of("user_database_configs")):
        op.create_index(op.f(INDEX), "user_database_configs", ["server_id", "user_id"])


def downgrade() -> None:
    if not repeats() or INDEX in indexes_of("user_database_configs"):
        op.drop_index(op.f(INDEX), table_name="user_database_configs")
    for table, name in COLUMNS:
        if not repeats() or name in columns_of(table):
            op.drop_column(table, name)
    if not repeats() or "database_servers" in tables():
        op.drop_table("database_servers")


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
