"""Check a configuration that is not stored, step by step; nothing is created.

The steps have the order in which ``provision.py`` would meet them: the fields, the account, the place, and whose
database is in that place.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from tenancy.backends.access import Access
from tenancy.backends.base import Backend, Check, DatabaseFields, Whose
from tenancy.catalog import servers, tenants
from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.deadline import REQUEST_S, within
from tenancy.errors import (
    ConfigurationError,
    DatabaseExistsError,
    StaleRouteError,
    TenancyError,
)
from tenancy.lifecycle.operation import Services
from tenancy.lifecycle.placement import planned, refuse_another, replaceable
from tenancy.models import Origin, State, Tenant
from tenancy.routing.guards import Occupant, check_identity, inspect_occupant
from tenancy.types import new_id

_IS_CATALOG = f"SELECT version_num FROM {CATALOG_VERSION_TABLE}"  # noqa: S608 - a constant


def probe(
    services: Services,
    user_id: int,
    fields: DatabaseFields,
    origin: Origin = Origin.ADMIN,
    *,
    replacing: Callable[[Tenant], None] | None = None,
) -> dict[str, Any]:
    """Return ``ok``, ``code``, ``message``, ``latency_ms`` and ``steps``; UserNotFoundError without account.

    With ``replacing`` the database that the user has is to be replaced, and ``replacing`` raises if it may not be.
    """
    with services.catalog.reading() as connection:
        found = tenants.of_account(connection, user_id)
    stored = found if replacing is None else None
    tenant_id = found.tenant_id if found else new_id()
    started = time.perf_counter()
    steps: list[Check] = []
    try:
        with within(REQUEST_S):
            if replacing is not None and found is not None:
                replacing(found)
            for check in _steps(services, (user_id, tenant_id), stored, fields, origin):
                steps.append(check)
                if not check.ok:
                    break
    except TenancyError as error:
        steps.append(Check(_NAMES.get(len(steps), "database"), error.message, error.code))
    last = steps[-1]
    return {
        "ok": last.ok,
        "code": last.code,
        "message": last.text,
        "latency_ms": round((time.perf_counter() - started) * 1000, 2),
        "steps": [{"name": check.name, "ok": check.ok, "text": check.text} for check in steps],
    }


_NAMES = {0: "fields", 1: "account"}


def _steps(
    services: Services, whose: tuple[int, uuid.UUID], stored: Tenant | None, fields: DatabaseFields, origin: Origin
) -> Iterator[Check]:
    if not services.catalog.multi_tenant:
        raise ConfigurationError("users share one database (MULTI_TENANT_MODE=false): none is made for one user.")
    backend = services.backend_for(stored, fields.db_type)
    given = backend.given(fields)
    yield Check("fields", f"these fields are complete for {backend.label}.")
    if stored is not None and replaceable(stored, fields):
        stored = None
    if stored is not None:
        refuse_another(stored, backend, given)
    yield Check("account", "the account has no other database.")
    tenant = stored or _planned(services, backend, whose, fields, origin)
    access = services.access(tenant)
    yield from backend.probe(tenant, access)
    if backend.exists(tenant, access):
        yield _whose(backend, tenant, stored, access)
    elif stored is not None and stored.revision is not None:
        yield Check("database", "the database existed and is gone: restore it from a backup.", "database_missing")
    else:
        yield Check("database", "a database can be created here.")


def _planned(
    services: Services,
    backend: Backend,
    whose: tuple[int, uuid.UUID],
    fields: DatabaseFields,
    origin: Origin,
) -> Tenant:
    """Return the tenant that these fields would make; it is stored nowhere."""
    site = None
    if backend.on_server and not backend.given(fields):
        with services.catalog.reading() as connection:
            site = services.site(servers.place(connection, backend.name, lock=False))
    wanted = planned(services, backend, Whose(*whose), fields=fields, site=site, origin=origin)
    sealed = wanted.pop("db_password", None)
    return Tenant(user_id=whose[0], state=State.PROVISIONING, version=1, sealed_password=sealed, **wanted)


def _whose(backend: Backend, tenant: Tenant, stored: Tenant | None, access: Access) -> Check:
    """Check whether the place may be used: it is free, or holds an empty database or this user's own."""
    if backend.on_server and stored is None:
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            found = inspect_occupant(tenant, connection)
        if found is Occupant.EMPTY:
            return Check("database", "the database exists and is empty: it would be used.")
        if found in (Occupant.HALF, Occupant.OURS):
            return Check("database", "an earlier attempt began to create this database: it would be finished.")
    with closing(backend.connect(tenant, access)) as driver:
        if _is_catalog(driver):
            return Check("database", "this database is the catalog.", DatabaseExistsError.code)
        try:
            check_identity(backend, tenant, driver, None)
        except StaleRouteError:
            return Check("database", "an earlier database of this user is there.", DatabaseExistsError.code)
        except TenancyError as error:
            text = (
                error.message
                if stored
                else "a database is there that belongs to another tenant, or that Unify did not create."
            )
            return Check("database", text, error.code if stored else DatabaseExistsError.code)
    return Check("database", "the database exists and belongs to this user.")


def _is_catalog(driver: Any) -> bool:
    cursor = driver.cursor()
    try:
        cursor.execute(_IS_CATALOG)
    except Exception:  # noqa: BLE001 - each driver has its own error for a table that is not there
        return False
    finally:
        cursor.close()
    return True
