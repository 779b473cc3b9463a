"""Read a user's database configuration from the catalog, without the password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenancy import current_manager


@dataclass(frozen=True)
class UserDatabaseConfig:
    """Hold one user's configuration, without secrets."""

    values: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)


class UserDatabaseConfigRepository:
    """Read configurations through the installed manager."""

    def get_by_user_id(self, user_id: int) -> UserDatabaseConfig:
        """Return a user's configuration, or raise TenantNotFoundError."""
        return UserDatabaseConfig(current_manager().load_user_db_config(user_id))
