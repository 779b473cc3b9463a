"""Say where a new tenant's database will stand, and whether a configuration may make room for another one."""

from __future__ import annotations

import uuid
from typing import Any

from tenancy.backends.base import Backend, DatabaseFields
from tenancy.backends.server import fresh_password
from tenancy.errors import TenantExistsError
from tenancy.models import Origin, Pending, Placement, Server, State
from tenancy.operation import Workbench

PLACE = ("db_type", "db_host", "db_port", "db_name", "db_user", "db_path", "db_options", "server_id", "origin")
"""The columns of a configuration that say where its database stands."""


def planned(
    bench: Workbench,
    backend: Backend,
    user_id: int,
    tenant_id: uuid.UUID,
    password: str | None,
    given: dict[str, Any],
    server: Server | None,
    origin: Origin,
) -> dict[str, Any]:
    """Give the columns of a new configuration: where it will stand, who said so, and its password, sealed."""
    if server is not None:
        bench.server_login(server)  # an edited row must not say where a tenant's own password goes
    wanted: dict[str, Any] = {"tenant_id": tenant_id} | backend.plan(user_id, tenant_id, given, server)
    if given:
        wanted["origin"] = str(origin)
    if not backend.on_server:
        return wanted
    return wanted | sealed(bench, user_id, wanted, fresh_password() if server else password or "")


def taken(bench: Workbench, user_id: int, found: Pending) -> dict[str, Any]:
    """Give the columns of a new configuration whose database stood ready: its place, and its password, sealed anew."""
    wanted = {name: getattr(found, name) for name in ("tenant_id", *PLACE)}
    password = bench.keyring.open(found.sealed_password or "", found.binding)
    return wanted | sealed(bench, user_id, wanted, password)


def sealed(bench: Workbench, user_id: int | None, wanted: dict[str, Any], password: str) -> dict[str, str]:
    """Seal a password for the row that is about to be written."""
    place = Placement(user_id=user_id, state=State.PROVISIONING, version=1, epoch=1, **wanted)
    return {"db_password": bench.keyring.seal(password, place.binding)}


def replaceable(tenant: Placement, fields: DatabaseFields, given: dict[str, Any]) -> bool:
    """Say whether a configuration may be replaced by another one: nothing was ever made of it."""
    unmade = tenant.revision is None and tenant.state is State.FAILED
    return unmade and (bool(given) or fields.db_password is not None or fields.db_type not in (None, tenant.db_type))


def refuse_another(tenant: Placement, backend: Backend, given: dict[str, Any]) -> None:
    """Refuse to configure a second database; asking for the one there is again is no harm."""
    wanted = {"db_type": backend.name, **given}
    if not backend.on_server and tenant.user_id is not None:  # files have one place each
        wanted |= backend.plan(tenant.user_id, tenant.tenant_id, {}, None)
    for name, value in wanted.items():
        if getattr(tenant, name) != value:
            raise TenantExistsError(
                f"user {tenant.user_id} has another database already ({name} differs).",
                user_id=tenant.user_id,
                field=name,
            )
