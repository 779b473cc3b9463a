"""Pages and programs add the jobs of backups: not twice for the same work, nor two restores of one database."""

from __future__ import annotations

import pytest

import compose
from tenancy.catalog import Catalog
from tenancy.catalog.jobs import JobState
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import ArchiveKeyError, JobNotFoundError, JobStateError
from tenancy.jobs.backup_jobs import BackupJobs
from tenancy.jobs.queue import Jobs
from tenancy.types import new_id
from tests.support.applications import PATIENCE_S
from tests.support.backups import key_pair, know_kinds
from tests.support.jobs import working


@pytest.fixture
def jobs(catalog: Catalog) -> Jobs:
    jobs = Jobs(catalog, Keyring([generate_key()]))
    know_kinds(jobs.kinds)
    return jobs


@pytest.fixture
def asked(jobs: Jobs, make_settings, tmp_path) -> BackupJobs:
    return BackupJobs(jobs, compose.backup_settings(make_settings(**key_pair(tmp_path))))


def test_each_call_adds_a_job_of_its_kind(asked):
    backup_id = new_id()
    added = [
        asked.backup(3),
        asked.backup_all(),
        asked.backup_catalog(),
        asked.verify(backup_id),
        asked.verify(backup_id, by_restoring=True),
        asked.prune("daily=7"),
        asked.restore(3, backup_id),
        asked.restore(4, backup_id, only_tables=("a", "b"), as_new_user="new@example.org"),
        asked.undo(5, discard_newer=True),
    ]
    assert [(job.kind, job.arguments) for job in added] == [
        ("backup", {"user": "3"}),
        ("backup", {"all": True}),
        ("backup", {"catalog": True}),
        ("verify", {"backup": str(backup_id)}),
        ("verify", {"backup": str(backup_id), "by_restoring": True}),
        ("prune", {"keep": "daily=7"}),
        ("restore", {"user": "3", "backup": str(backup_id)}),
        (
            "restore",
            {"user": "4", "backup": str(backup_id), "only_tables": "a,b", "as_new_user": "new@example.org"},
        ),
        ("undo", {"user": "5", "discard_newer": True}),
    ]
    assert len({job.id for job in added}) == len(added)


def test_the_same_work_is_found_again_until_it_has_ended(jobs, asked):
    first = asked.backup(3)
    assert asked.backup(3).id == first.id
    assert asked.backup(4).id != first.id
    with working(jobs):
        assert jobs.wait(first.id, PATIENCE_S).state is JobState.DONE
    assert asked.backup(3).id != first.id


def test_other_work_on_what_a_job_replaces_is_refused_meanwhile(asked):
    first, second = new_id(), new_id()
    job = asked.restore(3, first)
    assert asked.restore(3, first).id == job.id
    for call in (lambda: asked.restore(3, second), lambda: asked.undo(3)):
        with pytest.raises(JobStateError, match=f"job {job.id} "):
            call()
    assert asked.backup(3).kind == "backup"


def test_the_unfinished_jobs_of_one_user_are_listed(jobs, asked):
    mine = [asked.backup(3).id, asked.undo(3).id]
    asked.backup(4)
    asked.verify(new_id())
    assert [job.id for job in asked.unfinished(3)] == mine
    jobs.cancel(mine[0])
    assert [job.id for job in asked.unfinished(3)] == mine[1:]
    assert asked.unfinished(5) == []


def test_a_job_is_given_to_the_user_whose_database_it_works_on_alone(asked):
    mine = asked.backup(3)
    assert asked.of_user(3, mine.id).id == mine.id
    for user_id, job_id in ((4, mine.id), (3, asked.backup_all().id), (3, asked.prune("daily=1").id), (3, 999)):
        with pytest.raises(JobNotFoundError):
            asked.of_user(user_id, job_id)


def test_without_keys_no_job_is_added_that_could_only_fail(jobs, make_settings):
    keyless = BackupJobs(jobs, compose.backup_settings(make_settings()))
    for call in (
        lambda: keyless.backup(3),
        keyless.backup_all,
        keyless.backup_catalog,
        lambda: keyless.restore(3, new_id()),
    ):
        with pytest.raises(ArchiveKeyError):
            call()
    assert jobs.page() == []
