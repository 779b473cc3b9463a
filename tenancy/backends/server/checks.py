"""Look at databases on servers, and list what else is on a server; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.checks import Checks
from tenancy.backends.inventory import InventoryItem, ItemKind
from tenancy.backends.server.backend import ServerBackend, admin_of, scratch_lock


class ServerChecks(Checks):
    """Look at databases and servers."""

    def __init__(self, backend: ServerBackend) -> None:
        self.backend = backend

    @contextmanager
    def looking(self, driver: Any) -> Iterator[sa.Connection]:
        with self.backend.filling(driver) as connection:
            self.backend.begin(connection, False)
            yield connection

    @contextmanager
    def scratch(self, access: Access) -> Iterator[sa.Connection]:
        backend, admin, name = self.backend, admin_of(access), names.scratch(access.installation)
        with closing(backend.at_server(admin)) as driver:
            backend.clear_scratch(driver, access.installation)
            with backend.explained():
                backend.lock(driver, scratch_lock(name))
            backend.make_plain_database(driver, name)
            try:
                with backend.migrating(backend.open(admin.into(name))) as connection:
                    yield connection
            finally:
                backend.drop_database(driver, name)

    def dangling(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[str, str]]:
        """Count for each foreign key: a key may have been switched off, or added without a look at the rows."""
        keys = [(table, key) for table in tables for key in table.foreign_key_constraints]
        if not keys:
            return []
        row = connection.execute(sa.select(*(_orphaned(table, key) for table, key in keys))).one()
        found = {(table.name, key.referred_table.name) for (table, key), some in zip(keys, row, strict=True) if some}
        return sorted(found)

    def inventory(self, access: Access) -> Iterator[InventoryItem]:
        with self.backend.administering(access) as driver:
            databases, users = self.backend.databases(driver, names.OURS), self.backend.logins(driver, names.OURS)
        for name in databases:
            if names.is_of(access.installation, name):
                yield from _read(name)
        for name in users:
            database, owner, rest = names.planned_in(name) or ("", None, "")
            if database and not rest and names.is_of(access.installation, name):
                yield InventoryItem(ItemKind.LOGIN, name, database, owner)


def _read(name: str) -> Iterator[InventoryItem]:
    database, owner, rest = names.planned_in(name) or ("", None, "")
    if name.startswith((names.SCRATCH, names.PARTIAL)):
        yield InventoryItem(ItemKind.SCRATCH, name)
    elif database:
        yield InventoryItem(ItemKind.POINT if rest else ItemKind.DATABASE, name, database, owner)


def _orphaned(table: sa.Table, key: sa.ForeignKeyConstraint) -> Any:
    """Count the rows of a table whose foreign key names a parent that does not exist."""
    child, parent = table.alias(), key.referred_table.alias()
    pairs = [(child.c[each.parent.name], parent.c[each.column.name]) for each in key.elements]
    there = sa.exists().where(*(mine == theirs for mine, theirs in pairs))
    named = [mine.is_not(None) for mine, _ in pairs]
    return sa.select(sa.func.count()).select_from(child).where(*named, ~there).scalar_subquery()
