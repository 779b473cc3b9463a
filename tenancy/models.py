"""Describe what the catalog keeps and what every tenant database keeps about itself.

``catalog_metadata`` holds the tables of the catalog, ``house_metadata`` the two that stand in each tenant
database (whose it is; what was applied). The dataclasses are what the rest of the engine passes around.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tenancy.names import EMAIL_KEY_MAX, EMAIL_MAX, fold
from tenancy.types import NAMING, KeyText, Line, LongText, RowId, Timestamp, utc_now


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


CATALOG_VERSION_TABLE = "admin_version"
TENANT_VERSION_TABLE = "tenant_version"

catalog_metadata = sa.MetaData(naming_convention=NAMING)
house_metadata = sa.MetaData(naming_convention=NAMING)

_NOW = utc_now()

users = sa.Table(
    "users",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", Line(EMAIL_MAX), nullable=False),
    sa.Column("email_key", KeyText(EMAIL_KEY_MAX), nullable=False, unique=True),
    sa.Column("display_name", Line(100), nullable=False),
    sa.Column("password_hash", sa.String(255)),
    sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("updated_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("last_seen_at", Timestamp),
    sa.Column("preferences", LongText()),
    sa.Column("database_epoch", sa.Integer),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "last_seen_at", "id"),
    sa.Index(None, "is_active", "is_admin"),
    sa.Index(None, "email_key", "display_name"),
    sqlite_autoincrement=True,
)


def _placement_columns(*, unique: bool = True) -> list[sa.Column[Any]]:
    """Give the columns that say where a tenant lives and how it is; ``unique`` where a table has one row a tenant."""
    return [
        sa.Column("tenant_id", RowId(), nullable=False, unique=unique),
        sa.Column("db_type", Line(50), nullable=False, server_default="sqlite"),
        sa.Column("db_host", Line(255)),
        sa.Column("db_port", sa.Integer),
        sa.Column("db_name", Line(255)),
        sa.Column("db_user", Line(255)),
        sa.Column("db_password", LongText()),
        sa.Column("db_path", Line(500)),
        sa.Column("db_options", LongText()),
        sa.Column("owned", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("epoch", sa.Integer, nullable=False, server_default="1"),
        sa.Column("revision", sa.String(64)),
        sa.Column("schema_fingerprint", sa.String(64)),
        sa.Column("last_error", LongText()),
        sa.Column("last_error_code", sa.String(64)),
        sa.Column("last_used_at", Timestamp),
        sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
        sa.Column("updated_at", Timestamp, nullable=False, server_default=_NOW),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("server_id", sa.Integer),
        sa.Column("origin", sa.String(8)),
        sa.Column("usable_from", sa.String(64)),
        sa.Column("measured_at", Timestamp),
    ]


user_database_configs = sa.Table(
    "user_database_configs",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, unique=True),
    *_placement_columns(),
    sa.Index("ix_user_database_configs_state", "state", "user_id"),
    sa.Index("ix_user_database_configs_revision", "revision", "user_id"),
    sa.Index(None, "state", "db_type", "revision", "user_id"),
    sa.Index(None, "size_bytes", "user_id"),
    sa.Index(None, "server_id", "user_id"),
    sqlite_autoincrement=True,
)

shared_database = sa.Table(
    "shared_database",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    *_placement_columns(),
)

database_servers = sa.Table(
    "database_servers",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", Line(64), nullable=False),
    sa.Column("name_key", KeyText(64), nullable=False, unique=True),
    sa.Column("db_type", sa.String(16), nullable=False),
    sa.Column("db_host", Line(255), nullable=False),
    sa.Column("db_port", sa.Integer, nullable=False),
    sa.Column("db_user", Line(255), nullable=False),
    sa.Column("db_password", LongText(), nullable=False),
    sa.Column("db_options", LongText()),
    sa.Column("max_tenants", sa.Integer),
    sa.Column("weight", sa.Integer, nullable=False, server_default="1"),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("updated_at", Timestamp, nullable=False, server_default=_NOW),
    sqlite_autoincrement=True,
)

claims = sa.Table(
    "claims",
    catalog_metadata,
    sa.Column("tenant_id", RowId(), primary_key=True),
    sa.Column("operation", sa.String(32), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("runner", Line(128)),
    sa.Column("expires_at", Timestamp),
)

sessions = sa.Table(
    "sessions",
    catalog_metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False, index=True),
    sa.Column("last_seen_at", Timestamp),
    sa.Column("user_agent", Line(200)),
    sa.Column("address", Line(64)),
)

api_keys = sa.Table(
    "api_keys",
    catalog_metadata,
    sa.Column("id", RowId(), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("name", Line(100), nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("key_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("read_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp),
    sa.Column("last_used_at", Timestamp),
    sa.Column("purpose", sa.String(16), nullable=False, server_default="api"),
)

login_failures = sa.Table(
    "login_failures",
    catalog_metadata,
    sa.Column("scope", sa.String(64), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("window_ends_at", Timestamp, nullable=False, index=True),
)

audit_log = sa.Table(
    "audit_log",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Timestamp, nullable=False, index=True),
    sa.Column("action", sa.String(64), nullable=False, index=True),
    sa.Column("actor_id", sa.Integer, index=True),
    sa.Column("user_id", sa.Integer, index=True),
    sa.Column("tenant_id", RowId()),
    sa.Column("request_id", sa.String(64)),
    sa.Column("detail", LongText(), nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
    sa.Column("actor", Line(200)),
)

audit_head = sa.Table(
    "audit_head",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_id", sa.Integer, nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
)

installation = sa.Table(
    "installation",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("mark", sa.String(6), nullable=False),
)
"""One row: what tells the names of this installation's databases from another's on the same server."""

tenant_sizes = sa.Table(
    "tenant_sizes",
    catalog_metadata,
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
)

tenant_errors = sa.Table(
    "tenant_errors",
    catalog_metadata,
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("code", sa.String(64), primary_key=True),
    sa.Column("message", LongText(), nullable=False),
    sa.Column("first_at", Timestamp, nullable=False),
    sa.Column("last_at", Timestamp, nullable=False, index=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("request_id", sa.String(64)),
)

pending_databases = sa.Table(
    "pending_databases",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *_placement_columns(),
    sa.Index(None, "server_id", "state", "id"),
    sqlite_autoincrement=True,
)
"""Databases that stand ready for users to come; nobody's yet."""

leftover_databases = sa.Table(
    "leftover_databases",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, index=True),
    sa.Column("reason", sa.String(16), nullable=False),
    *_placement_columns(unique=False),
    sqlite_autoincrement=True,
)
"""Databases that no tenant uses any more and that may still be there; a row goes once its database is gone."""

fleet_runs = sa.Table(
    "fleet_runs",
    catalog_metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("state", sa.String(12), nullable=False, index=True),
    sa.Column("target", sa.String(64)),
    sa.Column("reverts", sa.Integer),
    sa.Column("selection", LongText(), nullable=False),
    sa.Column("options", LongText(), nullable=False),
    sa.Column("already", sa.Integer, nullable=False),
    sa.Column("reason", LongText()),
    sa.Column("actor_id", sa.Integer),
    sa.Column("created_at", Timestamp, nullable=False, server_default=_NOW),
    sa.Column("ended_at", Timestamp),
    sqlite_autoincrement=True,
)

fleet_items = sa.Table(
    "fleet_items",
    catalog_metadata,
    sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tenant_id", RowId(), nullable=False),
    sa.Column("db_type", sa.String(16), nullable=False),
    sa.Column("server_id", sa.Integer),
    sa.Column("wave", sa.Integer, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("from_revision", sa.String(64)),
    sa.Column("to_revision", sa.String(64)),
    sa.Column("before_state", sa.String(16)),
    sa.Column("restore_point", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("runner", Line(128)),
    sa.Column("started_at", Timestamp),
    sa.Column("ended_at", Timestamp),
    sa.Column("duration_ms", sa.Integer),
    sa.Column("error", LongText()),
    sa.Column("error_code", sa.String(64)),
    sa.Index(None, "run_id", "state", "wave", "db_type", "server_id", "user_id"),
)

SHARED_OWNER = 0
"""Stands for the database that all share in ``tenant_sizes`` and ``tenant_errors``; no user has this id."""

identity = sa.Table(
    "tenancy_identity",
    house_metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tenant_id", RowId(), nullable=False),
    sa.Column("user_id", sa.Integer),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
)

ledger = sa.Table(
    "tenancy_ledger",
    house_metadata,
    sa.Column("id", RowId(), primary_key=True),
    sa.Column("revision", sa.String(64), nullable=False),
    sa.Column("direction", sa.String(12), nullable=False),
    sa.Column("checksum", sa.String(64), nullable=False),
    sa.Column("applied_at", Timestamp, nullable=False),
    sa.Column("duration_ms", sa.Integer, nullable=False),
    sa.Column("app_version", Line(64), nullable=False),
)


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
class Placement:
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

    def with_(self, **changes: Any) -> Placement:
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
class Pending(Placement):
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
class Leftover(Placement):
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

    Exactly one of ``session_hash`` and ``key_id`` is set. ``placement`` is None where the user has no database.
    """

    user: User
    placement: Placement | None
    session_hash: str | None = None
    key_id: uuid.UUID | None = None
    read_only: bool = False


@dataclass(frozen=True)
class TenantSchema:
    """Describe the application's part of a tenant database: its tables, its Alembic folder, its first rows.

    ``first_rows(user_id)`` gives ``(table, values)`` pairs that are written with a new tenant.
    """

    metadata: sa.MetaData
    migrations: Path
    first_rows: Callable[[int], Sequence[tuple[sa.Table, dict[str, Any]]]]
    app_version: str
