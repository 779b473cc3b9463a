"""Jobs are added once, cancelled, retried, and keep no secret beyond their end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tenancy.catalog import job_claims, now
from tenancy.catalog.job_claims import Ending
from tenancy.catalog.jobs import JobState, Reached
from tenancy.catalog.tables import jobs as rows
from tenancy.credentials import rotation
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import ConfigurationError, JobNotFoundError, JobStateError, UnknownKeyError
from tenancy.jobs.kinds import Argument, Kind
from tenancy.jobs.queue import Jobs
from tests.support.engines import on_sqlite


@pytest.fixture
def key():
    return generate_key()


@pytest.fixture
def jobs(catalog, key):
    jobs = Jobs(catalog, Keyring([key]))
    jobs.kinds.register(Kind("idle", "Do nothing.", lambda run, arguments: None, (Argument("user", "Whose."),)))
    return jobs


def begun(jobs):
    """Take the job that is due, as a worker does."""
    with jobs.catalog.writing() as connection:
        (seen,) = job_claims.free(connection, ["idle"], 1)
        return job_claims.take(connection, seen, "host:1", 60.0)


def ended(jobs, job, state=JobState.FAILED):
    with jobs.catalog.writing() as connection:
        assert job_claims.end(connection, job, Ending(state, error="why", error_code="x"), Reached(), "")


def expire(jobs):
    with jobs.catalog.writing() as connection:
        connection.execute(rows.update(), {"expires_at": now(connection) - timedelta(seconds=1)})


def test_a_key_makes_a_job_the_only_unfinished_one(jobs):
    first = jobs.add("idle", {"user": "a"}, key="backup 1")
    assert jobs.add("idle", {"user": "b"}, key="backup 1").id == first.id
    assert jobs.add("idle", key="backup 2").id != first.id
    ended(jobs, begun_of(jobs, first.id), JobState.DONE)
    assert jobs.add("idle", key="backup 1").id != first.id


def begun_of(jobs, job_id):
    with jobs.catalog.writing() as connection:
        seen = next(free for free in job_claims.free(connection, ["idle"], 10) if free.id == job_id)
        return job_claims.take(connection, seen, "host:1", 60.0)


def test_many_who_add_the_same_work_at_once_get_one_job(jobs):
    found, start = [], threading.Barrier(6)

    def add():
        start.wait()
        found.append(jobs.add("idle", key="the same").id)

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_one_of_many_workers_takes_a_job(jobs, catalog):
    jobs.add("idle")
    with catalog.reading() as connection:
        (seen,) = job_claims.free(connection, ["idle"], 5)
    taken = []
    for _ in range(3):
        with catalog.writing() as connection:
            taken.append(job_claims.take(connection, seen, "host:1", 60.0))
    assert [job is not None for job in taken] == [True, False, False]


def test_a_job_of_later_is_not_due_yet(jobs, catalog):
    jobs.add("idle", due_at=datetime.now(UTC) + timedelta(days=1))
    with catalog.reading() as connection:
        assert job_claims.free(connection, ["idle"], 5) == []
    assert jobs.status()["waiting_s"] is None


def test_a_job_that_waits_is_cancelled_at_once_and_its_secrets_are_erased(jobs):
    job = jobs.add("idle", secrets={"password": "x"})
    assert job.sealed is not None
    cancelled = jobs.cancel(job.id)
    assert (cancelled.state, cancelled.sealed) == (JobState.CANCELLED, None)
    with pytest.raises(JobStateError, match="cannot be cancelled any more"):
        jobs.cancel(job.id)


def test_a_running_job_is_cancelled_once_its_runner_ends_or_is_gone(jobs, catalog):
    first = jobs.add("idle")
    begun(jobs)
    asked = jobs.cancel(first.id)
    assert (asked.state, asked.cancelling) == (JobState.RUNNING, True)
    expire(jobs)
    with catalog.writing() as connection:
        (seen,) = job_claims.free(connection, ["idle"], 1)
        assert job_claims.take(connection, seen, "host:2", 60.0) is None
    assert jobs.get(first.id).state is JobState.CANCELLED
    second = jobs.add("idle")
    begun(jobs)
    expire(jobs)
    assert jobs.cancel(second.id).state is JobState.CANCELLED


def test_a_failed_job_is_retried_with_its_failures_forgotten(jobs):
    job = jobs.add("idle", key="k")
    ended(jobs, begun(jobs))
    again = jobs.retry(job.id)
    assert (again.state, again.failures, again.attempt) == (JobState.DUE, 0, 1)
    running = begun(jobs)
    with pytest.raises(JobStateError, match="is running"):
        jobs.retry(job.id)
    ended(jobs, running, JobState.DONE)
    with pytest.raises(JobStateError, match="is done"):
        jobs.retry(job.id)


def test_a_job_is_not_retried_beside_its_successor_nor_without_its_secrets(jobs):
    first = jobs.add("idle", key="k")
    ended(jobs, begun(jobs))
    second = jobs.add("idle", key="k")
    with pytest.raises(JobStateError, match=f"job {second.id} does the same work already"):
        jobs.retry(first.id)
    jobs.cancel(second.id)
    assert jobs.retry(first.id).state is JobState.DUE
    jobs.cancel(first.id)
    secret = jobs.add("idle", secrets={"a": "b"})
    ended(jobs, begun(jobs))
    with pytest.raises(JobStateError, match="were erased"):
        jobs.retry(secret.id)


def test_the_writes_of_an_earlier_attempt_are_refused(jobs, catalog):
    job = jobs.add("idle")
    first = begun(jobs)
    expire(jobs)
    second = begun(jobs)
    assert (first.attempt, second.attempt) == (1, 2)
    with catalog.writing() as connection:
        assert not job_claims.keep(connection, first, 60.0, Reached(), "")
        assert not job_claims.end(connection, first, Ending(JobState.DONE), Reached(), "")
        assert job_claims.end(connection, second, Ending(JobState.DONE), Reached(), "")
    assert jobs.get(job.id).attempt == 2


def test_secrets_belong_to_one_job_and_to_keys_that_are_known(jobs, catalog):
    one, other = (jobs.add("idle", secrets={"password": text}) for text in ("first", "second"))
    assert jobs.secrets_of(one) == {"password": "first"}
    from dataclasses import replace

    from tenancy.errors import TamperedCredentialError

    with pytest.raises(TamperedCredentialError):
        jobs.secrets_of(replace(one, sealed=other.sealed))
    with pytest.raises(UnknownKeyError):
        Jobs(catalog, Keyring([generate_key()])).secrets_of(one)


def test_secrets_are_sealed_anew_when_keys_change(jobs, catalog, key):
    job = jobs.add("idle", secrets={"password": "x"})
    newer = Keyring([generate_key(), key])
    assert rotation.status(catalog, newer)["to_rotate"] == 1
    done = rotation.rotate(catalog, newer)
    assert (done["rotated"], done["to_rotate"], done["failed"]) == (1, 0, [])
    assert Jobs(catalog, newer).secrets_of(jobs.get(job.id)) == {"password": "x"}
    alone = Keyring([generate_key()])
    assert [each["job_id"] for each in rotation.rotate(catalog, alone)["failed"]] == [job.id]


def test_jobs_are_listed_newest_first_by_pages_states_and_kinds(jobs):
    ids = [jobs.add("idle").id for _ in range(5)]
    jobs.cancel(ids[2])
    assert [job.id for job in jobs.page(2)] == ids[:2:-1]
    assert [job.id for job in jobs.page(9, ids[3], states=["due"])] == [ids[1], ids[0]]
    assert [job.id for job in jobs.page(9, states=["cancelled"])] == [ids[2]]
    assert jobs.page(9, kind="other") == []
    status = jobs.status()
    assert status["jobs"] == {"due": 4, "running": 0, "failed": 0}
    assert status["waiting_s"] >= 0


def test_jobs_that_ended_long_ago_are_deleted_and_no_others(jobs, catalog):
    old, young, waiting = (jobs.add("idle") for _ in range(3))
    for job in (old, young):
        jobs.cancel(job.id)
    with catalog.writing() as connection:
        connection.execute(
            rows.update().where(rows.c.id.in_([old.id, waiting.id])), {"ended_at": datetime(2020, 1, 1, tzinfo=UTC)}
        )
    assert jobs.purge(3600.0) == 1
    assert [job.id for job in jobs.page()] == [waiting.id, young.id]


def test_a_job_that_is_not_there_is_told_with_where_to_look(jobs):
    for call in (jobs.get, jobs.cancel, jobs.retry):
        with pytest.raises(JobNotFoundError, match=r"there is no job 99: `unify jobs list`"):
            call(99)


@on_sqlite
def test_what_cannot_be_a_job_is_refused_before_anything_is_written(jobs):
    for kind, more in (
        ("unknown", {}),
        ("idle", {"arguments": {"other": 1}}),
        ("idle", {"key": "x" * 201}),
        ("idle", {"key": ""}),
    ):
        with pytest.raises(ConfigurationError):
            jobs.add(kind, **more)
    assert jobs.page() == []


@on_sqlite
def test_a_damaged_row_hides_no_other_and_is_not_run(jobs, catalog):
    broken, whole = jobs.add("idle"), jobs.add("idle")
    with catalog.writing() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET arguments = CAST(x'ff' AS TEXT) WHERE id = {broken.id}")
    assert [job.id for job in jobs.page()] == [whole.id, broken.id]
    assert jobs.get(broken.id).arguments == {}
