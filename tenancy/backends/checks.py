"""State how every product looks at databases without changing them.

``tenancy/fleet/verify.py``, ``tenancy/fleet/orphans.py`` and ``tenancy/monitoring`` call this through
``backend.checks``. Each product's ``checks.py`` implements it; ``server/checks.py`` has what the servers share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from tenancy.backends.access import Access
from tenancy.backends.inventory import InventoryItem


class Checks(ABC):
    """Look at tenants' databases, and at everything beside them."""

    @abstractmethod
    def looking(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Read over an open DBAPI connection, in a read-only transaction; the DBAPI connection is closed at the end."""

    @abstractmethod
    def scratch(self, access: Access) -> AbstractContextManager[sa.Connection]:
        """Make an empty database for the block, to see which schema revisions make; it is dropped afterwards."""

    def check_writable(self, driver: Any) -> None:  # noqa: B027 - a server answers this itself, when it is written to
        """Raise AccessDeniedError if this process may read a database's files but not write them."""

    def damage(self, connection: sa.Connection) -> str | None:
        """Say what is corrupt in a database's own storage; None if nothing is, or if the product cannot look."""
        return None

    @abstractmethod
    def dangling(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[str, str]]:
        """Find rows whose foreign key names no row: pairs of (their table, the parents' table), sorted.

        ``tables`` are the application's tables that exist in the database.
        """

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        """Name the tables on which the connection's login lacks a right that a tenant's login should have."""
        return []

    @abstractmethod
    def inventory(self, access: Access) -> Iterator[InventoryItem]:
        """List all that exists in one place (a folder, a server) under the names that this application gives.

        That is databases, logins, restore points and drafts, whether the catalog knows them or not.
        """
