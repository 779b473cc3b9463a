"""The one manager of the process, for calls without arguments; an entry point installs it.

``TenantManager()`` returns it too, and ``DatabaseConnection`` works on the current user's database through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenancy.manager import TenantManager
from tenancy.routing.dbapi import LeasedConnection


def install(manager: TenantManager | None) -> None:
    """Make a manager the one of this process; None leaves the process without one."""
    TenantManager.installed = manager


def current_manager() -> TenantManager:
    """Return the installed manager, or ConfigurationError."""
    return TenantManager()


class DatabaseConnection:
    """Work on the current user's database through one object: the documented older interface."""

    @classmethod
    def get_instance(cls) -> DatabaseConnection:
        """Return the one object; it works with the manager that the entry point installed, else ConfigurationError."""
        current_manager()
        return _instance

    @property
    def current_user_id(self) -> int | None:
        return current_manager().current_user_id

    def set_user_context(self, user_id: int) -> None:
        """Work for a user from here on, in this context only."""
        current_manager().set_current_user(user_id)

    def clear_user_context(self) -> None:
        """Work on the main database from here on, in this context only."""
        current_manager().clear_current_user()

    def get_connection(self) -> LeasedConnection:
        return current_manager().get_user_connection()

    def fetch_all(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return current_manager().fetch_all(sql, params)

    def fetch_one(self, sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        rows = current_manager().fetch_all(sql, params)
        return rows[0] if rows else None

    def execute_update(self, sql: str, params: Sequence[Any] = ()) -> int:
        return current_manager().execute_update(sql, params)


_instance = DatabaseConnection()
