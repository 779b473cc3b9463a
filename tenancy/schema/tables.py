"""Define tenancy's two tables in each tenant's database: the identity row and the ledger."""

from __future__ import annotations

import sqlalchemy as sa

from tenancy.types import NAMING, Line, RowId, Timestamp

TENANT_VERSION_TABLE = "tenant_version"

tenancy_tables = sa.MetaData(naming_convention=NAMING)

tenancy_identity = sa.Table(
    "tenancy_identity",
    tenancy_tables,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tenant_id", RowId(), nullable=False),
    sa.Column("user_id", sa.Integer),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
)

tenancy_ledger = sa.Table(
    "tenancy_ledger",
    tenancy_tables,
    sa.Column("id", RowId(), primary_key=True),
    sa.Column("revision", sa.String(64), nullable=False),
    sa.Column("direction", sa.String(12), nullable=False),
    sa.Column("checksum", sa.String(64), nullable=False),
    sa.Column("applied_at", Timestamp, nullable=False),
    sa.Column("duration_ms", sa.Integer, nullable=False),
    sa.Column("app_version", Line(64), nullable=False),
)
