"""Restore points under the engine: the application's own schema, and what becomes of points with their tenant."""

from __future__ import annotations

from contextlib import suppress

import sqlalchemy as sa

from tenancy.backends.values import ignore_step
from tenancy.errors import DatabaseUnreachableError
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_tables
from tests.support.applications import add_task, add_tenants, tenant_of, titles

POINT = "run12"


def test_a_users_rows_come_back_through_the_engine_that_was_open(parts_on_each):
    manager = parts_on_each.manager
    (user_id,) = add_tenants(parts_on_each, 1)
    add_task(manager, user_id, "kept")
    tenant = tenant_of(manager, user_id)
    backend, access = manager.backends.get(tenant.db_type), manager.services.access(tenant)

    def rebuild(connection: sa.Connection) -> None:
        tenancy_tables.create_all(connection)
        connection.commit()
        manager.chain.upgrade(connection, transactional_ddl=backend.transactional_ddl)

    backend.restore_points.create(tenant, access, POINT)
    with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
        for loss in ("DROP TABLE bin", "DELETE FROM tasks", f"UPDATE {TENANT_VERSION_TABLE} SET version_num = '0001'"):
            connection.exec_driver_sql(loss)
        connection.commit()
    backend.restore_points.restore(tenant, access, POINT, rebuild=rebuild, claim=None, step=ignore_step)
    with suppress(DatabaseUnreachableError):  # ODBC cannot see that a connection was ended until it is used
        titles(manager, user_id)
    assert titles(manager, user_id) == ["kept"]
    add_task(manager, user_id, "more")
    assert titles(manager, user_id) == ["kept", "more"]
    assert manager.fetch_all("SELECT id FROM bin", user_id=user_id) == []
    assert backend.restore_points.has(tenant, access, POINT)


def test_deleting_a_users_database_leaves_no_copy_of_it(parts_on_each):
    manager = parts_on_each.manager
    deleted, other = add_tenants(parts_on_each, 2)
    placed = {user_id: tenant_of(manager, user_id) for user_id in (deleted, other)}
    backend = manager.backends.get(placed[other].db_type)
    access = {user_id: manager.services.access(tenant) for user_id, tenant in placed.items()}
    for user_id, tenant in placed.items():
        backend.restore_points.create(tenant, access[user_id], POINT)
    manager.delete_user_database(deleted)
    assert backend.restore_points.list(placed[deleted], access[deleted]) == []
    assert backend.restore_points.has(placed[other], access[other], POINT)
