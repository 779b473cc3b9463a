"""Read the audit log, page by page or whole, and verify it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tenancy.catalog import Catalog
from tenancy.catalog.audit import AuditFilter

EXPORTED_AT_ONCE = 500


class AuditReports:
    """Read the audit log, as ``manager.audit``; it is written by ``catalog/audit.py``."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def page(
        self,
        *,
        action: str | None = None,
        user_id: int | None = None,
        actor_id: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """List rows, newest first; ``before_id`` is the last id of the page before."""
        wanted = AuditFilter(action, user_id, actor_id, since, until)
        with self._catalog.reading() as connection:
            return self._catalog.audit.page(connection, wanted, before_id=before_id, limit=limit)

    def entries(self, **asked: Any) -> Iterator[dict[str, Any]]:
        """Yield all that ``page`` lists with these filters, reading some rows at a time."""
        before: int | None = None
        while rows := self.page(**asked, before_id=before, limit=EXPORTED_AT_ONCE):
            yield from rows
            before = rows[-1]["id"]

    def actions(self) -> list[str]:
        with self._catalog.reading() as connection:
            return self._catalog.audit.actions(connection)

    def verify(self, expect: str | None = None) -> dict[str, Any]:
        """Check every row's seal; return ``{"rows", "head"}``, or raise AuditBrokenError."""
        with self._catalog.reading() as connection:
            return self._catalog.audit.verify(connection, expect)
