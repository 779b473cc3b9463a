"""Give every user of an application a database of their own.

This package knows nothing of web frameworks, nor of the application's tables: it is given a tenant
``MetaData`` and a folder of migrations. Start at ``manager.py``.
"""

from tenancy.connection import DatabaseConnection
from tenancy.manager import MultiTenantDatabaseManager, TenantManager
from tenancy.slot import current_manager, install

__all__ = ["DatabaseConnection", "MultiTenantDatabaseManager", "TenantManager", "current_manager", "install"]
