"""Create the catalog's tables, or bring them to a revision."""

from __future__ import annotations

from tenancy.backends import Backends
from tenancy.backends.base import Backend
from tenancy.catalog import Catalog
from tenancy.errors import MigrationError
from tenancy.schema.chain import Chain


def migrate_catalog(catalog: Catalog, backends: Backends, chain: Chain, target: str | None = None) -> list[str]:
    """Migrate a catalog forward, by default to head; return the revisions applied now."""
    backend = backends.for_url(str(catalog.engine.url), "ADMIN_DATABASE_URL")
    with catalog.being_made(), backend.explained():
        return _migrate(catalog, backend, chain, target or chain.head)


def _migrate(catalog: Catalog, backend: Backend, chain: Chain, target: str) -> list[str]:
    backend.make_catalog(catalog.engine)
    proxied = catalog.engine.raw_connection()
    driver = proxied.driver_connection
    proxied.detach()
    with backend.migrating(driver) as connection:
        try:
            return chain.upgrade(
                connection,
                transactional_ddl=backend.transactional_ddl,
                on_apply=lambda changed, *_: backend.check_before_commit(changed),
                target=target,
                at_once=not backend.on_server,  # a file has no lock that outlasts a transaction, as servers have
            )
        except MigrationError:
            if catalog.revision() == target:
                return []  # another process migrated the catalog at the same time, and was first
            raise
