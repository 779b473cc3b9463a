"""Give new databases their schema by replaying statements, on products that cannot copy a database.

The first database that needs a schema is built by its migrations. What made it is kept in memory for the rest of the
process: either a dump of the finished database (``ReplayingBackend.dump``), or else the statements that the migrations
sent. Further databases get those statements, without Alembic and without any look at what exists.
"""

from __future__ import annotations

import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from tenancy.backends.access import Access
from tenancy.backends.base import Blueprint
from tenancy.backends.server.backend import ServerBackend
from tenancy.models import Origin, Tenant

Statement = tuple[str, Any]
"""One statement as the driver got it, and its values."""

_CHANGES = re.compile(r"\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)


class ReplayingBackend(ServerBackend):
    """Build the schema of a tenant's database by migrations once per process, and by replayed statements after that."""

    def __init__(self) -> None:
        super().__init__()
        self._recordings = Recordings()

    @abstractmethod
    def replay(self, driver: Any, tenant: Tenant, access: Access, statements: list[Statement]) -> None:
        """Run recorded statements in a tenant's new, empty database; ``driver`` is connected to its server."""

    def dump(self, connection: sa.Connection) -> list[Statement] | None:
        """Return statements that make the database of a connection, if the product can list them."""
        return None

    def make_database(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        self.make_plain_database(driver, tenant.db_name or "")

    def build_schema(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        if tenant.origin != Origin.SERVER:
            return

        def migrating() -> AbstractContextManager[sa.Connection]:
            return self.migrating(self.connect_to_migrate(tenant, access))

        with self.explained():
            known = self._recordings.known((tenant.db_host, tenant.db_port), blueprint, migrating, self.dump)
            if known is not None:
                self.replay(driver, tenant, access, known)


class Recordings:
    """Remember what makes each schema on each server: the same statements may differ between versions of a product."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, str], list[Statement]] = {}
        self._lock = threading.Lock()

    def known(
        self,
        server: object,
        blueprint: Blueprint,
        migrating: Callable[[], AbstractContextManager[sa.Connection]],
        dump: Callable[[sa.Connection], list[Statement] | None],
    ) -> list[Statement] | None:
        """Return the statements that make a schema; or build it over ``migrating()``, remember how, and return None.

        Threads that need a new schema at once build it one after another.
        """
        with self._lock:
            key = (server, blueprint.fingerprint)
            if key not in self._kept:
                with migrating() as connection, _recorded(connection) as statements:
                    blueprint.build(connection)
                    self._kept[key] = dump(connection) or statements
                return None
            return self._kept[key]


@contextmanager
def _recorded(connection: sa.Connection) -> Iterator[list[Statement]]:
    """Collect the statements of a block that change something."""
    statements: list[Statement] = []

    def keep(_: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if _CHANGES.match(statement):
            statements.extend((statement, each) for each in (values if many else [values]))

    event.listen(connection, "after_cursor_execute", keep)
    try:
        yield statements
    finally:
        event.remove(connection, "after_cursor_execute", keep)
