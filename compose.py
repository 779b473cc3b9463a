"""Join the parts from settings: for the web application and for the command alike."""

from __future__ import annotations

import hmac
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from repositories.schema import tenant_schema
from settings import PROJECT, Settings
from tenancy import TenantManager, install
from tenancy.accounts.accounts import AccountRules, Accounts
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
    """Hold what an entry point works with."""

    settings: Settings
    catalog: Catalog
    manager: TenantManager
    accounts: Accounts
    activity: Activity

    def work_on(self, run_id: int) -> None:
        """Work on a fleet run in a process of its own, which outlives this one; the catalog says how far it is."""
        words = [sys.executable, "-c", _WORKER]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, cwd=PROJECT, start_new_session=True)
        assert process.stdin is not None  # noqa: S101 - it was asked for
        with process.stdin as told:  # not in the arguments: settings hold secrets
            pickle.dump((self.settings, run_id), told)
        threading.Thread(target=process.wait, name=f"unify-fleet-{run_id}", daemon=True).start()

    def close(self) -> None:
        """Write what was gathered and close every connection."""
        self.activity.close()
        self.manager.close()


_WORKER = "import pickle, sys, compose; compose.work(*pickle.load(sys.stdin.buffer))"


def work(settings: Settings, run_id: int) -> None:
    """Work on a fleet run until it ends, is paused or halts."""
    from tenancy.fleet.processes import work_in_processes

    parts = build(settings)
    try:
        work_in_processes(parts.manager.fleet, run_id, crew(settings), lambda run: None)
    finally:
        parts.close()


def build(settings: Settings) -> Parts:
    """Make all parts and put the manager into the process-wide slot; nothing is connected to yet."""
    backends = Backends(settings.tenant_data_dir)
    _check_served(backends, settings)
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
            server_connections=_share(settings),
            hosts=settings.tenant_db_hosts_allowed,
            user_databases=settings.allow_user_databases,
            migrate_on_first_touch=settings.migrate_on_first_touch,
            pending_tenants=settings.pending_tenants,
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
    install(manager)
    return Parts(settings, catalog, manager, accounts, activity)


def crew(settings: Settings, workers: int | None = None, **limits: Any) -> Crew:
    """Say who works on a fleet run: as many processes as there are cores, unless said otherwise."""
    from tenancy.fleet.processes import Crew  # multiprocessing is for runs alone

    return Crew(partial(build, settings), workers or os.cpu_count() or 1, **limits)


def _share(settings: Settings) -> int:
    """Give one worker's part of a server's connections; a place is left for those that the server is still closing."""
    return max(1, settings.server_connection_budget // settings.web_concurrency - 1)


def _check_served(backends: Backends, settings: Settings) -> None:
    """Stop the start for a database that this version does not serve, not the first request that needs it."""
    backends.for_url(settings.shared_database_url, "SHARED_DATABASE_URL")
    try:
        backends.get(settings.default_tenant_db_type)
    except UnsupportedBackendError as error:
        name = "DEFAULT_TENANT_DB_TYPE"
        raise UnsupportedBackendError(f"{name}: {error.message}", field=name) from error


def bootstrap_token(settings: Settings) -> str:
    """Give the token that every process of one installation knows: the one that printed it may not be the one asked."""
    return hmac.new(settings.secret_key.encode(), b"unify bootstrap token", "sha256").hexdigest()[:32]


OTHERS_REFUSED = (
    "TRUSTED_HOSTS has only this machine's own names: requests from other machines are refused (400) until it has the "
    "name or address that they use."
)


def first_steps(parts: Parts, host: str | None = None, port: int | None = None) -> list[str]:
    """Say what whoever starts a server should know: how to become its first administrator, or what is missing."""
    settings = parts.settings
    host = host or settings.host
    only_here = all(is_loopback(name.strip("[]")) for name in settings.trusted_hosts)
    hosts = [OTHERS_REFUSED] if only_here and not is_loopback(host) else []
    try:
        if not parts.accounts.bootstrap_open():
            return hosts
    except TenancyError as error:
        return [f"The catalog: {error.message} If it was never made, type: unify db create-config-table"]
    url = f"http://{_named(host)}:{port or settings.port}/auth/register"
    return [
        *hosts,
        f"No account yet: the first one becomes administrator. From this machine: {url}",
        f"From elsewhere, type this bootstrap token in the form there: {parts.accounts.bootstrap_token}",
    ]


def _named(host: str) -> str:
    """Give the host as it stands in an address that somebody on this machine can open."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def app_version() -> str:
    try:
        return version("unify")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "0"
