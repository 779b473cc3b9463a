"""Look at databases of MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from tenancy.backends.server.backend import rights_on
from tenancy.backends.server.checks import ServerChecks


class MySQLChecks(ServerChecks):
    """Look at databases and servers."""

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        """Compare with what was granted to this very login: ``grant_rights`` names each table."""
        name, host = (f"QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', {which}))" for which in (1, -1))
        me = f"CONCAT({name}, '@', {host})"
        granted = (
            "SELECT table_name, privilege_type FROM information_schema.table_privileges WHERE table_schema = DATABASE()"
        )
        with self.backend.explained(), closing(driver.cursor()) as cursor:
            cursor.execute(f"{granted} AND grantee = {me}")
            found = set(cursor.fetchall())
        return [table for table in tables if not {(table, right) for right in rights_on(table)} <= found]
