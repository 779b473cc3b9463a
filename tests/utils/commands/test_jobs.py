"""`unify jobs`, `unify schedule` and `unify worker`: look at what is done in the background, and have it done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from settings import PROJECT
from tests.support.applications import PATIENCE_S, add_tenants, set_back
from tests.support.jobs import keep_jobs


@pytest.fixture
def call(parts, call):
    """Run a command on a catalog in which jobs and a schedule were left behind."""
    keep_jobs(parts.manager)
    return partial(call, settings=parts.settings)


def test_jobs_are_listed_shown_retried_and_cancelled(call):
    listed = call("jobs", "list")
    assert listed.exit_code == 0
    for shown in ("idle", "failed", "3 of 10 reading", "it cannot be."):
        assert shown in listed.stdout
    assert "No worker takes jobs" in listed.stderr
    assert "unify worker" in listed.stderr
    shown = call("jobs", "show", "2").stdout
    for part in ("Job 2 (idle) is failed", "all=True", "a line of the log"):
        assert part in shown
    assert "Job 2 is due" in call("jobs", "retry", "2").stdout
    assert "Job 2 is cancelled" in call("jobs", "cancel", "2").stdout
    refused = call("jobs", "cancel", "2")
    assert refused.exit_code == 1
    assert "cannot be cancelled any more" in refused.stderr


def test_jobs_are_given_to_programs_as_json(call):
    found = json.loads(call("jobs", "list", "--json", "--state", "due").stdout)
    assert [item["id"] for item in found["items"]] == [1]
    assert (found["workers"], found["jobs"]) == ([], {"due": 1, "running": 0, "failed": 1})
    one = json.loads(call("jobs", "show", "2", "--json").stdout)
    assert (one["state"], one["progress"]["done"], one["arguments"]) == ("failed", 3, {"all": True})
    assert "secrets" not in one


def test_a_job_that_is_not_there_is_told_in_one_line(call):
    for word in ("show", "retry", "cancel"):
        refused = call("jobs", word, "99")
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "there is no job 99: `unify jobs list`" in refused.stderr
        assert "manager." not in refused.stderr


def test_schedules_are_added_listed_and_removed(call):
    added = call("schedule", "add", "30 2 * * *", "idle", "--all", "--zone", "Europe/Berlin")
    assert added.exit_code == 1, "this process knows no such kind: a program of its own registered it"
    assert "there is no job 'idle'" in added.stderr
    listed = call("schedule", "list")
    assert "0 3 * * *" in listed.stdout
    assert "Europe/Berlin" in listed.stdout
    assert "is removed" in call("schedule", "remove", "1").stdout
    assert "No schedules." in call("schedule", "list").stdout
    gone = call("schedule", "remove", "1")
    assert gone.exit_code == 1
    assert "there is no schedule 1: `unify schedule list`" in gone.stderr


@pytest.fixture
def worker(parts, process_environ, tmp_path):
    """Start `unify worker` on the parts' catalog."""
    kept = ("secret_key", "audit_key", "tenant_credential_keys")
    keys = {name: getattr(parts.settings, name) for name in kept}
    environ = process_environ(**keys | {"tenant_credential_keys": ",".join(keys["tenant_credential_keys"])})
    log = (tmp_path / "worker.log").open("wb")
    words = [sys.executable, "-m", "utils.cli", "worker", "--threads", "1"]
    with log, subprocess.Popen(words, env=environ, cwd=PROJECT, stdout=log, stderr=log) as process:
        yield process
        process.kill()


def test_a_worker_does_a_fleet_run_and_ends_when_it_is_told_to(parts, worker, tmp_path):
    from tenancy.catalog.runs import Rules, Selection
    from tenancy.jobs import fleet_kinds

    set_back(parts.manager, add_tenants(parts, 2))
    job = fleet_kinds.start(parts.manager.jobs, parts.manager.fleet.start(Selection(), Rules()).id)
    assert parts.manager.jobs.wait(job.id, 3 * PATIENCE_S).result["state"] == "done"
    (known,) = parts.manager.jobs.workers()
    assert (known.pid, known.threads) == (worker.pid, 1)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert parts.manager.jobs.workers() == []
    lines = (tmp_path / "worker.log").read_text()
    assert f"job {job.id} (fleet_run) ends, attempt 1: done" in lines
    assert "Traceback" not in lines


def test_a_worker_does_not_start_on_a_catalog_that_is_not_migrated(shell):
    refused = shell("worker")
    assert refused.returncode == 1
    assert "unify db create-config-table" in refused.stderr
