"""Show where a user's database is, as the catalog has it; the password is never part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenancy import current_manager


@dataclass(frozen=True)
class UserDatabaseConfig:
    """Hold one user's configuration without secrets."""

    values: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)


class UserDatabaseConfigRepository:
    """Read configurations through the manager that an entry point installed."""

    def get_by_user_id(self, user_id: int) -> UserDatabaseConfig:
        """Give a user's configuration; TenantNotFoundError where there is none."""
        return UserDatabaseConfig(current_manager().load_user_db_config(user_id))
