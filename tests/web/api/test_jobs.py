"""Hold the administrators' calls about jobs to what the document promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flask import Flask

from tests.support.jobs import keep_jobs
from tests.web.conftest import Caller, caller, make_admin, users_of

if TYPE_CHECKING:
    from compose import Parts


@pytest.fixture
def admin(app: Flask, parts: Parts) -> Caller:
    keep_jobs(parts.manager)
    return caller(app, make_admin(parts))


def test_jobs_are_listed_by_pages_and_filters(admin: Caller) -> None:
    first = admin.get("/admin/job/list?limit=1").json
    assert [job["id"] for job in first["items"]] == [2]
    second = admin.get(f"/admin/job/list?limit=1&cursor={first['next_cursor']}").json
    assert ([job["id"] for job in second["items"]], second["next_cursor"]) == ([1], None)
    assert [job["id"] for job in admin.get("/admin/job/list?state=failed&kind=idle").json["items"]] == [2]
    assert admin.get("/admin/job/list?state=odd").status_code == 422
    assert admin.get("/admin/job/list?cursor=odd").status_code in (400, 422)


def test_one_job_is_shown_retried_and_cancelled(admin: Caller) -> None:
    shown = admin.get("/admin/job/2/info").json
    assert (shown["state"], shown["progress"]) == ("failed", {"done": 3, "total": 10, "text": "reading"})
    assert admin.post("/admin/job/2/retry").json["state"] == "due"
    assert admin.post("/admin/job/2/cancel").json["state"] == "cancelled"
    refused = admin.post("/admin/job/2/cancel")
    assert (refused.status_code, refused.json["code"]) == (409, "job_state")
    for key in ("0", "99", "x", "9" * 30, "-1"):
        assert admin.get(f"/admin/job/{key}/info").status_code == 404
        assert admin.post(f"/admin/job/{key}/cancel").status_code == 404


def test_workers_and_schedules_are_shown(admin: Caller) -> None:
    status = admin.get("/admin/job/status").json
    assert (status["workers"], status["jobs"]) == ([], {"due": 1, "running": 0, "failed": 1})
    (schedule,) = admin.get("/admin/schedule/list").json["items"]
    assert (schedule["cron"], schedule["zone"], schedule["arguments"]) == ("0 3 * * *", "Europe/Berlin", {"all": True})


def test_a_key_that_only_reads_changes_nothing(app: Flask, parts: Parts, admin: Caller) -> None:
    reader = caller(app, parts.accounts.find("root@example.org"), read_only=True)
    assert reader.get("/admin/job/1/info").status_code == 200
    assert reader.post("/admin/job/1/cancel").status_code == 403
    assert caller(app, users_of(parts)[0]).get("/admin/job/list").status_code == 403
