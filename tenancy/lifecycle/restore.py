"""Restore a user's database from a backup, and undo that again: both are fenced switches to another database.

The archive is fetched and checked before anything else. Then the tenant is claimed, its present database fenced, and
the archive loaded into a new one beside it; one transaction of the catalog switches. What was replaced is kept, and
nothing but its identity row is written to any more. Whatever fails, or is killed, before the switch leaves the user
with the present database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from tenancy import names
from tenancy.archive.encryption import Identities
from tenancy.archive.export import Progress, no_check, no_progress
from tenancy.archive.format import Contents
from tenancy.archive.load import Reading, reading
from tenancy.archive.records import Record
from tenancy.backends.base import Backend
from tenancy.catalog import backups, claims, leftovers, tenants, users
from tenancy.catalog.audit import AuditFilter
from tenancy.catalog.backups import TENANT, Backup
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.errors import (
    ArchiveError,
    BackupNotFoundError,
    ConfigurationError,
    DatabaseDamagedError,
    DatabaseMissingError,
    IdentityError,
    NewerRowsError,
    RestoreDoneError,
    TenantNotReadyError,
)
from tenancy.lifecycle.exchange import Exchange
from tenancy.lifecycle.load_beside import Beside, LoadBeside
from tenancy.lifecycle.operation import Services
from tenancy.lifecycle.placement import PLACE, emptied
from tenancy.lifecycle.stored_backups import fetched
from tenancy.lifecycle.upgrade import Upgrade
from tenancy.models import Leftover, State, Tenant
from tenancy.routing.guards import explained, way_on
from tenancy.schema import identity

RESTORE, UNDO = "restore", "undo"
RESTORED, UNDONE = "tenant.restore", "tenant.undo_restore"
_LOOKED_THROUGH = 100
"""How many of the last restores of a user are looked through for a key."""


@dataclass(frozen=True)
class Written:
    """Say what was written to a database since a restore: the number of rows at least, and the tables.

    Rows that were changed, or added in the place of others, count once a table at least.
    """

    rows: int = 0
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored:
    """Say what a restore put in place, and which database it kept."""

    tenant: Tenant
    rows: int
    kept: Leftover | None


@dataclass(frozen=True)
class Undone:
    """Say what undoing a restore put aside: the rows written since, in the database that is kept now."""

    tenant: Tenant
    written: Written
    kept: Leftover | None


@dataclass(frozen=True)
class Kept:
    """Describe the database that a user's last restore, or the undoing of one, replaced."""

    left: Leftover
    at: datetime
    backup_id: UUID | None
    look: Callable[[], Written] = field(repr=False, compare=False)

    @cached_property
    def since(self) -> Written:
        """What was written since, as far as the present database can be read now: all its rows are compared."""
        return self.look()

    @property
    def written(self) -> int:
        """The number of rows written since, at least."""
        return self.since.rows


class Restores(Exchange):
    """Serve as ``manager.restores``."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._beside = LoadBeside(services)

    def restore(
        self,
        user_id: int,
        backup_id: UUID,
        *,
        identities: Identities | None = None,
        only_tables: Collection[str] = (),
        from_another: bool = False,
        key: str | None = None,
        progress: Progress = no_progress,
        check: Callable[[], None] = no_check,
    ) -> Restored:
        """Put a user's database, or some tables of it, back to a backup; ``kept`` of the answer is what was replaced.

        Without ``identities`` the secret keys of BACKUP_IDENTITY_FILE open the archive. A backup of another tenant is
        refused, unless ``from_another`` says that this new user shall have its rows. ``check`` may raise, to stop. A
        second call with one ``key`` raises RestoreDoneError if the first got as far as the switch.
        """
        user_id = names.user_id(user_id)
        self._refuse_shared()
        with self.catalog.reading() as connection:
            tenant, backup = tenants.get(connection, user_id), backups.get(connection, backup_id)
        self._refuse_another(tenant, backup, from_another)
        keys = identities or self.services.backups.identities(backup.key_ids.split(","))
        with fetched(self.services.backups, backup, check) as (record, source), reading(source, keys) as found:
            self._beside.refuse_unknown(found)
            if found.header.tenant_id != record.tenant_id:
                raise ArchiveError(f"backup {backup.id} holds another tenant than its record says: it is not used.")
            moving = self._claimed(user_id, RESTORE, key)
            restored = self._restored(moving, _Work(record, found, frozenset(only_tables), progress))
        self._leftovers.clear(self._leftovers.of_user(user_id))
        return restored

    def undo(self, user_id: int, *, discard_newer: bool = False, key: str | None = None) -> Undone:
        """Switch back to the database that the last restore replaced; the present one is kept in its place.

        NewerRowsError if rows were written since, unless ``discard_newer``: they stay in the database that is kept.
        ``key`` is that of ``restore``.
        """
        user_id = names.user_id(user_id)
        self._refuse_shared()
        self._kept_row(user_id)
        moving = self._claimed(user_id, UNDO, key)
        tenant, claim = moving.tenant, moving.claim
        backend = self.services.backend(tenant)
        with self._returned(tenant, claim, backend, _as_before(tenant)), claims.beating(self.catalog, [claim]):
            kept = self._kept_row(user_id)
            there = self._fenced(tenant, claim, backend)
            with explained(backend):
                written = self._written(kept, tenant, backend) if there else Written()
            if written.rows and not discard_newer:
                raise _refused(user_id, written)
            target = self._opened(moving, kept)
            self.step("switch")
            left = self._switched_back(moving, kept, target, written if there else None)
        self.services.on_retire(tenant.tenant_id)
        return Undone(target, written, left)

    def kept(self, user_id: int) -> Kept | None:
        """Return what the user's last restore replaced, if it can be undone; None otherwise."""
        with self.catalog.reading() as connection:
            tenant, left = tenants.find(connection, names.user_id(user_id)), _newest_kept(connection, user_id)
        if tenant is None or left is None:
            return None
        noted = json.loads(left.detail or "{}")
        found = noted.get("backup_id")

        def look() -> Written:
            backend = self.services.backend(tenant)
            with explained(backend):
                return self._written(left, tenant, backend)

        return Kept(left, datetime.fromisoformat(noted["at"]), UUID(found) if found else None, look)

    def forget(self, left: Leftover) -> bool:
        """Remove a database that a restore kept, for good; return whether it is gone."""
        return not self._leftovers.clear([left])

    # --- restore ----------------------------------------------------------------------------------------

    def _restored(self, moving: _Moving, work: _Work) -> Restored:
        tenant, claim = moving.tenant, moving.claim
        backend = self.services.backend(tenant)
        with self._returned(tenant, claim, backend, _as_before(tenant)), claims.beating(self.catalog, [claim]):
            there = self._fenced(tenant, claim, backend)
            present = tenant.with_(epoch=claim.epoch) if there else None
            if work.only and present is None:
                raise DatabaseMissingError(
                    f"the database of user {tenant.user_id} is not there: restore all of it, not only some tables.",
                    tenant_id=tenant.tenant_id,
                )
            with explained(backend):
                beside = self._beside.planned(tenant, claim, backend)
                contents = self._beside.filled(
                    beside, claim, backend, work.found, present=present, only=work.only, progress=work.progress
                )
                if moving.after is State.SUSPENDED:
                    self.mark(beside.tenant, claim, backend, State.SUSPENDED)
            self.step("switch")
            kept = self._switched(moving, beside, work, contents if there else None)
        self.services.on_retire(tenant.tenant_id)
        return Restored(beside.tenant.with_(state=moving.after), contents.total, kept)

    def _switched(self, moving: _Moving, beside: Beside, work: _Work, replacing: Contents | None) -> Leftover | None:
        """Record in one transaction where the user's rows are from here on, and what is kept."""
        tenant, claim = moving.tenant, moving.claim
        changes = emptied() | beside.wanted | self._at_head(moving.after)
        note = None if replacing is None else _note(work.record.backup_id, replacing)
        with claim.ending() as connection:
            kept = self._keep(connection, tenant, claim, note)
            tenants.change(connection, tenant, **changes | _place_again(tenant, claim) | {"owned": True})
            users.keep_database_epoch(connection, tenant.user_id or 0, claim.epoch)
            leftovers.remove(connection, [beside.left])
            detail = {"backup_id": str(work.record.backup_id), "kept": kept.id if kept else None}
            self._note_down(connection, RESTORED, moving, detail)
        return kept

    def _at_head(self, state: State) -> dict[str, Any]:
        return {
            "state": state,
            "is_active": state is State.READY,
            "revision": self.chain.head,
            "schema_fingerprint": self.chain.fingerprint,
            "usable_from": self.chain.usable_from(self.chain.head),
        }

    def _keep(
        self, connection: sa.Connection, tenant: Tenant, claim: Claim, note: dict[str, Any] | None
    ) -> Leftover | None:
        """Put the database that was replaced on the list of leftovers, if it is there and ours."""
        if note is None or not tenant.owned:
            return None
        return leftovers.add(connection, tenant.with_(epoch=claim.epoch), Reason.KEPT, json.dumps(note))

    # --- undo -------------------------------------------------------------------------------------------

    def _opened(self, moving: _Moving, kept: Leftover) -> Tenant:
        """Open the kept database under the claim's epoch, and migrate it to head; return the tenant as it is there."""
        tenant, claim, state = moving.tenant, moving.claim, moving.after
        place = {name: getattr(kept, name) for name in (*PLACE, "owned", "revision", "schema_fingerprint")}
        target = tenant.with_(
            **place, sealed_password=kept.sealed_password, epoch=claim.epoch, version=tenant.version + 1, state=state
        )
        backend = self.services.backend(target)
        self.step("open")
        with explained(backend):
            driver = backend.connect_to_migrate(target, self.services.access(target))
            with backend.migrating(driver) as connection:
                identity.mark_restored(connection, target, claim.epoch)
                connection.commit()
            Upgrade(self.services).migrate_to(target, claim, backend, self.chain.head)
            if state is State.SUSPENDED:
                self.mark(target, claim, backend, state)
        return target

    def _switched_back(
        self, moving: _Moving, kept: Leftover, target: Tenant, written: Written | None
    ) -> Leftover | None:
        tenant, claim = moving.tenant, moving.claim
        place = {name: getattr(kept, name) for name in (*PLACE, "owned")} | {"db_password": kept.sealed_password}
        changes = emptied() | place | self._at_head(moving.after)
        backend = self.services.backend(target)
        with explained(backend):
            held = self._beside.contents(target, backend)
        note = None if written is None else _note(None, held)
        with claim.ending() as connection:
            left = self._keep(connection, tenant, claim, note)
            tenants.change(connection, tenant, **changes | _place_again(tenant, claim))
            users.keep_database_epoch(connection, tenant.user_id or 0, claim.epoch)
            leftovers.remove(connection, [kept])
            detail = {"newer_rows": written.rows if written else None, "kept": left.id if left else None}
            self._note_down(connection, UNDONE, moving, detail)
        return left

    def _written(self, kept: Leftover, tenant: Tenant, backend: Backend) -> Written:
        """Compare the present database with what it held when it took the other one's place."""
        noted = json.loads(kept.detail or "{}")
        then = Contents(noted.get("rows", {}), noted.get("checksums", {}))
        here = self._beside.contents(tenant, backend)
        changed = [
            name for name in sorted({*then.rows, *here.rows}) if then.checksums.get(name) != here.checksums.get(name)
        ]
        apart = (abs(here.rows.get(name, 0) - then.rows.get(name, 0)) for name in changed)
        return Written(sum(max(1, rows) for rows in apart), tuple(changed))

    # --- both -------------------------------------------------------------------------------------------

    def _claimed(self, user_id: int, operation: str, key: str | None) -> _Moving:
        """Claim a tenant and say that it moves."""
        with self.catalog.writing() as connection:
            self._refuse_done(connection, user_id, key)
            tenant = tenants.get(connection, user_id)
            if tenant.state in (State.PROVISIONING, State.ARCHIVED):
                raise TenantNotReadyError(
                    f"the database of user {user_id} is {tenant.state}: {way_on(tenant)}",
                    state=tenant.state,
                    user_id=user_id,
                )
            claim = self.claim(connection, tenant, operation)
            after = State.SUSPENDED if tenant.state is State.SUSPENDED else State.READY
            if after is State.READY:
                tenants.change(connection, tenant, state=State.MOVING)
        return _Moving(tenant, claim, after, key)

    def _note_down(self, connection: sa.Connection, action: str, moving: _Moving, detail: dict[str, Any]) -> None:
        tenant = moving.tenant
        detail |= {"key": moving.key} if moving.key else {}
        self.catalog.audit.append(connection, action, user_id=tenant.user_id, tenant_id=tenant.tenant_id, detail=detail)

    def _refuse_done(self, connection: sa.Connection, user_id: int, key: str | None) -> None:
        """Raise RestoreDoneError if the audit log says that work of this key has switched a user's database."""
        for action in (RESTORED, UNDONE) if key else ():
            wanted = AuditFilter(action=action, user_id=user_id)
            for row in self.catalog.audit.page(connection, wanted, limit=_LOOKED_THROUGH):
                if row["detail"].get("key") == key:
                    raise RestoreDoneError(
                        f"user {user_id} has the restored database already: a runner did it before it was cut off.",
                        user_id=user_id,
                    )

    def _fenced(self, tenant: Tenant, claim: Claim, backend: Backend) -> bool:
        """Refuse all further writes to the present database; return whether one of this tenant's is there to keep.

        A server that cannot be reached is an error, since writes may still reach the database behind it.
        """
        self.step("fence")
        try:
            with explained(backend):
                if not backend.exists(tenant, self.services.access(tenant)):
                    return False
                self.mark(tenant.with_(epoch=0), claim, backend, State.MOVING)  # an older copy may be there
        except (DatabaseMissingError, DatabaseDamagedError, IdentityError):
            return False  # nothing that a route could write to: no identity row of this tenant's can be read
        self.services.on_retire(tenant.tenant_id)
        return True

    def _kept_row(self, user_id: int) -> Leftover:
        with self.catalog.reading() as connection:
            tenants.get(connection, user_id)
            found = _newest_kept(connection, user_id)
        if found is None:
            raise BackupNotFoundError(
                f"no restore of user {user_id} can be undone: the database that one replaced is not kept (any more)."
            )
        return found

    def _refuse_shared(self) -> None:
        if not self.catalog.multi_tenant:
            raise ConfigurationError(
                "all users share one database (MULTI_TENANT_MODE=false): one user's rows cannot be restored by "
                "themselves.",
                field="MULTI_TENANT_MODE",
            )

    def _refuse_another(self, tenant: Tenant, backup: Backup, from_another: bool) -> None:
        if backup.kind != TENANT:
            raise ArchiveError(f"backup {backup.id} is one of the catalog: `unify recover` is for those.")
        if backup.tenant_id != tenant.tenant_id and not from_another:
            raise ArchiveError(
                f"backup {backup.id} is another database's than the one user {tenant.user_id} has: restore it into a "
                "new account (--as-new-user EMAIL; from a program `manager.restores.restore(..., from_another=True)`).",
                user_id=tenant.user_id,
            )


@dataclass(frozen=True)
class _Work:
    """What is restored: the record of the backup, its archive, and how much of it."""

    record: Record
    found: Reading
    only: frozenset[str]
    progress: Progress


@dataclass(frozen=True)
class _Moving:
    """A tenant that is claimed and moves, the state that it shall have afterwards, and the key of the work."""

    tenant: Tenant
    claim: Claim
    after: State
    key: str | None


def _note(backup_id: UUID | None, contents: Contents) -> dict[str, Any]:
    """Note beside a kept database what the one in its place held at the switch."""
    return {
        "at": datetime.now(UTC).isoformat(),
        "backup_id": str(backup_id) if backup_id else None,
        "rows": dict(contents.rows),
        "checksums": dict(contents.checksums),
    }


def _place_again(tenant: Tenant, claim: Claim) -> dict[str, int]:
    return {"version": tenant.version + 1, "epoch": claim.epoch}


def _as_before(tenant: Tenant) -> State:
    """Return the state that a tenant goes back to; one that an exchange left moving was cut off in it."""
    return State.READY if tenant.state is State.MOVING else tenant.state


def _newest_kept(connection: sa.Connection, user_id: int) -> Leftover | None:
    found = [left for left in leftovers.of_user(connection, user_id) if left.reason == Reason.KEPT]
    return found[-1] if found else None


def _refused(user_id: int, written: Written) -> NewerRowsError:
    tables = ", ".join(written.tables)
    return NewerRowsError(
        f"rows were written since (at least {written.rows}, in {tables}), and user {user_id} would not see them any "
        "more. They are kept aside if you say so: --discard-newer, or "
        "`manager.restores.undo(user_id, discard_newer=True)`.",
        rows=written.rows,
    )
