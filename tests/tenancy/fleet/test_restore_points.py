"""Restore points of fleet runs: before what is destructive and where wanted, put back by rollback, never replaced."""

from __future__ import annotations

import os
import signal

import pytest

from tenancy.catalog.runs import Rules, RunState, Selection
from tenancy.errors import ConfigurationError
from tenancy.models import State
from tests.support.applications import add_task, add_tenants, expire_claims, forked, tenant_of, titles
from tests.support.versions import next_version

EVERYONE = Selection()
DROPS = """
if 'due_time' in [column['name'] for column in sa.inspect(op.get_bind()).get_columns('tasks')]:
    op.drop_column('tasks', 'due_time')
"""
BACK = "op.add_column('tasks', sa.Column('due_time', sa.String(5)))"
DESTRUCTIVE = "destructive = True"


def worked(manager, rules: Rules | None = None):
    return manager.fleet.work(manager.fleet.start(EVERYONE, rules or Rules()).id)


def at_five(parts, ids) -> None:
    for user_id in ids:
        add_task(parts.manager, user_id, "tea")
        parts.manager.execute_update("UPDATE tasks SET due_time = '17:00'", user_id=user_id)
    parts.manager.engines.close()


def points(manager, user_id: int) -> list[str]:
    tenant = tenant_of(manager, user_id)
    return manager.backends.get(tenant.db_type).restore_points.list(tenant, manager.services.access(tenant))


def times(parts, user_id: int) -> list[tuple[str, str]]:
    return parts.manager.fetch_all("SELECT title, due_time FROM tasks ORDER BY title", user_id=user_id)


def test_a_destructive_revision_is_taken_back_with_what_it_took_away(parts_on_each, tmp_path):
    parts = parts_on_each
    ids = add_tenants(parts, 2)
    at_five(parts, ids)
    fresh = next_version(parts, tmp_path / "next", DROPS, BACK, DESTRUCTIVE)
    run = worked(fresh)
    assert run.counts == {"done": 2}
    assert all(row["restore_point"] for row in fresh.fleet.items(run.id))
    add_task(fresh, ids[0], "written since")
    fresh.engines.close()
    back = fresh.fleet.work(fresh.fleet.rollback(run.id).id)
    assert (back.state, back.counts) == (RunState.DONE, {"done": 2})
    for user_id in ids:
        assert times(parts, user_id) == [("tea", "17:00")], "rows written since are lost with it"
        assert (tenant_of(fresh, user_id).state, tenant_of(fresh, user_id).revision) == (
            State.READY,
            parts.manager.head,
        )
        add_task(parts.manager, user_id, "and it goes on")
    parts.manager.engines.close()
    assert fresh.fleet.discard(run.id) == 2
    assert [points(fresh, user_id) for user_id in ids] == [[], []]
    assert fresh.fleet.discard(run.id) == 0


def test_a_run_that_takes_nothing_away_keeps_points_only_where_they_are_wanted(parts, tmp_path):
    ids = add_tenants(parts, 2)
    at_five(parts, ids)
    adds = next_version(
        parts, tmp_path / "adds", "op.add_column('tasks', sa.Column('x', sa.Integer))", "op.drop_column('tasks', 'x')"
    )
    run = worked(adds)
    assert [points(adds, user_id) for user_id in ids] == [[], []]
    adds.fleet.work(adds.fleet.rollback(run.id).id)
    again = worked(adds, Rules(snapshot=True))
    assert [points(adds, user_id) for user_id in ids] == [[f"run{again.id}"]] * 2
    drops = next_version(parts, tmp_path / "drops", DROPS, BACK, DESTRUCTIVE)
    adds.fleet.work(adds.fleet.rollback(again.id).id)
    bare = worked(drops, Rules(bare=True))
    assert bare.counts == {"done": 2}
    assert not any(row["restore_point"] for row in drops.fleet.items(bare.id))
    for manager in (adds, drops):
        manager.engines.close()


def test_a_runner_that_was_killed_after_it_migrated_does_not_lose_the_point(parts_on_each, tmp_path):
    """The next one finds the database migrated already: a point taken now would hold nothing worth having."""
    parts = parts_on_each
    ids = add_tenants(parts, 1)
    at_five(parts, ids)
    fresh = next_version(parts, tmp_path / "next", DROPS, BACK, DESTRUCTIVE)
    run = fresh.fleet.start(EVERYONE, Rules())
    kills = 0
    for position in range(1, 60):
        child = forked(lambda position=position: killed_at(fresh, run.id, position))
        if not child.killed():
            break
        kills += 1
        expire_claims(fresh)
        with fresh.catalog.writing() as connection:  # it is no fault of the tenant's
            connection.exec_driver_sql("UPDATE fleet_items SET tries = 1")
    assert kills >= 3
    assert fresh.fleet.get(run.id).counts == {"done": 1}
    assert fresh.fleet.items(run.id)[0]["restore_point"]
    fresh.fleet.work(fresh.fleet.rollback(run.id).id)
    assert times(parts, ids[0]) == [("tea", "17:00")]
    fresh.fleet.discard(run.id)


def killed_at(manager, run_id: int, position: int) -> None:
    seen: list[str] = []

    def step(name: str) -> None:
        seen.append(name)
        if len(seen) == position:
            os.kill(os.getpid(), signal.SIGKILL)

    manager.services.step = step
    manager.fleet.work(run_id)


def test_a_return_that_was_killed_anywhere_is_finished_by_the_next(parts_on_each, tmp_path):
    parts = parts_on_each
    ids = add_tenants(parts, 1)
    at_five(parts, ids)
    fresh = next_version(parts, tmp_path / "next", DROPS, BACK, DESTRUCTIVE)
    run = worked(fresh)
    fresh.engines.close()
    back = fresh.fleet.rollback(run.id)
    kills = 0
    for position in range(1, 60):
        child = forked(lambda position=position: killed_at(fresh, back.id, position))
        if not child.killed():
            break
        kills += 1
        expire_claims(fresh)
        with fresh.catalog.writing() as connection:
            connection.exec_driver_sql("UPDATE fleet_items SET tries = 1 WHERE state = 'running'")
    assert kills >= 2
    assert fresh.fleet.get(back.id).counts == {"done": 1}
    assert times(parts, ids[0]) == [("tea", "17:00")]
    fresh.fleet.discard(run.id)


def test_a_point_that_cannot_be_kept_leaves_the_tenant_as_it_was_and_named(parts, tmp_path, monkeypatch):
    ids = add_tenants(parts, 2)
    at_five(parts, ids)
    fresh = next_version(parts, tmp_path / "next", DROPS, BACK, DESTRUCTIVE)
    points = fresh.backends.get("sqlite").restore_points
    real = points.create

    def create(tenant, *given, **more):
        if tenant.user_id == ids[0]:
            raise ConfigurationError("no room for it.")
        real(tenant, *given, **more)

    monkeypatch.setattr(points, "create", create)
    run = worked(fresh)
    assert run.counts == {"done": 1, "failed": 1}
    tenant = tenant_of(fresh, ids[0])
    assert (tenant.state, tenant.revision, tenant.last_error) == (State.READY, parts.manager.head, "no room for it.")
    add_task(parts.manager, ids[0], "still written")
    assert titles(parts.manager, ids[0]) == ["still written", "tea"]


def test_a_rollback_whose_point_is_gone_says_so_and_changes_nothing(parts, tmp_path):
    ids = add_tenants(parts, 1)
    at_five(parts, ids)
    fresh = next_version(parts, tmp_path / "next", DROPS, BACK, DESTRUCTIVE)
    run = worked(fresh)
    tenant = tenant_of(fresh, ids[0])
    fresh.backends.get("sqlite").restore_points.delete(tenant, fresh.services.access(tenant), f"run{run.id}")
    back = fresh.fleet.work(fresh.fleet.rollback(run.id).id)
    assert back.counts == {"failed": 1}
    (row,) = fresh.fleet.items(back.id)
    assert "restore point is gone" in row["error"]
    assert titles(fresh, ids[0]) == ["tea"]


@pytest.mark.parametrize("engine", ["postgresql"])
def test_a_database_that_somebody_named_is_not_changed_without_a_point(request, make_parts, engine, tmp_path):
    from tests.support.engines import server_address, use

    use(request, engine)
    parts = make_parts()
    (user_id,) = [user.id for user in [parts.accounts.create("named@example.org")]]
    where = server_address(engine)
    named = {"db_host": where.host, "db_port": where.port, "db_user": where.username, "db_name": f"named_{os.getpid()}"}
    parts.manager.initialize_user_database(user_id, db_type=engine, db_password=where.password or "x", **named)
    try:
        fresh = next_version(parts, tmp_path / "next", DROPS, BACK, DESTRUCTIVE)
        run = worked(fresh)
        assert run.counts == {"failed": 1}
        assert tenant_of(fresh, user_id).state is State.READY
        add_task(parts.manager, user_id, "as before")
        parts.manager.engines.close()
        assert worked(fresh, Rules(bare=True)).counts == {"done": 1}
        fresh.engines.close()
    finally:
        parts.manager.delete_user_database(user_id)
