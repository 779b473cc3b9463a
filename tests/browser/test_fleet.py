"""An administrator brings the fleet to head in a browser, with scripts and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import web
from tests.support import visits
from tests.support.applications import PATIENCE_S, add_tenants, set_back
from tests.support.jobs import working

if TYPE_CHECKING:
    from compose import Parts

pytestmark = pytest.mark.browser


@pytest.fixture
def fleet(make_parts) -> Parts:
    """Give the parts with an administrator and three users who are behind."""
    parts = make_parts()
    root = parts.accounts.create("root@example.org", password=visits.PASSWORD, is_admin=True)
    parts.manager.provision(root.id)
    set_back(parts.manager, add_tenants(parts, 3))
    return parts


def test_a_run_is_started_and_its_page_renews_itself_until_it_ends(fleet, serve, browse):
    root = arrived(browse(serve(web.create(fleet))))
    root.press("Dry run")
    root.page.get_by_text("3 databases would be migrated to").wait_for()
    root.press("Start")
    with working(fleet.manager):
        root.page.get_by_text("3 of 3 databases finished").wait_for()
        root.page.get_by_role("link", name="Roll back").wait_for()  # the whole page was asked for again
    assert root.page.locator("[hx-trigger]").count() == 0
    assert root.problems == []
    assert fleet.manager.fleet.status()["at_head"] == 4


def test_without_scripts_a_run_is_refreshed_by_a_link(fleet, serve, browse):
    root = arrived(browse(serve(web.create(fleet)), java_script_enabled=False))
    root.press("Start")
    visits.shows(root, "Run 1: migrate")
    ended(fleet, 1)
    root.open("/admin/fleet/1")
    visits.link(root, "Roll back").click()
    root.press("Roll back")
    visits.shows(root, "Run 2: roll back")
    ended(fleet, 2)
    root.open("/admin/fleet/2?state=done")
    assert root.page.locator("tbody tr").count() == 3
    assert fleet.manager.fleet.status()["behind"] == 3


def arrived(visitor: Any) -> Any:
    """Sign in and go to the page of the fleet."""
    visitor.open("/auth/login")
    visits.sign_in(visitor, "root@example.org")
    visitor.page.wait_for_url("**/")
    visitor.open("/admin/fleet")
    return visitor


def ended(fleet: Parts, job_id: int) -> None:
    """Have a worker do the job of a run."""
    with working(fleet.manager):
        assert fleet.manager.jobs.wait(job_id, PATIENCE_S).state == "done"
