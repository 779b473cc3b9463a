"""Make backups of a tenant or of the catalog: an archive and its signed record in the storage.

A tenant is claimed only while its rows are read, so that no migration runs meanwhile; reads and writes go on. The
archive is written to a temporary file, and from there to the storage: a storage that is slow holds nobody up. The
record is stored last and the catalog's row comes after it, so what was cut off is never taken for a good backup.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO

import sqlalchemy as sa

from tenancy.archive.backup_store import BackupStore
from tenancy.archive.encryption import Recipients
from tenancy.archive.export import Progress, no_check, no_progress, write_archive
from tenancy.archive.format import Contents, Header
from tenancy.archive.records import Record
from tenancy.archive.tables import Schema
from tenancy.catalog import backups, claims, now, tenants, users
from tenancy.catalog.backups import CATALOG, TENANT, Backup, BackupState
from tenancy.catalog.claims import Claim
from tenancy.catalog.tables import catalog_metadata, installation
from tenancy.errors import (
    PREPARE_CATALOG,
    StorageUnavailableError,
    TenantNotFoundError,
    TenantNotReadyError,
    code_and_message,
)
from tenancy.lifecycle.operation import Operation, Services
from tenancy.models import State, Tenant
from tenancy.routing.guards import check_whose, explained
from tenancy.schema.chain import Chain
from tenancy.types import new_id

log = logging.getLogger(__name__)

BACKUP = "backup"
_NOTHING_THERE = (State.PROVISIONING, State.ARCHIVED)
_CATALOG_ID = uuid.UUID(int=0)


@dataclass(frozen=True)
class Into:
    """Where backups are written, for whom, and by which installation."""

    store: BackupStore
    recipients: Recipients
    installation: str


@dataclass(frozen=True)
class Source:
    """What is backed up: whose it is, and what its record says of it."""

    kind: str
    tenant_id: uuid.UUID | None
    user_id: int | None
    epoch: int
    db_type: str
    owner: str | None = None


class MakeBackups(Operation):
    """Make backups; ``backup_many.py`` makes those of all tenants, ``stored_backups.py`` finds and deletes them."""

    def __init__(self, services: Services, catalog_chain: Chain) -> None:
        super().__init__(services)
        self._catalog_chain = catalog_chain
        ours = frozenset({*services.schema.metadata.tables, self.chain.version_table})
        catalogs = frozenset({*catalog_metadata.tables, catalog_chain.version_table})
        together = not services.catalog.multi_tenant  # then one database may hold both
        self._schema = Schema(services.schema.metadata, self.chain, catalogs if together else frozenset())
        self._catalog_schema = Schema(catalog_metadata, catalog_chain, ours if together else frozenset())

    def create(
        self,
        user_id: int | None,
        *,
        progress: Progress = no_progress,
        check: Callable[[], None] = no_check,
    ) -> Backup:
        """Back up one user's database; None names the shared one. ``check`` may raise, to stop.

        Raises ArchiveKeyError if nobody could open the backup, and ClaimedError if the database is being worked on.
        """
        into = self.into()
        with self.catalog.writing() as connection:
            tenant, email = self._tenant(connection, user_id)
            claim = self.claim(connection, tenant, BACKUP)
            started = Started(self, into, source_of(tenant, email), now(connection))
        with started.recording_failure(), spooled() as spool:
            with self._released(claim), claims.beating(self.catalog, [claim]):
                contents, revision = self.read(tenant, into, spool, email, progress, check)
            record = started.stored(contents, revision, spool)
        return self.known([record.backup()])[0]

    def create_catalog(self, *, progress: Progress = no_progress, check: Callable[[], None] = no_check) -> Backup:
        """Back up the catalog itself: users, and where their databases are; passwords stay sealed in it."""
        into = self.into()
        backend = self.backends.for_url(str(self.catalog.engine.url), "ADMIN_DATABASE_URL")
        with self.catalog.reading() as connection:
            started = Started(self, into, Source(CATALOG, None, None, 0, backend.name), now(connection))
        revision = self._catalog_chain.head
        header = Header(_CATALOG_ID, None, backend.name, revision, self.services.schema.app_version, kind=CATALOG)
        with started.recording_failure(), spooled() as spool:
            with backend.explained(), backend.copying.catalog_snapshot(self.catalog.engine) as connection:
                self.step("read")
                contents = write_archive(
                    connection,
                    backend,
                    header,
                    Writing(spool),
                    into.recipients,
                    schema=self._catalog_schema,
                    progress=progress,
                    check=check,
                )
            record = started.stored(contents, revision, spool)
        return self.known([record.backup()])[0]

    # --- one --------------------------------------------------------------------------------------------

    def read(
        self,
        tenant: Tenant,
        into: Into,
        spool: BinaryIO,
        email: str | None,
        progress: Progress,
        check: Callable[[], None],
    ) -> tuple[Contents, str]:
        """Write the archive of one snapshot; return what is in it, and at which revision it is."""
        backend, access = self.services.backend(tenant), self.services.access(tenant)
        self.step("read")
        with explained(backend), backend.copying.snapshot(tenant, access) as connection:
            check_whose(backend, tenant, connection.connection)
            revision = self._revision(connection, tenant)
            version = self.services.schema.app_version
            header = Header(tenant.tenant_id, tenant.user_id, tenant.db_type, revision, version, owner=email or None)
            sink = Writing(spool)
            contents = write_archive(
                connection, backend, header, sink, into.recipients, schema=self._schema, progress=progress, check=check
            )
        return contents, revision

    def _revision(self, connection: sa.Connection, tenant: Tenant) -> str:
        here = self.chain.current(connection)
        if here is None or not self.chain.knows(here):
            raise TenantNotReadyError(
                f"the database of user {tenant.user_id} is at revision {here}, which this version of the application "
                "does not know: back it up with the version that it belongs to.",
                tenant_id=tenant.tenant_id,
                revision=here,
            )
        return here

    def released(self, held: Sequence[Claim]) -> frozenset[uuid.UUID]:
        """Release claims, and return the tenants whose claims were still held.

        What an earlier operation left to settle is still to settle: a backup changes nothing in a database.
        """
        with self.catalog.writing() as connection:
            return claims.release_many(connection, held, [each.tenant_id for each in held if each.interrupted])

    @contextmanager
    def _released(self, claim: Claim) -> Iterator[None]:
        """Release the claim after the block, or raise ClaimLostError if it was lost: a migration may have run."""
        held: frozenset[uuid.UUID] = frozenset()
        try:
            yield
        finally:
            held = self.released([claim])
        if not held:
            claim.lost()

    def _tenant(self, connection: sa.Connection, user_id: int | None) -> tuple[Tenant, str]:
        if user_id is None or not self.catalog.multi_tenant:
            tenant = tenants.shared(connection)
            if tenant is None:
                raise TenantNotFoundError(f"there is no shared database yet: {PREPARE_CATALOG}.")
            return tenant, ""
        tenant = tenants.get(connection, user_id)
        if not has_rows(tenant):
            raise TenantNotReadyError(
                f"the database of user {user_id} is {tenant.state}: there is nothing to back up.", state=tenant.state
            )
        return tenant, users.get(connection, user_id).email

    def into(self) -> Into:
        settings = self.services.backups
        recipients, signing = settings.encrypt_to(), settings.signing()
        signing.sign(b"")  # without a key nothing is read and nothing is written
        with self.catalog.reading() as connection:
            mark = connection.execute(sa.select(installation.c.mark)).scalar() or ""
        return Into(settings.store(), recipients, mark)

    def known(self, made: list[Backup]) -> list[Backup]:
        self.step("record")
        with self.catalog.writing() as connection:
            backups.learn(connection, made)
        return made


class Started:
    """One backup that has begun: what its record says, and what the catalog is told if it fails."""

    def __init__(self, maker: MakeBackups, into: Into, source: Source, at: datetime) -> None:
        """Begin a backup; ``at`` is the catalog's time before a row is read."""
        self._maker = maker
        self._into = into
        self._source = source
        self._id = new_id()
        self._at = at
        self._began = time.monotonic()

    def stored(self, contents: Contents, revision: str, spool: BinaryIO) -> Record:
        """Write the archive and its record into the storage."""
        size, checksum = _summed(spool)
        source = self._source
        record = Record(
            backup_id=self._id,
            kind=source.kind,
            tenant_id=source.tenant_id,
            user_id=source.user_id,
            epoch=source.epoch,
            db_type=source.db_type,
            revision=revision,
            app_version=self._maker.services.schema.app_version,
            started_at=self._at,
            finished_at=self._at + timedelta(seconds=time.monotonic() - self._began),
            size_bytes=size,
            checksum=checksum,
            plain_checksum=contents.checksum,
            rows=contents.rows,
            checksums=contents.checksums,
            key_ids=self._into.recipients.key_ids,
            imprint=None,
            installation=self._into.installation,
        )
        self._maker.step("store")
        spool.seek(0)
        return self._into.store.add(record, spool)

    def failed(self, error: Exception) -> Backup:
        """Return the row that says that no backup was made, and why; it is logged as well."""
        code, message = code_and_message(error)
        source = self._source
        what = "the catalog" if source.kind == CATALOG else f"the database of user {source.user_id}"
        log.error("no backup of %s was made: %s", what, message)
        return Backup(
            id=self._id,
            kind=source.kind,
            tenant_id=source.tenant_id,
            user_id=source.user_id,
            epoch=source.epoch,
            db_type=source.db_type,
            started_at=self._at,
            state=BackupState.FAILED,
            installation=self._into.installation,
            error=message,
            error_code=code,
        )

    @contextmanager
    def recording_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            with self._maker.catalog.writing() as connection:
                backups.add(connection, self.failed(error))
            raise


class Writing:
    """Write into the temporary file, and say what a full disk means."""

    def __init__(self, spool: BinaryIO) -> None:
        self._spool = spool

    def write(self, data: bytes, /) -> int:
        with _disk():
            return self._spool.write(data)


@contextmanager
def spooled() -> Iterator[BinaryIO]:
    """Open a temporary file that has no name, so a kill leaves nothing behind; what it holds is encrypted."""
    with _disk():
        spool = tempfile.TemporaryFile(prefix="unify-backup-")  # noqa: SIM115 - closed below
    with spool:
        yield spool


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise StorageUnavailableError(
            f"the folder for temporary files cannot be written ({error.strerror}): make room there, or name another "
            "in TMPDIR."
        ) from error


def _summed(spool: BinaryIO) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file."""
    spool.flush()
    spool.seek(0)
    checksum = hashlib.file_digest(spool, "sha256")  # type: ignore[arg-type]  # it takes any open file
    return spool.tell(), checksum.hexdigest()


def source_of(tenant: Tenant, email: str) -> Source:
    return Source(TENANT, tenant.tenant_id, tenant.user_id, tenant.epoch, tenant.db_type, email or None)


def has_rows(tenant: Tenant) -> bool:
    return tenant.state not in _NOTHING_THERE and tenant.revision is not None
