"""A schedule starts one job each time, by one of many workers, and makes up once for what was missed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tenancy.catalog import now
from tenancy.catalog.tables import schedules as rows
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import ConfigurationError, ScheduleNotFoundError
from tenancy.jobs.kinds import Argument, Kind
from tenancy.jobs.queue import Jobs
from tenancy.jobs.schedules import Schedules
from tests.support.applications import PATIENCE_S
from tests.support.jobs import until, working


@pytest.fixture
def schedules(catalog):
    jobs = Jobs(catalog, Keyring([generate_key()]))
    jobs.kinds.register(Kind("idle", "Do nothing.", lambda run, arguments: None, (Argument("all", "", "switch"),)))
    return Schedules(jobs)


def put_back(schedules, **by):
    """Have all schedules be due since some time ago."""
    with schedules.catalog.writing() as connection:
        moment = (now(connection) - timedelta(**by)).replace(second=0, microsecond=0)
        connection.execute(rows.update(), {"next_due_at": moment})


def jobs_of(schedules):
    return schedules.jobs.page(100)


def test_a_schedule_is_listed_with_its_next_time_and_removed(schedules):
    added = schedules.add("0  3 * * *", "idle", {"all": True}, "Europe/Berlin", actor_id=None)
    (listed,) = schedules.listed()
    assert listed == added
    assert (added.cron, added.zone, added.kind, added.arguments) == (
        "0 3 * * *",
        "Europe/Berlin",
        "idle",
        {"all": True},
    )
    assert datetime.now(UTC) < added.next_due_at < datetime.now(UTC) + timedelta(days=1, hours=2)
    assert schedules.remove(added.id).id == added.id
    for call in (schedules.get, schedules.remove):
        with pytest.raises(ScheduleNotFoundError, match=r"there is no schedule \d+: `unify schedule list`"):
            call(added.id)


def test_what_cannot_be_a_schedule_is_refused(schedules):
    for cron, kind, arguments, zone, field in (
        ("0 25 * * *", "idle", {}, "UTC", "cron"),
        ("0 3 * * *", "other", {}, "UTC", "kind"),
        ("0 3 * * *", "idle", {"some": 1}, "UTC", "some"),
        ("0 3 * * *", "idle", {}, "Mars", "zone"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            schedules.add(cron, kind, arguments, zone)
        assert refused.value.field == field
    assert schedules.listed() == []


def test_what_was_missed_is_made_up_for_once(schedules):
    added = schedules.add("0 * * * *", "idle", {"all": True}, actor_id=7)
    assert schedules.start_due() == []
    put_back(schedules, days=3)
    (job_id,) = schedules.start_due()
    assert schedules.start_due() == []
    job, after = schedules.jobs.get(job_id), schedules.get(added.id)
    assert (job.schedule_id, job.actor_id, job.arguments) == (added.id, 7, {"all": True})
    assert after.next_due_at == added.next_due_at
    assert after.last_job_id == job_id


def test_while_its_job_is_unfinished_no_second_one_is_started(schedules):
    schedules.add("0 * * * *", "idle")
    put_back(schedules, hours=2)
    (first,) = schedules.start_due()
    put_back(schedules, hours=1)
    assert schedules.start_due() == [first]
    assert len(jobs_of(schedules)) == 1
    schedules.jobs.cancel(first)
    put_back(schedules, hours=1)
    assert schedules.start_due() != [first]


def test_many_workers_start_one_job(schedules):
    schedules.add("0 * * * *", "idle")
    put_back(schedules, hours=5)
    start = threading.Barrier(4)

    def begin():
        start.wait()
        schedules.start_due()

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs_of(schedules)) == 1


def test_a_worker_starts_what_is_due_and_does_it(schedules):
    added = schedules.add("0 * * * *", "idle")
    put_back(schedules, minutes=1)
    with working(schedules.jobs):
        until(lambda: schedules.get(added.id).last_job_id)
        assert schedules.jobs.wait(schedules.get(added.id).last_job_id, PATIENCE_S).state == "done"


def test_a_time_that_a_clock_ahead_wrote_is_brought_back(schedules):
    added = schedules.add("0 * * * *", "idle")
    put_back(schedules, days=-400)
    schedules.correct()
    assert schedules.get(added.id).next_due_at <= added.next_due_at + timedelta(hours=1)


def test_a_schedule_of_a_later_version_is_left_to_its_workers(schedules, caplog):
    schedules.add("0 * * * *", "idle")
    put_back(schedules, hours=1)
    older = Schedules(Jobs(schedules.catalog, Keyring([generate_key()])))
    assert older.start_due() == []
    assert "is passed over" in caplog.text
    assert len(schedules.start_due()) == 1


def test_adding_and_removing_stand_in_the_audit_log(schedules, catalog):
    schedules.remove(schedules.add("0 3 * * *", "idle").id)
    with catalog.reading() as connection:
        found = catalog.audit.page(connection, limit=10)
    assert [row["action"] for row in found] == ["schedule.remove", "schedule.add"]
