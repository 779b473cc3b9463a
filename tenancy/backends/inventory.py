"""Tell what stands where tenants' databases do, by its name alone; whether the catalog knows it is asked elsewhere."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum


class Sort(StrEnum):
    """Say what kind of thing stands there."""

    DATABASE = "database"
    LOGIN = "login"
    POINT = "restore point"
    SIDE_FILE = "side file"
    """What SQLite keeps beside a database, without the database."""

    PARTIAL = "draft"
    """A database that was being made."""

    SCRATCH = "scratch database"
    """One that was only made to see what revisions make of it, or to be copied."""


@dataclass(frozen=True)
class InventoryItem:
    """Name a thing, and the database whose name it bears; a name may tell more: user, tenant, attempt."""

    sort: Sort
    name: str
    database: str = ""
    user_id: int | None = None
    tenant_id: uuid.UUID | None = None
    attempt: int = 0
