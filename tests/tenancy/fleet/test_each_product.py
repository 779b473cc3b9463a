"""Fleet runs on every product: schema, rights and rows, failures, locks, and servers that are away."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pytest
import sqlalchemy as sa

from tenancy.backends.postgresql import backend as postgresql
from tenancy.backends.server.sql import run as send
from tenancy.catalog.runs import Rules, RunState, Selection
from tenancy.errors import StaleRouteError
from tenancy.models import State
from tests.support.applications import (
    add_task,
    add_tenants,
    add_users,
    expire_claims,
    forked,
    set_back,
    tenant_of,
    titles,
)
from tests.support.engines import use
from tests.support.servers import own_server
from tests.support.versions import fill, next_version

EVERYONE = Selection()
PORTABLE = "mysql_engine='InnoDB', mariadb_engine='InnoDB'"
UPGRADE = f"""
    there = sa.inspect(op.get_bind())
    if 'lists' not in there.get_table_names():
        op.create_table('lists', sa.Column('id', sa.String(36), primary_key=True), sa.Column('user_id', sa.Integer),
            {PORTABLE})
    if 'list_id' not in [column['name'] for column in there.get_columns('tasks')]:
        op.add_column('tasks', sa.Column('list_id', sa.String(36)))
"""
DOWNGRADE = "op.drop_column('tasks', 'list_id')\nop.drop_table('lists')"
FAILS_ON_STOP = UPGRADE.replace(
    "    if 'list_id'",
    """    if op.get_bind().execute(sa.text("SELECT count(*) FROM tasks WHERE title = 'stop'")).scalar():
        raise RuntimeError('a task says stop')
    if 'list_id'""",
)


def worked(manager, rules: Rules | None = None):
    return manager.fleet.work(manager.fleet.start(EVERYONE, rules or Rules()).id)


def columns(manager, user_id: int) -> list[str]:
    """Ask a tenant's database, as the login that may change it."""
    tenant = tenant_of(manager, user_id)
    backend = manager.backends.get(tenant.db_type)
    with backend.migrating(backend.connect_to_migrate(tenant, manager.services.access(tenant))) as connection:
        return [column["name"] for column in sa.inspect(connection).get_columns("tasks")]


def test_a_run_leaves_schema_rights_and_rows_as_they_should_be_and_takes_them_back(parts_on_each, tmp_path):
    parts = parts_on_each
    ids = add_tenants(parts, 3)
    for user_id in ids:
        add_task(parts.manager, user_id, f"task of {user_id}")
    fresh = next_version(parts, tmp_path / "next", UPGRADE, DOWNGRADE)
    run = worked(fresh)
    assert (run.state, run.counts) == (RunState.DONE, {"done": 3})
    for user_id in ids:
        assert titles(fresh, user_id) == [f"task of {user_id}"]
        insert = "INSERT INTO lists (id, user_id) VALUES ('x', ?)"
        assert fresh.execute_update(insert, (user_id,), user_id=user_id) == 1, "the serving login has its rights"
        assert fresh.fetch_all("SELECT list_id FROM tasks", user_id=user_id) == [(None,)]
    assert worked(fresh).already == 3
    fresh.engines.close()
    back = fresh.fleet.work(fresh.fleet.rollback(run.id).id)
    assert (back.state, back.counts) == (RunState.DONE, {"done": 3})
    for user_id in ids:
        assert "list_id" not in columns(fresh, user_id)
        assert tenant_of(fresh, user_id).revision == parts.manager.head
    parts.manager.engines.close()
    assert titles(parts.manager, ids[0]) == [f"task of {ids[0]}"], "the version before serves it again"
    fresh.engines.close()


def test_one_that_fails_is_as_it_was_and_goes_on_after_the_fix(parts_on_each, tmp_path):
    parts = parts_on_each
    one, other = add_tenants(parts, 2)
    add_task(parts.manager, one, "stop")
    parts.manager.engines.close()
    fresh = next_version(parts, tmp_path / "next", FAILS_ON_STOP, DOWNGRADE)
    run = worked(fresh)
    assert run.counts == {"done": 1, "failed": 1}
    (row,) = fresh.fleet.items(run.id, states=["failed"])
    assert (row["user_id"], "a task says stop" in row["error"]) == (one, True)
    tenant = tenant_of(fresh, one)
    assert (tenant.state, tenant.revision) == (State.READY, parts.manager.head)
    assert "list_id" not in columns(fresh, one)
    add_task(parts.manager, one, "the version before goes on working")
    parts.manager.engines.close()
    fixed = next_version(parts, tmp_path / "fixed", UPGRADE, DOWNGRADE)
    assert fixed.fleet.work(fixed.fleet.resume(run.id).id).counts == {"done": 2}
    assert titles(fixed, one) == ["stop", "the version before goes on working"]
    assert titles(fixed, other) == []
    fresh.engines.close()
    fixed.engines.close()


def test_a_killed_run_is_finished_by_the_next(parts_on_each, tmp_path):
    parts = parts_on_each
    ids = add_tenants(parts, 3)
    parts.manager.engines.close()
    fresh = next_version(parts, tmp_path / "next", UPGRADE, DOWNGRADE)
    run = fresh.fleet.start(EVERYONE, Rules())
    for position in (2, 3, 4):

        def work(position: int = position) -> None:
            import os
            import signal

            seen: list[str] = []

            def step(name: str) -> None:
                seen.append(name)
                if len(seen) == position:
                    os.kill(os.getpid(), signal.SIGKILL)

            fresh.services.step = step
            fresh.fleet.work(run.id)

        forked(work).killed()
        expire_claims(fresh)
    assert fresh.fleet.work(run.id).counts == {"done": 3}
    for user_id in ids:
        applied = fresh.reports.tenant(user_id)["ledger"]
        assert [row["revision"] for row in applied] == list(fresh.chain.checksums)
        add_task(fresh, user_id, "still written")
    fresh.engines.close()


def test_a_write_that_began_before_is_refused(parts_on_each, tmp_path):
    parts = parts_on_each
    (user_id,) = add_tenants(parts, 1)
    fresh = next_version(parts, tmp_path / "next", UPGRADE, DOWNGRADE)
    with parts.manager.engine_for(user_id).connect() as late:
        late.execution_options(tenancy_write=False).execute(sa.text("SELECT id FROM tasks"))
        late.rollback()
        worked(fresh)
        with pytest.raises(StaleRouteError, match="nothing was written"):
            late.execution_options(tenancy_write=True).execute(sa.text("DELETE FROM tasks"))
    fresh.engines.close()


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_lock_that_another_session_holds_fails_that_tenant_soon_and_no_other(
    request, make_parts, engine, tmp_path, monkeypatch
):
    use(request, engine)
    monkeypatch.setattr(postgresql, "FENCE_S", 2)  # MySQL's row locks are waited for no longer than 3 s
    parts, clean_up = on_server(make_parts, engine)
    try:
        one, _ = add_tenants(parts, 2)
        add_task(parts.manager, one, "held")
        parts.manager.engines.close()
        tenant = tenant_of(parts.manager, one)
        backend, access = parts.manager.backends.get(engine), parts.manager.services.access(tenant)
        fresh = next_version(parts, tmp_path / "next", UPGRADE, DOWNGRADE)
        with closing(backend.connect_to_migrate(tenant, access)) as holder:
            send(holder, "BEGIN", "UPDATE tasks SET title = 'not committed'")
            run = worked(fresh)
            assert run.counts == {"done": 1, "offline": 1}
            (row,) = fresh.fleet.items(run.id, states=["offline"])
            assert row["user_id"] == one
            assert row["duration_ms"] < 10_000
            holder.rollback()
        assert fresh.fleet.work(fresh.fleet.resume(run.id).id).counts == {"done": 2}
        assert titles(fresh, one) == ["held"]
        fresh.engines.close()
    finally:
        clean_up()


def on_server(make_parts, engine: str, url: str | None = None):
    """Give parts whose new users' databases stand on a server, and what removes them again."""
    from tests.support import engines

    parts = make_parts(default_tenant_db_type=engine)
    parts.manager.servers.add(
        "test", engine, url or engines.server_address(engine).render_as_string(hide_password=False)
    )

    def clean_up() -> None:
        expire_claims(parts.manager)
        for row in parts.manager.reports.databases(limit=1000):
            parts.manager.delete_user_database(row["user_id"])

    return parts, clean_up


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_server_that_is_down_leaves_its_tenants_for_later_and_the_others_go_on(request, make_parts, engine, tmp_path):
    use(request, engine)
    with own_server(engine) as server:
        parts, clean_up = on_server(make_parts, engine, server.url)
        away = add_tenants(parts, 4)
        near = add_users(parts, 1)
        parts.manager.initialize_user_database(near[0], db_type="sqlite")
        parts.manager.engines.close()
        fresh = next_version(parts, tmp_path / "next", UPGRADE, DOWNGRADE)
        server.stop()
        run = worked(fresh)
        assert (run.state, run.counts) == (RunState.INCOMPLETE, {"done": 1, "offline": 4})
        rows = fresh.fleet.items(run.id, states=["offline"])
        assert [row["user_id"] for row in rows] == away
        assert {row["error_code"] for row in rows} == {"connection_refused"}
        assert {tenant_of(fresh, user_id).state for user_id in away} == {State.READY}
        assert fresh.fleet.status()["behind"] == 4
        server.start()
        assert fresh.fleet.work(fresh.fleet.resume(run.id).id).counts == {"done": 5}
        fresh.engines.close()
        clean_up()


def test_a_run_works_with_the_catalog_on_each_product(server_url, engine_name, make_parts, tmp_path):
    parts = make_parts(admin_database_url=server_url)
    ids = add_tenants(parts, 12)
    set_back(parts.manager, ids)
    run = parts.manager.fleet.start(EVERYONE, Rules(canary=1, waves=(50.0, 100.0)))
    workers = [forked(partial(parts.manager.fleet.work, run.id)) for _ in range(2)]
    for worker in workers:
        worker.result()
    done = parts.manager.fleet.get(run.id)
    assert (done.state, done.counts) == (RunState.DONE, {"done": 12})
    assert parts.manager.fleet.status()["at_head"] == 12
    back = parts.manager.fleet.work(parts.manager.fleet.rollback(run.id).id)
    assert back.counts == {"done": 12}
    assert [row["standing"] for row in parts.manager.fleet.behind(limit=3)] == ["behind"] * 3
    assert [found.id for found in parts.manager.fleet.recent()] == [back.id, run.id]
    assert parts.manager.audit.verify()["rows"] > 0


def test_only_what_is_needed_is_written_to_a_tenant(versions, tmp_path):
    """One transaction a revision is all that is written: count what the file's own connection commits."""
    (user_id,) = fill(versions(1), 1)
    third = versions(3)
    tenant = tenant_of(third, user_id)
    backend = third.backends.get("sqlite")
    committed: list[str] = []
    opened = backend.connect

    def watched(*given):
        driver = opened(*given)
        driver.set_trace_callback(lambda sql: committed.append(sql) if sql == "COMMIT" else None)
        return driver

    backend.connect = watched
    worked(third)
    assert len(committed) == 2
    assert tenant_of(third, user_id).epoch == tenant.epoch + 1
