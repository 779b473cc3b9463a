"""The console's pages of jobs and schedules."""

from __future__ import annotations

import pytest

from tenancy.catalog.jobs import JobState
from tenancy.jobs.kinds import Argument, Kind
from tests.support.jobs import keep_jobs, worker_of, working

PATH, SCHEDULES = "/admin/jobs", "/admin/schedules"


@pytest.fixture
def jobs(parts):
    """Leave a job that waits (1), one that failed (2) and a schedule (1) behind."""
    keep_jobs(parts.manager)
    return parts.manager.jobs


def test_jobs_are_listed_filtered_and_shown(root, jobs):
    page = root.get(PATH)
    for shown in ("Job 1", "Job 2", "3 of 10", "it cannot be.", "unify jobs list"):
        assert shown in page.html
    assert "Job 1" not in root.get(f"{PATH}?state=failed").html
    assert "Job 2" in root.get(f"{PATH}?state=failed&kind=idle").html
    one = root.get(f"{PATH}/2").html
    for shown in ("Job 2: idle", "a line of the log", "of at most", "unify jobs retry 2", "reading"):
        assert shown in one
    root.get(f"{PATH}?state=odd", 400)
    root.get(f"{PATH}?kind=odd", 400)
    root.get(f"{PATH}?before=x", 400)


def test_a_job_is_retried_and_cancelled(root, jobs, parts):
    assert "unify jobs retry 2" in root.get(f"{PATH}/2/retry").html
    assert jobs.get(2).state is JobState.FAILED, "to ask changes nothing"
    assert root.send(f"{PATH}/2/retry").location == f"{PATH}/2"
    assert "Retry: job 2 is due." in root.get(f"{PATH}/2").html
    root.send(f"{PATH}/2/cancel")
    assert jobs.get(2).state is JobState.CANCELLED
    root.post(f"{PATH}/2/cancel")
    assert "Nothing was changed: job 2 is cancelled" in root.get(f"{PATH}/2").html
    rows = [(row["action"], row["actor_email"]) for row in parts.manager.audit.page(action="job.cancel")]
    assert rows == [("job.cancel", "root@example.org")]


def test_the_progress_renews_itself_until_the_job_ends(root, jobs):
    asked = f"{PATH}/1/progress?was=due"
    assert f'hx-get="{asked}"' in root.get(f"{PATH}/1").html
    assert root.client.get(asked).location == f"{PATH}/1"
    assert "HX-Refresh" not in root.client.get(asked, headers={"HX-Request": "true"}).headers
    jobs.cancel(1)
    ended = root.client.get(asked, headers={"HX-Request": "true"})
    assert ended.headers["HX-Refresh"] == "true"
    assert "hx-get" not in ended.text


def test_pages_that_start_jobs_say_where_no_worker_runs(root, jobs, parts):
    for path in (PATH, SCHEDULES, "/admin/fleet"):
        assert "No worker takes jobs" in root.get(path).html
    assert "none runs" in root.get("/admin/health").html
    assert "unify_job_workers 0.0" in root.client.get("/metrics").text
    worker = worker_of(parts.manager, 3)
    with working(parts.manager, worker):
        jobs.wait(1)
        for path in (PATH, SCHEDULES, "/admin/fleet"):
            assert "No worker takes jobs" not in root.get(path).html
        assert "none runs" not in root.get("/admin/health").html
        shown = root.client.get("/metrics").text
    assert "unify_job_workers 1.0" in shown
    assert 'unify_jobs{state="failed"} 1.0' in shown


def test_a_schedule_is_added_and_removed(root, jobs, parts):
    page = root.get(SCHEDULES)
    for shown in ("idle --all", "0 3 * * *", "Europe/Berlin", "idle [--all]", "Do nothing."):
        assert shown in page.html
    typed = {"kind": "idle", "arguments": "--all", "cron": "*/5 * * * *", "time_zone": "America/New_York"}
    assert root.post(SCHEDULES, **typed).location == SCHEDULES
    added = parts.manager.schedules.listed()[-1]
    assert (added.cron, added.zone, added.arguments) == ("*/5 * * * *", "America/New_York", {"all": True})
    assert f"Schedule {added.id} has been added." in root.get(SCHEDULES).html
    assert f"unify schedule remove {added.id}" in root.get(f"{SCHEDULES}/{added.id}/remove").html
    root.send(f"{SCHEDULES}/{added.id}/remove")
    assert len(parts.manager.schedules.listed()) == 1
    root.post(f"{SCHEDULES}/{added.id}/remove")
    assert "no longer there" in root.get(SCHEDULES).html


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cron": "61 * * * *"}, "The minute is a number from 0 to 59"),
        ({"cron": ""}, "This field is required."),
        ({"time_zone": "Mars"}, "There is no time zone"),
        ({"kind": "odd"}, "There is no job"),
        ({"arguments": "--odd"}, "takes no"),
        ({"arguments": "'"}, "quotation mark"),
    ],
)
def test_what_cannot_be_a_schedule_is_said_beside_its_control(root, jobs, parts, changes, said):
    typed = {"kind": "idle", "arguments": "", "cron": "0 3 * * *", "time_zone": "UTC"} | changes
    page = root.post(SCHEDULES, **typed)
    assert page.status_code == 422
    assert said in page.text
    assert len(parts.manager.schedules.listed()) == 1


def test_what_a_job_says_is_text_on_its_page(root, parts):
    parts.manager.jobs.kinds.register(Kind("odd", "", lambda run, arguments: None, (Argument("text", ""),)))
    job = parts.manager.jobs.add("odd", {"text": "<script>alert(1)</script>"})
    assert "<script>alert" not in root.get(f"{PATH}/{job.id}").html


@pytest.mark.parametrize("key", ["0", "99", str(2**31), "9" * 60, "-1", "x"])
def test_one_that_is_not_there_is_404(root, key):
    for path in (f"{PATH}/{key}", f"{PATH}/{key}/cancel", f"{PATH}/{key}/retry", f"{SCHEDULES}/{key}/remove"):
        root.get(path, 404)


def test_everybody_else_is_refused(ada, visit, jobs, parts):
    for path in (PATH, f"{PATH}/1", f"{PATH}/1/cancel", SCHEDULES, f"{SCHEDULES}/1/remove"):
        ada.get(path, 403)
        assert visit().client.get(path).status_code == 302
    for path in (f"{PATH}/1/cancel", f"{PATH}/2/retry", f"{SCHEDULES}/1/remove", SCHEDULES):
        assert ada.post(path).status_code == 403
    assert jobs.get(1).state is JobState.DUE
    assert len(parts.manager.schedules.listed()) == 1
