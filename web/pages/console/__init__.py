"""Serve administrators' console: everybody's accounts and databases, servers, fleet runs, audit log, health.

``layout`` holds what its pages share. Every page shows, and every action is answered, from ``tenancy``'s manager and
accounts; the commands shown beside them (``commands``) call the same functions.
"""

from __future__ import annotations

from web.pages.console import (
    actions,
    audit,
    fleet,
    health,
    initialize,
    leftovers,
    overview,
    runs,
    servers,
    tenant,
    users,
)
from web.pages.console.layout import blueprint

__all__ = [
    "actions",
    "audit",
    "blueprint",
    "fleet",
    "health",
    "initialize",
    "leftovers",
    "overview",
    "runs",
    "servers",
    "tenant",
    "users",
]
