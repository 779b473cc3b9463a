"""Start the application with guards taken out and its engines mixed up, as a bug would.

    python -m tests.acceptance.mutant BUILD serve

Now and then a tenant's connection opens another tenant's file, or its lease is another tenant's engine. With owner
filter and identity check both gone foreign rows are shown: a checker that finds none finds nothing anywhere.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import Any

from repositories.base import scope
from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.models import Tenant
from tenancy.routing import guards
from tenancy.routing.engines import EngineCache
from utils.cli import main

MIXED_UP = 0.2


def take_owner_filter_out() -> None:
    """Let statements go to the database as wide as they were written."""
    scope.owned = lambda statement, owner: statement


def take_identity_check_out() -> None:
    """Believe of every connection that it leads where the catalog says."""
    guards.check_identity = lambda *_: None


def mix_files_up() -> None:
    """Open another tenant's file every few times: what the identity check is there for."""
    connect = SQLiteBackend.connect

    def connect_anywhere(self: SQLiteBackend, tenant: Tenant, access: Access) -> Any:
        if random.random() < MIXED_UP and tenant.user_id is not None:
            other = random.randint(1, 2 * tenant.user_id)
            if (self.data_dir / names.sqlite_file(other)).exists():
                tenant = replace(tenant, user_id=other, db_path=names.sqlite_file(other))
        return connect(self, tenant, access)

    SQLiteBackend.connect = connect_anywhere  # type: ignore[method-assign]  # this is the mutation


def mix_engines_up() -> None:
    """Lease another tenant's engine every few times: what the owner filter is there for."""
    current = EngineCache._current

    def current_or_any(self: EngineCache, tenant: Tenant) -> Any:
        entry, replaced = current(self, tenant)
        return random.choice([*self._entries.values()]) if random.random() < MIXED_UP else entry, replaced

    EngineCache._current = current_or_any  # type: ignore[method-assign]  # this is the mutation


MUTATIONS = {
    "no-guards": (take_owner_filter_out, take_identity_check_out, mix_files_up, mix_engines_up),
    "no-guards-files": (take_owner_filter_out, take_identity_check_out, mix_files_up),
    "no-owner-filter": (take_owner_filter_out, mix_files_up),
    "no-identity-check": (take_identity_check_out, mix_files_up, mix_engines_up),
}
"""The builds: each name with what is done to it."""

if __name__ == "__main__":
    for mutate in MUTATIONS[sys.argv.pop(1)]:
        mutate()
    main()
