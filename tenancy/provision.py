"""Make a tenant's database, or bring it to head: a sequence that can stop anywhere.

It is recorded in the catalog before its first step, runs under a claim, is undone on failure, and finishes when run
again. Only the last write makes a tenant ``ready``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy import ledger
from tenancy.backends.base import Attempt, Backend, Blueprint, DatabaseFields
from tenancy.catalog import configs
from tenancy.catalog.claims import Claim
from tenancy.errors import (
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    RevisionMismatchError,
    TenantExistsError,
    TenantNotReadyError,
)
from tenancy.guards import check_identity, explained
from tenancy.models import Kind, Placement, State, house_metadata, identity
from tenancy.operation import Operation, write_state
from tenancy.types import new_id

_insert_identity = identity.insert()
_RESUMABLE = (State.PROVISIONING, State.FAILED, State.MIGRATING)


@dataclass(frozen=True)
class Provisioned:
    """Say where a user's database is, and whether this call made it."""

    placement: Placement
    created: bool


class Provisioner(Operation):
    """Make tenants' databases and bring them to head."""

    def provision(self, user_id: int, fields: DatabaseFields) -> Provisioned:
        """Make a user's database, finish one half-made, or bring one that is behind to head."""
        backend = self.backends.get(fields.db_type or self.bench.default_type)
        wanted = backend.plan(user_id, fields)
        self.step("record")
        with self.catalog.writing() as connection:
            tenant = configs.of_account(connection, user_id)
            if tenant is not None:
                refuse_another(tenant, fields, wanted)
                if tenant.state is State.READY and tenant.revision == self.chain.head:
                    return self._found(tenant, backend)
                _refuse_unless_resumable(tenant)
            tenant, claim = self._claimed(connection, tenant, user_id, wanted)
        made = tenant.revision is None
        return self._guarded(tenant, claim, lambda: self._finish(tenant, claim, backend), made)

    def provision_shared(self, url: str) -> list[str]:
        """Make the database that all users share, or bring it to head; give the revisions applied now.

        Other tables may stand in it: the catalog's, for example.
        """
        backend = self.backends.for_url(url, "SHARED_DATABASE_URL")
        wanted = backend.shared_plan(url)
        with self.catalog.writing() as connection:
            tenant = configs.shared(connection)
            if tenant is not None and tenant.db_path != wanted["db_path"]:
                raise TenantExistsError(
                    "SHARED_DATABASE_URL names another database than the one in use: move the data, then the setting.",
                    field="SHARED_DATABASE_URL",
                )
            if tenant is not None and tenant.state is State.READY and tenant.revision == self.chain.head:
                self._found(tenant, backend)
                return []
            created = tenant is None
            tenant, claim = self._claimed(connection, tenant, None, wanted)
        applied: list[str] = []
        self._guarded(tenant, claim, lambda: applied.extend(self._upgrade(tenant, claim, backend, adopt=True)), created)
        return applied

    def _found(self, tenant: Placement, backend: Backend) -> Provisioned:
        """Say that there was nothing to do, unless what the catalog calls ready is gone."""
        if not backend.exists(tenant):
            raise _lost(tenant)
        return Provisioned(tenant, created=False)

    def _claimed(
        self, connection: sa.Connection, tenant: Placement | None, user_id: int | None, wanted: dict[str, object]
    ) -> tuple[Placement, Claim]:
        """Record what is about to happen, and take the claim, in the caller's transaction."""
        if tenant is None:
            tenant = configs.add(connection, user_id, {"tenant_id": new_id(), **wanted})
            fresh = tenant.tenant_id
            return tenant, self.claim(connection, fresh, "provision", first=True)
        claim = self.claim(connection, tenant.tenant_id, "provision")
        state = State.MIGRATING if tenant.revision else State.PROVISIONING
        configs.change(connection, tenant, state=state, last_error=None, last_error_code=None)
        return tenant.with_(state=state), claim

    def _finish(self, tenant: Placement, claim: Claim, backend: Backend) -> None:
        """Do what is left to do, whatever an earlier attempt did."""
        backend.clear_attempts(tenant, claim.attempt)
        there = backend.exists(tenant)
        if tenant.revision is not None and not there:
            raise _lost(tenant)
        if tenant.revision is not None:
            self._upgrade(tenant, claim, backend)
        elif there:
            self._adopt(tenant, claim, backend)
        else:
            self._create(tenant, claim, backend)

    def _guarded(self, tenant: Placement, claim: Claim, work: Callable[[], object], created: bool) -> Provisioned:
        """Do the work, then make the tenant ready in one write; on failure say so in the catalog instead."""
        with self.told(tenant, claim, State.FAILED), explained(self.backends.get(tenant.db_type)):
            work()
            self.step("ready")
            return Provisioned(self._ready(tenant, claim, created), created)

    def _create(self, tenant: Placement, claim: Claim, backend: Backend) -> None:
        blueprint = Blueprint(
            fingerprint=self.chain.fingerprint,
            build=lambda connection: self._build(connection, backend),
            fill=lambda connection: self._fill(connection, tenant),
        )
        backend.create(tenant, blueprint, Attempt(claim.attempt, self.step, claim.holding))

    def _adopt(self, tenant: Placement, claim: Claim, backend: Backend) -> None:
        """Take over what an earlier attempt of this very tenant finished; anything else stays untouched."""
        try:
            with closing(backend.connect(tenant, self.bench.secret(tenant))) as driver:
                check_identity(backend, tenant, driver, None)
        except (IdentityError, DatabaseUnreachableError) as error:
            raise DatabaseExistsError(
                f"a database stands where user {tenant.user_id}'s belongs, and it is not theirs: "
                "move it away, or restore the catalog it belongs to.",
                tenant_id=tenant.tenant_id,
            ) from error
        self._upgrade(tenant, claim, backend)

    def _build(self, connection: sa.Connection, backend: Backend) -> None:
        """Migrate an empty database to head, with its ledger."""
        house_metadata.create_all(connection)
        connection.commit()
        self.chain.upgrade(
            connection,
            transactional_ddl=backend.transactional_ddl,
            on_apply=lambda *seen: self._applied(backend, *seen),
        )

    def _fill(self, connection: sa.Connection, tenant: Placement) -> None:
        """Write a new tenant's own rows: whose it is, when its revisions were applied, its first rows."""
        _write_identity(connection, tenant)
        ledger.date_as_new(connection)
        if tenant.user_id is not None:
            for table, values in self.bench.schema.first_rows(tenant.user_id):
                connection.execute(table.insert(), values)

    def _upgrade(self, tenant: Placement, claim: Claim, backend: Backend, *, adopt: bool = False) -> list[str]:
        """Apply what is missing; ``adopt`` also writes the identity into a database that has none."""
        if adopt and tenant.revision is None:
            backend.make_empty(tenant)
        with backend.migrating(backend.connect(tenant, self.bench.secret(tenant))) as connection:
            if adopt:
                self._adopt_shared(connection, tenant)
            check_identity(backend, tenant, connection.connection, None)
            self._compare_with_ledger(connection, tenant)
            write_state(connection, tenant, State.MIGRATING)
            self.step("migrate")
            applied = self.chain.upgrade(
                connection,
                transactional_ddl=backend.transactional_ddl,
                on_apply=lambda *seen: self._applied_under(claim, tenant, backend, *seen),
            )
            _beat(claim)
            write_state(connection, tenant, State.READY)
        return applied

    def _compare_with_ledger(self, connection: sa.Connection, tenant: Placement) -> None:
        """Refuse to migrate where the version table and the ledger disagree: somebody changed one by hand."""
        last = ledger.last(connection)
        told = None if last is None or not self.chain.knows(last[0]) else self.chain.after(*last)
        there = self.chain.current(connection)
        connection.rollback()
        if there is not None and not self.chain.knows(there):
            return  # newer than the code: the upgrade itself says so
        if told != there:
            raise RevisionMismatchError(
                f"the version table says {there}, the ledger {told}: find out which is right before migrating.",
                tenant_id=tenant.tenant_id,
                revision=there,
                ledger_revision=told,
            )

    def _adopt_shared(self, connection: sa.Connection, tenant: Placement) -> None:
        house_metadata.create_all(connection)
        row = connection.execute(sa.select(identity)).first()
        if row is None:
            _write_identity(connection, tenant)
        elif (row.tenant_id, row.kind) != (tenant.tenant_id, Kind.SHARED):
            raise DatabaseExistsError("SHARED_DATABASE_URL names a database that belongs to somebody else.")
        connection.commit()

    def _applied_under(self, claim: Claim, tenant: Placement, backend: Backend, *seen: Any) -> None:
        """Beat before a revision commits; where all share the catalog's own database it cannot be written just then."""
        if tenant.kind is Kind.TENANT:
            _beat(claim)
        self._applied(backend, *seen)

    def _applied(
        self, backend: Backend, connection: sa.Connection, revision: str, direction: str, checksum: str, took_ms: int
    ) -> None:
        backend.check_before_commit(connection)
        ledger.record(connection, revision, direction, checksum, took_ms, self.bench.schema.app_version)
        self.step(f"applied {revision}")

    def _ready(self, tenant: Placement, claim: Claim, created: bool) -> Placement:
        now = datetime.now(UTC)
        done = {
            "state": State.READY,
            "is_active": True,
            "revision": self.chain.head,
            "schema_fingerprint": self.chain.fingerprint,
            "last_error": None,
            "last_error_code": None,
        }
        with claim.ending() as connection:
            configs.change(connection, tenant, **done)
            self.catalog.audit.append(
                connection,
                "tenant.provision" if created else "tenant.upgrade",
                user_id=tenant.user_id,
                tenant_id=tenant.tenant_id,
                detail={"type": tenant.db_type, "revision": self.chain.head},
            )
        return tenant.with_(**done, updated_at=now)


def refuse_another(tenant: Placement, fields: DatabaseFields, wanted: dict[str, object]) -> None:
    """Refuse to configure a second database; asking for the one there is again is no harm."""
    if fields.db_type is None and tenant.db_type != wanted["db_type"]:
        return
    for name, value in wanted.items():
        if name != "owned" and getattr(tenant, name, value) != value:
            raise TenantExistsError(
                f"user {tenant.user_id} has another database already ({name} differs).",
                user_id=tenant.user_id,
                field=name,
            )


def _refuse_unless_resumable(tenant: Placement) -> None:
    behind = tenant.state is State.READY
    if not behind and tenant.state not in _RESUMABLE:
        raise TenantNotReadyError(
            f"the database of user {tenant.user_id} is {tenant.state}.", state=tenant.state, user_id=tenant.user_id
        )


def _lost(tenant: Placement) -> DatabaseMissingError:
    return DatabaseMissingError(
        f"the database of user {tenant.user_id} was there and is gone: restore it; none is made in its place.",
        tenant_id=tenant.tenant_id,
    )


def _beat(claim: Claim) -> None:
    """Move the claim's expiry on, or stop here when it is lost."""
    with claim.writing():
        return


def _write_identity(connection: sa.Connection, tenant: Placement) -> None:
    connection.execute(
        _insert_identity,
        {
            "id": 1,
            "tenant_id": tenant.tenant_id,
            "user_id": tenant.user_id,
            "kind": str(tenant.kind),
            "epoch": tenant.epoch,
            "state": str(State.READY),
            "created_at": datetime.now(UTC),
        },
    )
