"""Find, check and delete backups that were made; serve as ``manager.backups``, which makes them as well."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import BinaryIO
from uuid import UUID

import sqlalchemy as sa

from tenancy.archive.backup_settings import BackupSettings
from tenancy.archive.backup_store import BackupStore, Files, Place, Unreadable
from tenancy.archive.encryption import Identities
from tenancy.archive.export import checksums_of, no_check
from tenancy.archive.format import Contents
from tenancy.archive.load import reading
from tenancy.archive.records import Record
from tenancy.archive.storage.base import READ_BYTES
from tenancy.archive.storage.folder import FolderStorage
from tenancy.archive.tables import Schema
from tenancy.backends.base import Backend
from tenancy.catalog import backups, now
from tenancy.catalog.backups import CATALOG, EVERY, Backup, BackupFilter, BackupState
from tenancy.errors import (
    ArchiveDamagedError,
    ArchiveKeyError,
    ArchiveSignatureError,
    BackupNotFoundError,
    ConfigurationError,
    StorageUnavailableError,
    TenancyError,
)
from tenancy.lifecycle.backup_many import MakeManyBackups
from tenancy.lifecycle.retention import Keep, superfluous

log = logging.getLogger(__name__)

AT_ONCE = 500
PARTIAL_AFTER = timedelta(days=1)
"""A file without its record, or a record without its file, may be still in the writing until it is this old."""

CHECKSUM, READING, RESTORING = "checksum", "reading", "restore"


@dataclass(frozen=True)
class Verified:
    """Say of one backup that it is whole, and by what; or what is wrong with it."""

    backup: Backup
    how: str = ""
    error: TenancyError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass
class Pruned:
    """List what a rule does not keep, and what could not be deleted, with the reason."""

    backups: list[Backup] = field(default_factory=list)
    partial: list[Files] = field(default_factory=list)
    staying: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Learned:
    """Say what a storage has: how many backups were new to the catalog, which are gone, which are not believed."""

    new: int = 0
    gone: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)


class Backups(MakeManyBackups):
    """Serve as ``manager.backups``."""

    def listed(self, wanted: BackupFilter = EVERY, *, limit: int = 50) -> list[Backup]:
        """List backups, newest first."""
        with self.catalog.reading() as connection:
            return backups.page(connection, wanted, limit=limit)

    def get(self, backup_id: UUID) -> Backup:
        """Return a backup, or raise BackupNotFoundError, which says what there is."""
        with self.catalog.reading() as connection:
            return backups.get(connection, backup_id)

    def find(self, text: str, wanted: BackupFilter = EVERY) -> Backup:
        """Return the backup whose id begins with a text, or the ``latest`` good one."""
        with self.catalog.reading() as connection:
            if text.strip().lower() != "latest":
                return backups.find(connection, text, wanted)
            good = BackupFilter(wanted.user_id, wanted.tenant_id, wanted.kind, BackupState.GOOD)
            found = backups.page(connection, good, limit=1)
            return found[0] if found else backups.find(connection, text, wanted)

    def record(self, backup: Backup) -> Record:
        """Read a backup's record in the storage; ArchiveSignatureError if no known key signed it."""
        return self.services.backups.store().record(_place(backup))

    # --- verify -----------------------------------------------------------------------------------------

    def verify(
        self,
        backup_id: UUID,
        *,
        by_restoring: bool = False,
        identities: Identities | None = None,
        check: Callable[[], None] = no_check,
    ) -> Verified:
        """Read a backup through; with a key that opens it also what is in it; or load it into a scratch database.

        The catalog learns what was found. Without a key ``by_restoring`` raises ArchiveKeyError.
        """
        backup = self.get(backup_id)
        keys = identities or self._keys(backup, required=by_restoring)
        try:
            how = self._verified(backup, keys, by_restoring, check)
        except (ArchiveDamagedError, ArchiveSignatureError, BackupNotFoundError) as error:
            gone = isinstance(error, BackupNotFoundError)
            with self.catalog.writing() as connection:
                state = BackupState.GONE if gone else BackupState.DAMAGED
                backups.mark(connection, [backup], state, error=error.message, error_code=error.code)
            return Verified(self.get(backup_id), error=error)
        with self.catalog.writing() as connection:
            backups.verified(connection, backup, how)
        return Verified(self.get(backup_id), how)

    def verify_all(
        self,
        on_result: Callable[[Verified], None] = lambda result: None,
        *,
        again: bool = False,
        by_restoring: bool = False,
        identities: Identities | None = None,
        check: Callable[[], None] = no_check,
    ) -> list[Verified]:
        """Verify the good backups that never were; with ``again`` all. The storage not answering ends it."""
        with self.catalog.reading() as connection:
            wanted = BackupFilter(state=BackupState.GOOD)
            todo = [each.id for each in backups.every(connection, wanted) if again or each.verified_at is None]
        results = []
        for backup_id in todo:
            check()
            results.append(self.verify(backup_id, by_restoring=by_restoring, identities=identities, check=check))
            on_result(results[-1])
        return results

    def _verified(self, backup: Backup, keys: Identities | None, by_restoring: bool, check: Callable[[], None]) -> str:
        self.step("verify")
        with fetched(self.services.backups, backup, check) as (record, source):
            if keys is None:
                return CHECKSUM
            try:
                with reading(source, keys) as found:
                    header, schema, files = found.header, self._schema_of(record), self.backends.get("sqlite")
                    if not by_restoring:
                        _compare(record, found.verify(lambda rows: check()))
                        return READING
                    with scratch(files, schema, header.revision) as connection:
                        held = found.load(connection, files, schema=schema)
                        _compare(record, held)
                        _compare(record, checksums_of(connection, files, schema=schema))
                        return RESTORING
            except ArchiveKeyError:
                if by_restoring:
                    raise
                return CHECKSUM

    def _schema_of(self, record: Record) -> Schema:
        return self._catalog_schema if record.kind == CATALOG else self._schema

    def _keys(self, backup: Backup, *, required: bool) -> Identities | None:
        if not required and not self.services.backups.opens:
            return None
        return self.services.backups.identities(backup.key_ids.split(","))

    # --- delete -----------------------------------------------------------------------------------------

    def delete(self, backup_id: UUID, *, force: bool = False) -> Backup:
        """Delete a backup from the storage and the catalog; the last good one of a tenant only with ``force``."""
        backup = self.get(backup_id)
        if not force and backup.state == BackupState.GOOD and self._last_good(backup) == backup.id:
            what = "catalog" if backup.kind == CATALOG else f"database of user {backup.user_id}"
            raise ConfigurationError(
                f"{backup.id} is the last good backup of the {what}: make another one first, or say --force "
                "(`manager.backups.delete(backup_id, force=True)`).",
                field="force",
            )
        self._deleted(self.services.backups.store(), backup)
        with self.catalog.writing() as connection:
            backups.forget(connection, [backup])
            self.catalog.audit.append(
                connection,
                "backup.delete",
                user_id=backup.user_id,
                tenant_id=backup.tenant_id,
                detail={"backup_id": str(backup.id)},
            )
        return backup

    def prune(self, keep: str, *, dry_run: bool = True, check: Callable[[], None] = no_check) -> Pruned:
        """Find the backups that a rule (``retention.EXAMPLE``) does not keep, and delete them unless ``dry_run``.

        What the storage does not let us delete is listed. Files that an interrupted backup left go as well.
        """
        rule, store = Keep.read(keep), self.services.backups.store()
        found = Pruned()
        with self.catalog.reading() as connection:
            every = sorted(backups.every(connection), key=_group)
            moment = now(connection)
        for _, of_one in groupby(every, key=_group):
            found.backups += superfluous(
                sorted(of_one, key=lambda each: (each.started_at, each.id), reverse=True), rule
            )
        known = {each.id for each in every if each.state in (BackupState.GOOD, BackupState.DAMAGED)}
        for files in store.partials():
            there = [each.modified_at for each in (files.archive, files.record) if each is not None]
            if files.place.backup_id not in known and max(there) < moment - PARTIAL_AFTER:
                found.partial.append(files)
        if not dry_run:
            self._prune(store, found, check)
        return found

    def _prune(self, store: BackupStore, found: Pruned, check: Callable[[], None]) -> None:
        done: list[Backup] = []
        try:
            for backup in found.backups:
                check()
                try:
                    self._deleted(store, backup)
                    done.append(backup)
                except TenancyError as error:
                    found.staying.append((str(backup.id), error.message))
                    if error.retryable:
                        break
            for files in found.partial:
                try:
                    store.delete(files.place)
                except TenancyError as error:
                    found.staying.append((str(files.place.backup_id), error.message))
            if isinstance(store.storage, FolderStorage):
                store.storage.tidy()
        finally:
            for start in range(0, len(done), AT_ONCE):
                with self.catalog.writing() as connection:
                    backups.forget(connection, done[start : start + AT_ONCE])
            if done:
                with self.catalog.writing() as connection:
                    self.catalog.audit.append(connection, "backup.prune", detail={"backups": len(done)})

    def _deleted(self, store: BackupStore, backup: Backup) -> None:
        if backup.state in (BackupState.GOOD, BackupState.DAMAGED):
            self.step("delete backup")
            store.delete(_place(backup))

    def _last_good(self, backup: Backup) -> UUID | None:
        with self.catalog.reading() as connection:
            if backup.tenant_id is None:
                found = backups.last_good_catalog(connection)
            else:
                found = backups.last_good_of(connection, [backup.tenant_id]).get(backup.tenant_id)
        return found.id if found else None

    # --- the storage ------------------------------------------------------------------------------------

    def learn(self, *, check: Callable[[], None] = no_check) -> Learned:
        """Read all records in the storage, and have the catalog know what is there and what is gone."""
        store, learned = self.services.backups.store(), Learned()
        some: list[Backup] = []
        there: set[UUID] = set()
        for found in store.records():
            check()
            if isinstance(found, Unreadable):
                learned.unreadable.append(found)
                continue
            there.add(found.backup_id)
            some.append(found.backup())
            if len(some) == AT_ONCE:
                learned.new += self._learn(some)
                some = []
        learned.new += self._learn(some)
        learned.gone = self._gone(store, there)
        return learned

    def _learn(self, some: list[Backup]) -> int:
        with self.catalog.writing() as connection:
            return backups.learn(connection, some)

    def _gone(self, store: BackupStore, there: set[UUID]) -> int:
        """Mark those that the storage does not have; each is asked for by name, as a listing may be half."""
        with self.catalog.reading() as connection:
            missing = [b for b in backups.every(connection) if b.state == BackupState.GOOD and b.id not in there]
        gone = [backup for backup in missing if _is_gone(store, backup)]
        with self.catalog.writing() as connection:
            backups.mark(connection, gone, BackupState.GONE, error="the storage has it no more.")
        return len(gone)


@contextmanager
def fetched(
    settings: BackupSettings, backup: Backup, check: Callable[[], None] = no_check
) -> Iterator[tuple[Record, BinaryIO]]:
    """Fetch a backup into a temporary file; its record's signature and its checksum have been verified then."""
    store = settings.store()
    record = store.record(_place(backup))
    with tempfile.TemporaryFile(prefix="unify-restore-") as spool:
        with closing(store.open(record)) as source:
            while some := source.read(READ_BYTES):
                check()
                _write(spool, some)
        spool.seek(0)
        yield record, spool


@contextmanager
def scratch(files: Backend, schema: Schema, revision: str) -> Iterator[sa.Connection]:
    """Make a database at a revision, without rows, in a file that is deleted after the block."""
    with tempfile.TemporaryDirectory(prefix="unify-verify-") as folder:
        engine = files.catalog_engine(f"sqlite:///{folder}/scratch.db")
        files.make_catalog(engine)
        proxied = engine.raw_connection()
        driver = proxied.driver_connection
        proxied.detach()
        try:
            with files.explained(), files.migrating(driver) as connection:
                schema.chain.upgrade(connection, transactional_ddl=True, target=revision, at_once=True)
                for name in set(sa.inspect(connection).get_table_names()) & set(schema.metadata.tables):
                    connection.execute(schema.metadata.tables[name].delete())  # what revisions themselves wrote
                yield connection
        finally:
            engine.dispose()


def _write(spool: BinaryIO, some: bytes) -> None:
    try:
        spool.write(some)
    except OSError as error:
        raise StorageUnavailableError(
            f"the folder for temporary files cannot be written ({error.strerror}): make room there, or name another "
            "in TMPDIR."
        ) from error


def _compare(record: Record, found: Contents) -> None:
    if (dict(found.rows), found.checksum) != (dict(record.rows), record.plain_checksum):
        raise ArchiveDamagedError(f"backup {record.backup_id} does not hold the rows that its record says.")


def _place(backup: Backup) -> Place:
    return Place(backup.id, None if backup.kind == CATALOG else backup.tenant_id)


def _group(backup: Backup) -> str:
    return str(backup.tenant_id)


def _is_gone(store: BackupStore, backup: Backup) -> bool:
    with suppress(ArchiveSignatureError):  # a record is there, though it is not believed
        try:
            store.record(_place(backup))
        except BackupNotFoundError:
            return True
    return False
