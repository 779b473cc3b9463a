"""The catalog stands on any product, and in shared mode everybody's rows beside it: what people do goes on alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import compose
import web
from settings import Settings
from tests.conftest import PASSWORD, make_user
from tests.support.engines import drop_shared_login, fresh_database
from tests.web.conftest import browser_of, caller

if TYPE_CHECKING:
    from compose import Parts

PAGES = (
    "/",
    "/tasks",
    "/notes",
    "/events",
    "/settings",
    "/admin/",
    "/admin/users?q=ad",
    "/admin/audit",
    "/admin/health",
)


@pytest.fixture(params=["true", "false"], ids=["a-database-each", "one-shared-database"])
def parts_there(
    request: pytest.FixtureRequest, engine_name: str, make_settings: Callable[..., Settings], tmp_path: Path
) -> Iterator[Parts]:
    """Give the joined parts over a catalog on each product in turn, in each mode."""
    with fresh_database(engine_name, tmp_path) as url:
        parts = compose.build(make_settings(admin_database_url=url, multi_tenant_mode=request.param))
        parts.manager.prepare_catalog()
        yield parts
        parts.close()
        if engine_name != "sqlite":
            drop_shared_login(engine_name, parts)
            parts.catalog.close()


def test_people_sign_in_write_and_see_their_own_and_an_operator_sees_to_it(parts_there: Parts) -> None:
    app = web.create(parts_there)
    root, other = make_user(parts_there, "root@example.org"), make_user(parts_there, "bob@example.org")
    parts_there.accounts.promote(root.id)
    mine, theirs = caller(app, root), caller(app, other)
    assert mine.post("/api/v1/tasks", json={"title": "🐎 first"}).status_code == 201
    assert [row["title"] for row in mine.get("/api/v1/tasks").json["items"]] == ["🐎 first"]
    assert theirs.get("/api/v1/tasks").json["items"] == []
    assert mine.get("/readyz").status_code == 200
    browser = browser_of(app, root).client
    assert {path: browser.get(path).status_code for path in PAGES} == dict.fromkeys(PAGES, 200)
    assert parts_there.accounts.sign_in(other.email, PASSWORD).user.id == other.id
    parts_there.accounts.deactivate(other.id)
    assert theirs.get("/api/v1/tasks").status_code == 401
    with parts_there.catalog.reading() as connection:
        assert parts_there.catalog.audit.verify(connection)["rows"] > 2
