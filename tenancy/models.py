"""The records that the rest of the engine passes around, and the states they can have."""

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
from typing import Any

import sqlalchemy as sa

from tenancy.names import fold


class State(StrEnum):
    """Say what may be done with a tenant now; the request path honours every one of them."""

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
    """Tell who said where a database stands; the check of that word runs again whenever the database is used."""

    SERVER = "server"
    """A registered server, chosen by placement: the database and its login are ours."""

    ADMIN = "admin"
    """An administrator, who may name any host."""

    USER = "user"
    """The user, who may name what TENANT_DB_HOSTS_ALLOWED lets through."""


class ServerState(StrEnum):
    """Say whether a registered server takes further databases."""

    ACCEPTING = "accepting"
    DRAINING = "draining"


class Kind(StrEnum):
    """Tell a database of one user from the one that all users share."""

    TENANT = "tenant"
    SHARED = "shared"


@dataclass(frozen=True)
class User:
    """Describe an account, without its password hash.

    ``preferences`` is read when first asked for: most requests that bring it along never look at it.
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
        """Give the chosen texts by name; what was never chosen, or cannot be read, is not there."""
        try:
            kept = json.loads(self.preferences_json or "{}")
        except (ValueError, RecursionError):
            return {}
        if not isinstance(kept, dict):
            return {}
        return {name: value for name, value in kept.items() if isinstance(value, str)}

    def to_dict(self) -> dict[str, Any]:
        """Give the account without what its user has chosen for their own pages."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "preferences_json"}


@dataclass(frozen=True)
class Tenant:
    """Say where a tenant lives and how it is, as the catalog has it; ``sealed_password`` is ciphertext."""

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
    """The oldest revision whose code can work with this database as it is."""

    damaged: tuple[str, ...] = field(default=(), kw_only=True)
    """The columns of this row that cannot be read, in a list; reading such a row alone is CatalogDamagedError."""

    @property
    def kind(self) -> Kind:
        return Kind.SHARED if self.user_id is None else Kind.TENANT

    @property
    def binding(self) -> dict[str, object]:
        """Give what the sealed password is bound to: a change of any of these makes it void."""
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
        """Give the configuration without secrets: plain values, ``tenant_id`` as text, moments as datetimes."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("sealed_password", "damaged")}
        return shown | {
            "tenant_id": str(self.tenant_id),
            "status": str(self.state),
            "state": str(self.state),
            "password_set": self.sealed_password is not None,
        }


@dataclass(frozen=True)
class Pending(Tenant):
    """Describe a database that stands ready for a user to come: a tenant's, and nobody's yet."""

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
    """Describe a database that its user left: replaced, forgotten, or half made by an attempt that ended."""

    id: int = 0
    reason: str = ""

    @property
    def kind(self) -> Kind:
        return Kind.TENANT


@dataclass(frozen=True)
class Server:
    """Describe a registered database server; ``sealed_password`` is ciphertext, ``tenants`` how many stand there.

    ``pending`` are kept ready there besides, of which ``ready`` can be taken now where that was asked for;
    ``pool_error`` says why one could not be made.
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
    """The mark in the names of what is made there."""

    @property
    def has_room(self) -> bool:
        """Say whether one more may be made here; what stands ready is counted with what is in use."""
        return self.max_tenants is None or self.tenants + self.pending < self.max_tenants

    @property
    def binding(self) -> dict[str, object]:
        """Give what the sealed password is bound to: a change of any of these makes it void."""
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
        """Give the server without its secret."""
        hidden = (*_HIDDEN, "installation")
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        return shown | {"state": str(self.state)}


@dataclass(frozen=True, slots=True)
class Principal:
    """Say who sent a request and where their rows live: everything the catalog decides, from one statement.

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

    ``first_rows(user_id)`` gives ``(table, values)`` pairs that are written with a new tenant.
    """

    metadata: sa.MetaData
    migrations: Path
    first_rows: Callable[[int], Sequence[tuple[sa.Table, dict[str, Any]]]]
    app_version: str
