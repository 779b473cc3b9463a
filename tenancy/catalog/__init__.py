"""Keep users, where their databases live, who may operate on them, and what was done.

The catalog is given an engine and begins every transaction here. One file a table; all of their functions
take the connection of such a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from tenancy.catalog.audit import AuditLog
from tenancy.errors import CatalogNotReadyError
from tenancy.forks import after_fork
from tenancy.models import CATALOG_VERSION_TABLE
from tenancy.types import utc_now

WRITE = {"tenancy_write": True}
READ = {"tenancy_write": False}
_now = sa.select(utc_now())

_ATTEMPTS = 5
_MET = ("deadlock", "could not serialize", "record has changed")
_WAITED = ("locked", "lock wait timeout", "lock timeout")

Result = TypeVar("Result")


class Catalog:
    """Begin transactions on the catalog; ``audit`` is its sealed log."""

    def __init__(self, engine: sa.Engine, audit_key: str, *, multi_tenant: bool = True) -> None:
        self.engine = engine
        self.multi_tenant = multi_tenant
        self.audit = AuditLog(audit_key)
        self._reading = engine.execution_options(**READ)
        self._writing = engine.execution_options(**WRITE)
        self._left_to_parent: list[sa.Pool] = []
        after_fork(self._forget_connections)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open one read transaction."""
        with _explained(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open one write transaction; it commits on leaving and rolls back on any error."""
        with _explained(), self._writing.begin() as connection:
            yield connection

    def repeating(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Do ``work`` in a write transaction, and again where another one wrote the same at that moment."""
        with _explained():
            for _ in range(_ATTEMPTS - 1):
                try:
                    with self._writing.begin() as connection:
                        return work(connection)
                except DBAPIError as error:
                    if not met_another(error):
                        raise
            with self._writing.begin() as connection:
                return work(connection)

    def revision(self) -> str | None:
        """Give the catalog's revision; None where it was never migrated."""
        with _explained(), self._reading.connect() as connection:
            if not sa.inspect(connection).has_table(CATALOG_VERSION_TABLE):
                return None
            row = connection.execute(sa.text(f"SELECT version_num FROM {CATALOG_VERSION_TABLE}")).first()  # noqa: S608 - a constant
            return None if row is None else str(row[0])

    def close(self) -> None:
        self.engine.dispose()

    def _forget_connections(self) -> None:
        # The old pool is kept: closing its connections in the child would touch the parent's locks.
        self._left_to_parent.append(self.engine.pool)
        self.engine.dispose(close=False)


def now(connection: sa.Connection) -> datetime:
    """Ask the catalog for its clock: claims of several machines compare by this one."""
    moment: datetime = connection.execute(_now).scalar_one()
    return moment


def met_another(error: DBAPIError) -> bool:
    """Say whether a write failed only because another transaction wrote the same at that moment."""
    reason = str(error.orig).lower()
    return isinstance(error, IntegrityError) or any(words in reason for words in _MET)


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do when the catalog is down, busy or not migrated, without showing its URL."""
    try:
        yield
    except (IntegrityError, DataError):
        raise
    except DBAPIError as error:
        raise CatalogNotReadyError(_advice(error), field="ADMIN_DATABASE_URL") from error


def _advice(error: DBAPIError) -> str:
    reason = str(error.orig).lower()
    if (
        "no such table" in reason
        or "does not exist" in reason
        or "doesn't exist" in reason
        or "no such column" in reason
    ):
        return "the catalog is not migrated: run `unify db create-config-table`."
    if "unable to open" in reason:
        return "the catalog's file cannot be opened: run `unify db create-config-table`, or restore it if it was lost."
    if "malformed" in reason or "not a database" in reason:
        return "the catalog's file is damaged: restore it from a backup."
    if met_another(error) or any(words in reason for words in _WAITED):
        return "the catalog is busy: try again."
    return "the catalog cannot be reached: check ADMIN_DATABASE_URL and the server's log."
