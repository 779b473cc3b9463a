"""Build all parts from the settings, for the web application and for the command line alike."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from repositories.schema import tenant_schema
from settings import Settings
from tenancy import TenantManager, install
from tenancy.accounts.accounts import AccountRules, Accounts
from tenancy.accounts.from_backup import AccountsFromBackups
from tenancy.archive.backup_settings import BackupSettings
from tenancy.backends import Backends
from tenancy.catalog import Catalog
from tenancy.credentials.keyring import Keyring
from tenancy.errors import TenancyError, UnsupportedBackendError
from tenancy.hosts import is_loopback
from tenancy.manager import Options
from tenancy.monitoring.activity import Activity

if TYPE_CHECKING:
    from tenancy.fleet.processes import Crew


@dataclass(frozen=True)
class Parts:
    """Hold the objects that an entry point works with."""

    settings: Settings
    catalog: Catalog
    manager: TenantManager
    accounts: Accounts
    accounts_from_backups: AccountsFromBackups
    activity: Activity

    def close(self) -> None:
        """Write pending activity and close every connection."""
        self.activity.close()
        self.manager.close()


def build(settings: Settings) -> Parts:
    """Build all parts and install the manager for this process; no connection is opened yet."""
    backends = Backends(settings.tenant_data_dir)
    _check_supported(backends, settings)
    engine = backends.for_url(settings.admin_database_url, "ADMIN_DATABASE_URL").catalog_engine(
        settings.admin_database_url
    )
    catalog = Catalog(engine, settings.audit_key, multi_tenant=settings.multi_tenant_mode)
    manager = TenantManager(
        catalog,
        backends,
        tenant_schema(app_version()),
        Keyring(settings.tenant_credential_keys),
        Options(
            multi_tenant=settings.multi_tenant_mode,
            shared_url=settings.shared_database_url,
            default_type=settings.default_tenant_db_type,
            cache_size=settings.tenant_engine_cache_size,
            server_connections=_connections_per_worker(settings),
            hosts=settings.tenant_db_hosts_allowed,
            user_databases=settings.allow_user_databases,
            migrate_on_first_touch=settings.migrate_on_first_touch,
            pending_tenants=settings.pending_tenants,
            backups=backup_settings(settings),
        ),
    )
    activity = Activity(catalog, manager.sweep, manager.observations, manager.settle_interrupted)
    rules = AccountRules(
        registration_open=settings.registration == "open",
        admin_emails=settings.admin_emails,
        bootstrap_first_admin=settings.bootstrap_first_admin,
        session_hours=settings.session_hours,
        remember_days=settings.remember_days,
    )
    accounts = Accounts(catalog, rules, activity, bootstrap_token=bootstrap_token(settings))
    manager.fleet_work.crew = partial(crew, settings)
    from_backups = AccountsFromBackups(
        accounts, manager.backups, manager.restores, manager.provision, manager.delete_user_database
    )
    manager.backup_work.new_user = lambda email, backup_id, progress, check: (
        from_backups.create(email, backup_id, progress=progress, check=check)[0].id
    )
    install(manager)
    return Parts(settings, catalog, manager, accounts, from_backups, activity)


def crew(settings: Settings, workers: int | None = None, **limits: Any) -> Crew:
    """Return how many processes work on a fleet run (by default one per core), and how they are started."""
    from tenancy.fleet.processes import Crew  # loads multiprocessing, which only fleet runs need

    return Crew(partial(build, settings), workers or os.cpu_count() or 1, **limits)


def backup_settings(settings: Settings) -> BackupSettings:
    """Return where backups lie, and their keys."""
    return BackupSettings(
        url=settings.backup_url,
        delete_url=settings.backup_delete_url or None,
        recipients=settings.backup_recipients,
        passphrase=settings.backup_passphrase,
        identity_file=settings.backup_identity_file,
        signing_keys=settings.backup_signing_keys,
        warn_hours=settings.backup_warn_hours,
    )


def _connections_per_worker(settings: Settings) -> int:
    """Divide a server's connections among the workers, less one each: the server may still be closing old ones."""
    return max(1, settings.server_connection_budget // settings.web_concurrency - 1)


def _check_supported(backends: Backends, settings: Settings) -> None:
    """Refuse an unsupported kind of database at the start, and not at the first request that needs it."""
    backends.for_url(settings.shared_database_url, "SHARED_DATABASE_URL")
    try:
        backends.get(settings.default_tenant_db_type)
    except UnsupportedBackendError as error:
        name = "DEFAULT_TENANT_DB_TYPE"
        raise UnsupportedBackendError(f"{name}: {error.message}", field=name) from error


def bootstrap_token(settings: Settings) -> str:
    """Derive the bootstrap token from SECRET_KEY, so that every worker knows the one that was printed."""
    return hmac.new(settings.secret_key.encode(), b"unify bootstrap token", "sha256").hexdigest()[:32]


OTHERS_REFUSED = (
    "TRUSTED_HOSTS has only this machine's own names: requests from other machines are refused (400) until it has the "
    "name or address that they use."
)


def first_steps(parts: Parts, host: str | None = None, port: int | None = None) -> list[str]:
    """Return the lines that a server prints at the start: how to become the first administrator, or what is missing."""
    settings = parts.settings
    host = host or settings.host
    only_here = all(is_loopback(name.strip("[]")) for name in settings.trusted_hosts)
    hosts = [OTHERS_REFUSED] if only_here and not is_loopback(host) else []
    try:
        if not parts.accounts.bootstrap_open():
            return hosts
    except TenancyError as error:
        return [f"The catalog: {error.message} If it was never created, run: unify db create-config-table"]
    url = f"http://{_named(host)}:{port or settings.port}/auth/register"
    return [
        *hosts,
        f"No account yet: the first one becomes administrator. From this machine: {url}",
        f"From elsewhere, enter this bootstrap token in the form: {parts.accounts.bootstrap_token}",
    ]


def _named(host: str) -> str:
    """Return the host for a URL that can be opened on this machine."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def app_version() -> str:
    try:
        return version("unify")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "0"
