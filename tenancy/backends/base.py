"""State what every database product must offer: the contract, with its methods in sections by who calls them.

Each product has a folder beside this file, with the same file names in each: one implements ``Backend``, one what
``restore_points.py`` states, and one what ``checks.py`` states. SQL of one product, and the name of its driver, are
in its folder and nowhere else in the application.

An ``Access`` (``access.py``) holds the logins that open a database on a server; a file needs none. What callers hand in
and get back is in ``values.py`` and can be imported from here.
"""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa

from tenancy.backends.access import Access, Login
from tenancy.backends.checks import Checks
from tenancy.backends.copying import Copying
from tenancy.backends.gates import Words, gated
from tenancy.backends.placeholders import Rules
from tenancy.backends.restore_points import RestorePoints
from tenancy.backends.values import (
    Asked,
    Attempt,
    Blueprint,
    Check,
    DatabaseFields,
    HeldClaim,
    Making,
    Rebuild,
    Step,
    Storage,
    Whose,
    ignore_step,
)
from tenancy.errors import BackendError, DatabaseBusyError, MigrationError, TenancyError
from tenancy.models import Server, Tenant
from tenancy.schema.tables import TENANT_VERSION_TABLE

__all__ = [
    "FENCE_SQL",
    "IDENTITY_SQL",
    "WHOSE_SQL",
    "Asked",
    "Attempt",
    "Backend",
    "Blueprint",
    "Check",
    "DatabaseFields",
    "HeldClaim",
    "Making",
    "Rebuild",
    "Step",
    "Storage",
    "Whose",
    "ignore_step",
]

IDENTITY_SQL = (
    "SELECT i.tenant_id, i.user_id, i.kind, i.epoch, v.version_num "  # noqa: S608 - constants only
    f"FROM tenancy_identity i, {TENANT_VERSION_TABLE} v WHERE i.id = 1"
)
"""Read whose a database is and its revision; portable SQL, run on every new connection."""

WHOSE_SQL = "SELECT tenant_id, user_id, kind, epoch, NULL FROM tenancy_identity WHERE id = 1"
"""Read only whose a database is: for migrations, which are about to change the revision."""

FENCE_SQL = "SELECT epoch, state FROM tenancy_identity WHERE id = 1"
"""Read what decides whether a transaction may write; each product adds its words for a shared lock on the row."""


class Backend(ABC):
    """Offer one database product to the rest of the engine."""

    name: ClassVar[str]
    label: ClassVar[str]
    asks: ClassVar[tuple[Asked, ...]] = ()
    """The fields that a form for a database of this product shows."""

    rules: ClassVar[Rules]
    words: ClassVar[Words]
    on_server: ClassVar[bool] = False
    """Whether databases are on servers. If so they have logins, and an empty one may be taken over."""

    transactional_ddl: ClassVar[bool] = True
    fence_sql: ClassVar[str] = FENCE_SQL

    # --- provisioning -----------------------------------------------------------------------------------
    #
    # Called by lifecycle/placement.py, preflight.py, provision.py, provision_many.py, own_database.py,
    # shared_database.py and leftovers.py, and by servers/pending_pool.py.

    @abstractmethod
    def given(self, fields: DatabaseFields) -> dict[str, Any]:
        """Turn the fields that somebody named into columns of the tenant's row, or refuse the field at fault.

        The password is no column: the caller seals it.
        """

    @abstractmethod
    def plan(self, whose: Whose, given: dict[str, Any], server: Server | None) -> dict[str, Any]:
        """Return the columns that say where a database will be: on ``server``, or where ``given`` says.

        A name that the application chooses is one that no other tenant had or will have; on a server it is also one
        that no other attempt has. A database without an owner (for the pending pool) can only be planned on a server.
        """

    def is_place_of(self, tenant: Tenant) -> bool:
        """Say whether a stored place can be this user's: a SQLite file is named after its user."""
        return True

    @abstractmethod
    def shared_plan(self, url: str) -> dict[str, Any]:
        """Return the columns for the database that SHARED_DATABASE_URL names."""

    def shared_login(self, tenant_id: uuid.UUID) -> str | None:
        """Name the login that serves the shared database, on products with row-level security."""
        return None

    def login(self, url: str, setting: str) -> Login | None:
        """Read an operator's URL into a login; None if the product has no logins."""
        return None

    @abstractmethod
    def probe(self, tenant: Tenant, access: Access) -> Iterator[Check]:
        """Try an unstored configuration: could a database be made there, or is there one? Nothing is made.

        Ends after the first check that fails. The caller reads whose the database there is.
        """

    @abstractmethod
    def exists(self, tenant: Tenant, access: Access) -> bool:
        """Say whether anything exists where this tenant's database belongs."""

    @abstractmethod
    def create(self, tenant: Tenant, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        """Make the database, whole or not at all; DatabaseExistsError if something exists there already."""

    def create_many(self, makings: Sequence[Making]) -> dict[uuid.UUID, Exception]:
        """Make several databases, each whole or not at all; return the errors by tenant.

        An error that stops all of them is raised.
        """
        failed: dict[uuid.UUID, Exception] = {}
        for making in makings:
            try:
                self.create(making.tenant, making.access, making.blueprint, making.attempt)
            except Exception as error:  # noqa: BLE001 - returned to the caller; the others are still made
                failed[making.tenant.tenant_id] = error
        return failed

    @abstractmethod
    def make_empty(self, tenant: Tenant, access: Access) -> None:
        """Make the shared database, empty, unless it exists."""

    def clear_attempts(self, tenant: Tenant, attempt: int) -> None:  # noqa: B027 - servers keep no drafts
        """Delete the drafts of earlier attempts, so that an attempt that still runs cannot publish one."""

    @contextmanager
    def alone_in_place(self, tenant: Tenant, access: Access) -> Iterator[None]:
        """Hold a lock on the name of a database that somebody named: nobody else makes, takes over or drops it.

        Files need no lock: their names are the application's own, and a file gets its name when it is whole.
        """
        yield

    @abstractmethod
    def drop(self, tenant: Tenant, access: Access) -> None:
        """Drop the database, and its login if the application made it; neither has to exist.

        A database that somebody named stays if its identity row by now names another tenant or a later epoch.
        """

    # --- routing and engines ----------------------------------------------------------------------------
    #
    # Called by routing/engines.py and routing/guards.py, for each new connection and each transaction; the
    # catalog's engine is made by compose.py, its database by lifecycle/migrate_catalog.py, and its rows are put back
    # by fleet/catalog_recovery.py.

    @abstractmethod
    def connect(self, tenant: Tenant, access: Access) -> Any:
        """Open one DBAPI connection as the login that serves, with the settings of all tenants' connections.

        A missing database is an error, and never created.
        """

    @abstractmethod
    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        """Make a pooled engine over ``creator``; all engines of the product share one cache of compiled SQL."""

    def gated(self, driver: Any) -> Any:
        """Put the statement filter (``gates.py``) before a connection: it refuses writes that passed no fence."""
        return gated(driver, self.words)

    @abstractmethod
    def begin(self, connection: sa.Connection, write: bool) -> None:
        """Begin a transaction on the driver: a read-only one, or one that has the write lock at once."""

    def read_singly(self, connection: sa.Connection) -> None:  # noqa: B027 - for some products the filter is enough
        """Let each statement read by itself (AUTOCOMMIT), and have the database refuse writes if it can."""

    def set_owner(self, connection: sa.Connection, owner: int) -> None:  # noqa: B027 - only PostgreSQL enforces owners
        """Tell the shared database whose rows this transaction may see, for its row-level security."""

    def budget_key(self, tenant: Tenant) -> str | None:
        """Name the server whose connections are counted together; None if there is no server."""
        return None

    @abstractmethod
    def catalog_engine(self, url: str) -> sa.Engine:
        """Make the engine of a catalog that exists.

        Transactions say by the execution option ``tenancy_write`` whether they write.
        """

    @abstractmethod
    def make_catalog(self, engine: sa.Engine) -> None:
        """Make the empty database that a catalog's engine leads to, unless it exists."""

    @abstractmethod
    def has_catalog(self, engine: sa.Engine) -> bool:
        """Say whether the database that a catalog's engine leads to is there."""

    def follow_ids(self, connection: sa.Connection, table: sa.Table) -> None:  # noqa: B027 - others follow by themselves
        """Have the ids that the database gives out begin above those that were inserted by the caller."""

    # --- migrations -------------------------------------------------------------------------------------
    #
    # Called by lifecycle/upgrade.py, provision.py, seed.py, operation.py, shared_database.py and suspend_delete.py,
    # and by fleet/repair.py.

    def connect_to_migrate(self, tenant: Tenant, access: Access) -> Any:
        """Open one DBAPI connection as the login that may change the schema; its statements may take long."""
        return self.connect(tenant, access)

    @abstractmethod
    def migrating(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Change the schema over an open DBAPI connection, under a lock: one migration at a time in a database.

        The DBAPI connection is closed at the end.
        """

    def filling(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Write a new tenant's rows over an open DBAPI connection, which is closed at the end."""
        return self.migrating(driver)

    def queue_for_identity(self, connection: sa.Connection) -> None:  # noqa: B027 - elsewhere UPDATE itself queues
        """Before the identity row is updated: wait for running writers, and make later writers wait behind us."""

    @abstractmethod
    def check_before_commit(self, connection: sa.Connection) -> None:
        """Raise MigrationError if a migration's transaction would leave rows whose foreign key names no row."""

    def grant_rights(  # noqa: B027 - a file has no logins
        self, connection: sa.Connection, tenant: Tenant, access: Access, owned_tables: Sequence[str]
    ) -> None:
        """GRANT the serving login its rights on the tables that a migration left.

        ``owned_tables`` have a column ``user_id``: in the shared database they get row-level security.
        """

    # --- the fleet --------------------------------------------------------------------------------------

    restore_points: RestorePoints
    """Used by fleet/restore_points.py and lifecycle/leftovers.py."""

    checks: Checks
    """Used by fleet/verify.py, orphans.py and restore_points.py, by lifecycle/own_database.py and by monitoring."""

    copying: Copying
    """Used by tenancy/archive."""

    # --- operators and monitoring -----------------------------------------------------------------------
    #
    # Called by monitoring/inspection.py, observations.py and overview.py.

    @abstractmethod
    def storage(self) -> Storage | None:
        """Describe the folder that holds this product's files; None if a server keeps them."""

    @abstractmethod
    def shown_path(self, tenant: Tenant) -> str | None:
        """Return the path of the tenant's file; None if the product has no files."""

    @abstractmethod
    def size_bytes(self, tenant: Tenant, access: Access) -> int | None:
        """Return the size on disk; None if the database is gone."""

    def modified(self, tenant: Tenant) -> datetime | None:
        """Return when the database last changed; None if the product cannot say."""
        return None

    # --- errors -----------------------------------------------------------------------------------------
    #
    # Used wherever a statement is run: by the backends themselves, by routing, by the catalog.

    driver_errors: tuple[type[BaseException], ...] = ()
    """The driver's own base classes of errors."""

    def explain(self, error: BaseException) -> TenancyError | None:
        """Translate an error of the driver's or of SQLAlchemy's into one of ours.

        None if it says nothing about the database's health (a violated constraint, for example).
        """
        if isinstance(error, sa.exc.TimeoutError):
            return DatabaseBusyError("all connections of this process are in use: try again.")
        return self._explain(getattr(error, "orig", None) or error)

    @abstractmethod
    def _explain(self, error: BaseException) -> TenancyError | None:
        """Translate an error of the driver's by its number."""

    @abstractmethod
    def lacks(self, error: BaseException) -> bool:
        """Say whether an error of SQLAlchemy's or the driver's means that a table or column does not exist."""

    @contextmanager
    def explained(self, *, others_pass: bool = False) -> Iterator[None]:
        """Translate the errors of a block; no error of the driver's or SQLAlchemy's gets out.

        With ``others_pass`` an error that ``explain`` returns None for (a violated constraint) gets out as SQLAlchemy
        raised it, for the caller who wrote the statement.

        A MigrationError whose cause is a lock or a lost connection is not the revision's fault: the lock is raised
        instead, with the fields of the MigrationError.
        """
        try:
            yield
        except MigrationError as error:
            cause = error.__cause__
            ours = self.explain(cause) if cause is not None else None
            if ours is None or not ours.retryable:
                raise
            ours.fields.update(error.fields)
            raise ours from error
        except TenancyError:
            raise
        except Exception as error:
            ours = self.explain(error)
            if ours is None and (others_pass or not isinstance(error, (*self.driver_errors, sa.exc.SQLAlchemyError))):
                raise
            raise ours or _refused(error) from error


def _refused(error: Exception) -> BackendError:
    """Report an error without a translation by its number alone: the driver's own text may quote users' data."""
    cause = getattr(error, "orig", None) or error
    numbers = (getattr(cause, "pgcode", None), getattr(cause, "sqlite_errorname", None), *cause.args[:1])
    number = next((str(found) for found in numbers if _NUMBER.fullmatch(str(found))), "without a number")
    return BackendError(f"the database did not take what was asked of it ({type(cause).__name__} {number}).")


_NUMBER = re.compile(r"[A-Z0-9_]{1,40}")
