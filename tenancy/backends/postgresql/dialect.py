"""Extend SQLAlchemy's PostgreSQL dialect, so that engines of one server share what they learned about it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from tenancy.backends.server.engines import SharedDialect

SCHEME = "postgresql+unify"


class SharedPostgreSQLDialect(SharedDialect, PGDialect_psycopg2):
    """Know the server's version from the connection itself, and send no statement when a connection is opened.

    ``use_native_hstore`` would send one, for the number of the type hstore. In a new database that takes longer than
    connecting; SQLAlchemy can read hstore without it.
    """

    supports_statement_cache = True

    def __init__(self, **kw: Any) -> None:
        super().__init__(use_native_hstore=False, **kw)  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy

    def version_of(self, driver: Any) -> Any:
        return driver.server_version

    def schema_of(self, driver: Any) -> str | None:
        return "public"


registry.register("postgresql.unify", __name__, "SharedPostgreSQLDialect")
