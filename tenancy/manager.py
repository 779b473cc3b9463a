"""The tenant manager: the only way by which our own code reaches tenants' databases.

``session`` is how this application works; ``engine_for``, ``get_user_connection``, ``fetch_all`` and
``execute_update`` are for others. Operators' queries and actions are methods of the manager's objects:
``servers``, ``fleet``, ``reports``, ``audit``, ``pool``, ``own_databases``, ``leftovers``, ``jobs``, ``schedules``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tenancy import context, names
from tenancy.archive.backup_settings import BackupSettings
from tenancy.backends import Backends, placeholders
from tenancy.backends.base import DatabaseFields
from tenancy.catalog import Catalog, tenants, users as user_rows
from tenancy.catalog.tables import CATALOG_VERSION_TABLE, SHARED_OWNER
from tenancy.credentials.keyring import Keyring
from tenancy.errors import ConfigurationError, ScopeError
from tenancy.fleet.fleet import Fleet
from tenancy.fleet.recovery import Recovery
from tenancy.hosts import HostPolicy
from tenancy.jobs.backup_jobs import BackupJobs
from tenancy.jobs.backup_kinds import BackupWork
from tenancy.jobs.fleet_kinds import FleetWork
from tenancy.jobs.queue import Jobs
from tenancy.jobs.schedules import Schedules
from tenancy.lifecycle.migrate_catalog import migrate_catalog
from tenancy.lifecycle.operation import Services
from tenancy.lifecycle.own_database import OwnDatabases
from tenancy.lifecycle.preflight import probe
from tenancy.lifecycle.provision import Provisioned, Provisioner
from tenancy.lifecycle.provision_many import Batch, InitResult
from tenancy.lifecycle.reconcile import Reconciler
from tenancy.lifecycle.restore import Restores
from tenancy.lifecycle.shared_database import SharedDatabase
from tenancy.lifecycle.stored_backups import Backups
from tenancy.lifecycle.suspend_delete import Retirement
from tenancy.lifecycle.upgrade_on_first_use import UpgradeOnFirstUse
from tenancy.models import Principal, State, Tenant, TenantSchema, User
from tenancy.monitoring.audit import AuditReports
from tenancy.monitoring.backups import BackupReports
from tenancy.monitoring.doctor import Doctor
from tenancy.monitoring.observations import Observations
from tenancy.monitoring.overview import Reports
from tenancy.routing.dbapi import LeasedConnection, only_reads
from tenancy.routing.engines import EngineCache, Entry
from tenancy.routing.router import Router
from tenancy.schema.chain import Chain
from tenancy.schema.tables import TENANT_VERSION_TABLE
from tenancy.servers.pending_pool import PendingPool
from tenancy.servers.registry import Servers

log = logging.getLogger(__name__)

CATALOG_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations" / "admin"
"""The catalog's revisions, which are installed beside this package: its tables are ours, whatever the application."""


FORMER_NAMES = {
    "accept_server": "servers.accept",
    "accounts_page": "reports.accounts_page",
    "add_server": "servers.add",
    "audit_actions": "audit.actions",
    "audit_entries": "audit.entries",
    "audit_page": "audit.page",
    "audit_verify": "audit.verify",
    "catalog_status": "reports.catalog",
    "connect_own_database": "own_databases.connect",
    "database_info": "reports.info",
    "database_types": "reports.database_types",
    "drain_server": "servers.drain",
    "fill_servers": "pool.fill",
    "glance": "reports.overview",
    "health": "reports.health",
    "list_databases": "reports.databases",
    "placement_of": "tenant_of",
    "probe_own_database": "own_databases.probe",
    "remove_server": "servers.remove",
    "server": "servers.get",
    "set_server_password": "servers.set_password",
    "tenant_report": "reports.tenant",
    "test_database": "reports.test",
    "test_server": "servers.test",
    "tidy_server": "servers.tidy",
}
"""The 0.3 names of the manager's calls; they go with the version after the next."""

FORMER_WORDS = {"told": "notify"}
"""What their arguments were called."""


@dataclass(frozen=True)
class Options:
    """The values that a manager depends on besides its parts."""

    multi_tenant: bool = True
    shared_url: str | None = None
    default_type: str = "sqlite"
    cache_size: int = 256
    server_connections: int | None = None
    hosts: HostPolicy = field(default_factory=HostPolicy)
    user_databases: bool = False
    migrate_on_first_touch: bool = False
    pending_tenants: int = 0
    backups: BackupSettings = field(default_factory=BackupSettings)


class TenantManager:
    """Route requests, commands and jobs to the right database, one engine per tenant.

    Called without arguments it returns the manager that the entry point installed.
    """

    installed: ClassVar[TenantManager | None] = None
    """The manager of the process; ``installed.install`` sets it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> TenantManager:
        if args or kwargs:
            return super().__new__(cls)
        if cls.installed is None:
            raise ConfigurationError(
                "no tenant manager is installed: call `tenancy.install(manager)` first "
                "(Unify: `compose.build(settings)`)."
            )
        return cls.installed

    def __init__(
        self,
        catalog: Catalog | None = None,
        backends: Backends | None = None,
        schema: TenantSchema | None = None,
        keyring: Keyring | None = None,
        options: Options | None = None,
        *,
        catalog_chain: Chain | None = None,
    ) -> None:
        if catalog is None and backends is None:
            return  # the installed manager, given by __new__: it is complete
        if catalog is None or backends is None or schema is None or keyring is None:
            raise ConfigurationError("a manager needs a catalog, backends, a schema and a keyring.")
        self.options = options or Options()
        self.multi_tenant = self.options.multi_tenant
        self.catalog = catalog
        self.backends = backends
        self.schema = schema
        self.keyring = keyring
        self.chain = Chain(schema.migrations, TENANT_VERSION_TABLE, argument="TenantSchema(migrations)")
        self.catalog_chain = catalog_chain or Chain(CATALOG_MIGRATIONS, CATALOG_VERSION_TABLE)
        self.services = Services(
            catalog,
            backends,
            schema,
            self.chain,
            keyring,
            default_type=self.options.default_type,
            shared_url=self.options.shared_url,
            hosts=self.options.hosts,
            backups=self.options.backups,
        )
        self.engines = EngineCache(
            self.options.cache_size,
            self.services.serving,
            backends.get,
            lambda: self.head,
            server_limit=self.options.server_connections,
        )
        self.services.on_retire = self.engines.retire
        self.observations = Observations(catalog, backends, self.services.access)
        self.services.on_error = self.observations.noticed
        self.provisioner = Provisioner(self.services)
        self.batch = Batch(self.provisioner, self.provision)
        self.retirement = Retirement(self.services)
        self.reconciler = Reconciler(catalog, self.retirement)
        self.router = Router(catalog, self.chain, self.engines, self.observations.noticed)
        if self.options.migrate_on_first_touch and self.multi_tenant:
            self.router.on_behind = UpgradeOnFirstUse(self.provisioner).upgrade
        allowed = self.options.user_databases and self.multi_tenant
        self.own_databases = OwnDatabases(self.provisioner, self.router.bulkhead, allowed=allowed)
        self.leftovers = self.provisioner.leftovers
        self.backups = Backups(self.services, self.catalog_chain)
        self.restores = Restores(self.services)
        self.fleet = Fleet(self.services)
        self.recovery = Recovery(self.services, self.catalog_chain)
        self.pool = PendingPool(self.services, self.options.pending_tenants if self.multi_tenant else 0)
        self.services.on_placed = self.pool.wake
        self.servers = Servers(self.services, self.pool.empty)
        self.reports = Reports(
            self.services,
            self.catalog_chain,
            self.router.tenant_of,
            self.engines,
            BackupReports(catalog, self.options.backups.warn_hours),
        )
        self.audit = AuditReports(catalog)
        self.doctor = Doctor(self.services)
        self.jobs = Jobs(catalog, keyring)
        self.schedules = Schedules(self.jobs)
        self.backup_jobs = BackupJobs(self.jobs, self.options.backups)
        self.fleet_work = FleetWork(self.fleet)
        self.backup_work = BackupWork(catalog, self.backups, self.restores)
        for kind in (self.fleet_work.kind(), *self.backup_work.kinds()):
            self.jobs.kinds.register(kind)

    if not TYPE_CHECKING:  # a type checker is to refuse the former names

        def __getattr__(self, name: str) -> Any:
            """Find what was called differently in the version before, with a warning."""
            if name not in FORMER_NAMES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            now = FORMER_NAMES[name]
            warnings.warn(f"manager.{name} is called manager.{now} now", DeprecationWarning, stacklevel=2)
            call = attrgetter(now)(self)

            @wraps(call)
            def former(*given: Any, **named: Any) -> Any:
                return call(*given, **{FORMER_WORDS.get(word, word): value for word, value in named.items()})

            return former

    @property
    def head(self) -> str:
        """The revision that this code needs a tenant to be at."""
        return self.chain.head

    # --- context ----------------------------------------------------------------------------------------

    def tenant(self, user_id: int, *, actor_id: int | None = None) -> AbstractContextManager[None]:
        """Work for a user inside the block, in this thread or task only."""
        return context.held(names.user_id(user_id), actor_id)

    def bind(self, principal: Principal, *, request_id: str | None = None, own_database: bool = True) -> None:
        """Hold this context (a web request's own copy) for whoever sent the request.

        With ``own_database=False`` the audit log knows the actor, and no database is chosen: an administrator looks at
        others'.
        """
        user_id = principal.user.id
        context.bind(
            context.Context(
                owner=user_id if own_database else None,
                tenant=principal.tenant if own_database else None,
                locked=True,
                held_for=user_id if own_database else None,
                actor_id=user_id,
                request_id=request_id,
                actor=context.SELF if own_database else context.CONSOLE,
            )
        )

    def share_threads(self, threads: int) -> None:
        """Set how many threads answer requests in this process; a database that hangs holds only a part of them."""
        self.router.bulkhead.share(threads)

    @property
    def current_user_id(self) -> int | None:
        return context.current().owner

    def set_current_user(self, user_id: int) -> None:
        """Work for a user from here on, in this context only."""
        context.set_user(names.user_id(user_id))

    def clear_current_user(self) -> None:
        """Work on the main database from here on, in this context only."""
        context.choose_main()

    # --- reaching a database ----------------------------------------------------------------------------

    @contextmanager
    def session(self, user_id: int | None = None, *, write: bool = False) -> Iterator[Session]:
        """Open one transaction on a user's database; it commits on leaving, and rolls back on any error."""
        owner = context.owner(user_id)
        with (
            self.router.connected(owner, write=write) as (connection, _),
            Session(connection, autoflush=write, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.info["owner"] = owner
            yield session

    def engine_for(self, user_id: int | None = None) -> sa.Engine:
        """Return the cached engine of a user's database; its transactions are fenced unless they say they only read."""
        with self.engines.leased(self._acquired(user_id)) as entry:
            return entry.engine

    def get_user_connection(self, user_id: int | None = None) -> LeasedConnection:
        """Return a DBAPI connection; its ``close()`` ends its lease."""
        entry = self._acquired(user_id)
        return LeasedConnection(entry.engine, partial(self.engines.release, entry, self.engines.holder()))

    def fetch_all(self, sql: str, params: Sequence[Any] = (), user_id: int | None = None) -> list[tuple[Any, ...]]:
        """Run a query with ``?`` placeholders; return plain tuples."""
        with self._raw(user_id, write=not only_reads(sql)) as (connection, rules):
            result = connection.exec_driver_sql(placeholders.translate(sql, rules, len(params)), tuple(params))
            return [tuple(row) for row in result] if result.returns_rows else []

    def execute_update(self, sql: str, params: Sequence[Any] = (), user_id: int | None = None) -> int:
        """Run a statement with ``?`` placeholders in its own transaction; return the number of rows."""
        with self._raw(user_id, write=True) as (connection, rules):
            result = connection.exec_driver_sql(placeholders.translate(sql, rules, len(params)), tuple(params))
            return max(0, result.rowcount)

    # --- making and unmaking databases ------------------------------------------------------------------

    def provision(self, user_id: int, fields: DatabaseFields | None = None) -> Provisioned:
        """Create a user's database, finish one half-made, or bring one that is behind to head."""
        user_id = names.user_id(user_id)
        fields = fields or DatabaseFields()
        return self.provisioner.provision(user_id, fields) if self.multi_tenant else self._join_shared(user_id, fields)

    def initialize_user_database(
        self,
        user_id: int,
        db_type: str | None = None,
        db_host: str | None = None,
        db_port: int | None = None,
        db_name: str | None = None,
        db_user: str | None = None,
        db_password: str | None = None,
        db_path: str | None = None,
        db_options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Create a user's database; return its configuration without secrets.

        Without ``db_host`` the database is placed: SQLite in TENANT_DATA_DIR, the others on a registered server. With
        it the database is created there, or taken over where it is empty or this tenant's own.
        """
        fields = DatabaseFields(db_type, db_host, db_port, db_name, db_user, db_password, db_path, db_options)
        return self.reports.shown(self.provision(user_id, fields).tenant, user_id)

    def initialize_all(self, on_result: Callable[[InitResult], None]) -> list[InitResult]:
        """Create or upgrade the database of every active user; one that fails is named, and the others go on."""
        results: list[InitResult] = []
        after = 0
        while users := self._users_after(after):
            after = users[-1].id
            active = [user for user in users if user.is_active]
            each = self.batch.initialize(active) if self.multi_tenant else map(self.batch.initialize_one, active)
            for result in each:
                results.append(result)
                on_result(result)
        return results

    def users_without_database(self) -> int:
        with self.catalog.reading() as connection:
            return len(tenants.users_without(connection))

    def delete_user_database(self, user_id: int, *, forget: bool = False) -> bool:
        """Archive a user's tenant and drop its database; the account stays. Return whether the database is gone.

        With ``forget`` a database that cannot be dropped is put on the list of leftovers until it is gone.
        """
        self._refuse_shared("delete")
        return self.retirement.delete(names.user_id(user_id), forget=forget)

    def release_claim(self, user_id: int) -> dict[str, Any] | None:
        """End the operation that holds a user's database, and return which it was; None where none does."""
        self._refuse_shared("release")
        return self.retirement.release(names.user_id(user_id))

    def suspend(self, user_id: int) -> None:
        """Stop all work on a user's database, until ``resume``."""
        self._refuse_shared("suspend")
        self.retirement.set_state(names.user_id(user_id), State.READY, State.SUSPENDED)

    def resume(self, user_id: int) -> bool:
        """Let a suspended database be used again; return whether it was suspended."""
        self._refuse_shared("resume")
        return self.retirement.set_state(names.user_id(user_id), State.SUSPENDED, State.READY)

    def settle_interrupted(self) -> list[int]:
        """Reconcile databases whose last operation was cut off with the catalog; return their users.

        ``unify serve`` does it once a minute, 20 databases at a time; one that cannot be reached is tried again later.
        """
        return self.reconciler.round()

    def prepare_catalog(self) -> list[str]:
        """Migrate the catalog (and in shared mode the shared database) to head; return the revisions applied now."""
        applied = migrate_catalog(self.catalog, self.backends, self.catalog_chain)
        if not self.multi_tenant:
            shared = SharedDatabase(self.services).provision_shared(self.options.shared_url or "")
            applied += [f"shared {revision}" for revision in shared]
        return applied

    # --- operators' questions ---------------------------------------------------------------------------

    def load_user_db_config(self, user_id: int) -> dict[str, Any]:
        """Return a user's configuration without secrets, or TenantNotFoundError."""
        return self.reports.config(user_id)

    def get_user_database_stats(self) -> dict[str, Any]:
        return self.reports.stats()

    def probe_database(self, user_id: int, fields: DatabaseFields) -> dict[str, Any]:
        """Check a configuration that is not stored, and report what is wrong with it; nothing is created."""
        return probe(self.services, names.user_id(user_id), fields)

    def note_error(self, user_id: int, code: str, message: str, request_id: str | None = None) -> None:
        """Remember an error of a user's database, in memory; errors that the engine raises are noted already."""
        self.observations.note(names.user_id(user_id) if self.multi_tenant else SHARED_OWNER, code, message, request_id)

    def close(self) -> None:
        """Close every connection of this manager."""
        self.pool.close()
        self.engines.close()
        self.catalog.close()

    def tenant_of(self, user_id: int) -> Tenant:
        """Ask the catalog where a user's rows live; in shared mode that is the shared database."""
        return self.router.tenant_of(names.user_id(user_id))

    def sweep(self) -> None:
        """Do what a serving process does every few seconds: close idle connections, look at the pools."""
        with context.acting(context.HOUSEKEEPING):
            self.engines.sweep()
            self.pool.tick()

    # --- inside -----------------------------------------------------------------------------------------

    @contextmanager
    def _raw(self, user_id: int | None, *, write: bool) -> Iterator[tuple[sa.Connection, placeholders.Rules]]:
        """Open a connection for plain SQL: to a user's database, or to the main one where that was chosen."""
        here = context.current()
        if user_id is None and here.main:
            rules = self.backends.for_url(str(self.catalog.engine.url), "ADMIN_DATABASE_URL").rules
            with self.catalog.writing() if write else self.catalog.reading() as connection:
                yield connection, rules
            return
        owner = context.owner(None if user_id is None else names.user_id(user_id))
        self._refuse_raw(owner)
        with self.router.connected(owner, write=write) as (connection, backend), connection.begin():
            yield connection, backend.rules

    def _acquired(self, user_id: int | None) -> Entry:
        """Begin a lease of a user's engine, for SQL that no repository scopes."""
        owner = context.owner(user_id)
        self._refuse_raw(owner)
        return self.router.acquire(self.router.route(owner, write=False))

    def _refuse_raw(self, owner: int) -> None:
        if not self.multi_tenant:
            raise ScopeError(
                "plain SQL on behalf of a user cannot be scoped in the shared database: use the repositories.",
                user_id=owner,
            )

    def _refuse_shared(self, operation: str) -> None:
        if not self.multi_tenant:
            raise ConfigurationError(
                f"users share one database (MULTI_TENANT_MODE=false): there is none to {operation}."
            )

    def _join_shared(self, user_id: int, fields: DatabaseFields) -> Provisioned:
        """Write a user's first rows into the shared database, once."""
        with self.catalog.reading() as connection:
            user_rows.get(connection, user_id)
        if fields != DatabaseFields() and fields != DatabaseFields(db_type=self.options.default_type):
            raise ConfigurationError(
                "users share one database (MULTI_TENANT_MODE=false): none is made for one user.", field="db_type"
            )
        created = False
        with self.session(user_id, write=True) as session:
            for table, values in self.schema.first_rows(user_id):
                mine = sa.select(table.c.user_id).where(table.c.user_id == user_id).limit(1)
                if session.execute(mine).first() is None:
                    session.execute(table.insert(), values)
                    created = True
        return Provisioned(self.tenant_of(user_id), created)

    def _users_after(self, after: int) -> list[User]:
        with self.catalog.reading() as connection:
            return user_rows.page(connection, after, 500, None)


MultiTenantDatabaseManager = TenantManager
