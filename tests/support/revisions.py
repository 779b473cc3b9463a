"""Look for revisions that break the code of before and are not marked ``destructive = True``."""

from __future__ import annotations

import sqlalchemy as sa

from tenancy.schema.chain import Chain
from tenancy.schema.compatibility import backward_incompatible_changes
from tenancy.schema.describe import described


def unmarked_breaking_changes(chain: Chain, connection: sa.Connection, *, transactional_ddl: bool) -> list[str]:
    """Run a chain on an empty database; list the breaking changes of revisions not marked destructive, oldest first."""
    found: list[str] = []
    before = described(connection)
    for revision in chain.checksums:
        chain.upgrade(connection, transactional_ddl=transactional_ddl, target=revision)
        after = described(connection)
        if not chain.is_destructive(revision):
            found += [
                f"revision {revision} is not marked destructive = True and {line}"
                for line in backward_incompatible_changes(before, after)
            ]
        before = after
    return found
