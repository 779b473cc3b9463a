"""Define the catalog's tables; the file of the same name in this folder reads and writes each of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenancy.names import EMAIL_KEY_MAX, EMAIL_MAX
from tenancy.types import NAMING, KeyText, Line, LongText, RowId, Timestamp, utc_now

CATALOG_VERSION_TABLE = "admin_version"

catalog_metadata = sa.MetaData(naming_convention=NAMING)

_NOW = utc_now()

users = sa.Table(
    "users",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", Line(EMAIL_MAX), nullable=False),
    sa.Column("email_key", KeyText(EMAIL_KEY_MAX), nullable=False, unique=True),
    sa.Column("display_name", Line(100), nullable=False),
    sa.Column("password_hash", sa.String(255)),
    sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("updated_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("last_seen_at", Timestamp),
    sa.Column("preferences", LongText()),
    sa.Column("database_epoch", sa.Integer),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "last_seen_at", "id"),
    sa.Index(None, "is_active", "is_admin"),
    sa.Index(None, "email_key", "display_name"),
    sqlite_autoincrement=True,
)


def _tenant_columns(*, unique: bool = True) -> list[sa.Column[Any]]:
    """Return the columns of ``Tenant``; with ``unique`` a table has at most one row for each tenant."""
    return [
        sa.Column("tenant_id", RowId(), nullable=False, unique=unique),
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
        sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
        sa.Column("updated_at", Timestamp, nullable=False, server_default=_NOW),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("server_id", sa.Integer),
        sa.Column("origin", sa.String(8)),
        sa.Column("usable_from", sa.String(64)),
        sa.Column("measured_at", Timestamp),
    ]


user_database_configs = sa.Table(
    "user_database_configs",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, unique=True),
    *_tenant_columns(),
    sa.Column("backed_up_at", Timestamp),
    sa.Index("ix_user_database_configs_state", "state", "user_id"),
    sa.Index("ix_user_database_configs_revision", "revision", "user_id"),
    sa.Index(None, "state", "db_type", "revision", "user_id"),
    sa.Index(None, "size_bytes", "user_id"),
    sa.Index(None, "server_id", "user_id"),
    sa.Index(None, "backed_up_at", "state"),
    sqlite_autoincrement=True,
)

shared_database = sa.Table(
    "shared_database",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    *_tenant_columns(),
)

database_servers = sa.Table(
    "database_servers",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Line(64), nullable=False),
    sa.Column("name_key", KeyText(64), nullable=False, unique=True),
    sa.Column("db_type", sa.String(16), nullable=False),
    sa.Column("db_host", Line(255), nullable=False),
    sa.Column("db_port", sa.Integer, nullable=False),
    sa.Column("db_user", Line(255), nullable=False),
    sa.Column("db_password", LongText(), nullable=False),
    sa.Column("db_options", LongText()),
    sa.Column("max_tenants", sa.Integer),
    sa.Column("weight", sa.Integer, nullable=False, server_default="1"),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("updated_at", Timestamp, nullable=False, server_default=_NOW),
    sqlite_autoincrement=True,
)

claims = sa.Table(
    "claims",
    catalog_metadata,
    sa.Column("tenant_id", RowId(), primary_key=True),
    sa.Column("operation", sa.String(32), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("runner", Line(128)),
    sa.Column("expires_at", Timestamp),
)

sessions = sa.Table(
    "sessions",
    catalog_metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False, index=True),
    sa.Column("last_seen_at", Timestamp),
    sa.Column("user_agent", Line(200)),
    sa.Column("address", Line(64)),
)

api_keys = sa.Table(
    "api_keys",
    catalog_metadata,
    sa.Column("id", RowId(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("name", Line(100), nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("key_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("read_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp),
    sa.Column("last_used_at", Timestamp),
    sa.Column("purpose", sa.String(16), nullable=False, server_default="api"),
    sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
)

login_failures = sa.Table(
    "login_failures",
    catalog_metadata,
    sa.Column("scope", sa.String(64), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("window_ends_at", Timestamp, nullable=False, index=True),
)

audit_log = sa.Table(
    "audit_log",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Timestamp, nullable=False, index=True),
    sa.Column("action", sa.String(64), nullable=False, index=True),
    sa.Column("actor_id", sa.Integer, index=True),
    sa.Column("user_id", sa.Integer, index=True),
    sa.Column("tenant_id", RowId()),
    sa.Column("request_id", sa.String(64)),
    sa.Column("detail", LongText(), nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
    sa.Column("actor", Line(200)),
)

audit_head = sa.Table(
    "audit_head",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_id", sa.Integer, nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
)

installation = sa.Table(
    "installation",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("mark", sa.String(6), nullable=False),
)
"""One row: the mark in all names that this installation creates on servers which others may share."""

recovery = sa.Table(
    "recovery",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("backup_id", RowId(), nullable=False),
    sa.Column("made_at", Timestamp, nullable=False),
    sa.Column("begun_at", Timestamp, nullable=False),
    sa.Column("ended_at", Timestamp),
    sa.Column("report", LongText(), nullable=False),
)
"""One row if this catalog was recovered from a backup: from which, and how far its tenants are."""

tenant_sizes = sa.Table(
    "tenant_sizes",
    catalog_metadata,
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
)

tenant_errors = sa.Table(
    "tenant_errors",
    catalog_metadata,
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("code", sa.String(64), primary_key=True),
    sa.Column("message", LongText(), nullable=False),
    sa.Column("first_at", Timestamp, nullable=False),
    sa.Column("last_at", Timestamp, nullable=False, index=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("request_id", sa.String(64)),
)

pending_databases = sa.Table(
    "pending_databases",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *_tenant_columns(),
    sa.Index(None, "server_id", "state", "id"),
    sqlite_autoincrement=True,
)
"""Databases that are kept ready for future users."""

leftover_databases = sa.Table(
    "leftover_databases",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, index=True),
    sa.Column("reason", sa.String(16), nullable=False),
    *_tenant_columns(unique=False),
    sa.Column("detail", LongText()),
    sqlite_autoincrement=True,
)
"""Databases that no tenant uses any more; a row is deleted once its database is gone."""

fleet_runs = sa.Table(
    "fleet_runs",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("state", sa.String(12), nullable=False, index=True),
    sa.Column("target", sa.String(64)),
    sa.Column("reverts", sa.Integer),
    sa.Column("selection", LongText(), nullable=False),
    sa.Column("options", LongText(), nullable=False),
    sa.Column("already", sa.Integer, nullable=False),
    sa.Column("reason", LongText()),
    sa.Column("actor_id", sa.Integer),
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("ended_at", Timestamp),
    sqlite_autoincrement=True,
)

fleet_items = sa.Table(
    "fleet_items",
    catalog_metadata,
    sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
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
    sa.Index(None, "run_id", "state", "wave", "db_type", "server_id", "user_id"),
)

backups = sa.Table(
    "backups",
    catalog_metadata,
    sa.Column("id", RowId(), primary_key=True),
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
    sa.Index(None, "tenant_id", "state", "started_at"),
    sa.Index(None, "user_id", "started_at"),
    sa.Index(None, "state", "started_at"),
    sa.Index(None, "started_at", "id"),
)
"""What is known of the backups in the storage; their signed records there are the truth."""

jobs = sa.Table(
    "jobs",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("arguments", LongText(), nullable=False),
    sa.Column("secrets", LongText()),
    sa.Column("had_secrets", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("key", Line(200)),
    sa.Column("open_key", sa.String(64), nullable=False, unique=True),
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
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("started_at", Timestamp),
    sa.Column("ended_at", Timestamp),
    sa.Index(None, "state", "due_at", "id"),
    sa.Index(None, "state", "expires_at", "id"),
    sqlite_autoincrement=True,
)
"""``open_key`` is unique: a digest of ``key`` while the job is unfinished, else of nothing that comes again."""

schedules = sa.Table(
    "schedules",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("cron", Line(100), nullable=False),
    sa.Column("zone", Line(64), nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("arguments", LongText(), nullable=False),
    sa.Column("next_due_at", Timestamp, nullable=False, index=True),
    sa.Column("last_job_id", sa.Integer),
    sa.Column("actor_id", sa.Integer),
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sqlite_autoincrement=True,
)

job_workers = sa.Table(
    "job_workers",
    catalog_metadata,
    sa.Column("id", RowId(), primary_key=True),
    sa.Column("host", Line(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("threads", sa.Integer, nullable=False),
    sa.Column("running", sa.Integer, nullable=False, server_default="0"),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("beaten_at", Timestamp, nullable=False, index=True),
)
"""One row for each process that takes jobs; it says how lately."""

SHARED_OWNER = 0
"""Means the shared database in ``tenant_sizes`` and ``tenant_errors``; no user has this id."""
