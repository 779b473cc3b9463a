"""Serve tenants from database servers: what PostgreSQL, MySQL and SQL Server have in common.

The order of steps is here; each product's ``backend.py`` says how its server is entered and what its SQL is. On a
registered server a tenant gets a database and a login of its own, and the server's login changes its schema. On a
server that a user named, the login of that user's database does both.
"""

from __future__ import annotations

import logging
import secrets
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event

from tenancy import hosts, names
from tenancy.backends import access as logins
from tenancy.backends.access import Access, Login, Options
from tenancy.backends.base import Asked, Attempt, Backend, Blueprint, Check, DatabaseFields, Storage, Whose
from tenancy.backends.server.engines import CATALOG_POOL, make_engine, tenant_engine, watch
from tenancy.backends.server.sql import one
from tenancy.errors import (
    PREPARE_CATALOG,
    AccessDeniedError,
    BackendError,
    CatalogNotReadyError,
    ConfigurationError,
    DatabaseBusyError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    LoginRefusedError,
    TenancyError,
)
from tenancy.models import Origin, Server, Tenant
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_identity, tenancy_tables

log = logging.getLogger(__name__)

LOCK_S = 3
_TENANCY_TABLES = frozenset({*tenancy_tables.tables, TENANT_VERSION_TABLE})
_NAMED = ("db_host", "db_port", "db_name", "db_user", "db_options")
"""The fields by which somebody names a server; the password is not among them, as no row keeps it."""


class ServerBackend(Backend):
    """Offer a product whose databases are on servers."""

    on_server: ClassVar[bool] = True
    default_port: ClassVar[int]
    scheme: ClassVar[str]
    own_names: ClassVar[frozenset[str]]
    """Databases that the product, or a hosting company, keeps for itself on each server; refused as a tenant's."""

    size_sql: ClassVar[str]
    """Select the size in bytes of the database that the connection is in."""

    asks: ClassVar[tuple[Asked, ...]] = (
        Asked("db_host", "Host", required=False, help="Leave blank to use a registered server."),
        Asked("db_port", "Port", "number", required=False),
        Asked(
            "db_name",
            "Database",
            required=False,
            help="An existing one must be empty; otherwise it is created. Leave blank to create one.",
        ),
        Asked("db_user", "User", required=False),
        Asked("db_password", "Password", "password", required=False),
    )

    def __init__(self) -> None:
        self._catalogs: WeakKeyDictionary[sa.Engine, Login] = WeakKeyDictionary()

    # --- what each product implements -------------------------------------------------------------------

    @abstractmethod
    def open(self, login: Login) -> Any:
        """Open a DBAPI connection set to UTC, READ COMMITTED and strict modes, or raise a TenancyError."""

    @abstractmethod
    def at_server(self, login: Login) -> Any:
        """Open a DBAPI connection in autocommit mode to the server itself: to a database of its own, or to none."""

    def may_create(self, driver: Any) -> bool | None:
        """Say whether the connection's login may make databases and logins; None if that is not cheap to find out."""
        return None

    def prepare(self, driver: Any, *, beside_others: bool = False) -> list[str]:
        """REVOKE from tenants' logins the right to enter the server's own databases, if the connection's login may.

        Return a sentence for each change. On a server with logins of others nothing is changed, unless
        ``beside_others`` is set: then those logins keep their way in.
        """
        return []

    def remarks(self, driver: Any) -> list[str]:
        """Return a sentence for each thing that an operator has to do, because ``prepare`` may not."""
        return []

    def tidy(self, driver: Any, installation: str, fingerprint: str) -> list[str]:
        """Drop what this installation left on a server and does not need; return a sentence for each.

        The template of the schema with this fingerprint is needed; with an empty fingerprint none is.
        """
        return [f"dropped {name}" for name in self.clear_scratch(driver, installation)]

    @abstractmethod
    def make_login(self, driver: Any, login: Login) -> None:
        """Make a tenant's login and let it into its database; a login left by an earlier attempt gets this password."""

    @abstractmethod
    def drop_login(self, driver: Any, user: str) -> None:
        """Drop a tenant's login if it exists."""

    @abstractmethod
    def make_database(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        """Make a tenant's database; on an error (DatabaseExistsError for one) there is none that this call made."""

    @abstractmethod
    def build_schema(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        """Build the schema of a database just made on a registered server, if ``make_database`` did not.

        On a server that a user named nothing is done here: ``create`` runs ``blueprint.build`` there.
        """

    @abstractmethod
    def drop_database(self, driver: Any, name: str) -> None:
        """Drop a database if it exists, whoever is connected to it."""

    def clear(self, driver: Any, tenant: Tenant, access: Access) -> None:
        """End sessions that are in the way of a DROP, if only the tenant's own login may end them."""

    @abstractmethod
    def make_plain_database(self, driver: Any, name: str) -> None:
        """Make an empty database that compares and sorts text by code point, or raise DatabaseExistsError."""

    @abstractmethod
    def databases(self, driver: Any, prefix: str) -> list[str]:
        """List the databases whose names begin with ``prefix``."""

    @abstractmethod
    def logins(self, driver: Any, prefix: str) -> list[str]:
        """List the logins whose names begin with ``prefix``."""

    @abstractmethod
    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        """Take a lock of this name, which the session holds until it ends; False if it is not free in ``wait_s``."""

    @abstractmethod
    def socket_of(self, driver: Any) -> int | None:
        """Return the file descriptor of a connection's socket; None if the driver does not show it."""

    @abstractmethod
    def begin(self, connection: sa.Connection, write: bool) -> None: ...

    # --- where a database is ----------------------------------------------------------------------------

    def given(self, fields: DatabaseFields) -> dict[str, Any]:
        if fields.db_path is not None:
            raise ConfigurationError(f"db_path cannot be given for {self.name}: it has no file.", field="db_path")
        said = {name: getattr(fields, name) for name in _NAMED if getattr(fields, name) is not None}
        if fields.db_password is not None:
            logins.password(fields.db_password)
        if not said and fields.db_password is None:
            return {}
        if fields.db_host is None:
            lonely = next(iter(said), "db_password")
            raise ConfigurationError(f"{lonely} goes with db_host: name the server, or nothing.", field="db_host")
        if fields.db_user is None:
            raise ConfigurationError("db_user is needed where db_host is given.", field="db_user")
        found = {
            "db_host": self.host(fields.db_host),
            "db_port": hosts.port(self.default_port if fields.db_port is None else fields.db_port),
            "db_user": logins.user(fields.db_user),
            "db_options": Options.of(fields.db_options).written(),
        }
        if fields.db_name is None:
            return found
        if fields.db_name.lower() in self.own_names:
            raise ConfigurationError(f"{fields.db_name} is the server's own: name another database.", field="db_name")
        return found | {"db_name": names.database(fields.db_name)}

    def host(self, text: str) -> str:
        """Return the host as the catalog keeps it, or refuse it."""
        return hosts.host(text)

    def plan(self, whose: Whose, given: dict[str, Any], server: Server | None) -> dict[str, Any]:
        if server is None:
            own = names.planned_database(whose.owner, whose.tenant_id, whose.epoch)
            return {"db_type": self.name, "db_name": own, **given, "owned": False}
        own = names.planned_database(whose.owner, whose.tenant_id, whose.epoch, server.installation)
        return {
            "db_type": self.name,
            "db_host": server.db_host,
            "db_port": server.db_port,
            "db_name": own,
            "db_user": own,
            "db_options": server.db_options,
            "server_id": server.id,
            "origin": str(Origin.SERVER),
        }

    def shared_plan(self, url: str) -> dict[str, Any]:
        login = self.login(url, "SHARED_DATABASE_URL")
        if not login.database:
            raise ConfigurationError("SHARED_DATABASE_URL names no database.", field="SHARED_DATABASE_URL")
        where = {"db_host": login.host, "db_port": login.port, "db_name": login.database}
        return {"db_type": self.name, **where, "db_options": login.options.written(), "owned": False}

    def login(self, url: str, setting: str) -> Login:
        return logins.from_url(url, setting, default_port=self.default_port)

    def budget_key(self, tenant: Tenant) -> str | None:
        return f"{self.name}:{tenant.db_host}:{tenant.db_port}"

    def shown_path(self, tenant: Tenant) -> str | None:
        return None

    def storage(self) -> Storage | None:
        return None

    # --- the catalog ------------------------------------------------------------------------------------

    def catalog_engine(self, url: str) -> sa.Engine:
        login = self.login(url, "ADMIN_DATABASE_URL")
        if not login.database:
            raise ConfigurationError("ADMIN_DATABASE_URL names no database.", field="ADMIN_DATABASE_URL")
        shown = {"host": login.host, "port": login.port, "database": login.database}
        made = make_engine(self.scheme, lambda: self._open_catalog(login), shown=shown, **CATALOG_POOL)
        engine = watch(made, self.socket_of)
        engine.update_execution_options(tenancy_backend=self)
        event.listen(engine, "begin", self._begin_catalog)
        self._catalogs[engine] = login
        return engine

    def make_catalog(self, engine: sa.Engine) -> None:
        self._make_missing(self._catalogs[engine])

    def has_catalog(self, engine: sa.Engine) -> bool:
        return self.stands(self._catalogs[engine])

    def _open_catalog(self, login: Login) -> Any:
        with self._catalog_explained():
            return self.open(login)

    @contextmanager
    def _catalog_explained(self) -> Iterator[None]:
        try:
            yield
        except DatabaseMissingError as error:
            advice = f"its database is not there: {PREPARE_CATALOG}, or restore it if it was lost."
            raise CatalogNotReadyError(f"the catalog cannot be used: {advice}", field="ADMIN_DATABASE_URL") from error
        except BackendError as error:
            raise CatalogNotReadyError(
                f"the catalog cannot be used: {error.message}", field="ADMIN_DATABASE_URL"
            ) from error

    def _begin_catalog(self, connection: sa.Connection) -> None:
        with self._catalog_explained(), self.explained():
            self.begin(connection, connection.get_execution_options().get("tenancy_write", True))

    # --- connections ------------------------------------------------------------------------------------

    def connect(self, tenant: Tenant, access: Access) -> Any:
        return self.open(_known(access.login).into(tenant.db_name))

    def connect_to_migrate(self, tenant: Tenant, access: Access) -> Any:
        return self.open(admin_of(access).into(tenant.db_name))

    @contextmanager
    def filling(self, driver: Any) -> Iterator[sa.Connection]:
        engine = make_engine(self.scheme, lambda: driver, poolclass=sa.StaticPool)
        with closing(driver), self.explained(), engine.connect() as connection:
            yield connection

    @contextmanager
    def administering(self, access: Access) -> Iterator[Any]:
        """Connect to the server as the login that administers it, for the block; errors are translated."""
        with closing(self.at_server(admin_of(access))) as driver, self.explained():
            yield driver

    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        return watch(tenant_engine(self.scheme, creator), self.socket_of)

    def check_before_commit(self, connection: sa.Connection) -> None:
        """Do nothing: foreign keys are never switched off, so that the server checks them itself."""

    # --- operations -------------------------------------------------------------------------------------

    def probe(self, tenant: Tenant, access: Access) -> Iterator[Check]:
        try:
            with closing(self.at_server(admin_of(access))):
                yield Check("server", "the server answers and takes the login.")
        except DatabaseMissingError:  # a login may be allowed into its own database alone
            yield Check("server", "the server answers.")

    def exists(self, tenant: Tenant, access: Access) -> bool:
        return self.stands(admin_of(access).into(tenant.db_name))

    def create(self, tenant: Tenant, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        """CREATE the database, build its schema, make its login, and write the tenant's rows, among them its identity.

        Of several calls for one database, the call that makes the database goes on. On any failure the steps are
        undone in reverse. That can only remove what this call made: on a registered server the database has a name
        that no other attempt has, and elsewhere a lock on the name is held until this session ends.
        """
        ours = tenant.origin == Origin.SERVER
        admin, name = admin_of(access), tenant.db_name or ""
        with closing(self.at_server(admin)) as driver, ExitStack() as undo:
            if not ours:
                self.lock_place(driver, tenant)
            attempt.step("database")
            self.make_database(driver, tenant, access, blueprint)
            if ours:  # undone last: the login has rights in the database
                undo.callback(self.undo, "login", self.drop_login, driver, tenant.db_user or "")
            undo.callback(self.undo, "database", self.drop_database, driver, name)
            self.build_schema(driver, tenant, access, blueprint)
            if ours:
                attempt.step("login")
                self.make_login(driver, _known(access.login))
            attempt.step("rows")
            self._fill(tenant, access, blueprint)
            undo.pop_all()

    def make_empty(self, tenant: Tenant, access: Access) -> None:
        self._make_missing(admin_of(access).into(tenant.db_name))

    def drop(self, tenant: Tenant, access: Access) -> None:
        with closing(self.at_server(admin_of(access))) as driver:
            self.clear(driver, tenant, access)
            if tenant.origin == Origin.SERVER:
                self.drop_database(driver, tenant.db_name or "")
                self.drop_login(driver, tenant.db_user or "")
                return
            self.lock_place(driver, tenant)
            if self._is_still(tenant, access):
                self.drop_database(driver, tenant.db_name or "")

    def lock_place(self, driver: Any, tenant: Tenant) -> None:
        """Lock the name of a database until the session ends, or raise DatabaseBusyError."""
        if not self.lock(driver, f"place {tenant.db_name}"):  # another lock than the one of migrations and points
            raise DatabaseBusyError("another operation works at the database of this name: wait until it ends.")

    @contextmanager
    def alone_in_place(self, tenant: Tenant, access: Access) -> Iterator[None]:
        """Lock the name for the block; without a lock if the login may not enter the server, as it cannot drop then."""
        try:
            driver = self.at_server(admin_of(access))
        except (AccessDeniedError, DatabaseMissingError, LoginRefusedError):
            yield
            return
        with closing(driver):
            self.lock_place(driver, tenant)
            yield

    def _is_still(self, tenant: Tenant, access: Access) -> bool:
        """Say whether a database that somebody named is still this tenant's, with no later epoch, or is half made."""
        try:
            driver = self.connect_to_migrate(tenant, access)
        except DatabaseMissingError:
            return False
        with self.checks.looking(driver) as connection:
            if not sa.inspect(connection).has_table(tenancy_identity.name):
                return True
            row = connection.execute(sa.select(tenancy_identity.c.tenant_id, tenancy_identity.c.epoch)).first()
        if row is None or (row.tenant_id == tenant.tenant_id and row.epoch <= tenant.epoch):
            return True
        log.warning("the database %s is another tenant's by now, or newer: it stays", tenant.db_name)
        return False

    def _fill(self, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        whole = tenant.origin == Origin.SERVER
        driver = self.connect_to_migrate(tenant, access)
        with self.filling(driver) if whole else self.migrating(driver) as connection:
            if not whole:
                blueprint.build(connection)
            blueprint.fill(connection)
            connection.commit()

    def _make_missing(self, login: Login) -> None:
        """Make the database that an operator's URL names, unless it exists."""
        if not self.stands(login):
            with closing(self.at_server(login)) as driver:
                self.make_plain_database(driver, login.database or "")

    def stands(self, login: Login) -> bool:
        """Say whether the database that a login leads to exists."""
        try:
            self.open(login).close()
        except DatabaseMissingError:
            return False
        return True

    def undo(self, what: str, remove: Callable[[Any, str], None], driver: Any, name: str) -> None:
        """Remove what a failed operation made; an error in that is logged, as the caller raises the first one."""
        try:
            remove(driver, name)
        except Exception as error:  # noqa: BLE001 - the caller raises the error that made this undoing necessary
            log.error("the %s %s could not be removed again: %s", what, name, type(error).__name__)

    # --- operators --------------------------------------------------------------------------------------

    def size_bytes(self, tenant: Tenant, access: Access) -> int | None:
        try:
            with closing(self.connect_to_migrate(tenant, access)) as driver, self.explained():
                return int(one(driver, self.size_sql) or 0)
        except DatabaseMissingError:
            return None

    def clear_scratch(self, driver: Any, installation: str) -> list[str]:
        """Drop the scratch databases that nobody uses; return their names. One that cannot be dropped stays.

        Whoever uses a scratch database holds its lock, which the server releases when that session ends.
        """
        dropped = []
        with self.explained():
            for name in self.databases(driver, names.SCRATCH):
                if names.installation_in(name) == installation and self.lock(driver, scratch_lock(name), 0):
                    try:
                        self.drop_database(driver, name)
                        dropped.append(name)
                    except TenancyError as error:
                        log.warning("the scratch database %s could not be dropped: %s", name, error.message)
        return dropped


def scratch_lock(name: str) -> str:
    """Name the lock that the user of a scratch database holds; a migration inside holds another one."""
    return f"scratch {name}"


def rights_on(table: str) -> tuple[str, ...]:
    """Return the rights of a tenant's login on a table: all on rows, but only SELECT on the tenancy tables."""
    return ("SELECT",) if table in _TENANCY_TABLES else ("SELECT", "INSERT", "UPDATE", "DELETE")


def fresh_password() -> str:
    """Make a random password that meets the password rules of servers.

    Its end has a digit, both cases and another character: MySQL 8's validate_password asks for all of them by its
    default policy MEDIUM (its manual, "Password Validation Options and Variables"), SQL Server for three.
    """
    return f"{secrets.token_urlsafe(32)}-aA1"


def admin_of(access: Access) -> Login:
    """Return the login that administers a server, or raise DatabaseUnreachableError if none is stored."""
    return _known(access.admin)


def _known(login: Login | None) -> Login:
    if login is None:
        raise DatabaseUnreachableError("no login is stored for this database: set its configuration anew.")
    return login
