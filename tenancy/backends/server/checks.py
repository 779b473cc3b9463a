"""Look whether databases on servers are what they should be, and what else stands there; nothing of it is changed."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.inventory import InventoryItem, Sort
from tenancy.backends.server.restore_points import ServerPoints
from tenancy.errors import TenancyError

log = logging.getLogger(__name__)


class ServerChecks(ServerPoints):
    """Look at databases and servers."""

    # --- what each product says -------------------------------------------------------------------------

    @abstractmethod
    def open(self, login: Any) -> Any: ...

    @abstractmethod
    def filling(self, driver: Any) -> AbstractContextManager[sa.Connection]: ...

    @abstractmethod
    def make_plain_database(self, driver: Any, name: str) -> None: ...

    @abstractmethod
    def logins(self, driver: Any, prefix: str) -> list[str]:
        """List the logins whose names begin so."""

    # --- the contract -----------------------------------------------------------------------------------

    @contextmanager
    def looking(self, driver: Any) -> Iterator[sa.Connection]:
        with self.filling(driver) as connection:
            self.begin(connection, False)
            yield connection

    @contextmanager
    def scratch(self, access: Access) -> Iterator[sa.Connection]:
        assert access.admin is not None  # noqa: S101 - what stands on a server has a login
        name = names.scratch(access.installation)
        with closing(self.at_server(access.admin)) as driver:
            self.clear_scratch(driver, access.installation)
            with self.explained():
                self.lock(driver, _in_use(name))
            self.make_plain_database(driver, name)
            try:
                with self.migrating(self.open(access.admin.into(name))) as connection:
                    yield connection
            finally:
                self.drop_database(driver, name)

    def clear_scratch(self, driver: Any, installation: str) -> list[str]:
        """Drop this installation's scratch databases that a cut connection left: with it went the lock of their name.

        One that cannot be dropped stays.
        """
        dropped = []
        with self.explained():
            for name in self.beside(driver, names.SCRATCH):
                if names.installation_in(name) == installation and self.lock(driver, _in_use(name), 0):
                    try:
                        self.drop_database(driver, name)
                        dropped.append(name)
                    except TenancyError as error:
                        log.warning("the scratch database %s could not be dropped: %s", name, error.message)
        return dropped

    def dangling(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[str, str]]:
        """Ask for each foreign key: it may have been switched off, or not checked when it was added."""
        keys = [(table, key) for table in tables for key in table.foreign_key_constraints]
        if not keys:
            return []
        row = connection.execute(sa.select(*(_orphaned(table, key) for table, key in keys))).one()
        found = {(table.name, key.referred_table.name) for (table, key), some in zip(keys, row, strict=True) if some}
        return sorted(found)

    def strays(self, access: Access) -> Iterator[InventoryItem]:
        assert access.admin is not None  # noqa: S101 - a registered server has its login
        with closing(self.at_server(access.admin)) as driver, self.explained():
            databases, users = self.beside(driver, names.OURS), self.logins(driver, names.OURS)
        ours = ("", access.installation)
        for name in databases:
            if names.installation_in(name) in ours:
                yield from _read(name)
        for name in users:
            database, owner, rest = names.planned_in(name) or ("", None, "")
            if database and not rest and names.installation_in(name) in ours:
                yield InventoryItem(Sort.LOGIN, name, database, owner)


def _in_use(name: str) -> str:
    """Name the lock of whoever uses a scratch database; migrations in it have a lock of their own."""
    return f"scratch {name}"


def _read(name: str) -> Iterator[InventoryItem]:
    database, owner, rest = names.planned_in(name) or ("", None, "")
    if name.startswith((names.SCRATCH, names.PARTIAL)):
        yield InventoryItem(Sort.SCRATCH, name)
    elif database:
        yield InventoryItem(Sort.POINT if rest else Sort.DATABASE, name, database, owner)


def _orphaned(table: sa.Table, key: sa.ForeignKeyConstraint) -> Any:
    """Count a table's rows that name a parent which is not there."""
    child, parent = table.alias(), key.referred_table.alias()
    pairs = [(child.c[each.parent.name], parent.c[each.column.name]) for each in key.elements]
    there = sa.exists().where(*(mine == theirs for mine, theirs in pairs))
    named = [mine.is_not(None) for mine, _ in pairs]
    return sa.select(sa.func.count()).select_from(child).where(*named, ~there).scalar_subquery()
