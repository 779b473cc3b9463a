"""Back up all tenants, some at a time: their claims are taken and released together, and so are the catalog's rows.

The claims are released when the rows are read, before the storage is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO
from uuid import UUID

import sqlalchemy as sa

from tenancy.archive.export import no_check, no_progress
from tenancy.archive.format import Contents
from tenancy.catalog import backups, claims, now, tenants
from tenancy.catalog.backups import Backup
from tenancy.catalog.claims import Claim
from tenancy.errors import TenancyError
from tenancy.lifecycle.backup import BACKUP, Into, MakeBackups, Started, has_rows, source_of, spooled
from tenancy.models import Tenant

AT_ONCE = 50
"""How many tenants are claimed, and recorded as backed up, together."""

SPOOLED_MOST = 256 * 2**20
"""How many bytes may wait in temporary files: with more, the rest of the tenants are claimed anew."""

Owned = tuple[str, Tenant]
_FAILURES = (TenancyError, OSError, sa.exc.SQLAlchemyError)


@dataclass(frozen=True)
class BackupResult:
    """What became of one of several tenants that were backed up."""

    user_id: int | None
    email: str
    backup: Backup | None = None
    error: TenancyError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class _Written:
    """An archive in its temporary file, which waits to be stored."""

    of: Owned
    started: Started
    claim: Claim
    contents: Contents
    revision: str
    spool: BinaryIO


class MakeManyBackups(MakeBackups):
    """Make the backups of all tenants."""

    def create_all(
        self,
        on_result: Callable[[BackupResult], None] = lambda result: None,
        *,
        since: datetime | None = None,
        check: Callable[[], None] = no_check,
    ) -> list[BackupResult]:
        """Back up every user's database; one that fails is named, and the others go on.

        One that another operation works on is tried once more when all others are done. Those of which a good backup
        began ``since`` are left out, for a runner that goes on where another one was cut off.
        """
        into = self.into()
        results: list[BackupResult] = []
        busy: list[Owned] = []

        def told(result: BackupResult) -> None:
            results.append(result)
            on_result(result)

        if not self.catalog.multi_tenant:
            told(self._one(None, "", check))
            return results
        after = 0
        while page := self._page(after):
            after = page[-1][1].user_id or 0
            done = self._done(page, since) if since is not None else frozenset()
            todo = [each for each in page if has_rows(each[1]) and each[1].tenant_id not in done]
            while todo:
                todo = self._batch(todo, busy, into, told, check)
        for email, tenant in busy:
            check()
            told(self._one(tenant.user_id, email, check))
        return results

    def _page(self, after: int) -> list[Owned]:
        with self.catalog.reading() as connection:
            return tenants.page(connection, after, AT_ONCE, [])

    def _done(self, page: Sequence[Owned], since: datetime) -> frozenset[UUID]:
        with self.catalog.reading() as connection:
            last = backups.last_good_of(connection, [tenant.tenant_id for _, tenant in page])
        return frozenset(tenant_id for tenant_id, found in last.items() if found.started_at >= since)

    def _batch(
        self,
        todo: Sequence[Owned],
        busy: list[Owned],
        into: Into,
        told: Callable[[BackupResult], None],
        check: Callable[[], None],
    ) -> list[Owned]:
        """Back up some tenants; return those that are left for another batch."""
        claimed, at = self._claimed(todo)
        mine = {claim.tenant_id: claim for claim in claimed}
        busy += [each for each in todo if each[1].tenant_id not in mine]
        todo = [each for each in todo if each[1].tenant_id in mine]
        written: list[_Written] = []
        results: list[BackupResult] = []
        with ExitStack() as spools:
            try:
                with claims.beating(self.catalog, claimed):
                    for each in todo:
                        check()
                        started = Started(self, into, source_of(each[1], each[0]), at)
                        read = self._read(each, mine[each[1].tenant_id], started, into, spools)
                        if isinstance(read, BackupResult):
                            results.append(read)
                        else:
                            written.append(read)
                        if sum(one.spool.tell() for one in written) > SPOOLED_MOST:
                            break
            finally:
                held = self.released(claimed)
            done = len(written) + len(results)
            try:
                for one in written:
                    check()
                    results.append(self._stored(one, held))
            finally:
                self.known([each.backup for each in results if each.backup is not None])
        for result in sorted(results, key=lambda each: each.user_id or 0):
            told(result)
        return list(todo[done:])

    def _claimed(self, todo: Sequence[Owned]) -> tuple[list[Claim], datetime]:
        """Claim the tenants that nobody works on, and return the catalog's time as well."""
        least = {tenant.tenant_id: tenant.epoch + 1 for _, tenant in todo}

        def work(connection: sa.Connection) -> tuple[list[Claim], datetime]:
            taken = claims.take_many(self.catalog, connection, least, BACKUP, self.services.claim_ttl_s)
            return taken, now(connection)

        return self.catalog.repeating(work)

    def _read(
        self, of: Owned, claim: Claim, started: Started, into: Into, spools: ExitStack
    ) -> _Written | BackupResult:
        email, tenant = of
        try:
            spool = spools.enter_context(spooled())
            contents, revision = self.read(tenant, into, spool, email, no_progress, no_check)
            return _Written(of, started, claim, contents, revision, spool)
        except _FAILURES as error:
            return _failed(of, started, error)

    def _stored(self, written: _Written, held: frozenset[UUID]) -> BackupResult:
        email, tenant = written.of
        try:
            if tenant.tenant_id not in held:  # a migration may have run while the rows were read
                written.claim.lost()
            record = written.started.stored(written.contents, written.revision, written.spool)
            return BackupResult(tenant.user_id, email, record.backup())
        except _FAILURES as error:
            return _failed(written.of, written.started, error)

    def _one(self, user_id: int | None, email: str, check: Callable[[], None]) -> BackupResult:
        try:
            return BackupResult(user_id, email, self.create(user_id, check=check))
        except _FAILURES as error:
            return BackupResult(user_id, email, error=_ours(error))


def _failed(of: Owned, started: Started, error: Exception) -> BackupResult:
    email, tenant = of
    return BackupResult(tenant.user_id, email, started.failed(error), _ours(error))


def _ours(error: Exception) -> TenancyError:
    return error if isinstance(error, TenancyError) else TenancyError(f"{type(error).__name__}: see the log.")
