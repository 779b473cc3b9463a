"""What version 0.3 called differently: it works for one version more, and says what it is called now."""

from __future__ import annotations

import importlib
from operator import attrgetter

import pytest

import tenancy
from tenancy.errors import ServerNotFoundError
from tenancy.manager import FORMER_NAMES

FORMER_PLACES = [
    ("tenancy.accounts", "AccountRules"),
    ("tenancy.accounts", "Accounts"),
    ("tenancy.activity", "Activity"),
    ("tenancy.fleet.revisions", "new_revision"),
    ("tenancy.keyring", "Keyring"),
    ("tenancy.keyring", "generate_key"),
]
"""What the guide for embedding imported, and from where; what is not listed is still in its place."""

STILL_THERE = [
    ("tenancy.backends", "Backends"),
    ("tenancy.backends.base", "DatabaseFields"),
    ("tenancy.catalog", "Catalog"),
    ("tenancy.errors", "UserExistsError"),
    ("tenancy.models", "TenantSchema"),
]


@pytest.mark.parametrize(("module", "name"), FORMER_PLACES)
def test_a_former_module_gives_what_stood_there_with_a_warning(module, name):
    with pytest.warns(DeprecationWarning, match=f"import {name} from tenancy, not from {module}"):
        assert getattr(importlib.import_module(module), name) is getattr(tenancy, name)


@pytest.mark.parametrize(("module", "name"), STILL_THERE)
def test_what_was_not_moved_is_imported_as_before(module, name):
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize("module", sorted({module for module, _ in FORMER_PLACES}))
def test_a_former_module_has_nothing_else(module):
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = importlib.import_module(module).nothing


@pytest.mark.parametrize(("former", "now"), FORMER_NAMES.items())
def test_a_former_call_of_the_manager_is_the_present_one(parts, former, now):
    with pytest.warns(DeprecationWarning, match=f"manager.{former} is called manager.{now} now"):
        assert getattr(parts.manager, former).__wrapped__ == attrgetter(now)(parts.manager)


def test_what_a_former_calls_argument_was_called_is_understood(parts):
    said: list[str] = []
    with pytest.warns(DeprecationWarning, match="manager.servers.remove now"):
        remove = parts.manager.remove_server
    with pytest.raises(ServerNotFoundError, match="no server named 'nowhere'"):
        remove("nowhere", told=said.append)


def test_a_name_that_the_manager_never_had_is_refused(parts):
    with pytest.raises(AttributeError, match="'TenantManager' object has no attribute 'nothing'"):
        _ = parts.manager.nothing


def test_a_principals_placement_is_its_tenant(parts, user):
    key = parts.accounts.issue_key(user.id, "mine")[1]
    principal = parts.accounts.principal_by_key(key)
    with pytest.warns(DeprecationWarning, match="called tenant now"):
        assert principal.placement is principal.tenant
