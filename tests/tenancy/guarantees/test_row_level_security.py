"""The shared database on PostgreSQL keeps its owners apart by itself, with the repositories' filter taken out."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from repositories.repository_factory import RepositoryFactory
from repositories.schema import tasks
from tenancy.errors import AccessDeniedError
from tests.support.applications import add_users, lease
from tests.support.engines import drop_shared_login, fresh_database, use


@pytest.fixture
def shared(request, make_parts, tmp_path):
    with fresh_database(use(request, "postgresql"), tmp_path) as url:
        parts = make_parts(multi_tenant_mode="false", shared_database_url=url)
        yield parts
        parts.manager.close()
        drop_shared_login("postgresql", parts)


@pytest.fixture
def people(shared):
    ids = add_users(shared, 2)
    for user_id in ids:
        shared.manager.provision(user_id)
        with shared.manager.session(user_id, write=True) as session:
            RepositoryFactory.get_repository("tasks", session, user_id).create({"title": f"of {user_id}"})
    return ids


def test_a_statement_without_its_filter_sees_the_owners_rows_alone(shared, people):
    for user_id in people:
        with shared.manager.session(user_id) as session:
            assert session.execute(sa.select(tasks.c.title)).all() == [(f"of {user_id}",)]


def test_other_owners_rows_can_be_neither_changed_nor_made(shared, people):
    first, second = people
    with shared.manager.session(first, write=True) as session:
        assert session.execute(tasks.update().values(title="mine")).rowcount == 1
        assert session.execute(tasks.delete().where(tasks.c.user_id == second)).rowcount == 0
    with pytest.raises(AccessDeniedError):  # noqa: SIM117 - the block raises
        with shared.manager.session(first, write=True) as session:
            session.execute(tasks.update().values(user_id=second))
    with shared.manager.session(second) as session:
        assert session.execute(sa.select(tasks.c.title)).all() == [(f"of {second}",)]


def test_a_transaction_that_names_no_owner_sees_nothing(shared, people):
    """Also where the connection served an owner just before: what a transaction says ends with it."""
    tenant = shared.manager.tenant_of(people[0])
    with shared.manager.session(people[0]) as session:
        assert session.execute(sa.select(sa.func.count()).select_from(tasks)).scalar_one() == 1
    with lease(shared.manager.engines, tenant) as engine, engine.connect() as connection:
        assert connection.execute(sa.select(tasks.c.title)).all() == []


def test_the_login_that_serves_owns_nothing_and_cannot_pass_over_the_wall(shared, people):
    tenant = shared.manager.tenant_of(people[0])
    with lease(shared.manager.engines, tenant) as engine, engine.connect() as connection:
        asked = "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        assert tuple(connection.exec_driver_sql(asked).one()) == (False, False, False)
        owner = "SELECT tableowner = current_user FROM pg_tables WHERE tablename = 'tasks'"
        assert connection.exec_driver_sql(owner).scalar_one() is False
    with pytest.raises(AccessDeniedError):  # noqa: SIM117 - the block raises
        with shared.manager.session(people[0], write=True) as session:
            session.execute(sa.text("ALTER TABLE tasks DISABLE ROW LEVEL SECURITY"))
