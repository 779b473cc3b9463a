"""A fleet run that a page starts is worked on by a job, in processes that know the settings."""

from __future__ import annotations

import threading

from tenancy.catalog.jobs import JobState
from tenancy.catalog.runs import Rules, RunState, Selection
from tenancy.jobs import fleet_kinds
from tests.support.applications import PATIENCE_S, add_tenants, set_back
from tests.support.jobs import working


def test_a_run_is_worked_on_by_a_job_in_processes_that_know_the_settings(parts):
    ids = add_tenants(parts, 3)
    set_back(parts.manager, ids)
    run = parts.manager.fleet.start(Selection(), Rules())
    job = fleet_kinds.start(parts.manager.jobs, run.id)
    assert fleet_kinds.start(parts.manager.jobs, run.id).id == job.id
    with working(parts.manager):
        ended = parts.manager.jobs.wait(job.id, PATIENCE_S)
    done = parts.manager.fleet.get(run.id)
    assert (done.state, done.counts) == (RunState.DONE, {"done": 3})
    assert ended.result == {"run_id": run.id, "state": "done", "counts": {"done": 3}}
    assert tuple(ended.progress)[:2] == (3, 3)
    for user_id in ids:
        assert parts.manager.fetch_all("SELECT count(*) FROM bin", user_id=user_id) == [(0,)]


def test_a_run_that_is_paused_ends_its_job_and_resuming_it_adds_another(parts):
    run = started(parts)
    parts.manager.fleet.pause(run.id)
    first = fleet_kinds.start(parts.manager.jobs, run.id)
    with working(parts.manager):
        assert parts.manager.jobs.wait(first.id, PATIENCE_S).result["state"] == "paused"
        parts.manager.fleet.resume(run.id)
        second = fleet_kinds.start(parts.manager.jobs, run.id)
        assert parts.manager.jobs.wait(second.id, PATIENCE_S).result["state"] == "done"
    assert second.id != first.id


def test_cancelling_the_job_pauses_the_run(parts, monkeypatch):
    begun = threading.Event()
    fleet, run = parts.manager.fleet, started(parts)

    def work(run_id, *, alive, **_):
        begun.set()
        while alive():
            threading.Event().wait(0.01)
        return fleet.get(run_id)

    monkeypatch.setattr(fleet, "work", work)
    parts.manager.fleet_work.crew = None
    job = fleet_kinds.start(parts.manager.jobs, run.id)
    with working(parts.manager):
        assert begun.wait(PATIENCE_S)
        parts.manager.jobs.cancel(job.id)
        assert parts.manager.jobs.wait(job.id, PATIENCE_S).state is JobState.CANCELLED
    assert fleet.get(run.id).state is RunState.PAUSED


def test_a_run_that_does_not_exist_ends_its_job_at_once(parts):
    job = fleet_kinds.start(parts.manager.jobs, 99)
    with working(parts.manager):
        ended = parts.manager.jobs.wait(job.id, PATIENCE_S)
    assert (ended.state, ended.error_code, ended.failures) == (JobState.FAILED, "run_not_found", 1)


def started(parts):
    set_back(parts.manager, add_tenants(parts, 2))
    return parts.manager.fleet.start(Selection(), Rules())
