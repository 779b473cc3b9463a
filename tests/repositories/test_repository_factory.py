"""Repositories are found by the name of their resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from repositories.repository_factory import RESOURCES, RepositoryFactory
from tenancy.errors import ConfigurationError, NoTenantError, TenantNotFoundError
from tenancy.models import User

if TYPE_CHECKING:
    from compose import Parts


def test_each_resource_has_its_repository() -> None:
    for name, kind in RESOURCES.items():
        found = RepositoryFactory.get_repository(name, Session(), 5)
        assert type(found) is kind
        assert kind.table.name == name
        assert found.user_id == 5


def test_a_repository_found_without_an_owner_does_nothing() -> None:
    with pytest.raises(NoTenantError):
        RepositoryFactory.get_repository("tasks", Session()).list()


@pytest.mark.parametrize("user_id", [0, -1, True, "1;drop", 2**63])
def test_an_owner_that_cannot_be_is_refused(user_id: object) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        RepositoryFactory.get_repository("tasks", Session(), user_id)  # type: ignore[call-overload]  # what callers send
    assert refusal.value.field == "user_id"


def test_unknown_names_and_missing_sessions_are_named() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        RepositoryFactory.get_repository("secrets", Session())
    assert refusal.value.field == "name"
    with pytest.raises(ConfigurationError) as refusal:
        RepositoryFactory.get_repository("tasks")  # type: ignore[call-overload]  # the mistake that is meant
    assert refusal.value.field == "session"


def test_configurations_are_read_through_the_manager(parts: Parts, user: User) -> None:
    shown = RepositoryFactory.get_repository("user_database_config").get_by_user_id(user.id).to_dict()
    assert shown == parts.manager.load_user_db_config(user.id)
    assert shown["db_type"] == "sqlite"
    assert not {"db_password", "sealed_password"} & set(shown)
    with pytest.raises(TenantNotFoundError):
        RepositoryFactory.get_repository("user_database_config").get_by_user_id(user.id + 1)
