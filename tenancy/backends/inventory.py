"""Describe an object found beside tenants' databases, as far as its name tells.

Whether the catalog knows the object is not asked here: ``tenancy/fleet/orphans.py`` compares the two.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum


class ItemKind(StrEnum):
    """Say what kind of thing it is; the values are words for messages."""

    DATABASE = "database"
    LOGIN = "login"
    POINT = "restore point"
    SIDE_FILE = "side file"
    """A ``-wal``, ``-shm`` or ``-journal`` file of SQLite's whose database is gone."""

    PARTIAL = "draft"
    """A database that was being made, and is not finished."""

    SCRATCH = "scratch database"
    """A database made only to see which schema revisions make, or to become a template."""


@dataclass(frozen=True)
class InventoryItem:
    """Hold a thing's name and what the name tells: the database it belongs to, and perhaps user, tenant and attempt."""

    kind: ItemKind
    name: str
    database: str = ""
    user_id: int | None = None
    tenant_id: uuid.UUID | None = None
    attempt: int = 0
