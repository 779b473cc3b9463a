"""Define column types that keep the same values on SQLite, PostgreSQL, MySQL/MariaDB and SQL Server.

Both schemas (the catalog's in ``catalog/tables.py``, an application's own) and both migration chains are
written with these, so that every database is portable from its first revision.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import uuid_utils
from sqlalchemy.dialects import mssql, mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Give every constraint a name, so that each engine can drop it by that name."""


def new_id() -> uuid.UUID:
    """Make a row id: UUIDv7 (RFC 9562), so that ids made later sort later."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


def RowId() -> sa.Uuid[uuid.UUID]:  # noqa: N802 - reads as a type where columns are listed
    """Keep a UUID as 32 hexadecimal digits on every engine, so that it sorts alike on every engine."""
    return sa.Uuid(native_uuid=False)


def Line(length: int) -> TypeEngine[str]:  # noqa: N802 - reads as a type where columns are listed
    """Keep up to ``length`` characters (SQL Server counts an emoji as two of its NVARCHAR)."""
    return sa.Unicode(length).with_variant(mssql.NVARCHAR(length * 2), "mssql")


def LongText() -> TypeEngine[str]:  # noqa: N802 - reads as a type where columns are listed
    """Keep text of any length (MySQL's TEXT ends at 64 KiB, SQL Server's plain TEXT loses characters)."""
    return sa.UnicodeText().with_variant(mysql.LONGTEXT(), "mysql", "mariadb").with_variant(mssql.NVARCHAR(), "mssql")


class KeyText(TypeDecorator[str]):
    """Keep a folded name (see ``names.fold``) so that it compares byte by byte on every engine.

    SQL Server keeps its UTF-8 bytes: its default collations compare neither case nor width.
    """

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return mysql.VARCHAR(self.length, charset="utf8mb4", collation="utf8mb4_bin")
        if dialect.name == "mssql":
            return mssql.VARBINARY(min(self.length * 4, 1600))  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
        if dialect.name == "postgresql":
            return sa.String(self.length, collation="C")
        return sa.String(self.length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return value.encode() if value is not None and dialect.name == "mssql" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return value.decode() if isinstance(value, bytes) else value


class looked_in(sa.sql.functions.FunctionElement[str]):  # noqa: N801 - reads as a SQL function
    """Give a folded name to look for a part in; where it is kept as bytes, the shown one in small letters.

    Takes the ``KeyText`` column and the column it was folded from.
    """

    type = sa.String()
    inherit_cache = True


@compiles(looked_in)
def _looked_in(element: looked_in, compiler: Any, **kw: Any) -> str:
    key, _ = element.clauses
    return str(compiler.process(key, **kw))


@compiles(looked_in, "mssql")
def _looked_in_mssql(element: looked_in, compiler: Any, **kw: Any) -> str:
    _, shown = element.clauses
    return f"lower({compiler.process(shown, **kw)})"


def _moment(value: Any) -> datetime | None:
    """Read what a driver gives: a datetime, or SQLite's text, for which this is six times as fast as the usual way."""
    if not isinstance(value, str):
        return None if value is None else value.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(value + "+00:00")
    except ValueError:  # raw SQL may have written a date alone, or a zone
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Timestamp(TypeDecorator[datetime]):
    """Keep a moment in UTC with microseconds; takes and gives aware datetimes."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return mysql.DATETIME(fsp=6)
        if dialect.name == "mssql":
            return mssql.DATETIME2(6)  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
        return sa.DateTime()

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored")
        return value.astimezone(UTC).replace(tzinfo=None)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        return _moment


class utc_now(sa.sql.functions.FunctionElement[datetime]):  # noqa: N801 - reads as a SQL function
    """Ask the database for its own clock, in UTC with microseconds (SQLite: milliseconds)."""

    type = Timestamp()
    inherit_cache = True


@compiles(utc_now)
def _utc_now(element: utc_now, compiler: Any, **kw: Any) -> str:
    return "(timezone('utc', clock_timestamp()))"


@compiles(utc_now, "sqlite")
def _utc_now_sqlite(element: utc_now, compiler: Any, **kw: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


@compiles(utc_now, "mysql")
@compiles(utc_now, "mariadb")
def _utc_now_mysql(element: utc_now, compiler: Any, **kw: Any) -> str:
    return "(utc_timestamp(6))"


@compiles(utc_now, "mssql")
def _utc_now_mssql(element: utc_now, compiler: Any, **kw: Any) -> str:
    return "(sysutcdatetime())"
