"""The catalog: the admin database of users, their databases, servers, claims, runs and the audit log.

``Catalog`` is given an engine and begins the transactions. Each table has a file of functions, which take the
connection of such a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, PendingRollbackError, TimeoutError as PoolTimeoutError

from tenancy.catalog import damage
from tenancy.catalog.audit import AuditLog
from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.errors import (
    PREPARE_CATALOG,
    BackendError,
    CatalogNotReadyError,
    DatabaseBusyError,
    TenancyError,
    WriteConflictError,
)
from tenancy.forks import after_fork
from tenancy.types import utc_now

WRITE = {"tenancy_write": True}
READ = {"tenancy_write": False}
_now = sa.select(utc_now())

_ATTEMPTS = 5
_UNDECODED = "could not decode to utf-8"

Result = TypeVar("Result")


class TranslatesErrors(Protocol):
    """Translate errors of a database driver; each backend does."""

    def explain(self, error: BaseException) -> TenancyError | None: ...

    def lacks(self, error: BaseException) -> bool: ...


class Catalog:
    """Begin transactions on the catalog; ``audit`` is its sealed log.

    The backend that made the engine (``Backend.catalog_engine``) translates its errors; it is in the engine's options.
    """

    def __init__(self, engine: sa.Engine, audit_key: str, *, multi_tenant: bool = True) -> None:
        self.engine = engine
        self.place = _place_of(engine.url)
        """The catalog's location for operators: a file, or host, port and database."""
        self.multi_tenant = multi_tenant
        self.audit = AuditLog(audit_key)
        self._reading = engine.execution_options(**READ)
        self._writing = engine.execution_options(**WRITE)
        self._backend: TranslatesErrors | None = engine.get_execution_options().get("tenancy_backend")
        self._left_to_parent: list[sa.Pool] = []
        after_fork(self._forget_connections)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a read transaction."""
        with self._explained(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a write transaction; it commits at the end of the block and rolls back on any error."""
        with self._explained(), self._writing.begin() as connection:
            yield connection

    def repeating(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run ``work`` in a write transaction; repeat it if it conflicts with a concurrent one."""
        with self._explained():
            for _ in range(_ATTEMPTS - 1):
                try:
                    with self._writing.begin() as connection:
                        return work(connection)
                except DBAPIError as error:
                    if not self.is_conflict(error):
                        raise
            with self._writing.begin() as connection:
                return work(connection)

    def revision(self) -> str | None:
        """Return the catalog's revision; None if it was never migrated."""
        with self._explained(), self._reading.connect() as connection:
            if not sa.inspect(connection).has_table(CATALOG_VERSION_TABLE):
                return None
            row = connection.execute(sa.text(f"SELECT version_num FROM {CATALOG_VERSION_TABLE}")).first()  # noqa: S608 - a constant
            return None if row is None else str(row[0])

    @contextmanager
    def being_made(self) -> Iterator[None]:
        """Name the catalog and its place in errors raised inside the block, which creates or migrates it."""
        try:
            with self._explained():
                yield
        except BackendError as error:
            raise self._unusable(f"the catalog cannot be used: {error.message}") from error

    def close(self) -> None:
        self.engine.dispose()

    def is_conflict(self, error: BaseException) -> bool:
        """Return whether a write failed only because of a conflict with a concurrent transaction."""
        return isinstance(error, IntegrityError) or isinstance(self._named(error), WriteConflictError)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn driver errors into CatalogNotReadyError, which says what to do and does not show the catalog's URL."""
        try:
            yield
        except (IntegrityError, DataError):
            raise
        except (DBAPIError, PoolTimeoutError, PendingRollbackError) as error:
            if _UNDECODED in str(error).lower():
                raise damage.broken() from None  # no cause: the driver's message contains the row's data
            raise self._unusable(self._advice(error)) from error
        except CatalogNotReadyError as error:
            error.fields.setdefault("place", self.place)
            raise

    def _unusable(self, message: str) -> CatalogNotReadyError:
        return CatalogNotReadyError(message, field="ADMIN_DATABASE_URL", place=self.place)

    def _named(self, error: BaseException) -> TenancyError | None:
        return self._backend.explain(error) if self._backend is not None else None

    def _advice(self, error: BaseException) -> str:
        if self._backend is not None and self._backend.lacks(error):
            return f"the catalog is not migrated: {PREPARE_CATALOG}."
        named = self._named(error)
        if isinstance(named, DatabaseBusyError):
            return "the catalog is busy: try again."
        if named is not None:
            advice = f"if it was lost, restore it; if there never was one, {PREPARE_CATALOG}."
            return f"the catalog cannot be used: {named.message} Look at its file or server; {advice}"
        return "the catalog cannot be reached: check ADMIN_DATABASE_URL and the server's log."

    def _forget_connections(self) -> None:
        # Keep the old pool alive: closing its connections in the child would disturb the parent's.
        self._left_to_parent.append(self.engine.pool)
        self.engine.dispose(close=False)


def _place_of(url: sa.URL) -> str:
    """Return where a URL points to, without the login."""
    if url.host is None:
        return url.database or ""
    return f"{url.host}:{url.port}/{url.database}" if url.port else f"{url.host}/{url.database}"


def now(connection: sa.Connection) -> datetime:
    """Return the catalog server's time, by which claims of several machines are compared."""
    moment: datetime = connection.execute(_now).scalar_one()
    return moment


def touch(connection: sa.Connection, key: sa.Column[Any], at: sa.Column[Any], seen: Mapping[Any, datetime]) -> None:
    """Write when rows were last seen or used; in the order of their keys, so that two writers cannot deadlock."""
    if seen:
        statement = sa.update(key.table).where(key == sa.bindparam("of")).values({at: sa.bindparam("at")})
        connection.execute(statement, [{"of": of, "at": moment} for of, moment in sorted(seen.items())])
