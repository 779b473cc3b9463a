"""The jobs about backups do what the calls do, and a failed one says so."""

from __future__ import annotations

import pytest

from tenancy.catalog import jobs as rows
from tenancy.catalog.jobs import JobState
from tenancy.errors import ConfigurationError
from tests.support.applications import add_task, add_tenants, tenant_of, titles
from tests.support.backups import with_keys
from tests.support.jobs import until, working


@pytest.fixture
def manager(parts, tmp_path):
    with_keys(parts.manager, tmp_path)
    parts.manager.backup_jobs = type(parts.manager.backup_jobs)(parts.manager.jobs, parts.manager.services.backups)
    return parts.manager


@pytest.fixture
def ada(parts, manager):
    [user_id] = add_tenants(parts, 1)
    add_task(manager, user_id, "before")
    return user_id


ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


def done(manager, job):
    """Work on a job to its end, and return it."""
    with working(manager):
        until(lambda: manager.jobs.get(job.id).state in ENDED)
    return manager.jobs.get(job.id)


def test_each_kind_does_its_work(manager, ada):
    jobs = manager.backup_jobs
    backup = done(manager, jobs.backup(ada))
    assert backup.state is JobState.DONE, backup.error
    [found] = manager.backups.listed()
    assert backup.result["backup_id"] == str(found.id)
    assert done(manager, jobs.verify(found.id, by_restoring=True)).result["how"] == "restore"
    add_task(manager, ada, "after")
    assert done(manager, jobs.restore(ada, found.id)).state is JobState.DONE
    assert titles(manager, ada) == ["before"]
    assert done(manager, jobs.undo(ada)).state is JobState.DONE
    assert titles(manager, ada) == ["after", "before"]
    assert done(manager, jobs.backup_all()).result == {"good": 1}
    assert done(manager, jobs.backup_catalog()).state is JobState.DONE
    assert done(manager, jobs.prune("daily=1")).result == {"deleted": 1, "staying": 0}


def test_a_backup_becomes_an_account_by_a_job(parts, manager, ada):
    made = manager.backups.create(ada)
    job = done(manager, manager.backup_jobs.restore(ada, made.id, as_new_user="eve@example.org"))
    assert titles(manager, job.result["user_id"]) == ["before"]


def test_a_database_that_fails_is_named_in_the_log(manager, ada):
    manager.engines.retire(tenant_of(manager, ada).tenant_id)
    (manager.backends.get("sqlite").data_dir / tenant_of(manager, ada).db_path).unlink()
    job = manager.jobs.add("backup", {"all": True})
    with working(manager):
        until(lambda: manager.jobs.get(job.id).error)
    found = manager.jobs.get(job.id)
    assert f"user {ada}" in found.log
    assert "1 of 1 failed" in found.error


def test_arguments_that_cannot_be_are_refused_when_the_job_is_added(manager):
    for kind, given in (("backup", {}), ("backup", {"all": True, "catalog": True}), ("prune", {"keep": "x"})):
        with pytest.raises(ConfigurationError):
            manager.jobs.add(kind, given)
    with pytest.raises(ConfigurationError):
        manager.jobs.kinds.to_schedule("restore")
    assert manager.jobs.kinds.to_schedule("backup").read(["--all"]) == {"all": True}


@pytest.mark.parametrize("kind", ["restore", "undo"])
def test_one_that_was_cut_off_behind_its_switch_does_not_switch_again(manager, ada, kind):
    backup = manager.backups.create(ada)
    if kind == "undo":
        manager.restores.restore(ada, backup.id)
    given = {"user": str(ada)} | ({"backup": str(backup.id)} if kind == "restore" else {})
    job = manager.jobs.add(kind, given)
    if kind == "restore":
        manager.restores.restore(ada, backup.id, key=f"job {job.id}")
    else:
        manager.restores.undo(ada, key=f"job {job.id}")
    add_task(manager, ada, "since")
    assert done(manager, job).result == {"done_before": True}
    assert titles(manager, ada) == ["before", "since"]


def test_a_backup_of_all_goes_on_where_it_was_cut_off(parts, manager, ada):
    add_tenants(parts, 2)
    job = manager.jobs.add("backup", {"all": True})
    manager.backups.create(ada)
    with manager.catalog.writing() as connection:
        connection.execute(rows.table.update().values(attempt=1))
    assert done(manager, job).result == {"good": 2}
