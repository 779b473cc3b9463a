"""Serve tenants from database servers: what PostgreSQL, MySQL and SQL Server have in common.

Each product's file says how its server is entered and what its SQL is; the order of things stands here. On a
registered server a tenant gets a database and a login of its own, and the server's login changes its schema. Where
somebody named a database, that database's own login does both.
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
from tenancy.backends.base import Asked, Attempt, Blueprint, Check, DatabaseFields, Storage, Whose
from tenancy.backends.server.checks import ServerChecks
from tenancy.backends.server.engines import CATALOG_POOL, make_engine, tenant_engine, watch
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
)
from tenancy.models import Origin, Server, Tenant
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_identity, tenancy_tables

log = logging.getLogger(__name__)

_HOUSE = frozenset({*tenancy_tables.tables, TENANT_VERSION_TABLE})
SAID = ("db_host", "db_port", "db_name", "db_user", "db_options")


class ServerBackend(ServerChecks):
    """Offer a product whose databases stand on servers."""

    on_server: ClassVar[bool] = True
    default_port: ClassVar[int]
    scheme: ClassVar[str]
    own_names: ClassVar[frozenset[str]]
    """What a product or its host keeps for itself on each server: no user's database."""

    asks: ClassVar[tuple[Asked, ...]] = (
        Asked("db_host", "Host", required=False, help="Left empty, a registered server is chosen."),
        Asked("db_port", "Port", "number", required=False),
        Asked("db_name", "Database", required=False, help="One that is there must be empty; else it is made."),
        Asked("db_user", "Login", required=False),
        Asked("db_password", "Password", "password", required=False),
    )

    def __init__(self) -> None:
        self._catalogs: WeakKeyDictionary[sa.Engine, Login] = WeakKeyDictionary()

    # --- what each product says -------------------------------------------------------------------------

    @abstractmethod
    def open(self, login: Login) -> Any:
        """Open a DBAPI connection, pinned to UTC, READ COMMITTED and strict modes, or raise a TenancyError."""

    @abstractmethod
    def at_server(self, login: Login) -> Any:
        """Open a DBAPI connection to no tenant's database, each statement of which commits itself."""

    def may_create(self, driver: Any) -> bool | None:
        """Say whether the login of a connection may make databases and logins; None where that is not known cheaply."""
        return None

    def prepare(self, driver: Any, *, beside_others: bool = False) -> list[str]:
        """Keep tenants' logins out of the server's own databases, where the login of a connection may say so.

        Give what was done to rights on the server. Where others have logins there, it is done ``beside_others`` alone.
        """
        return []

    def remarks(self, driver: Any) -> list[str]:
        """Say what an operator should do about a server beside what ``prepare`` could do, a sentence each."""
        return []

    def tidy(self, driver: Any, installation: str, fingerprint: str) -> list[str]:
        """Remove what this installation left on a server and no tenant of the schema needs; say what was done.

        Without a schema's fingerprint nothing is needed.
        """
        return [f"dropped {name}" for name in self.clear_scratch(driver, installation)]

    @abstractmethod
    def make_login(self, driver: Any, login: Login) -> None:
        """Make a tenant's login, or give the one that is left of an earlier attempt this password; let it in."""

    @abstractmethod
    def drop_login(self, driver: Any, user: str) -> None:
        """Remove a tenant's login; it is no error when it is gone."""

    @abstractmethod
    def make_database(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        """Make a tenant's database, or raise (DatabaseExistsError, where one stands there) and have made none."""

    @abstractmethod
    def furnish(self, driver: Any, tenant: Tenant, access: Access, blueprint: Blueprint) -> None:
        """Close a database just made to every login but its own; give it its schema, where it did not come with it.

        On a registered server the quickest way the product has. ``blueprint.fill`` has not run; where somebody named
        the database, its schema is built afterwards.
        """

    @abstractmethod
    def drop_database(self, driver: Any, name: str) -> None:
        """Remove a database, whoever is connected to it; it is no error when it is gone."""

    def clear(self, driver: Any, tenant: Tenant, access: Access) -> None:
        """End what is in the way of dropping a tenant's database, where it takes the tenant's own login to do that."""

    @abstractmethod
    def make_plain_database(self, driver: Any, name: str) -> None:
        """Make an empty database that compares and sorts text by code point, or DatabaseExistsError."""

    @abstractmethod
    def socket_of(self, driver: Any) -> int | None:
        """Give the descriptor of a connection's socket, where the driver shows it."""

    @abstractmethod
    def begin(self, connection: sa.Connection, write: bool) -> None: ...

    # --- where a database stands ------------------------------------------------------------------------

    def given(self, fields: DatabaseFields) -> dict[str, Any]:
        if fields.db_path is not None:
            raise ConfigurationError(f"db_path cannot be given for {self.name}: it has no file.", field="db_path")
        said = {name: getattr(fields, name) for name in SAID if getattr(fields, name) is not None}
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
        """Give the host as it is kept, or refuse."""
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
        return self.open(_known(access.admin).into(tenant.db_name))

    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        return watch(tenant_engine(self.scheme, creator), self.socket_of)

    def check_before_commit(self, connection: sa.Connection) -> None:
        """Foreign keys are never switched off here: the server checks them itself."""

    # --- operations -------------------------------------------------------------------------------------

    def probe(self, tenant: Tenant, access: Access) -> Iterator[Check]:
        try:
            with closing(self.at_server(_known(access.admin))):
                yield Check("server", "the server answers and takes the login.")
        except DatabaseMissingError:  # some logins may enter nothing but their own database
            yield Check("server", "the server answers.")

    def exists(self, tenant: Tenant, access: Access) -> bool:
        return self.stands(_known(access.admin).into(tenant.db_name))

    def create(self, tenant: Tenant, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        """Make database and login, then the tenant's own rows: without those nobody takes it for a tenant's.

        Of several at once the one that makes the database goes on. What was made is removed again on any failure, in
        reverse: on a registered server nobody else has its name, and else the place is locked for as long as this
        session lasts, so that nobody takes over or makes anew what this session still may remove.
        """
        ours = tenant.origin == Origin.SERVER
        admin, name = _known(access.admin), tenant.db_name or ""
        with closing(self.at_server(admin)) as driver, ExitStack() as undo:
            if not ours:
                self.lock_place(driver, tenant)
            attempt.step("database")
            self.make_database(driver, tenant, access, blueprint)
            if ours:  # undone last: while the database is there, its rights are
                undo.callback(self._undo, "login", self.drop_login, driver, tenant.db_user or "")
            undo.callback(self._undo, "database", self.drop_database, driver, name)
            self.furnish(driver, tenant, access, blueprint)
            if ours:
                attempt.step("login")
                self.make_login(driver, _known(access.login))
            attempt.step("rows")
            self._fill(tenant, access, blueprint)
            undo.pop_all()

    def make_empty(self, tenant: Tenant, access: Access) -> None:
        self._make_missing(_known(access.admin).into(tenant.db_name))

    def drop(self, tenant: Tenant, access: Access) -> None:
        with closing(self.at_server(_known(access.admin))) as driver:
            self.clear(driver, tenant, access)
            if tenant.origin == Origin.SERVER:
                self.drop_database(driver, tenant.db_name or "")
                self.drop_login(driver, tenant.db_user or "")
                return
            self.lock_place(driver, tenant)
            if self._is_still(tenant, access):
                self.drop_database(driver, tenant.db_name or "")

    def lock_place(self, driver: Any, tenant: Tenant) -> None:
        """Keep others from making or removing a database of this name until the session ends, or DatabaseBusyError."""
        if not self.lock(driver, f"place {tenant.db_name}"):  # migrations of the database have a lock of their own
            raise DatabaseBusyError("another operation works at the database of this name: wait until it ends.")

    @contextmanager
    def alone_in_place(self, tenant: Tenant, access: Access) -> Iterator[None]:
        """Lock the name for as long as the block lasts; a login that may not enter the server cannot drop either."""
        try:
            driver = self.at_server(_known(access.admin))
        except (AccessDeniedError, DatabaseMissingError, LoginRefusedError):
            yield
            return
        with closing(driver):
            self.lock_place(driver, tenant)
            yield

    def _is_still(self, tenant: Tenant, access: Access) -> bool:
        """Say whether a database that somebody named is this tenant's, as old as is meant, or half made."""
        try:
            driver = self.connect_to_migrate(tenant, access)
        except DatabaseMissingError:
            return False
        with self.looking(driver) as connection:
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
        """Make the database that an operator's URL names, where there is none."""
        if not self.stands(login):
            with closing(self.at_server(login)) as driver:
                self.make_plain_database(driver, login.database or "")

    def stands(self, login: Login) -> bool:
        """Say whether the database of a login is there."""
        try:
            self.open(login).close()
        except DatabaseMissingError:
            return False
        return True

    def _undo(self, what: str, remove: Callable[[Any, str], None], driver: Any, name: str) -> None:
        try:
            remove(driver, name)
        except Exception as error:  # noqa: BLE001 - the failure that is being undone is the one to tell
            log.error("the %s %s could not be removed again: %s", what, name, type(error).__name__)


def rights_on(table: str) -> tuple[str, ...]:
    """Give what a tenant's login may do on a table: it may read, and not write, what the house keeps of it."""
    return ("SELECT",) if table in _HOUSE else ("SELECT", "INSERT", "UPDATE", "DELETE")


def fresh_password() -> str:
    """Make a password that no person types; its end has every kind of character that a server's rules may ask for.

    MySQL 8's validate_password asks for a digit, both cases and another character by its policy MEDIUM, which is the
    one it is installed with (its manual, "Password Validation Options and Variables"); SQL Server for three of them.
    """
    return f"{secrets.token_urlsafe(32)}-aA1"


def run(driver: Any, *statements: str) -> None:
    """Run statements on an open connection."""
    cursor = driver.cursor()
    try:
        for statement in statements:
            cursor.execute(statement)
    finally:
        cursor.close()


def one(driver: Any, statement: str, values: tuple[Any, ...] = ()) -> Any:
    """Give the first column of the first row, None where there is none."""
    cursor = driver.cursor()
    try:
        cursor.execute(statement, values) if values else cursor.execute(statement)
        row = cursor.fetchone()
        return None if row is None else row[0]
    finally:
        cursor.close()


def column(driver: Any, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """Give the first column of all rows."""
    with closing(driver.cursor()) as cursor:
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]


def _known(login: Login | None) -> Login:
    if login is None:
        raise DatabaseUnreachableError("no login is stored for this database: set its configuration anew.")
    return login
