"""Hold what callers hand to a backend, and what a backend hands back: plain records, the same for every product."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from tenancy.backends.access import Access
from tenancy.models import Tenant

Step = Callable[[str], None]
"""Called with the name of each step just before it is taken; a test may raise here, to stop where a kill would."""

Rebuild = Callable[[sa.Connection], None]
"""Migrate an empty database to the revision of a restore point, tenancy tables included; write no identity row."""


def ignore_step(step: str) -> None:
    """Serve as the ``Step`` of a caller who does not want to know."""


class HeldClaim(Protocol):
    """A claim on a tenant (a lease with a fencing token, the epoch), as the catalog hands it out."""

    @property
    def epoch(self) -> int: ...

    def check(self) -> None:
        """Raise ClaimLostError unless the claim is still held."""


@dataclass(frozen=True)
class DatabaseFields:
    """Hold what somebody who initializes a database may say about it; None means not said."""

    db_type: str | None = None
    db_host: str | None = None
    db_port: int | None = None
    db_name: str | None = None
    db_user: str | None = None
    db_password: str | None = None
    db_path: str | None = None
    db_options: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"DatabaseFields(db_type={self.db_type!r}, ...)"


@dataclass(frozen=True)
class Asked:
    """Describe one of ``DatabaseFields`` that a product's form shows; ``kind`` is text, number or password."""

    name: str
    label: str
    kind: str = "text"
    required: bool = True
    default: str = ""
    help: str = ""


@dataclass(frozen=True)
class Check:
    """Report one thing that was looked at; ``code`` is the code of the error that it would lead to, or "ok"."""

    name: str
    text: str
    code: str = "ok"

    @property
    def ok(self) -> bool:
        return self.code == "ok"


@dataclass(frozen=True)
class Storage:
    """Describe the folder in which a product keeps its files; ``problem`` is empty if the folder can be used."""

    path: str
    exists: bool
    problem: str
    free_bytes: int | None
    total_bytes: int | None


@dataclass(frozen=True)
class Blueprint:
    """Say what a new tenant database holds.

    ``fingerprint`` identifies the schema, and names the template made from it. ``build`` migrates an empty database to
    that schema. ``fill`` writes identity, ledger and first rows, in one transaction that the caller begins and commits.
    """

    fingerprint: str
    build: Callable[[sa.Connection], None]
    fill: Callable[[sa.Connection], None]


@dataclass(frozen=True)
class Whose:
    """Say for whom a database is made: the user (None for the pending pool), the tenant, and its first epoch."""

    owner: int | None
    tenant_id: uuid.UUID
    epoch: int = 1


@dataclass(frozen=True)
class Attempt:
    """Number one try at making a database; ``step`` is called before each step of it."""

    number: int
    step: Step


@dataclass(frozen=True)
class Making:
    """Describe one of several databases that are made together: its tenant, its logins, its content, and which try."""

    tenant: Tenant
    access: Access
    blueprint: Blueprint
    attempt: Attempt
