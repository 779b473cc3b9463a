"""What a request is answered while its tenant is behind or being migrated."""

from __future__ import annotations

import pytest

from tenancy.models import State
from tests.support.applications import change_config, set_back


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_tenant_in_migration_is_503_and_soon_asked_again(browser, ada, parts, first, method):
    change_config(parts.manager, first.id, state=State.MIGRATING)
    answer = getattr(ada, method)("/api/v1/tasks", **({"json": {"title": "x"}} if method == "post" else {}))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    page = browser.get("/tasks")
    assert (page.status_code, page.headers["Retry-After"], page.headers["Refresh"]) == (503, "1", "1")
    change_config(parts.manager, first.id, state=State.READY)
    assert browser.get("/tasks").status_code == 200


def test_a_tenant_that_is_behind_is_503_and_no_page_reloads_for_ever(browser, parts, first):
    set_back(parts.manager, [first.id])
    page = browser.get("/tasks")
    assert page.status_code == 503
    assert "Retry-After" in page.headers
    assert "Refresh" not in page.headers
