"""Define the records that the modules of ``tenancy`` pass to each other, and the states that they can have."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenancy.names import fold

if TYPE_CHECKING:
    import sqlalchemy as sa


class State(StrEnum):
    """List the states of a tenant; every request checks them."""

    PROVISIONING = "provisioning"
    READY = "ready"
    MIGRATING = "migrating"
    MOVING = "moving"
    READ_ONLY = "read_only"
    SUSPENDED = "suspended"
    FAILED = "failed"
    ARCHIVED = "archived"


READABLE = frozenset({State.READY, State.READ_ONLY})
WRITABLE = frozenset({State.READY})


class Origin(StrEnum):
    """List who may have chosen a database's place; the matching check of the host runs again on every connection."""

    SERVER = "server"
    """Placement chose a registered server; the database and its login were created by us."""

    ADMIN = "admin"
    """An administrator chose it, who may name any host."""

    USER = "user"
    """The user chose it, who may name hosts that TENANT_DB_HOSTS_ALLOWED allows."""


class ServerState(StrEnum):
    """List whether a registered server accepts further databases."""

    ACCEPTING = "accepting"
    DRAINING = "draining"


class Kind(StrEnum):
    """Distinguish a database of one user from the one that all users share."""

    TENANT = "tenant"
    SHARED = "shared"


@dataclass(frozen=True)
class User:
    """Describe an account, without its password hash.

    ``preferences`` is parsed on first use, because most requests never look at it.
    """

    id: int
    email: str
    display_name: str
    is_admin: bool
    is_active: bool
    created_at: datetime
    last_seen_at: datetime | None = None
    preferences_json: str | None = field(default=None, repr=False)

    @cached_property
    def preferences(self) -> Mapping[str, str]:
        """Return the chosen values by name; what was never chosen, or cannot be read, is left out."""
        try:
            kept = json.loads(self.preferences_json or "{}")
        except (ValueError, RecursionError):
            return {}
        if not isinstance(kept, dict):
            return {}
        return {name: value for name, value in kept.items() if isinstance(value, str)}

    def to_dict(self) -> dict[str, Any]:
        """Return the account without the user's preferences."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "preferences_json"}


@dataclass(frozen=True)
class Tenant:
    """Describe a tenant as the catalog stores it: its state and its database; ``sealed_password`` is encrypted."""

    tenant_id: uuid.UUID
    user_id: int | None
    db_type: str
    state: State
    version: int
    epoch: int
    db_host: str | None = None
    db_port: int | None = None
    db_name: str | None = None
    db_user: str | None = None
    sealed_password: str | None = field(default=None, repr=False)
    db_path: str | None = None
    db_options: str | None = None
    owned: bool = True
    is_active: bool = True
    revision: str | None = None
    schema_fingerprint: str | None = None
    last_error: str | None = None
    last_error_code: str | None = None
    last_used_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    server_id: int | None = None
    origin: str | None = None
    usable_from: str | None = None
    """The oldest revision whose code can still work with this database."""

    damaged: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of unreadable columns, when read as part of a list; reading such a row by itself is CatalogDamagedError."""

    @property
    def kind(self) -> Kind:
        return Kind.SHARED if self.user_id is None else Kind.TENANT

    @property
    def binding(self) -> dict[str, object]:
        """Return the fields that are sealed with the password: if one of them changes, it can no longer be opened."""
        return {
            "purpose": "tenant-database-password",
            "tenant_id": str(self.tenant_id),
            "user_id": self.user_id,
            "db_type": self.db_type,
            "db_host": self.db_host,
            "db_port": self.db_port,
            "db_name": self.db_name,
            "db_user": self.db_user,
            "db_options": self.db_options,
            "server_id": self.server_id,
            "origin": self.origin,
        }

    def with_(self, **changes: Any) -> Tenant:
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields without secrets: plain values, ``tenant_id`` as text, times as datetimes."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("sealed_password", "damaged")}
        return shown | {
            "tenant_id": str(self.tenant_id),
            "status": str(self.state),
            "state": str(self.state),
            "password_set": self.sealed_password is not None,
        }


@dataclass(frozen=True)
class Pending(Tenant):
    """Describe a database that is kept ready for a future user: a tenant without an owner."""

    id: int = 0

    @property
    def kind(self) -> Kind:
        return Kind.TENANT

    @property
    def binding(self) -> dict[str, object]:
        return super().binding | {"purpose": "pending-database-password"}


_HIDDEN = ("sealed_password", "ready", "damaged")


@dataclass(frozen=True)
class Leftover(Tenant):
    """Describe a database that no tenant uses any more: replaced, kept by a restore, forgotten, or left half made."""

    id: int = 0
    reason: str = ""
    detail: str | None = field(default=None, repr=False)
    """What a restore noted of the database that took this one's place, as JSON."""

    @property
    def kind(self) -> Kind:
        return Kind.TENANT


@dataclass(frozen=True)
class Server:
    """Describe a registered database server; ``sealed_password`` is encrypted.

    ``tenants`` counts the databases in use there and ``pending`` those kept ready for future users. ``ready`` counts
    the pending ones that can be taken now; only the query that chooses a server fills it in. ``pool_error`` says why
    the last one could not be made.
    """

    id: int
    name: str
    db_type: str
    db_host: str
    db_port: int
    db_user: str
    sealed_password: str = field(repr=False)
    db_options: str | None
    max_tenants: int | None
    weight: int
    state: ServerState
    created_at: datetime | None = None
    tenants: int = 0
    pending: int = 0
    pool_error: str | None = None
    ready: int = 0
    damaged: tuple[str, ...] = ()
    installation: str = ""
    """The installation's mark, which is part of every name created on this server."""

    @property
    def address(self) -> tuple[str, str, int]:
        """Where the server answers; two names may be registered for one address."""
        return self.db_type, self.db_host, self.db_port

    @property
    def has_room(self) -> bool:
        """Return whether one more database may be created here; pending ones count like those in use."""
        return self.max_tenants is None or self.tenants + self.pending < self.max_tenants

    @property
    def binding(self) -> dict[str, object]:
        """Return the fields that are sealed with the password: if one of them changes, it can no longer be opened."""
        return {
            "purpose": "database-server-password",
            "name_key": fold(self.name),
            "db_type": self.db_type,
            "db_host": self.db_host,
            "db_port": self.db_port,
            "db_user": self.db_user,
            "db_options": self.db_options,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the server without its password."""
        hidden = (*_HIDDEN, "installation")
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        return shown | {"state": str(self.state)}


@dataclass(frozen=True, slots=True)
class Principal:
    """Describe who sent a request and where their rows are: all that one catalog query per request decides.

    Exactly one of ``session_hash`` and ``key_id`` is set. ``tenant`` is None where the user has no database.
    """

    user: User
    tenant: Tenant | None
    session_hash: str | None = None
    key_id: uuid.UUID | None = None
    read_only: bool = False

    @property
    def placement(self) -> Tenant | None:
        """The former name of ``tenant``."""
        warnings.warn("Principal.placement is called tenant now", DeprecationWarning, stacklevel=2)
        return self.tenant


@dataclass(frozen=True)
class TenantSchema:
    """Describe the application's part of a tenant database: its tables, its Alembic folder, its first rows.

    ``first_rows(user_id)`` returns the ``(table, values)`` pairs that are inserted into a new tenant's database.
    """

    metadata: sa.MetaData
    migrations: Path
    first_rows: Callable[[int], Sequence[tuple[sa.Table, dict[str, Any]]]]
    app_version: str
