"""What a runner does under the catalog's lock: no more for a fleet of thousands than for a hundred."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from tenancy.catalog import claims, runs
from tenancy.catalog.runs import ItemState, Rules, RunState, Selection
from tenancy.fleet.runner import Outcome, Runner
from tenancy.lifecycle.upgrade import Reached
from tests.support.applications import expire_claims, keep_configs, steps_of
from tests.support.versions import fill

ANYWHERE = Rules(halt_after=50, halt_percent=True)


def reading(manager, number):
    """Take a batch of a run over so many tenants on two servers, and record it; give what each read of the catalog."""
    for server_id in (1, 2):
        keep_configs(manager, number // 2, server_id=server_id)
    run = manager.fleet.start(Selection(), ANYWHERE)
    runner, jobs = Runner(manager.services), []
    with manager.catalog.reading() as connection:
        runner._places_of(connection, run.id)
    with manager.catalog.writing() as connection:
        took = steps_of(connection, lambda: jobs.extend(runner._take(connection, run.id, 20, 4)))
    assert len(jobs) == 20
    failed = ItemState.FAILED
    outcomes = [Outcome(job, failed, 1, Reached("0001", job.tenant.epoch, [])) for job in jobs]
    with manager.catalog.writing() as connection:
        recorded = steps_of(connection, lambda: runner._record(connection, run.id, outcomes))
    assert manager.fleet.get(run.id).counts == {"failed": 20, "waiting": run.total - 20}
    manager.fleet.cancel(run.id)
    return took, recorded


def test_taking_and_recording_a_batch_read_no_more_where_the_fleet_is_large(versions):
    small, large = reading(versions(2), 100), reading(versions(2), 4000)
    for few, many in zip(small, large, strict=True):
        assert many < few * 1.5


@contextmanager
def statements(engine):
    """Gather what is sent to the catalog inside the block."""
    sent = []

    def note(connection, cursor, statement, *rest):
        sent.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("size", [1, 20])
def test_a_batch_of_any_size_is_taken_with_eleven_statements(versions, size):
    manager = versions(2)
    keep_configs(manager, 20)
    run, runner, jobs = manager.fleet.start(Selection(), Rules()), Runner(manager.services), []
    with manager.catalog.reading() as connection:
        runner._places_of(connection, run.id)
    with statements(manager.catalog.engine) as sent, manager.catalog.writing() as connection:
        jobs.extend(runner._take(connection, run.id, size, 4))
    assert len(jobs) == size
    assert len(sent) <= 11, sent
    assert sum("FROM fleet_runs" in each for each in sent) == 1


def test_a_run_over_one_tenant_reads_its_own_row_five_times(versions):
    """When it was made, when the tenant is taken and recorded, when nothing is left, and for whoever asked for it."""
    fill(versions(1), 1)
    second = versions(2)
    with statements(second.catalog.engine) as sent:
        run = second.fleet.work(second.fleet.start(Selection(), Rules()).id)
    assert (run.state, run.counts) == (RunState.DONE, {"done": 1})
    assert sum("FROM fleet_runs" in each and "fleet_runs.id = " in each for each in sent) == 5
    assert len(sent) <= 39, sent


def test_a_batch_is_taken_where_the_fewest_runners_are_and_never_more_of_them_than_a_server_takes(versions):
    manager = versions(2)
    for server_id, number in ((1, 4), (2, 6)):
        keep_configs(manager, number, server_id=server_id)
    run = manager.fleet.start(Selection(), Rules())
    runner = Runner(manager.services)

    def take(name, per_server=1):
        with manager.catalog.writing() as connection:
            rows = runner._available(connection, run.id, 1, 2, per_server)
            runs.begin_items(connection, run.id, [row["user_id"] for row in rows], runner=name, before="ready")
            return {row["server_id"] for row in rows}, len(rows)

    assert take("first") == ({2}, 2)
    assert take("second") == ({1}, 2)
    with manager.catalog.writing() as connection:  # both runners live: they hold what they took
        held = {row["tenant_id"]: 1 for row in runs.items(connection, run.id, states=[ItemState.RUNNING])}
        claims.take_many(manager.catalog, connection, held, "fleet", 60.0)
    assert take("third") == (set(), 0)
    assert take("third", per_server=2) == ({2}, 2)


@pytest.mark.parametrize("state", [ItemState.FAILED, ItemState.CANCELLED, ItemState.DONE])
def test_a_run_ends_by_what_it_left(versions, state):
    manager = versions(2)
    ids = keep_configs(manager, 2)
    run = manager.fleet.start(Selection(), Rules())
    ends = {"failed": RunState.INCOMPLETE, "cancelled": RunState.CANCELLED, "done": RunState.DONE}
    with manager.catalog.writing() as connection:
        left = [{"user_id": ids[0], "state": state}, {"user_id": ids[1], "state": ItemState.DONE}]
        runs.change_items(connection, run.id, left)
    assert manager.fleet.work(run.id).state is ends[state]


def test_what_another_runner_took_over_is_not_recorded(versions):
    manager = versions(2)
    keep_configs(manager, 3)
    run = manager.fleet.start(Selection(), Rules())
    runner = Runner(manager.services)
    with manager.catalog.writing() as connection:
        jobs = runner._take(connection, run.id, 3, 4)
    expire_claims(manager)
    with manager.catalog.writing() as connection:
        claims.take_many(manager.catalog, connection, {jobs[0].tenant.tenant_id: 1}, "other", 60.0)
    with manager.catalog.writing() as connection:
        runner._record(connection, run.id, [Outcome(job, ItemState.DONE, 1, Reached("0002", 1, [])) for job in jobs])
    assert manager.fleet.get(run.id).counts == {"running": 3}
