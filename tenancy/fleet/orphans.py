"""Find databases, logins, files and restore points that the catalog does not know.

They are only reported, because a catalog restored from a backup may have forgotten a database that is in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from tenancy.backends.access import NO_ACCESS, Access
from tenancy.backends.inventory import InventoryItem, ItemKind
from tenancy.catalog import claims, leftovers, servers
from tenancy.catalog.tables import pending_databases, user_database_configs as table
from tenancy.errors import TenancyError
from tenancy.fleet.verify import Finding
from tenancy.lifecycle.operation import Operation
from tenancy.models import Server

TO_DO = "restore the catalog if it was lost; otherwise find out what it is before you remove anything"

MOST_LEFT = 1000
"""How many leftovers are reported at most; removing them shows the next."""


@dataclass(frozen=True)
class Known:
    """Hold the databases that the catalog knows at one place: (tenant id, user id) by name."""

    names: dict[str, tuple[str, int | None]]

    def knows(self, item: InventoryItem) -> bool:
        tenant_id, _ = self.names.get(item.database, ("", None))
        return bool(tenant_id) and (item.tenant_id is None or str(item.tenant_id) == tenant_id)


class Orphans(Operation):
    """Find what belongs to no tenant."""

    _left: frozenset[str] | set[str] = frozenset()

    def found(self) -> Iterator[Finding]:
        """Yield findings: leftovers first, then files, then server after server."""
        with self.catalog.reading() as connection:
            left = leftovers.page(connection, 0, MOST_LEFT)
        self._left = {each.db_path or each.db_name or "" for each in left}
        for each in left:
            where = each.db_path or f"{each.db_name} on {each.db_host}"
            cure = "`unify db leftovers --remove` or `manager.leftovers.clear()`"
            what = f"the database {where} was left behind ({each.reason}): {cure}"
            yield Finding("leftover", what, each.user_id, str(each.tenant_id))
        for backend in self.backends.registered():
            if not backend.on_server:
                known = self._known(table.c.db_path, table.c.db_type == backend.name)
                yield from self._of(backend.checks.inventory(NO_ACCESS), known, "beside the files")
        with self.catalog.reading() as connection:
            registered = servers.every(connection)
        for address in dict.fromkeys(each.address for each in registered):
            yield from self._on_server([each for each in registered if each.address == address])

    def _on_server(self, registered: list[Server]) -> Iterator[Finding]:
        """Yield what is on a server and known under none of the names that are registered for it."""
        server, ids = registered[0], [each.id for each in registered]
        known = self._known(table.c.db_name, table.c.server_id.in_(ids))
        waiting = pending_databases.c
        columns = sa.select(waiting.db_name, waiting.tenant_id).where(waiting.server_id.in_(ids))
        with self.catalog.reading() as connection:
            ready = {row[0]: (str(row[1]), None) for row in connection.execute(columns)}
        login = self.services.server_login(server)
        try:
            there = list(self.backends.get(server.db_type).checks.inventory(Access(None, login, server.installation)))
        except TenancyError as error:
            yield Finding(error.code, f"server {server.name}: {error.message}")
            return
        yield from self._of(iter(there), Known(known.names | ready), f"on server {server.name}")

    def _known(self, name: sa.ColumnElement[str], condition: sa.ColumnElement[bool]) -> Known:
        query = sa.select(name, table.c.tenant_id, table.c.user_id).where(condition, name.is_not(None))
        with self.catalog.reading() as connection:
            return Known({row[0]: (str(row[1]), row[2]) for row in connection.execute(query)})

    def _of(self, items: Iterator[InventoryItem], known: Known, where: str) -> Iterator[Finding]:
        for item in items:
            tenant_id, user_id = known.names.get(item.database, ("", None))
            if item.kind is ItemKind.PARTIAL and known.knows(item):
                if not self._is_made(item):
                    what = f"{item.name} was left by an attempt to make a database"
                    yield Finding("draft", what, user_id, tenant_id, repairable=True)
            elif item.database in self._left:
                continue
            elif item.kind in (ItemKind.SCRATCH, ItemKind.SIDE_FILE) or not known.knows(item):
                code = "side_file" if item.kind is ItemKind.SIDE_FILE else "orphan"
                yield Finding(code, f"the {item.kind} {item.name} {where} belongs to nobody in this catalog: {TO_DO}")

    def _is_made(self, item: InventoryItem) -> bool:
        """Return whether a running attempt is making this partial database."""
        if item.tenant_id is None:
            return False
        with self.catalog.reading() as connection:
            claim = claims.held(connection, item.tenant_id)
        return claim is not None and claim["attempt"] == item.attempt
