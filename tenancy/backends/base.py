"""State what every database product must offer: one contract, one file a product.

Dialect words stand in this package and nowhere else. ``tenancy/routing/engines.py`` calls ``connect``, ``engine`` and
``begin``; ``tenancy/lifecycle/provision.py`` calls ``given``, ``plan``, ``create`` and ``drop``; fleet runs keep
restore points and check databases; the rest is for operators. What opens a database comes along as an ``Access``; a
file needs none.
"""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

import sqlalchemy as sa

from tenancy.backends.access import Access, Login
from tenancy.backends.gates import Words, gated
from tenancy.backends.inventory import InventoryItem
from tenancy.backends.placeholders import Rules
from tenancy.errors import BackendError, DatabaseBusyError, MigrationError, TenancyError
from tenancy.models import Server, Tenant
from tenancy.schema.tables import TENANT_VERSION_TABLE

Step = Callable[[str], None]
"""Hear the name of each step just before it is taken; it may raise, as a kill would."""

Rebuild = Callable[[sa.Connection], None]
"""Migrate an empty database to the revision of a restore point, its house tables included; no identity is written."""


class Held(Protocol):
    """Be a claim on a tenant, as the catalog hands it out: whoever changes a database carries its epoch."""

    @property
    def epoch(self) -> int: ...

    def check(self) -> None:
        """Raise ClaimLostError unless it holds now."""


IDENTITY_SQL = (
    "SELECT i.tenant_id, i.user_id, i.kind, i.epoch, v.version_num "  # noqa: S608 - constants only
    f"FROM tenancy_identity i, {TENANT_VERSION_TABLE} v WHERE i.id = 1"
)
"""Ask a database whose it is and at which revision: portable SQL, run on every new connection."""

WHOSE_SQL = "SELECT tenant_id, user_id, kind, epoch, NULL FROM tenancy_identity WHERE id = 1"
"""Ask only whose it is, where the revision is about to change."""

FENCE_SQL = "SELECT epoch, state FROM tenancy_identity WHERE id = 1"
"""Ask a database whether a write may go on; each product adds its lock."""


def unheard(step: str) -> None:
    """Hear of a step, and do nothing."""


@dataclass(frozen=True)
class DatabaseFields:
    """Hold what somebody who initializes a database may say of it; None means not said."""

    db_type: str | None = None
    db_host: str | None = None
    db_port: int | None = None
    db_name: str | None = None
    db_user: str | None = None
    db_password: str | None = None
    db_path: str | None = None
    db_options: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"DatabaseFields(db_type={self.db_type!r}, ...)"


@dataclass(frozen=True)
class Asked:
    """Describe one of ``DatabaseFields`` that a product asks for; ``kind`` is text, number or password."""

    name: str
    label: str
    kind: str = "text"
    required: bool = True
    default: str = ""
    help: str = ""


@dataclass(frozen=True)
class Check:
    """Tell of one thing that was looked at; ``code`` is that of the error it would end in."""

    name: str
    text: str
    code: str = "ok"

    @property
    def ok(self) -> bool:
        return self.code == "ok"


@dataclass(frozen=True)
class Storage:
    """Say how the folder is in which a product keeps its files; ``problem`` is empty where it can be used."""

    path: str
    exists: bool
    problem: str
    free_bytes: int | None
    total_bytes: int | None


@dataclass(frozen=True)
class Blueprint:
    """Say what a new tenant database holds.

    ``fingerprint`` names the schema (a template is kept under it), ``build`` migrates an empty database to
    it, ``fill`` writes identity, ledger and first rows in one transaction of the caller's.
    """

    fingerprint: str
    build: Callable[[sa.Connection], None]
    fill: Callable[[sa.Connection], None]


@dataclass(frozen=True)
class Whose:
    """Say for whom a database is to be made: the user, if there is one yet, the tenant, and the epoch it begins at."""

    owner: int | None
    tenant_id: uuid.UUID
    epoch: int = 1


@dataclass(frozen=True)
class Attempt:
    """Say which try at making a database this is; ``step`` hears what comes next."""

    number: int
    step: Step


@dataclass(frozen=True)
class Making:
    """Say of one of several databases that are made together where it belongs, what it holds, and which try this is."""

    tenant: Tenant
    access: Access
    blueprint: Blueprint
    attempt: Attempt


class Backend(ABC):
    """Offer one database product to the rest of the engine."""

    name: ClassVar[str]
    label: ClassVar[str]
    asks: ClassVar[tuple[Asked, ...]] = ()
    rules: ClassVar[Rules]
    words: ClassVar[Words]
    on_server: ClassVar[bool] = False
    """Whether databases stand on servers: they have logins then, and one that is there and empty may be taken over."""

    transactional_ddl: ClassVar[bool] = True
    fence_sql: ClassVar[str] = FENCE_SQL

    # --- where a database stands ------------------------------------------------------------------------

    @abstractmethod
    def given(self, fields: DatabaseFields) -> dict[str, Any]:
        """Give the columns that somebody named, checked and as they are kept, or refuse the field at fault.

        The password is no column: it is sealed by the caller.
        """

    @abstractmethod
    def plan(self, whose: Whose, given: dict[str, Any], server: Server | None) -> dict[str, Any]:
        """Give the columns that say where a database will stand: on ``server``, or where ``given`` says.

        Without an owner it is to stand ready for one, which only servers keep. What the application names itself has a
        name that no other tenant had or will have, and on servers no other attempt either.
        """

    @abstractmethod
    def shared_plan(self, url: str) -> dict[str, Any]:
        """Give the columns for the database that SHARED_DATABASE_URL names."""

    def shared_login(self, tenant_id: uuid.UUID) -> str | None:
        """Name the login that serves the shared database where the product has a wall of its own between owners."""
        return None

    def login(self, url: str, setting: str) -> Login | None:
        """Read an operator's URL into a login; None where the product has none."""
        return None

    @abstractmethod
    def shown_path(self, tenant: Tenant) -> str | None:
        """Give where the file stands, for products that have one."""

    def is_place_of(self, tenant: Tenant) -> bool:
        """Say whether the place in a stored configuration can be that user's: a file is named after its user."""
        return True

    @abstractmethod
    def storage(self) -> Storage | None:
        """Say how the folder is that holds this product's files; None where a server keeps them."""

    def budget_key(self, tenant: Tenant) -> str | None:
        """Name the server whose connections are counted together; None where there is no server."""
        return None

    # --- the catalog ------------------------------------------------------------------------------------

    @abstractmethod
    def catalog_engine(self, url: str) -> sa.Engine:
        """Make the engine of a catalog that is there; transactions say by ``tenancy_write`` whether they write."""

    @abstractmethod
    def make_catalog(self, engine: sa.Engine) -> None:
        """Make the empty database that a catalog's engine leads to, where there is none yet."""

    # --- connections ------------------------------------------------------------------------------------

    @abstractmethod
    def connect(self, tenant: Tenant, access: Access) -> Any:
        """Open one DBAPI connection as the login that serves, set as every tenant connection is; nothing is created."""

    def connect_to_migrate(self, tenant: Tenant, access: Access) -> Any:
        """Open one DBAPI connection as the login that may change the schema, with patience for long statements."""
        return self.connect(tenant, access)

    @abstractmethod
    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        """Make an ordinary pooled engine over ``creator`` that shares compiled SQL with its like."""

    def gated(self, driver: Any) -> Any:
        """Give a connection as tenants' engines use it: it refuses what would be written past the fence."""
        return gated(driver, self.words)

    @abstractmethod
    def begin(self, connection: sa.Connection, write: bool) -> None:
        """Begin a transaction on the driver: for reading only, or with the write lock taken at once."""

    def read_singly(self, connection: sa.Connection) -> None:  # noqa: B027 - the gate alone is enough for some
        """Let each statement read by itself (AUTOCOMMIT); where the product can, it forbids the rest."""

    def set_owner(self, connection: sa.Connection, owner: int) -> None:  # noqa: B027 - most products have no wall
        """Tell the shared database whose rows this transaction may see, where it enforces that itself."""

    @abstractmethod
    def migrating(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Use an open DBAPI connection for schema changes, one at a time in a database, and close it in the end."""

    def filling(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Use an open DBAPI connection to write a new tenant's rows, and close it in the end."""
        return self.migrating(driver)

    def queue_for_identity(self, connection: sa.Connection) -> None:  # noqa: B027 - most products have one queue
        """Wait for writers under way, and have later ones wait, before the identity row is changed."""

    @abstractmethod
    def check_before_commit(self, connection: sa.Connection) -> None:
        """Refuse a migration's transaction that would leave dangling rows."""

    def settle(  # noqa: B027 - a file has no logins
        self, connection: sa.Connection, tenant: Tenant, access: Access, owned_tables: Sequence[str]
    ) -> None:
        """Give the serving login its rights on what a migration left; ``owned_tables`` have a ``user_id``."""

    # --- operations -------------------------------------------------------------------------------------

    @abstractmethod
    def probe(self, tenant: Tenant, access: Access) -> Iterator[Check]:
        """Look whether a database could stand, or stands, where an unstored configuration says; nothing is made.

        Ends after the first check that fails. Whose a database is that stands there is looked at by the caller.
        """

    @abstractmethod
    def exists(self, tenant: Tenant, access: Access) -> bool:
        """Say whether anything stands where this tenant belongs."""

    @abstractmethod
    def create(self, tenant: Tenant, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        """Make the database whole or not at all; what stands there already is DatabaseExistsError."""

    def create_many(self, makings: Sequence[Making]) -> dict[uuid.UUID, Exception]:
        """Make several databases, each whole or not at all; give what went wrong, by tenant.

        What stops all of them is raised.
        """
        failed: dict[uuid.UUID, Exception] = {}
        for making in makings:
            try:
                self.create(making.tenant, making.access, making.blueprint, making.attempt)
            except Exception as error:  # noqa: BLE001 - it is told; one that fails does not stop the others
                failed[making.tenant.tenant_id] = error
        return failed

    @abstractmethod
    def make_empty(self, tenant: Tenant, access: Access) -> None:
        """Make the shared database, with nothing in it, where there is none yet."""

    def clear_attempts(self, tenant: Tenant, attempt: int) -> None:  # noqa: B027 - servers keep no drafts
        """Remove what the attempts before this one left half-done beside the database, so that none can finish."""

    @contextmanager
    def alone_in_place(self, tenant: Tenant, access: Access) -> Iterator[None]:
        """Keep others from making, taking back or removing a database under a name that somebody gave.

        Files are published whole, under names that nobody gave.
        """
        yield

    @abstractmethod
    def drop(self, tenant: Tenant, access: Access) -> None:
        """Remove the database, and its login where that is ours; it is no error when they are gone already.

        One that somebody named stays where its identity names another tenant, or a later epoch, by now.
        """

    # --- restore points ---------------------------------------------------------------------------------
    #
    # The caller holds the tenant's claim, has marked the tenant as ``migrating`` and has no connection to the database
    # itself; connections of others may be open, and are ended where they are in the way. All may be called again
    # after a kill at any moment, and then end where the first call would have. The shared database has no restore
    # points, as other tables may stand in it; nor has one on a server that somebody named (AccessDeniedError).

    # ``tenant.epoch`` is that of the caller's claim; a database of a later one is left as it is (ClaimLostError).

    @abstractmethod
    def keep(self, tenant: Tenant, access: Access, point: str, *, step: Step = unheard) -> None:
        """Make a restore point of a tenant's database as it is now, whole or not at all; an earlier one is replaced."""

    @abstractmethod
    def kept(self, tenant: Tenant, access: Access, point: str) -> bool:
        """Say whether a whole restore point of this tenant and name is there."""

    @abstractmethod
    def put_back(
        self,
        tenant: Tenant,
        access: Access,
        point: str,
        *,
        rebuild: Rebuild,
        claim: Held | None = None,
        step: Step = unheard,
    ) -> None:
        """Make the database what it was at the restore point: tables, rows, version, ledger and identity.

        The point stays. ``rebuild`` is used where a product can neither copy a database nor tell what makes it.
        DatabaseMissingError where there is no whole point. The claim is asked once while nobody else can change the
        database: where it is lost, nothing is. What comes back bears the claim's epoch; without one, the point's.
        """

    @abstractmethod
    def discard(self, tenant: Tenant, access: Access, point: str) -> None:
        """Remove a restore point, and what a call that was cut off left of one; it is no error when it is gone."""

    @abstractmethod
    def points(self, tenant: Tenant, access: Access) -> list[str]:
        """Name the restore points of a tenant, whole or not, in order."""

    # --- checks -----------------------------------------------------------------------------------------

    @abstractmethod
    def looking(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Use an open DBAPI connection to look, in a transaction that only reads, and close it in the end."""

    @abstractmethod
    def scratch(self, access: Access) -> AbstractContextManager[sa.Connection]:
        """Make an empty database for the block, to see what revisions make of it; it is gone afterwards."""

    def in_own_words(self, connection: sa.Connection) -> object:
        """Give what tells a whole schema, where that is quickly had: what is equal has equal tables. Else None."""
        return None

    def check_writable(self, driver: Any) -> None:  # noqa: B027 - a server says so itself
        """Raise AccessDeniedError where this process may read a database's files, and not write them."""

    def damage(self, connection: sa.Connection) -> str | None:
        """Say what is broken in a database's own storage, where the product can look."""
        return None

    @abstractmethod
    def dangling(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[str, str]]:
        """Name tables with rows whose parents are missing, each with the parents' table; ``tables`` stand there."""

    def denied(self, driver: Any, tables: Sequence[str]) -> list[str]:
        """Name tables on which the login of a connection may not do what a tenant's login does there."""
        return []

    @abstractmethod
    def strays(self, access: Access) -> Iterator[InventoryItem]:
        """List all that stands in a place by the names that tenants' databases, logins and what is theirs have."""

    # --- figures and errors -----------------------------------------------------------------------------

    @abstractmethod
    def size_bytes(self, tenant: Tenant, access: Access) -> int | None:
        """Give the size on disk; None where the database is gone."""

    def modified(self, tenant: Tenant) -> datetime | None:
        """Give when the database last changed, where the product can say."""
        return None

    driver_errors: tuple[type[BaseException], ...] = ()
    """The classes of all that the driver raises of its own."""

    def explain(self, error: BaseException) -> TenancyError | None:
        """Name an error of the driver's or of SQLAlchemy's.

        None where it says nothing about the database's health (a constraint that did not hold, say).
        """
        if isinstance(error, sa.exc.TimeoutError):
            return DatabaseBusyError("all connections of this process are in use: try again.")
        return self._explain(getattr(error, "orig", None) or error)

    @abstractmethod
    def _explain(self, error: BaseException) -> TenancyError | None:
        """Name an error of the driver's, by its number."""

    @abstractmethod
    def lacks(self, error: BaseException) -> bool:
        """Say whether an error of SQLAlchemy's or the driver's means that a table or column is not there."""

    @contextmanager
    def explained(self, *, others_pass: bool = False) -> Iterator[None]:
        """Turn errors of the driver's and of SQLAlchemy's into ours: nothing of theirs passes.

        With ``others_pass`` what ``explain`` has no name for (a constraint that did not hold) passes as SQLAlchemy says
        it, to whoever made the statement. A revision that failed over a lock or a lost connection is not at fault: the
        lock is told, with what the failure had to say.
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
    """Say by its number what has no name here: a driver's own words may hold anything."""
    cause = getattr(error, "orig", None) or error
    numbers = (getattr(cause, "pgcode", None), getattr(cause, "sqlite_errorname", None), *cause.args[:1])
    number = next((str(found) for found in numbers if _NUMBER.fullmatch(str(found))), "without a number")
    return BackendError(f"the database did not take what was asked of it ({type(cause).__name__} {number}).")


_NUMBER = re.compile(r"[A-Z0-9_]{1,40}")
