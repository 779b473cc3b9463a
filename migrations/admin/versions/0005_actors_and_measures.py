"""Keep who acted beside each audit row and when a size was measured; let a fleet run's work be found in one place.

Revision 0005. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

import sqlalchemy as sa
from alembic import op

from tenancy.types import Line, Timestamp

revision = "0005"
down_revision = "0004"

COLUMNS = {
    ("audit_log", "actor"): Line(200),
    ("user_database_configs", "measured_at"): Timestamp(),
    ("shared_database", "measured_at"): Timestamp(),
    ("pending_databases", "measured_at"): Timestamp(),
}
ITEMS = "fleet_items"
BEFORE = ["run_id", "state", "wave", "user_id"]
NOW = ["run_id", "state", "wave", "db_type", "server_id", "user_id"]


def upgrade() -> None:
    for (table, name), kind in COLUMNS.items():
        if not (repeats() and name in columns_of(table)):
            op.add_column(table, sa.Column(name, kind))
    replace_index(BEFORE, NOW)


def downgrade() -> None:
    replace_index(NOW, BEFORE)
    for table, name in COLUMNS:
        if not repeats() or name in columns_of(table):
            op.drop_column(table, name)


def replace_index(old: list[str], new: list[str]) -> None:
    if repeats() and not sa.inspect(op.get_bind()).has_table(ITEMS):
        return
    if not (repeats() and index(new) in indexes_of(ITEMS)):
        op.create_index(op.f(index(new)), ITEMS, new)
    if not repeats() or index(old) in indexes_of(ITEMS):
        op.drop_index(op.f(index(old)), table_name=ITEMS)


def index(columns: list[str]) -> str:
    return f"ix_{ITEMS}_{'_'.join(columns)}"


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def columns_of(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def indexes_of(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
