"""Look whether databases on servers are what they should be, and what else stands there; nothing of it is changed."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.logins import Access
from tenancy.backends.points import ServerPoints
from tenancy.backends.strays import Sort, Stray

_OURS = "unify_"
_SCRATCH = "unify_shape_"
_MADE_FOR_A_MOMENT = (_SCRATCH, "unify_draft_")


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
        name = f"{_SCRATCH}{uuid.uuid4().hex[:16]}"
        with closing(self.at_server(access.admin)) as driver:
            self.make_plain_database(driver, name)
            try:
                with self.migrating(self.open(access.admin.into(name))) as connection:
                    yield connection
            finally:
                self.drop_database(driver, name)

    def dangling(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[str, str]]:
        """Ask for each foreign key: it may have been switched off, or not checked when it was added."""
        keys = [(table, key) for table in tables for key in table.foreign_key_constraints]
        if not keys:
            return []
        row = connection.execute(sa.select(*(_orphaned(table, key) for table, key in keys))).one()
        found = {(table.name, key.referred_table.name) for (table, key), some in zip(keys, row, strict=True) if some}
        return sorted(found)

    def strays(self, access: Access) -> Iterator[Stray]:
        assert access.admin is not None  # noqa: S101 - a registered server has its login
        with closing(self.at_server(access.admin)) as driver, self.explained():
            databases, users = self.beside(driver, _OURS), self.logins(driver, _OURS)
        for name in databases:
            yield from _read(name)
        for name in users:
            database, owner, rest = names.planned_in(name) or ("", None, "")
            if database and not rest:
                yield Stray(Sort.LOGIN, name, database, owner)


def _read(name: str) -> Iterator[Stray]:
    database, owner, rest = names.planned_in(name) or ("", None, "")
    if name.startswith(_MADE_FOR_A_MOMENT):
        yield Stray(Sort.SCRATCH, name)
    elif database:
        yield Stray(Sort.POINT if rest else Sort.DATABASE, name, database, owner)


def _orphaned(table: sa.Table, key: sa.ForeignKeyConstraint) -> Any:
    """Count a table's rows that name a parent which is not there."""
    child, parent = table.alias(), key.referred_table.alias()
    pairs = [(child.c[each.parent.name], parent.c[each.column.name]) for each in key.elements]
    there = sa.exists().where(*(mine == theirs for mine, theirs in pairs))
    named = [mine.is_not(None) for mine, _ in pairs]
    return sa.select(sa.func.count()).select_from(child).where(*named, ~there).scalar_subquery()
