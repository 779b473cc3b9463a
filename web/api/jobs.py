"""Serve administrators' JSON calls about jobs and schedules; ``admin.py`` serves those about databases."""

from __future__ import annotations

from flask import Blueprint, Response

from tenancy import names
from tenancy.errors import ConfigurationError
from web.api.queries import filters, read_query, refuse_query, scope
from web.auth.guards import api_admin_required
from web.auth.sessions import signed_in
from web.http import cursors
from web.http.errors import NOT_THERE, Problem
from web.http.json_io import answer, optional_body, require_json_accepted
from web.parts import current_parts
from web.schemas import JobsQuery, Strict


def register(blueprint: Blueprint) -> None:
    """Add the calls to those of administrators."""
    blueprint.add_url_rule("/job/list", view_func=jobs)
    blueprint.add_url_rule("/job/status", view_func=job_status)
    blueprint.add_url_rule("/job/<job_id>/info", view_func=job_info)
    blueprint.add_url_rule("/job/<job_id>/cancel", view_func=job_cancel, methods=["POST"])
    blueprint.add_url_rule("/job/<job_id>/retry", view_func=job_retry, methods=["POST"])
    blueprint.add_url_rule("/schedule/list", view_func=schedules)


@api_admin_required
def jobs() -> Response:
    """Return a page of jobs, newest first."""
    require_json_accepted()
    query = read_query(JobsQuery)
    asker, where = signed_in().user.id, scope("jobs", query)
    before = cursors.read(query.cursor, user_id=asker, scope=where) if query.cursor else None
    given = filters(query)
    states = [str(given["state"])] if given.get("state") else ()
    found = current_parts().manager.jobs.page(query.limit + 1, before, states=states, kind=query.kind)
    page, more = found[: query.limit], len(found) > query.limit
    next_cursor = cursors.write(page[-1].id, user_id=asker, scope=where) if more else None
    return answer({"items": [job.to_dict() for job in page], "next_cursor": next_cursor})


@api_admin_required
def job_status() -> Response:
    """Return the workers that take jobs, and how many jobs are due, running and failed."""
    require_json_accepted()
    refuse_query()
    return answer(current_parts().manager.jobs.status())


@api_admin_required
def job_info(job_id: str) -> Response:
    """Return one job, without its secrets."""
    require_json_accepted()
    refuse_query()
    return answer(current_parts().manager.jobs.get(_id(job_id)).to_dict())


@api_admin_required
def job_cancel(job_id: str) -> Response:
    """Cancel a job: at once where nobody works on it, else as soon as its work can be left."""
    _refuse_input()
    return answer(current_parts().manager.jobs.cancel(_id(job_id)).to_dict())


@api_admin_required
def job_retry(job_id: str) -> Response:
    """Make a job due now that failed, was cancelled, or waits for its next attempt."""
    _refuse_input()
    return answer(current_parts().manager.jobs.retry(_id(job_id)).to_dict())


@api_admin_required
def schedules() -> Response:
    """Return all schedules, oldest first."""
    require_json_accepted()
    refuse_query()
    return answer({"items": [each.to_dict() for each in current_parts().manager.schedules.listed()]})


def _refuse_input() -> None:
    require_json_accepted()
    refuse_query()
    optional_body(Strict)


def _id(text: str) -> int:
    try:
        return names.user_id(text)  # the catalog's numbers all have the same bounds
    except ConfigurationError:
        raise Problem(404, "not_found", NOT_THERE) from None
