"""Serve the administrators' console: all accounts and databases, backups, servers, fleet runs, audit, health.

``layout`` holds what its pages share. All pages and actions use the manager and the accounts of ``tenancy``; the
commands shown on the pages call the same functions.
"""

from __future__ import annotations

from web.pages.console import (
    actions,
    audit,
    backups,
    fleet,
    health,
    initialize,
    jobs,
    leftovers,
    overview,
    prune,
    restores,
    runs,
    schedules,
    servers,
    tenant,
    users,
)
from web.pages.console.layout import blueprint

__all__ = [
    "actions",
    "audit",
    "backups",
    "blueprint",
    "fleet",
    "health",
    "initialize",
    "jobs",
    "leftovers",
    "overview",
    "prune",
    "restores",
    "runs",
    "schedules",
    "servers",
    "tenant",
    "users",
]
