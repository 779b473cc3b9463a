"""Bring the catalog back from its newest backup into an empty database.

The backup is loaded into a copy beside first, which is migrated and disarmed there (``tenancy/catalog/recovery.py``):
so keys that do not fit are told before anything is written, and the rows come into the real catalog by one transaction,
which nothing can cut in half and which waits for nothing remote.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tenancy.archive.backup_store import BackupStore
from tenancy.archive.encryption import Identities
from tenancy.archive.format import Header
from tenancy.archive.load import Reading, reading
from tenancy.archive.records import Record
from tenancy.archive.tables import Schema
from tenancy.backends.base import Backend
from tenancy.catalog import Catalog, claims, recovery, users
from tenancy.catalog.backups import CATALOG
from tenancy.catalog.claims import Claim
from tenancy.catalog.tables import (
    CATALOG_VERSION_TABLE,
    audit_head,
    catalog_metadata,
    claims as claim_rows,
    installation,
    job_workers,
    login_failures,
)
from tenancy.credentials import rotation
from tenancy.errors import (
    ArchiveDamagedError,
    AuditBrokenError,
    BackupNotFoundError,
    CatalogError,
    ClaimedError,
    ClaimLostError,
    ConfigurationError,
    RevisionMismatchError,
    UnknownKeyError,
)
from tenancy.fleet.backup_survey import Survey
from tenancy.lifecycle.migrate_catalog import migrate_catalog
from tenancy.lifecycle.operation import Operation, Services
from tenancy.schema.chain import Chain

log = logging.getLogger(__name__)

ROWS = 500
FOLDER = "unify-recovery-"
"""What temporary folders with a copy of the catalog are called; the process that made one follows."""

RECOVERED = "recovery"
MAY_BE_THERE = frozenset({audit_head, installation, claim_rows, job_workers, login_failures})
"""What an empty catalog may hold: a server that is started before the recovery writes it by itself."""


@dataclass(frozen=True)
class Staged:
    """Hold a backup of the catalog as it will be recovered: in a copy beside, migrated and disarmed."""

    catalog: Catalog
    record: Record
    disarmed: dict[str, Any]


class CatalogRecovery(Operation):
    """Recover the catalog; its tenants are another matter (``recovery.py``)."""

    def __init__(self, services: Services, chain: Chain) -> None:
        super().__init__(services)
        self.catalog_chain = chain
        self.backend = self.backends.for_url(str(self.catalog.engine.url), "ADMIN_DATABASE_URL")

    def found(self) -> recovery.Recovered | None:
        """Return the recovery that this catalog comes from, or None for an empty one; refuse any other."""
        if not self.backend.has_catalog(self.catalog.engine):
            return None
        with self.catalog.reading() as connection:
            there = set(sa.inspect(connection).get_table_names())
            self._refuse_newer(connection, there)
            if RECOVERED in there and (known := recovery.find(connection)) is not None:
                return known
            self._refuse_rows(connection, there)
        return None

    @contextmanager
    def staged(self, found: Survey, store: BackupStore, identities: Identities) -> Iterator[Staged]:
        """Load the newest backup that is whole into a copy for the block; what is damaged is named and passed over."""
        _clear_killed()
        with tempfile.TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-") as folder:
            catalog, record = self._newest(found, store, identities, Path(folder))
            with closing(catalog):
                self._refuse_other_keys(catalog)
                yield Staged(catalog, record, self._disarmed(catalog, record, found))

    def load(self, staged: Staged, highest_user: int) -> Claim:
        """Put the staged rows into the catalog, all of them in one transaction; return the recovery's claim.

        No id up to ``highest_user`` is given to a user from then on.
        """
        self.step("migrate catalog")
        migrate_catalog(self.catalog, self.backends, self.catalog_chain)
        claim = self.alone()
        with self.held(claim):
            self._load(staged, highest_user, claim)
        return claim

    def _load(self, staged: Staged, highest_user: int, claim: Claim) -> None:
        self.step("load catalog")
        with claim.writing() as connection:
            self._refuse_rows(connection, set(sa.inspect(connection).get_table_names()))
            with staged.catalog.reading() as source:
                _copy(source, connection, self.backend.follow_ids)
            users.skip_ids(connection, self.backend, highest_user)
            self.step("commit catalog")
            claim.keep(connection)

    @contextmanager
    def held(self, claim: Claim) -> Iterator[None]:
        """Let the recovery's claim expire at once where the block fails, so that it can be run again."""
        try:
            yield
        except ClaimLostError:
            raise
        except BaseException:
            with suppress(CatalogError), claim.failing():
                pass
            raise

    def alone(self) -> Claim:
        """Claim the recovery, or raise ClaimedError while another one is at work."""
        with self.catalog.writing() as connection:
            try:
                return claims.take(self.catalog, connection, recovery.CLAIM, "recover", self.services.claim_ttl_s)
            except ClaimedError as error:
                raise ClaimedError(
                    "another recovery is at work, or was cut off a moment ago: wait a minute and try again.",
                    operation="recover",
                    runner=error.fields.get("runner"),
                ) from error

    def _newest(
        self, found: Survey, store: BackupStore, identities: Identities, folder: Path
    ) -> tuple[Catalog, Record]:
        for record in found.catalogs:
            place = folder / str(record.backup_id)
            place.mkdir()
            try:
                return self._loaded(record, store, identities, place), record
            except (ArchiveDamagedError, BackupNotFoundError) as error:
                found.ignored.append(f"the catalog's backup {record.backup_id}: {error.message}")
        raise BackupNotFoundError(_nothing(found))

    def _loaded(self, record: Record, store: BackupStore, identities: Identities, folder: Path) -> Catalog:
        """Load a backup into a file; nothing in it is believed before the archive's last byte was read."""
        catalog = Catalog(self._files.catalog_engine(f"sqlite:///{folder / 'catalog.db'}"), "")
        catalog.audit = self.catalog.audit
        with closing(store.open(record)) as source, reading(source, identities) as archive:
            self._refuse_unknown(archive.header)
            migrate_catalog(catalog, self.backends, self.catalog_chain, archive.header.revision)
            self._fill(catalog, archive)
        migrate_catalog(catalog, self.backends, self.catalog_chain)
        return catalog

    def _fill(self, catalog: Catalog, archive: Reading) -> None:
        proxied = catalog.engine.raw_connection()
        driver = proxied.driver_connection
        proxied.detach()
        with self._files.migrating(driver) as connection:
            for name in set(sa.inspect(connection).get_table_names()) & set(catalog_metadata.tables):
                connection.execute(catalog_metadata.tables[name].delete())  # what revisions themselves wrote
            archive.load(connection, self._files, schema=Schema(catalog_metadata, self.catalog_chain))
            connection.commit()

    @property
    def _files(self) -> Backend:
        """The product in which the copy is kept, whatever keeps the catalog itself."""
        return self.backends.get("sqlite")

    def _disarmed(self, catalog: Catalog, record: Record, found: Survey) -> dict[str, Any]:
        """Disarm a copy, and write into its audit log what was done and the last head that it knew."""
        with catalog.reading() as connection:
            head = self._verified_head(connection)
        with catalog.writing() as connection:
            done = recovery.disarm(connection, found.outlived)
            about = {"backup_id": str(record.backup_id), "made_at": record.started_at.isoformat(), "head": head}
            recovery.begin(connection, record.backup_id, record.started_at, {"catalog": about | done})
            catalog.audit.append(connection, "catalog.recover", detail=about | done)
            gone = [(each["user_id"], uuid.UUID(each["tenant_id"])) for each in done["deleted"]]
            catalog.audit.append_many(connection, "tenant.delete", gone, detail={"by": "deletion record"})
        return about | done

    def _verified_head(self, connection: sa.Connection) -> str:
        """Return the last head of the audit log; a log that another key sealed is refused, a broken one is kept."""
        try:
            return str(self.catalog.audit.verify(connection)["head"])
        except AuditBrokenError as error:
            if error.fields.get("row_id") == 1:
                raise ConfigurationError(
                    "the backup's audit log was sealed under another AUDIT_KEY: put back the key of that installation.",
                    field="AUDIT_KEY",
                ) from error
            log.error("the audit log of the catalog's backup is broken: %s", error.message)
            return f"broken: {error.message}"

    def _refuse_other_keys(self, catalog: Catalog) -> None:
        unknown = rotation.status(catalog, self.services.keyring)["unknown_keys"]
        if unknown:
            named = ", ".join(f"{key_id} ({count} passwords)" for key_id, count in sorted(unknown.items()))
            raise UnknownKeyError(
                f"stored passwords need keys that are not in TENANT_CREDENTIAL_KEYS: {named}. Put them back first; "
                "nothing was written.",
                field="TENANT_CREDENTIAL_KEYS",
            )

    def _refuse_unknown(self, header: Header) -> None:
        if header.kind != CATALOG:
            raise ArchiveDamagedError("it is no backup of a catalog.")
        if not self.catalog_chain.knows(header.revision):
            raise RevisionMismatchError(
                f"the catalog's backup is at revision {header.revision}, which this version of the application does "
                "not know: recover with the version that made it, or a later one.",
                revision=header.revision,
            )

    def _refuse_newer(self, connection: sa.Connection, there: set[str]) -> None:
        here = self.catalog_chain.current(connection) if CATALOG_VERSION_TABLE in there else None
        if here is not None and not self.catalog_chain.knows(here):
            raise RevisionMismatchError(
                f"the catalog is at revision {here}, which this version of the application does not know.",
                revision=here,
            )

    def _refuse_rows(self, connection: sa.Connection, there: set[str]) -> None:
        """Refuse a database that holds anything: a catalog is only recovered into an empty place."""
        others = there - set(catalog_metadata.tables) - {CATALOG_VERSION_TABLE}
        full = [name for name in sorted(there & set(catalog_metadata.tables)) if _holds(connection, name)]
        if others or full:
            raise CatalogError(
                f"the catalog is not empty ({', '.join([*sorted(others), *full][:5])}): a recovery would mix two "
                "worlds. Name an empty database in ADMIN_DATABASE_URL.",
                field="ADMIN_DATABASE_URL",
                place=self.catalog.place,
            )


def _clear_killed() -> None:
    """Remove the copies of catalogs that recoveries left behind which were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        pid = folder.name.removeprefix(FOLDER).partition("-")[0]
        if pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there, 0 is a signal that stops a process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _holds(connection: sa.Connection, name: str) -> bool:
    """Tell whether a table holds what an empty catalog has not."""
    table = catalog_metadata.tables[name]
    if table is audit_head:
        return connection.execute(sa.select(table.c.last_id).where(table.c.last_id > 0)).first() is not None
    if table in MAY_BE_THERE:
        return False
    return connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None


def _copy(source: sa.Connection, target: sa.Connection, follow_ids: Callable[[sa.Connection, sa.Table], None]) -> None:
    """Replace all rows of a catalog by those of another at the same revision; only the recovery's own claim stays."""
    for table in reversed(catalog_metadata.sorted_tables):
        target.execute(table.delete().where(*_copied(table)))
    for table in catalog_metadata.sorted_tables:
        theirs = sa.select(table).where(*_copied(table))
        for rows in source.execute(theirs).mappings().partitions(ROWS):
            target.execute(table.insert(), [dict(row) for row in rows])
        follow_ids(target, table)


def _copied(table: sa.Table) -> list[sa.ColumnElement[bool]]:
    return [table.c.tenant_id != recovery.CLAIM] if table is claim_rows else []


def _nothing(found: Survey) -> str:
    said = f" {len(found.ignored)} files are not believed: {found.ignored[0]}" if found.ignored else ""
    return f"the storage has no backup of a catalog that can be used.{said}"
