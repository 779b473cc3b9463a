"""Find a repository by the name of its resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from repositories.base.repository import BaseUserScopedRepository
from repositories.bin import BinRepository
from repositories.categories import CategoryRepository
from repositories.events import EventRepository
from repositories.notes import NoteRepository
from repositories.settings import SettingRepository
from repositories.tasks import TaskRepository
from repositories.user_database_config import UserDatabaseConfigRepository
from tenancy.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

RESOURCES: dict[str, type[BaseUserScopedRepository]] = {
    "tasks": TaskRepository,
    "notes": NoteRepository,
    "events": EventRepository,
    "categories": CategoryRepository,
    "settings": SettingRepository,
}


class RepositoryFactory:
    """Make repositories of a user's rows in a session, and of users' database configurations."""

    @overload
    @staticmethod
    def get_repository(name: Literal["user_database_config"]) -> UserDatabaseConfigRepository: ...

    @overload
    @staticmethod
    def get_repository(  # type: ignore[overload-overlap]  # only the repository of "bin" has other methods
        name: Literal["bin"], session: Session, user_id: int | None = None
    ) -> BinRepository: ...

    @overload
    @staticmethod
    def get_repository(name: str, session: Session, user_id: int | None = None) -> BaseUserScopedRepository: ...

    @staticmethod
    def get_repository(
        name: str, session: Session | None = None, user_id: int | None = None
    ) -> BaseUserScopedRepository | BinRepository | UserDatabaseConfigRepository:
        """Return the repository of this name; all but ``user_database_config`` need a session."""
        if name == "user_database_config":
            return UserDatabaseConfigRepository()
        if name not in RESOURCES and name != "bin":
            known = ", ".join([*RESOURCES, "bin", "user_database_config"])
            raise ConfigurationError(f"There is no repository of that name; there are {known}.", field="name")
        if session is None:
            raise ConfigurationError(f"The repository of {name} needs a session.", field="session")
        return BinRepository(session, user_id) if name == "bin" else RESOURCES[name](session, user_id)
