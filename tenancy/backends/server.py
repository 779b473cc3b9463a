"""Serve tenants from database servers: what PostgreSQL, MySQL and SQL Server have in common.

Each product's file says how its server is entered and what its SQL is; the order of things stands here. On a
registered server a tenant gets a database and a login of its own, and the server's login changes its schema. Where
somebody named a database, that database's own login does both.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event

from tenancy import hosts, names
from tenancy.backends import logins
from tenancy.backends.base import Asked, Attempt, Blueprint, Check, DatabaseFields, Storage
from tenancy.backends.logins import Access, Login, Options
from tenancy.backends.server_checks import ServerChecks
from tenancy.backends.server_engines import CATALOG_POOL, make_engine, tenant_engine, watch
from tenancy.errors import (
    BackendError,
    CatalogNotReadyError,
    ClaimLostError,
    ConfigurationError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    TenancyError,
)
from tenancy.models import TENANT_VERSION_TABLE, Origin, Placement, Server, house_metadata

log = logging.getLogger(__name__)

_HOUSE = frozenset({*house_metadata.tables, TENANT_VERSION_TABLE})
SAID = ("db_host", "db_port", "db_name", "db_user", "db_options")


class ServerBackend(ServerChecks):
    """Offer a product whose databases stand on servers."""

    on_server: ClassVar[bool] = True
    default_port: ClassVar[int]
    scheme: ClassVar[str]
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

    @abstractmethod
    def make_login(self, driver: Any, login: Login) -> None:
        """Make a tenant's login, or give the one that is left of an earlier attempt this password; let it in."""

    @abstractmethod
    def drop_login(self, driver: Any, user: str) -> None:
        """Remove a tenant's login; it is no error when it is gone."""

    @abstractmethod
    def make_database(self, driver: Any, tenant: Placement, access: Access, blueprint: Blueprint) -> None:
        """Make a tenant's database, or raise (DatabaseExistsError, where one stands there) and have made none."""

    @abstractmethod
    def furnish(self, driver: Any, tenant: Placement, access: Access, blueprint: Blueprint) -> None:
        """Close a database just made to every login but its own; give it its schema, where it did not come with it.

        On a registered server the quickest way the product has. ``blueprint.fill`` has not run; where somebody named
        the database, its schema is built afterwards.
        """

    @abstractmethod
    def drop_database(self, driver: Any, name: str) -> None:
        """Remove a database, whoever is connected to it; it is no error when it is gone."""

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
        return found | ({} if fields.db_name is None else {"db_name": names.database(fields.db_name)})

    def host(self, text: str) -> str:
        """Give the host as it is kept, or refuse."""
        return hosts.host(text)

    def plan(
        self, owner: int | None, tenant_id: uuid.UUID, given: dict[str, Any], server: Server | None
    ) -> dict[str, Any]:
        own = names.planned_database(owner, tenant_id)
        if server is None:
            return {"db_type": self.name, "db_name": own, **given, "owned": False}
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

    def budget_key(self, tenant: Placement) -> str | None:
        return f"{self.name}:{tenant.db_host}:{tenant.db_port}"

    def shown_path(self, tenant: Placement) -> str | None:
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
        event.listen(engine, "begin", self._begin_catalog)
        self._catalogs[engine] = login
        return engine

    def make_catalog(self, engine: sa.Engine) -> None:
        self._make_missing(self._catalogs[engine])

    def _open_catalog(self, login: Login) -> Any:
        try:
            return self.open(login)
        except DatabaseMissingError as error:
            advice = "its database is not there: run `unify db create-config-table`, or restore it if it was lost."
            raise CatalogNotReadyError(f"the catalog cannot be used: {advice}", field="ADMIN_DATABASE_URL") from error
        except BackendError as error:
            raise CatalogNotReadyError(
                f"the catalog cannot be used: {error.message}", field="ADMIN_DATABASE_URL"
            ) from error

    def _begin_catalog(self, connection: sa.Connection) -> None:
        self.begin(connection, connection.get_execution_options().get("tenancy_write", True))

    # --- connections ------------------------------------------------------------------------------------

    def connect(self, tenant: Placement, access: Access) -> Any:
        return self.open(_known(access.login).into(tenant.db_name))

    def connect_to_migrate(self, tenant: Placement, access: Access) -> Any:
        return self.open(_known(access.admin).into(tenant.db_name))

    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        return watch(tenant_engine(self.scheme, creator), self.socket_of)

    def check_before_commit(self, connection: sa.Connection) -> None:
        """Foreign keys are never switched off here: the server checks them itself."""

    # --- operations -------------------------------------------------------------------------------------

    def probe(self, tenant: Placement, access: Access) -> Iterator[Check]:
        try:
            with closing(self.at_server(_known(access.admin))):
                yield Check("server", "the server answers and takes the login.")
        except DatabaseMissingError:  # some logins may enter nothing but their own database
            yield Check("server", "the server answers.")

    def exists(self, tenant: Placement, access: Access) -> bool:
        try:
            self.connect_to_migrate(tenant, access).close()
        except DatabaseMissingError:
            return False
        return True

    def create(self, tenant: Placement, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        """Make database and login, then the tenant's own rows: without those nobody takes it for a tenant's.

        Of several at once the one that makes the database goes on. What was made is removed again on any failure, in
        reverse; a later attempt's is left to that one.
        """
        ours = tenant.origin == Origin.SERVER
        admin, name = _known(access.admin), tenant.db_name or ""
        with closing(self.at_server(admin)) as driver, ExitStack() as undo:
            try:
                with attempt.holding():
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
                self._fill(tenant, access, blueprint, attempt)
            except ClaimLostError:
                undo.pop_all()
                raise
            undo.pop_all()

    def make_empty(self, tenant: Placement, access: Access) -> None:
        self._make_missing(_known(access.admin).into(tenant.db_name))

    def drop(self, tenant: Placement, access: Access) -> None:
        with closing(self.at_server(_known(access.admin))) as driver:
            self.drop_database(driver, tenant.db_name or "")
            if tenant.origin == Origin.SERVER:
                self.drop_login(driver, tenant.db_user or "")

    def _fill(self, tenant: Placement, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        whole = tenant.origin == Origin.SERVER
        driver = self.connect_to_migrate(tenant, access)
        with self.filling(driver) if whole else self.migrating(driver) as connection:
            if not whole:
                blueprint.build(connection)
            with attempt.holding():
                blueprint.fill(connection)
                connection.commit()

    def _make_missing(self, login: Login) -> None:
        """Make the database that an operator's URL names, where there is none."""
        try:
            self.open(login).close()
        except DatabaseMissingError:
            with closing(self.at_server(login)) as driver:
                self.make_plain_database(driver, login.database or "")

    def _undo(self, what: str, remove: Callable[[Any, str], None], driver: Any, name: str) -> None:
        try:
            remove(driver, name)
        except Exception as error:  # noqa: BLE001 - the failure that is being undone is the one to tell
            log.error("the %s %s could not be removed again: %s", what, name, type(error).__name__)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn every error of the driver's into one of ours, for what is done beside SQLAlchemy."""
        try:
            yield
        except TenancyError:
            raise
        except Exception as error:
            ours = self.explain(error)
            if ours is None:
                raise
            raise ours from error


def rights_on(table: str) -> tuple[str, ...]:
    """Give what a tenant's login may do on a table: it may read, and not write, what the house keeps of it."""
    return ("SELECT",) if table in _HOUSE else ("SELECT", "INSERT", "UPDATE", "DELETE")


def fresh_password() -> str:
    """Make a password that no person types."""
    return secrets.token_urlsafe(32)


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
