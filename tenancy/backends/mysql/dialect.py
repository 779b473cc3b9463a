"""Extend SQLAlchemy's MySQL dialect, so that engines of one server share what they learned about it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql

from tenancy.backends.mysql.driver import MODES
from tenancy.backends.server.engines import SharedDialect

SCHEME = "mysql+unify"


class SharedMySQLDialect(SharedDialect, MySQLDialect_pymysql):
    """Know the server's version from its greeting, and the SQL mode because we set it: no statement asks for them."""

    supports_statement_cache = True

    def version_of(self, driver: Any) -> Any:
        return (driver.get_server_info(), MODES)

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Set the level alone, and not the driver's autocommit: our own START TRANSACTION begins a transaction."""
        if level != "AUTOCOMMIT":
            dbapi_connection.query(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")

    def schema_of(self, driver: Any) -> str | None:
        name = driver.db
        return name.decode() if isinstance(name, bytes) else name


registry.register("mysql.unify", __name__, "SharedMySQLDialect")
