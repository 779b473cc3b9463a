"""Give every user of an application a database of their own.

This package knows nothing of web frameworks, nor of the application's tables: it is given a tenant ``MetaData`` and a
folder of migrations. Start at ``manager.py``.

Every public name is imported from here, and its module is loaded when the name is first asked for (PEP 562). So
``import tenancy.errors`` loads neither SQLAlchemy nor Alembic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenancy.accounts.accounts import AccountRules as AccountRules, Accounts as Accounts
    from tenancy.backends import Backends as Backends
    from tenancy.backends.base import DatabaseFields as DatabaseFields
    from tenancy.catalog import Catalog as Catalog
    from tenancy.catalog.listing import Filter as Filter
    from tenancy.catalog.runs import Rules as Rules, Selection as Selection
    from tenancy.catalog.tables import CATALOG_VERSION_TABLE as CATALOG_VERSION_TABLE
    from tenancy.credentials.keyring import Keyring as Keyring, generate_key as generate_key
    from tenancy.errors import TenancyError as TenancyError
    from tenancy.fleet.processes import work_in_processes as work_in_processes
    from tenancy.hosts import HostPolicy as HostPolicy
    from tenancy.installed import (
        DatabaseConnection as DatabaseConnection,
        current_manager as current_manager,
        install as install,
    )
    from tenancy.manager import (
        MultiTenantDatabaseManager as MultiTenantDatabaseManager,
        Options as Options,
        TenantManager as TenantManager,
    )
    from tenancy.models import (
        Leftover as Leftover,
        Principal as Principal,
        Server as Server,
        State as State,
        Tenant as Tenant,
        TenantSchema as TenantSchema,
        User as User,
    )
    from tenancy.monitoring.activity import Activity as Activity
    from tenancy.schema.chain import Chain as Chain
    from tenancy.schema.new_revision import new_revision as new_revision
    from tenancy.schema.tables import TENANT_VERSION_TABLE as TENANT_VERSION_TABLE

_PUBLIC = {
    "tenancy.accounts.accounts": ("AccountRules", "Accounts"),
    "tenancy.backends": ("Backends",),
    "tenancy.backends.access": ("Login",),
    "tenancy.backends.base": ("DatabaseFields",),
    "tenancy.catalog": ("Catalog",),
    "tenancy.catalog.listing": ("Filter",),
    "tenancy.catalog.runs": ("Rules", "Selection"),
    "tenancy.catalog.tables": ("CATALOG_VERSION_TABLE",),
    "tenancy.credentials.keyring": ("Keyring", "generate_key"),
    "tenancy.errors": ("TenancyError",),
    "tenancy.fleet.processes": ("work_in_processes",),
    "tenancy.hosts": ("HostPolicy",),
    "tenancy.installed": ("DatabaseConnection", "current_manager", "install"),
    "tenancy.manager": ("MultiTenantDatabaseManager", "Options", "TenantManager"),
    "tenancy.models": ("Leftover", "Tenant", "Principal", "Server", "State", "TenantSchema", "User"),
    "tenancy.monitoring.activity": ("Activity",),
    "tenancy.schema.chain": ("Chain",),
    "tenancy.schema.new_revision": ("new_revision",),
    "tenancy.schema.tables": ("TENANT_VERSION_TABLE",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
