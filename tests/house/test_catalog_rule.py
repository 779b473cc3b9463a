"""The rule that nothing remote happens while the catalog is written to, held against the check itself."""

from __future__ import annotations

import pytest

from tests.support.applications import add_tenants
from tests.support.catalog_rule import RemoteWhileWritingError

WAYS = {
    "a session": lambda manager, user_id: manager.fetch_all("SELECT 1", user_id=user_id),
    "a file": lambda manager, user_id: manager.backends.get("sqlite").connect(
        manager.tenant_of(user_id), manager.services.access(manager.tenant_of(user_id))
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("warm", [True, False])
def test_reaching_a_tenant_inside_a_catalog_transaction_is_noticed(parts, way, warm):
    (user_id,) = add_tenants(parts, 1)
    if warm:
        parts.manager.fetch_all("SELECT 1", user_id=user_id)
    with parts.catalog.writing(), pytest.raises(RemoteWhileWritingError):
        WAYS[way](parts.manager, user_id)
    with pytest.raises(RemoteWhileWritingError):
        parts.catalog.repeating(lambda connection: WAYS[way](parts.manager, user_id))
    parts.manager.fetch_all("SELECT 1", user_id=user_id)
