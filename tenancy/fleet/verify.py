"""Open tenants' databases and check owner, revision, tables and rows against what they should be.

Nothing is changed; ``repair.py`` repairs what is safe to repair, and ``orphans.py`` finds what the catalog does not
know.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.catalog import claims, tenants as tenant_rows
from tenancy.catalog.claims import Claim
from tenancy.catalog.runs import Selection
from tenancy.errors import DatabaseMissingError, DatabaseUnreachableError, RevisionMismatchError, TenancyError
from tenancy.lifecycle.operation import Operation, Services
from tenancy.lifecycle.upgrade import Upgrade
from tenancy.models import Origin, State, Tenant
from tenancy.routing.guards import check_whose, explained, way_on
from tenancy.schema import ledger
from tenancy.schema.describe import Shapes, described, differences
from tenancy.schema.tables import tenancy_identity, tenancy_tables

log = logging.getLogger(__name__)

PAGE = 200
REPAIRABLE = frozenset({"edited", "catalog_behind", "closed", "epoch", "rights", "draft"})
_RESTING = {State.READY: "ready", State.SUSPENDED: "suspended"}


@dataclass(frozen=True)
class Finding:
    """Describe one problem of a tenant, or of something that belongs to none."""

    code: str
    what: str
    user_id: int | None = None
    tenant_id: str | None = None
    repairable: bool = False

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Verification(Operation):
    """Check one tenant after another."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._shapes: dict[tuple[str, Any, str], Shapes | None] = {}
        self._away: dict[str, DatabaseUnreachableError] = {}
        self._mine: Claim | None = None
        self.not_compared: list[int] = []
        """Users whose tables were not compared, because no scratch database could be made for the comparison."""

    def tenants(self, selection: Selection) -> Iterator[Tenant]:
        """Yield the selected tenants by user id, reading some at a time."""
        after = 0
        while rows := self._page(selection, after):
            yield from (found for _, found in rows)
            after = rows[-1][1].user_id or 0

    def look(self, tenant: Tenant) -> list[Finding]:
        """Return a tenant's problems; none while another operation holds its claim."""
        if tenant.revision is None:
            cure = f"`unify db init {tenant.user_id}` or `manager.provision({tenant.user_id})`"
            return [self._finding(tenant, "unmade", f"its database was never finished: {cure}")]
        found = self._found(tenant)
        if found and self._at_work(tenant):
            return []  # another operation is changing it
        return [self._finding(tenant, *each) for each in found]

    def look_under(self, claim: Claim, tenant: Tenant) -> list[Finding]:
        """Check a tenant that the caller has claimed, so nobody else changes it meanwhile."""
        self._mine = claim
        try:
            return self.look(tenant)
        finally:
            self._mine = None

    def _found(self, tenant: Tenant) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        try:
            self._look(tenant, self.services.backend(tenant), found)
        except TenancyError as error:
            leaving = tenant.state is State.ARCHIVED and isinstance(error, DatabaseMissingError)
            found.append(
                (error.code, f"it was being deleted, and is gone: {way_on(tenant)}" if leaving else error.message)
            )
        except Exception as error:
            log.exception("tenant %s of user %s could not be looked at", tenant.tenant_id, tenant.user_id)
            found.append(("unforeseen", f"{type(error).__name__}: see the log"))
        return found

    def _look(self, tenant: Tenant, backend: Backend, found: list[tuple[str, str]]) -> None:
        with explained(backend):
            with backend.checks.looking(self._opened(tenant, backend)) as connection:
                found += self._seen(tenant, backend, connection)
                there = sa.inspect(connection).get_table_names()
                backend.checks.check_writable(connection.connection.dbapi_connection)
            found += self._denied(tenant, backend, there)

    def _opened(self, tenant: Tenant, backend: Backend) -> Any:
        """Open a database; for a server that did not answer once, raise its error again without waiting."""
        server = backend.budget_key(tenant)
        if server in self._away:
            known = self._away[server]
            raise type(known)(known.message, **known.fields)  # a new one, as a traceback grows each time it is raised
        try:
            return backend.connect_to_migrate(tenant, self.services.access(tenant))
        except DatabaseMissingError:
            raise
        except DatabaseUnreachableError as error:
            if server is not None:
                self._away[server] = error
            raise

    def _page(self, selection: Selection, after: int) -> list[tuple[str, Tenant]]:
        with self.catalog.reading() as connection:
            return tenant_rows.page(connection, after, PAGE, selection.conditions())

    def _seen(self, tenant: Tenant, backend: Backend, connection: sa.Connection) -> Iterator[tuple[str, str]]:
        check_whose(backend, tenant, connection.connection)
        damage = backend.checks.damage(connection)
        if damage:
            yield "damaged", damage
            return
        identity_found = list(self._identity(tenant, connection))
        here = self._version(connection)
        if isinstance(here, tuple):
            yield from (*_unsafe(identity_found), here)
            return
        applied = ledger.applied_checksums(connection, self.chain.checksums)
        last = next(reversed(applied), None)
        if last != here:
            yield from _unsafe(identity_found)
            yield "ledger", f"the version table says {here}, the ledger {last}"
            return
        contradiction = ledger.contradiction(connection, self.chain.between(None, here))
        if contradiction:
            yield from _unsafe(identity_found)
            yield "ledger", contradiction
            return
        known = self.chain.checksums
        edited = [name for name, checksum in applied.items() if checksum != known.get(name, checksum)]
        different = list(self._shape(tenant, backend, connection, here))
        yield from _unsafe(identity_found) if different else identity_found
        yield from (("shape", each) for each in different)
        for name in edited:
            yield (
                ("edited" if not different else "edited_and_other"),
                f"revision {name} was edited after it was applied",
            )
        if not edited:
            yield from self._catalog_says(tenant, here)
        yield from self._rows(tenant, backend, connection)

    def _identity(self, tenant: Tenant, connection: sa.Connection) -> Iterator[tuple[str, str]]:
        row = connection.execute(sa.select(tenancy_identity.c.epoch, tenancy_identity.c.state)).one()
        if row.epoch != tenant.epoch:
            yield "epoch", f"its epoch is {row.epoch}, the catalog says {tenant.epoch}"
        free = not self._at_work(tenant)
        cut_off = tenant.state is State.MIGRATING and free
        if cut_off or (free and row.state != _RESTING.get(tenant.state, row.state)):
            yield "closed", f"it says it is {row.state}, the catalog says {tenant.state}, and nobody works on it"

    def _at_work(self, tenant: Tenant) -> bool:
        """Return whether another operation holds the tenant's claim."""
        with self.catalog.reading() as connection:
            found = claims.held(connection, tenant.tenant_id)
        return found is not None and (self._mine is None or found["attempt"] != self._mine.attempt)

    def _version(self, connection: sa.Connection) -> str | tuple[str, str]:
        """Return the revision, or the problem with the version table."""
        try:
            here = self.chain.current(connection)
        except RevisionMismatchError as error:
            return "version_table", error.message
        if here is None:
            return "version_table", "the version table is missing or empty"
        if not self.chain.knows(here):
            return "ahead", f"revision {here} is not known to this version of the application"
        return here

    def _catalog_says(self, tenant: Tenant, here: str) -> Iterator[tuple[str, str]]:
        if tenant.revision != here:
            yield "catalog_behind", f"it is at revision {here}, the catalog says {tenant.revision}"
        elif tenant.schema_fingerprint != self.chain.fingerprints[here]:
            yield "catalog_behind", f"the catalog keeps another fingerprint of revision {here} than its files have"

    def _shape(self, tenant: Tenant, backend: Backend, connection: sa.Connection, here: str) -> Iterator[str]:
        wanted = self._wanted(tenant, backend, here)
        if wanted is None:
            self.not_compared.append(tenant.user_id or 0)
            return
        yield from differences(wanted, described(connection), connection.dialect)

    def _wanted(self, tenant: Tenant, backend: Backend, revision: str) -> Shapes | None:
        """Describe the tables that the chain makes there in a scratch database, once per revision; None if it fails."""
        place = (tenant.db_type, tenant.server_id or (tenant.db_host, tenant.db_port), revision)
        if place not in self._shapes:
            try:
                with backend.checks.scratch(self.services.access(tenant)) as empty:
                    tenancy_tables.create_all(empty)
                    empty.commit()
                    self.chain.upgrade(empty, transactional_ddl=backend.transactional_ddl, target=revision)
                    self._shapes[place] = described(empty)
            except TenancyError as error:
                log.warning("no database to compare with could be made: %s", error.message)
                self._shapes[place] = None
        return self._shapes[place]

    def _rows(self, tenant: Tenant, backend: Backend, connection: sa.Connection) -> Iterator[tuple[str, str]]:
        there = set(sa.inspect(connection).get_table_names())
        tables = [each for each in self.services.schema.metadata.sorted_tables if each.name in there]
        for each in tables:
            if "user_id" not in each.c:
                continue
            foreign = sa.select(sa.func.count()).select_from(each).where(each.c.user_id != tenant.user_id)
            number = connection.execute(foreign).scalar_one()
            if number:
                yield "foreign_rows", f"{number} rows of {each.name} belong to other users"
        for child, parent in backend.checks.dangling(connection, tables):
            yield "dangling_rows", f"rows of {child} name rows of {parent} that are not there"

    def _denied(self, tenant: Tenant, backend: Backend, there: Sequence[str]) -> list[tuple[str, str]]:
        if tenant.origin != Origin.SERVER:
            return []
        names = [name for name in Upgrade(self.services).owned_tables() if name in there]
        with closing(backend.connect(tenant, self.services.serving(tenant))) as driver:
            denied = backend.checks.denied(driver, names)
        return [("rights", f"its login may not read and write {', '.join(denied)}")] if denied else []

    def _finding(self, tenant: Tenant, code: str, what: str) -> Finding:
        return Finding(code, what, tenant.user_id, str(tenant.tenant_id), code in REPAIRABLE)


def _unsafe(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Rename codes so that they are not repairable: repairs reopen the database, whose tables or ledger are wrong."""
    return [(f"{code}_and_other", what) for code, what in found]
