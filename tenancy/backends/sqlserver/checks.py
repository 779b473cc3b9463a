"""Look at databases of SQL Server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenancy.backends.server.backend import rights_on
from tenancy.backends.server.checks import ServerChecks
from tenancy.backends.server.sql import one
from tenancy.backends.sqlserver.tables import q


class SQLServerChecks(ServerChecks):
    """Look at databases and servers."""

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        may = "SELECT HAS_PERMS_BY_NAME(?, 'OBJECT', ?)"
        with self.backend.explained():
            return [
                table
                for table in tables
                if not all(one(driver, may, (f"dbo.{q(table)}", right)) for right in rights_on(table))
            ]
