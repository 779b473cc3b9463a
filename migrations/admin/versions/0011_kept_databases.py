"""Note beside a database that a restore replaced what took its place.

Revision 0011. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

import sqlalchemy as sa
from alembic import op

from tenancy.types import LongText

revision = "0011"
down_revision = "0010"

TABLE = "leftover_databases"
DETAIL = "detail"


def upgrade() -> None:
    if not (repeats() and DETAIL in columns_of(TABLE)):
        op.add_column(TABLE, sa.Column(DETAIL, LongText()))


def downgrade() -> None:
    if not repeats() or DETAIL in columns_of(TABLE):
        op.drop_column(TABLE, DETAIL)


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def columns_of(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
