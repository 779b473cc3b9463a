"""Build the columns that say where a new tenant's database is, and decide whether a tenant may be placed elsewhere.

The server is chosen before: ``decision.py`` (``_site``) asks ``tenancy/catalog/servers.py`` (``place``).
"""

from __future__ import annotations

from typing import Any

from tenancy.backends.base import Backend, DatabaseFields, Whose
from tenancy.backends.server.backend import fresh_password
from tenancy.errors import TenantExistsError
from tenancy.lifecycle.operation import Services, Site
from tenancy.models import Origin, Pending, State, Tenant

PLACE = ("db_type", "db_host", "db_port", "db_name", "db_user", "db_path", "db_options", "server_id", "origin")
"""The columns of a configuration that say where its database is."""


def planned(
    services: Services, backend: Backend, whose: Whose, *, fields: DatabaseFields, site: Site | None, origin: Origin
) -> dict[str, Any]:
    """Return the columns of a new tenant: where its database will be, who said so, and its password, sealed.

    Without ``site`` the place is what ``fields`` name, or where the product keeps its files.
    """
    given = backend.given(fields)
    planned = backend.plan(whose, given, None if site is None else site.server)
    wanted: dict[str, Any] = {"tenant_id": whose.tenant_id, "epoch": whose.epoch} | planned
    if given:
        wanted["origin"] = str(origin)
    if not backend.on_server:
        return wanted
    return wanted | sealed(services, whose.owner, wanted, fresh_password() if site else fields.db_password or "")


def taken(services: Services, user_id: int, found: Pending) -> dict[str, Any]:
    """Return the columns of a tenant that takes a database kept ready: its place, and its password, sealed anew."""
    wanted = {name: getattr(found, name) for name in ("tenant_id", "epoch", *PLACE)}
    password = services.keyring.open(found.sealed_password or "", found.binding)
    return wanted | sealed(services, user_id, wanted, password)


def sealed(services: Services, user_id: int | None, wanted: dict[str, Any], password: str) -> dict[str, str]:
    """Seal a password for the row that is about to be written."""
    place = Tenant(user_id=user_id, state=State.PROVISIONING, version=1, **{"epoch": 1, **wanted})
    return {"db_password": services.keyring.seal(password, place.binding)}


def emptied() -> dict[str, Any]:
    """Return the columns of a place, all empty: nothing of a replaced place stays, its password least of all."""
    blank = dict.fromkeys((*PLACE, "db_password", "revision", "schema_fingerprint", "usable_from"))
    return blank | {"owned": True, "last_error": None, "last_error_code": None}


def replaceable(tenant: Tenant, fields: DatabaseFields) -> bool:
    """Tell whether a tenant may be placed elsewhere: no database was ever created for it."""
    unmade = tenant.revision is None and tenant.state in (State.FAILED, State.PROVISIONING)
    named = any(getattr(fields, name) is not None for name in ("db_host", "db_name", "db_user", "db_password"))
    return unmade and (named or fields.db_type not in (None, tenant.db_type))


def refuse_another(tenant: Tenant, backend: Backend, given: dict[str, Any]) -> None:
    """Refuse to place a second database for a user; asking again for the one that is there is allowed."""
    wanted = {"db_type": backend.name, **given}
    differing = next((name for name, value in wanted.items() if getattr(tenant, name) != value), None)
    if differing is None and not backend.is_place_of(tenant):
        differing = "db_path"
    if differing is not None:
        raise TenantExistsError(
            f"user {tenant.user_id} has another database already ({differing} differs), and databases are not moved "
            f"yet: `unify db delete {tenant.user_id}` or `manager.delete_user_database({tenant.user_id})` removes it "
            "with all its rows, and then another can be made.",
            user_id=tenant.user_id,
            field=differing,
        )
