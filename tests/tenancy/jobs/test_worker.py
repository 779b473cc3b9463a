"""Workers run each job once, or again after they were cut off; nobody's late write counts."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from tenancy import context
from tenancy.catalog import Catalog, job_claims, job_workers, now
from tenancy.catalog.jobs import JobState
from tenancy.catalog.tables import jobs as rows
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import ConfigurationError, DatabaseBusyError
from tenancy.jobs.kinds import Argument, Kind
from tenancy.jobs.queue import Jobs
from tests.support.applications import PATIENCE_S
from tests.support.jobs import until, worker_of, working

NUMBER = (Argument("number", "A number.", "number"),)


@pytest.fixture
def jobs(catalog: Catalog) -> Jobs:
    return Jobs(catalog, Keyring([generate_key()]))


def kind(jobs: Jobs, name: str, handler, **more) -> None:
    jobs.kinds.register(Kind(name, f"Do {name}.", handler, NUMBER, **more))


def test_each_job_is_done_once_by_one_of_several_workers(jobs):
    done: list[int] = []
    kind(jobs, "count", lambda run, arguments: done.append(arguments["number"]))
    added = [jobs.add("count", {"number": number}).id for number in range(20)]
    with working(jobs, worker_of(jobs), worker_of(jobs)):
        ended = [jobs.wait(job_id, PATIENCE_S) for job_id in added]
    assert sorted(done) == list(range(20))
    assert {(job.state, job.attempt, job.runner is not None) for job in ended} == {(JobState.DONE, 1, True)}


def test_a_job_gets_its_arguments_and_secrets_and_leaves_result_progress_and_log(jobs):
    met = {}

    def handler(run, arguments):
        met.update(arguments, **run.secrets, actor=context.current().actor_id, kind=context.current().actor)
        run.progress(3, 4, "nearly")
        run.log("a line\nof two")
        return {"rows": 7}

    kind(jobs, "tell", handler)
    job = jobs.add("tell", {"number": 5}, secrets={"password": "a secret"}, actor_id=9)
    assert "a secret" not in str(job.sealed) + repr(job.to_dict())
    with working(jobs):
        job = jobs.wait(job.id, PATIENCE_S)
    assert met == {"number": 5, "password": "a secret", "actor": 9, "kind": "job"}
    assert (job.result, tuple(job.progress), job.sealed) == ({"rows": 7}, (3, 4, "nearly"), None)
    assert job.log.endswith(" a line of two")


def test_a_job_that_fails_is_tried_again_later_each_time_longer(jobs, catalog):
    def handler(run, arguments):
        raise DatabaseBusyError("it is busy.")

    kind(jobs, "fail", handler, most_attempts=3)
    job = jobs.add("fail")
    waits = []
    with working(jobs):
        for number in (1, 2):
            until(lambda number=number: jobs.get(job.id).failures == number)
            waiting = jobs.get(job.id)
            with catalog.writing() as connection:
                waits.append((waiting.due_at - now(connection)).total_seconds())
                connection.execute(rows.update(), {"due_at": now(connection)})
        ended = jobs.wait(job.id, PATIENCE_S)
    assert 5 < waits[0] <= 10 < waits[1] <= 20
    assert (waiting.state, waiting.error, waiting.error_code) == (JobState.DUE, "it is busy.", "database_busy")
    assert (ended.state, ended.failures, ended.attempt) == (JobState.FAILED, 3, 3)
    assert ended.log.count("it is busy.") == 3


def test_an_error_that_would_come_again_ends_a_job_at_once(jobs):
    def handler(run, arguments):
        raise ConfigurationError("that cannot be.")

    kind(jobs, "wrong", handler)
    job = jobs.add("wrong")
    with working(jobs):
        assert jobs.wait(job.id, PATIENCE_S).state is JobState.FAILED
    assert jobs.get(job.id).failures == 1


def test_of_an_unexpected_error_only_its_type_is_told(jobs, caplog):
    def handler(run, arguments):
        raise ValueError("with a secret in it")

    kind(jobs, "break", handler, most_attempts=1)
    job = jobs.add("break")
    with working(jobs):
        ended = jobs.wait(job.id, PATIENCE_S)
    assert (ended.error, ended.error_code) == ("unexpected ValueError: see the log.", "job_failed")
    assert "with a secret" not in str(ended.to_dict())


def test_a_running_job_stops_when_it_is_cancelled_and_undoes_what_it_did(jobs):
    begun, undone = threading.Event(), threading.Event()

    def handler(run, arguments):
        begun.set()
        try:
            until(lambda: run.check())
        finally:
            undone.set()

    kind(jobs, "long", handler)
    job = jobs.add("long")
    with working(jobs):
        assert begun.wait(PATIENCE_S)
        asked = jobs.cancel(job.id)
        ended = jobs.wait(job.id, PATIENCE_S)
    assert (asked.state, asked.cancelling) == (JobState.RUNNING, True)
    assert (ended.state, ended.cancelling, undone.is_set()) == (JobState.CANCELLED, False, True)


def test_a_job_whose_worker_is_gone_is_taken_again_once_its_claim_has_expired(jobs, catalog):
    done = []
    kind(jobs, "again", lambda run, arguments: done.append(run.attempt))
    job = jobs.add("again")
    with catalog.writing() as connection:
        (seen,) = job_claims.free(connection, ["again"], 1)
        assert job_claims.take(connection, seen, "gone", 60.0) is not None
        assert job_claims.free(connection, ["again"], 1) == []
    with working(jobs):
        time.sleep(0.2)
        assert done == []
        with catalog.writing() as connection:
            connection.execute(rows.update(), {"expires_at": now(connection) - timedelta(seconds=1)})
        ended = jobs.wait(job.id, PATIENCE_S)
    assert (done, ended.attempt, ended.interruptions) == ([2], 2, 1)


def test_a_runner_that_wakes_late_is_stopped_and_its_outcome_is_refused(jobs, catalog):
    begun, go_on, stopped = threading.Event(), threading.Event(), threading.Event()

    def handler(run, arguments):
        if run.attempt > 1:
            return {"by": "the second"}
        begun.set()
        go_on.wait(PATIENCE_S)
        stopped.set()
        return {"by": "the first"}

    kind(jobs, "late", handler)
    job = jobs.add("late")
    with working(jobs, worker_of(jobs, 1)):
        assert begun.wait(PATIENCE_S)
        with catalog.writing() as connection:  # what another worker does, as soon as the claim has expired
            connection.execute(rows.update(), {"expires_at": now(connection) - timedelta(seconds=1)})
            (seen,) = job_claims.free(connection, ["late"], 1)
            other = job_claims.take(connection, seen, "another", 60.0)
        assert other is not None
        go_on.set()
        assert stopped.wait(PATIENCE_S)
        time.sleep(0.2)
        assert (jobs.get(job.id).state, jobs.get(job.id).runner) == (JobState.RUNNING, "another")


def test_a_worker_that_ends_gives_back_what_it_cannot_finish(jobs):
    begun = threading.Event()

    def handler(run, arguments):
        begun.set()
        until(lambda: run.check())

    kind(jobs, "endless", handler)
    job = jobs.add("endless")
    stop, worker = threading.Event(), worker_of(jobs)
    thread = threading.Thread(target=lambda: worker.run(stop, finish_s=0.1, stop_s=PATIENCE_S))
    thread.start()
    assert begun.wait(PATIENCE_S)
    stop.set()
    thread.join(PATIENCE_S)
    given_back = jobs.get(job.id)
    assert (given_back.state, given_back.failures, given_back.interruptions) == (JobState.DUE, 0, 0)
    assert jobs.status()["workers"] == []


def test_a_worker_beats_while_it_runs_and_says_what_it_does(jobs):
    go_on = threading.Event()
    kind(jobs, "wait", lambda run, arguments: {"waited": go_on.wait(PATIENCE_S)})
    job = jobs.add("wait")
    with working(jobs, worker_of(jobs, 3, heartbeat_s=0.01)):
        until(lambda: [each["running"] for each in jobs.status()["workers"]] == [1])
        (worker,) = jobs.status()["workers"]
        assert worker["threads"] == 3
        go_on.set()
        jobs.wait(job.id, PATIENCE_S)
    assert jobs.status() == {"workers": [], "jobs": {"due": 0, "running": 0, "failed": 0}, "waiting_s": None}


def test_a_worker_that_was_silent_for_three_heartbeats_counts_as_gone(catalog):
    from tenancy.catalog.tables import job_workers as workers
    from tenancy.types import new_id

    with catalog.writing() as connection:
        job_workers.beat(connection, new_id(), {"host": "h", "pid": 1, "threads": 2, "running": 0})
        assert len(job_workers.alive(connection)) == 1
        connection.execute(workers.update(), {"beaten_at": now(connection) - timedelta(seconds=15.5)})
        assert job_workers.alive(connection) == []
        connection.execute(workers.update(), {"beaten_at": now(connection) + timedelta(days=1)})
        assert job_workers.alive(connection) == []


def test_jobs_of_kinds_that_a_worker_does_not_know_are_left_to_others(jobs, catalog):
    kind(jobs, "newer", lambda run, arguments: None)
    job = jobs.add("newer")
    older = Jobs(catalog, Keyring([generate_key()]))
    with working(older):
        time.sleep(0.2)
    assert jobs.get(job.id).state is JobState.DUE


def test_a_job_that_is_cut_off_again_and_again_is_given_up(jobs, catalog):
    kind(jobs, "deadly", lambda run, arguments: None)
    job = jobs.add("deadly")
    for _ in range(job_claims.MOST_INTERRUPTIONS + 1):
        with catalog.writing() as connection:
            (seen,) = job_claims.free(connection, ["deadly"], 1)
            assert job_claims.take(connection, seen, "killed", 60.0) is not None
            connection.execute(rows.update(), {"expires_at": now(connection) - timedelta(seconds=1)})
    with catalog.writing() as connection:
        (seen,) = job_claims.free(connection, ["deadly"], 1)
        assert job_claims.take(connection, seen, "spared", 60.0) is None
    ended = jobs.get(job.id)
    assert (ended.state, ended.error_code, ended.sealed) == (JobState.FAILED, "job_interrupted", None)


def test_a_claim_from_a_clock_that_was_ahead_is_void(jobs, catalog):
    kind(jobs, "ahead", lambda run, arguments: None)
    job = jobs.add("ahead")
    with catalog.writing() as connection:
        (seen,) = job_claims.free(connection, ["ahead"], 1)
        assert job_claims.take(connection, seen, "ahead", 60.0) is not None
        connection.execute(rows.update(), {"expires_at": now(connection) + timedelta(days=1)})
    with working(jobs):
        assert jobs.wait(job.id, PATIENCE_S).attempt == 2


def test_the_log_has_a_line_for_each_beginning_and_end_and_no_arguments(jobs, caplog):
    kind(jobs, "quiet", lambda run, arguments: None)
    with caplog.at_level("INFO", "tenancy.jobs.worker"), working(jobs):
        job = jobs.wait(jobs.add("quiet", {"number": 987654}).id, PATIENCE_S)
    told = [record.getMessage() for record in caplog.records if f"job {job.id} " in record.getMessage()]
    assert told == [f"job {job.id} (quiet) begins, attempt 1", f"job {job.id} (quiet) ends, attempt 1: done"]
    assert "987654" not in caplog.text
