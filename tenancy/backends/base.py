"""State what every database product must offer: one contract, one file a product.

Dialect words stand in this package and nowhere else. ``engines.py`` calls ``connect``, ``engine`` and ``begin``;
``provision.py`` calls ``given``, ``plan``, ``create`` and ``drop``; fleet runs keep restore points and check databases;
the rest is for operators. What opens a database comes along as an ``Access``; a file needs none.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa

from tenancy.backends.logins import Access, Login
from tenancy.backends.strays import Stray
from tenancy.errors import TenancyError
from tenancy.models import TENANT_VERSION_TABLE, Placement, Server
from tenancy.placeholders import Rules

Step = Callable[[str], None]
"""Hear the name of each step just before it is taken; it may raise, as a kill would."""

Rebuild = Callable[[sa.Connection], None]
"""Migrate an empty database to the revision of a restore point, its house tables included; no identity is written."""

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
class Attempt:
    """Say which try at making a database this is.

    ``step`` hears what comes next. ``holding()`` surrounds what others will see: inside, no later attempt can
    have taken over; one that has makes it raise ClaimLostError.
    """

    number: int
    step: Step
    holding: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Making:
    """Say of one of several databases that are made together where it belongs, what it holds, and which try this is."""

    tenant: Placement
    access: Access
    blueprint: Blueprint
    attempt: Attempt


Holding = Callable[[], AbstractContextManager[frozenset[uuid.UUID]]]
"""Surround what others will see of several tenants; gives those whose runner nobody has replaced."""


class Backend(ABC):
    """Offer one database product to the rest of the engine."""

    name: ClassVar[str]
    label: ClassVar[str]
    asks: ClassVar[tuple[Asked, ...]] = ()
    rules: ClassVar[Rules]
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
    def plan(
        self, owner: int | None, tenant_id: uuid.UUID, given: dict[str, Any], server: Server | None
    ) -> dict[str, Any]:
        """Give the columns that say where a user's database will stand: on ``server``, or where ``given`` says.

        Without an owner it is to stand ready for one, which only servers keep.
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
    def shown_path(self, tenant: Placement) -> str | None:
        """Give where the file stands, for products that have one."""

    @abstractmethod
    def storage(self) -> Storage | None:
        """Say how the folder is that holds this product's files; None where a server keeps them."""

    def budget_key(self, tenant: Placement) -> str | None:
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
    def connect(self, tenant: Placement, access: Access) -> Any:
        """Open one DBAPI connection as the login that serves, set as every tenant connection is; nothing is created."""

    def connect_to_migrate(self, tenant: Placement, access: Access) -> Any:
        """Open one DBAPI connection as the login that may change the schema, with patience for long statements."""
        return self.connect(tenant, access)

    @abstractmethod
    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        """Make an ordinary pooled engine over ``creator`` that shares compiled SQL with its like."""

    @abstractmethod
    def begin(self, connection: sa.Connection, write: bool) -> None:
        """Begin a transaction on the driver: for reading only, or with the write lock taken at once."""

    def set_owner(self, connection: sa.Connection, owner: int) -> None:  # noqa: B027 - most products have no wall
        """Tell the shared database whose rows this transaction may see, where it enforces that itself."""

    @abstractmethod
    def migrating(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Use an open DBAPI connection for schema changes, one at a time in a database, and close it in the end."""

    def filling(self, driver: Any) -> AbstractContextManager[sa.Connection]:
        """Use an open DBAPI connection to write a new tenant's rows, and close it in the end."""
        return self.migrating(driver)

    @abstractmethod
    def check_before_commit(self, connection: sa.Connection) -> None:
        """Refuse a migration's transaction that would leave dangling rows."""

    def settle(  # noqa: B027 - a file has no logins
        self, connection: sa.Connection, tenant: Placement, access: Access, owned_tables: Sequence[str]
    ) -> None:
        """Give the serving login its rights on what a migration left; ``owned_tables`` have a ``user_id``."""

    # --- operations -------------------------------------------------------------------------------------

    @abstractmethod
    def probe(self, tenant: Placement, access: Access) -> Iterator[Check]:
        """Look whether a database could stand, or stands, where an unstored configuration says; nothing is made.

        Ends after the first check that fails. Whose a database is that stands there is looked at by the caller.
        """

    @abstractmethod
    def exists(self, tenant: Placement, access: Access) -> bool:
        """Say whether anything stands where this tenant belongs."""

    @abstractmethod
    def create(self, tenant: Placement, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        """Make the database whole or not at all; what stands there already is DatabaseExistsError."""

    def create_many(self, makings: Sequence[Making], holding: Holding) -> dict[uuid.UUID, Exception]:
        """Make several databases, each whole or not at all; give what went wrong, by tenant.

        What stops all of them is raised; ``holding`` is for products that show them all at once.
        """
        failed: dict[uuid.UUID, Exception] = {}
        for making in makings:
            try:
                self.create(making.tenant, making.access, making.blueprint, making.attempt)
            except Exception as error:  # noqa: BLE001 - it is told; one that fails does not stop the others
                failed[making.tenant.tenant_id] = error
        return failed

    @abstractmethod
    def make_empty(self, tenant: Placement, access: Access) -> None:
        """Make the shared database, with nothing in it, where there is none yet."""

    def clear_attempts(self, tenant: Placement, attempt: int) -> None:  # noqa: B027 - servers keep no drafts
        """Remove what the attempts before this one left half-done beside the database, so that none can finish."""

    @abstractmethod
    def drop(self, tenant: Placement, access: Access) -> None:
        """Remove the database, and its login where that is ours; it is no error when they are gone already."""

    # --- restore points ---------------------------------------------------------------------------------
    #
    # The caller holds the tenant's claim, has marked the tenant as ``migrating`` and has no connection to the database
    # itself; connections of others may be open, and are ended where they are in the way. All may be called again
    # after a kill at any moment, and then end where the first call would have. The shared database has no restore
    # points, as other tables may stand in it; nor has one on a server that somebody named (AccessDeniedError).

    @abstractmethod
    def keep(self, tenant: Placement, access: Access, point: str, *, step: Step = unheard) -> None:
        """Make a restore point of a tenant's database as it is now, whole or not at all; an earlier one is replaced."""

    @abstractmethod
    def kept(self, tenant: Placement, access: Access, point: str) -> bool:
        """Say whether a whole restore point of this tenant and name is there."""

    @abstractmethod
    def put_back(
        self, tenant: Placement, access: Access, point: str, *, rebuild: Rebuild, step: Step = unheard
    ) -> None:
        """Make the database what it was at the restore point: tables, rows, version, ledger and identity.

        The point stays. ``rebuild`` is used where a product can neither copy a database nor tell what makes it.
        DatabaseMissingError where there is no whole point. The epoch is the point's: whoever calls raises it.
        """

    @abstractmethod
    def discard(self, tenant: Placement, access: Access, point: str) -> None:
        """Remove a restore point, and what a call that was cut off left of one; it is no error when it is gone."""

    @abstractmethod
    def points(self, tenant: Placement, access: Access) -> list[str]:
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
    def strays(self, access: Access) -> Iterator[Stray]:
        """List all that stands in a place by the names that tenants' databases, logins and what is theirs have."""

    # --- figures and errors -----------------------------------------------------------------------------

    @abstractmethod
    def size_bytes(self, tenant: Placement, access: Access) -> int | None:
        """Give the size on disk; None where the database is gone."""

    def modified(self, tenant: Placement) -> datetime | None:
        """Give when the database last changed, where the product can say."""
        return None

    @abstractmethod
    def explain(self, error: BaseException) -> TenancyError | None:
        """Name a driver's error; None where it says nothing about the database's health."""
