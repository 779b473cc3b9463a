"""Registered servers in the catalog: a credential is one keyed read, however many databases stand there."""

from __future__ import annotations

from tenancy.catalog import servers
from tests.support.applications import keep_configs, keep_server, steps_of


def test_a_servers_credential_is_read_alike_with_none_and_with_thousands_of_databases_there(parts):
    manager = parts.manager
    keep_server(manager, "big")
    with manager.catalog.reading() as connection:
        (big,) = servers.every(connection)

    def reading():
        with manager.catalog.reading() as connection:
            return steps_of(connection, lambda: servers.get(connection, big.id))

    before = reading()
    keep_configs(manager, 3000, server_id=big.id)
    assert reading() <= before + 1  # the handler is called after every tenth instruction of the connection
    with manager.catalog.reading() as connection:
        found = servers.get(connection, big.id)
        assert manager.services.server_login(found).password == "secret"
        assert servers.counted(connection, big.id).tenants == 3000
