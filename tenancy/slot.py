"""Hold the one manager of the process that the calls without arguments use; an entry point puts it here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tenancy.errors import ConfigurationError

if TYPE_CHECKING:
    from tenancy.manager import TenantManager

_installed: TenantManager | None = None
_lock = threading.Lock()


def install(manager: TenantManager | None) -> None:
    """Put a manager into the slot; None empties it."""
    global _installed
    with _lock:
        _installed = manager


def current_manager() -> TenantManager:
    """Give the installed manager, or ConfigurationError."""
    if _installed is None:
        raise ConfigurationError(
            "no tenant manager is installed: call `tenancy.install(manager)` first (Unify: `compose.build(settings)`)."
        )
    return _installed
