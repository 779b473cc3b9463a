"""Keep the mark by which this installation's databases are told from another's on the same server.

Revision 0006. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import new_id

revision = "0006"
down_revision = "0005"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    if not (repeats() and there()):
        op.create_table(
            "installation",
            sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
            sa.Column("mark", sa.String(6), nullable=False),
            sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
            **PORTABLE,
        )
    kept = sa.table("installation", sa.column("id", sa.Integer), sa.column("mark", sa.String))
    if not (repeats() and op.get_bind().execute(sa.select(kept.c.mark)).first()):
        op.bulk_insert(kept, [{"id": 1, "mark": new_id().hex[-6:]}])


def downgrade() -> None:
    if not repeats() or there():
        op.drop_table("installation")


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def there() -> bool:
    return sa.inspect(op.get_bind()).has_table("installation")
