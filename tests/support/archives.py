"""Help to test archives: a schema with a column of every kind, its chain, rows that fill it, and databases of it."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tenancy.archive.encryption import Identities, Recipients, generate_identity
from tenancy.archive.export import checksums_of, write_archive
from tenancy.archive.format import Contents, Header
from tenancy.archive.load import reading
from tenancy.archive.tables import Schema
from tenancy.backends.base import Blueprint
from tenancy.models import Tenant
from tenancy.schema.chain import Chain
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_identity, tenancy_tables
from tenancy.types import NAMING, KeyText, Line, LongText, RowId, Timestamp
from tests.support.homes import Home, attempt

metadata = sa.MetaData(naming_convention=NAMING)
parents = sa.Table(
    "zz_parents",
    metadata,
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", RowId(), primary_key=True),
    sa.Column("above", RowId()),
    sa.ForeignKeyConstraint(["user_id", "above"], ["zz_parents.user_id", "zz_parents.id"]),
)
values = sa.Table(
    "values",
    metadata,
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", KeyText(100), primary_key=True),
    sa.Column("parent", RowId()),
    sa.Column("line", Line(200)),
    sa.Column("words", LongText()),
    sa.Column("small", sa.SmallInteger),
    sa.Column("big", sa.BigInteger),
    sa.Column("flag", sa.Boolean),
    sa.Column("moment", Timestamp),
    sa.Column("day", sa.Date),
    sa.Column("amount", sa.Numeric(15, 4)),
    sa.Column("real", sa.Double),
    sa.Column("raw", sa.LargeBinary),
    sa.ForeignKeyConstraint(["user_id", "parent"], ["zz_parents.user_id", "zz_parents.id"]),
)

REVISION = '''
"""Make the tables."""
from alembic import op
from tests.support.archives import metadata
revision, down_revision = "0001", None

def upgrade():
    metadata.create_all(op.get_bind())

def downgrade():
    metadata.drop_all(op.get_bind())
'''

PARENTS = [uuid.UUID(int=n) for n in (1, 2, 3)]
EMPTY = dict.fromkeys((column.name for column in values.columns), None)
ROWS: list[dict[str, Any]] = [
    {"key": "all", "parent": PARENTS[1], "line": "a line", "words": "wörds", "small": 1, "big": 2, "flag": True}
    | {"moment": datetime(2026, 2, 28, 23, 59, 59, 999_999, UTC), "day": date(2024, 2, 29)}
    | {"amount": Decimal("12345678901.2345"), "real": 0.1, "raw": bytes(range(256))},
    {"key": "largest", "small": 2**15 - 1, "big": 2**63 - 1, "moment": datetime.max.replace(tzinfo=UTC)}
    | {"day": date.max, "amount": Decimal("99999999999.9999"), "real": 1.7976931348623157e308},
    {"key": "smallest", "small": -(2**15), "big": -(2**63), "moment": datetime(1000, 1, 1, tzinfo=UTC)}
    | {"day": date(1000, 1, 1), "amount": Decimal("-0.0001"), "real": 5e-324, "flag": False},
    {"key": "empty", "line": "", "words": "", "raw": b"", "amount": Decimal(0), "real": 0.0, "small": 0, "big": 0},
    {"key": "nothing"},
    {
        "key": "planes",
        "line": "é ☃ 😀 𒀀 \U0010fffd \ufffd",
        "words": "\x01\x1f\x7f\u2028\ufeff e\u0301 \\u0000 \\ \" ' %s ?",
    },
    {"key": "ends in a blank", "line": "blank ", "words": "\r\n\t"},
    {"key": "Ä", "amount": Decimal("100"), "real": 1e16, "moment": datetime(2026, 1, 1, tzinfo=UTC)},
    {"key": "😀", "amount": Decimal("1.5"), "real": -2.5},
    {"key": "\ufffd"},
]
"""A row of every kind of value; keys whose order by code point is not the order of any language."""


@cache
def keys() -> tuple[str, str]:
    return generate_identity()


def recipients() -> Recipients:
    return Recipients.of([keys()[0]])


def identities() -> Identities:
    return Identities.of([keys()[1]])


def schema_in(folder: Path) -> Schema:
    """Write the chain into a folder and describe it."""
    versions = folder / "chain" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / "0001_first.py").write_text(REVISION)
    return Schema(metadata, Chain(folder / "chain", TENANT_VERSION_TABLE))


def header(**changes: Any) -> Header:
    said = {"tenant_id": uuid.UUID(int=7), "user_id": 1, "db_type": "sqlite", "revision": "0001", "app_version": "1"}
    return Header(**{**said, **changes})


@contextmanager
def database(home: Home, schema: Schema, rows: bool = False) -> Iterator[Tenant]:
    """Make a tenant's database at the chain's head, with or without the rows, and drop it."""
    tenant = home.place()

    def build(connection: sa.Connection) -> None:
        tenancy_tables.create_all(connection)
        connection.commit()
        schema.chain.upgrade(connection, transactional_ddl=home.backend.transactional_ddl)

    def fill(connection: sa.Connection) -> None:
        now = sa.func.current_timestamp()
        kept = {"id": 1, "tenant_id": tenant.tenant_id, "user_id": tenant.user_id, "kind": "tenant", "epoch": 1}
        connection.execute(tenancy_identity.insert().values(state="ready", created_at=now, **kept))
        if rows:
            put_rows(connection)

    home.create(tenant, Blueprint(schema.chain.fingerprint, build, fill), attempt())
    try:
        yield tenant
    finally:
        home.drop(tenant)


def put_rows(connection: sa.Connection) -> None:
    above = [None, PARENTS[0], PARENTS[0]]
    connection.execute(
        parents.insert(), [{"user_id": 1, "id": id, "above": up} for id, up in zip(PARENTS, above, strict=True)]
    )
    connection.execute(values.insert(), [EMPTY | row | {"user_id": 1} for row in ROWS])


def exported(home: Home, tenant: Tenant, schema: Schema, **how: Any) -> tuple[bytes, Contents]:
    """Make an archive of a database."""
    sink = io.BytesIO()
    with home.backend.copying.snapshot(tenant, home.access(tenant)) as connection:
        made = write_archive(connection, home.backend, header(), sink, recipients(), schema=schema, **how)
    return sink.getvalue(), made


def load(home: Home, tenant: Tenant, schema: Schema, archive: bytes, **how: Any) -> Contents:
    """Load an archive into a database."""
    with (
        home.backend.copying.loading(tenant, home.access(tenant)) as connection,
        reading(io.BytesIO(archive), identities()) as found,
    ):
        made = found.load(connection, home.backend, schema=schema, **how)
        connection.commit()
    return made


def held(home: Home, tenant: Tenant, schema: Schema) -> Contents:
    with home.backend.copying.snapshot(tenant, home.access(tenant)) as connection:
        return checksums_of(connection, home.backend, schema=schema)
