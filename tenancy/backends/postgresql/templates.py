"""Keep the templates that tenants' databases are copied from: one for each schema and installation on a server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.base import Blueprint
from tenancy.backends.postgresql.rights import (
    OWNERS_OF_PUBLIC,
    alone,
    commit,
    keep_closed,
    own,
    refuse_makers_of_tables,
    tenant_rights,
    there,
)
from tenancy.backends.server.backend import admin_of
from tenancy.backends.server.sql import run
from tenancy.errors import TenancyError

if TYPE_CHECKING:
    from tenancy.backends.postgresql.backend import PostgreSQLBackend

log = logging.getLogger(__name__)


class Templates:
    """Make and drop templates, under a lock of the server: the caller of ``make`` and ``drop_all`` holds it."""

    def __init__(self, backend: PostgreSQLBackend, lock: int) -> None:
        self.backend = backend
        self._lock = lock

    @contextmanager
    def locked(self, driver: Any) -> Iterator[None]:
        run(driver, f"SELECT pg_advisory_lock({self._lock})")
        try:
            yield
        finally:
            run(driver, f"SELECT pg_advisory_unlock({self._lock})")

    def make(self, driver: Any, access: Access, blueprint: Blueprint) -> None:
        """Make the template of a schema, unless it exists.

        It is built under the name of a draft and then renamed, so that a database with a template's name is whole.
        """
        name, draft = names.template(access.installation, blueprint.fingerprint), names.partial(access.installation)
        if there(driver, name) or self._taken_over(driver, blueprint, name):
            return
        backend = self.backend
        backend.make_plain_database(driver, draft)
        try:
            with backend.migrating(backend.open(admin_of(access).into(draft))) as connection:
                blueprint.build(connection)
                commit(connection, *tenant_rights())
                refuse_makers_of_tables(connection.connection.dbapi_connection)
            alone(driver, draft, f"{keep_closed(draft)};{_rename(draft, name)}")
        except BaseException:
            backend.undo("draft", backend.drop_database, driver, draft)
            raise

    def drop_all(self, driver: Any, installation: str, *, but: str) -> list[str]:
        """Drop this installation's templates ``but`` one, and its drafts; return their names.

        No draft is in use, as whoever makes one holds the lock. A template that cannot be dropped stays.
        """
        dropped, databases = [], self.backend.databases
        for name in own(driver, databases(driver, names.TEMPLATE) + databases(driver, names.PARTIAL)):
            if name != but and names.is_of(installation, name):
                try:
                    self.backend.drop_database(driver, name)
                    dropped.append(name)
                except TenancyError as error:
                    log.warning("the template %s, which is of no more use, could not be dropped: %s", name, error)
        return dropped

    def _taken_over(self, driver: Any, blueprint: Blueprint, name: str) -> bool:
        """Rename a template made by a version before 0.4, whose names did not hold the installation; False if none."""
        earlier = names.template("", blueprint.fingerprint)
        if driver.server_version < OWNERS_OF_PUBLIC or earlier not in own(driver, [earlier]):
            return False
        run(driver, f"{keep_closed(earlier)};{_rename(earlier, name)}")
        return True


def _rename(name: str, to: str) -> str:
    return f"ALTER DATABASE {names.quoted(name)} RENAME TO {names.quoted(to)}"
