"""Keep jobs, schedules and the workers that take jobs.

Revision 0009. Where a database commits each DDL statement by itself (MySQL) a run that was cut off begins again
here, so what stands already is passed over.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

from tenancy.types import Line, LongText, RowId, Timestamp, utc_now

revision = "0009"
down_revision = "0008"

PORTABLE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
INDEXES = {
    "ix_jobs_state_due_at_id": ("jobs", ["state", "due_at", "id"]),
    "ix_jobs_state_expires_at_id": ("jobs", ["state", "expires_at", "id"]),
    "ix_schedules_next_due_at": ("schedules", ["next_due_at"]),
    "ix_job_workers_beaten_at": ("job_workers", ["beaten_at"]),
}


def upgrade() -> None:
    tables = set(sa.inspect(op.get_bind()).get_table_names()) if repeats() else set()
    for name, create in CREATE.items():
        if name not in tables:
            create()
    for name, (table, columns) in INDEXES.items():
        if not (repeats() and name in indexes_of(table)):
            op.create_index(op.f(name), table, columns)


def downgrade() -> None:
    tables = set(sa.inspect(op.get_bind()).get_table_names()) if repeats() else set(CREATE)
    for name in CREATE:
        if name in tables:
            op.drop_table(name)


def create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("arguments", LongText(), nullable=False),
        sa.Column("secrets", LongText()),
        sa.Column("had_secrets", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("key", Line(200)),
        sa.Column("open_key", sa.String(64), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("due_at", Timestamp, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("most_attempts", sa.Integer, nullable=False, server_default="1"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("interruptions", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cancelling", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("runner", Line(128)),
        sa.Column("expires_at", Timestamp),
        sa.Column("progress_done", sa.BigInteger),
        sa.Column("progress_total", sa.BigInteger),
        sa.Column("progress_text", Line(200)),
        sa.Column("result", LongText()),
        sa.Column("error", LongText()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("log", LongText()),
        sa.Column("actor_id", sa.Integer),
        sa.Column("schedule_id", sa.Integer),
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.Column("started_at", Timestamp),
        sa.Column("ended_at", Timestamp),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("open_key", name=op.f("uq_jobs_open_key")),
        sqlite_autoincrement=True,
        **PORTABLE,
    )


def create_schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("cron", Line(100), nullable=False),
        sa.Column("zone", Line(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("arguments", LongText(), nullable=False),
        sa.Column("next_due_at", Timestamp, nullable=False),
        sa.Column("last_job_id", sa.Integer),
        sa.Column("actor_id", sa.Integer),
        sa.Column("created_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sqlite_autoincrement=True,
        **PORTABLE,
    )


def create_job_workers() -> None:
    op.create_table(
        "job_workers",
        sa.Column("id", RowId(), nullable=False),
        sa.Column("host", Line(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("threads", sa.Integer, nullable=False),
        sa.Column("running", sa.Integer, nullable=False, server_default="0"),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("beaten_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_workers")),
        **PORTABLE,
    )


CREATE: dict[str, Callable[[], None]] = {
    "jobs": create_jobs,
    "schedules": create_schedules,
    "job_workers": create_job_workers,
}


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def indexes_of(table: str) -> set[str | None]:
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
