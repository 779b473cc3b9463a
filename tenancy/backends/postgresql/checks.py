"""Look at databases of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenancy.backends.server.backend import rights_on
from tenancy.backends.server.checks import ServerChecks
from tenancy.backends.server.sql import one


class PostgreSQLChecks(ServerChecks):
    """Look at databases and servers."""

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        may = "SELECT has_table_privilege(quote_ident(%s), %s)"
        with self.backend.explained():
            return [
                table for table in tables if not all(one(driver, may, (table, right)) for right in rights_on(table))
            ]
