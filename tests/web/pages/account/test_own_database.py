"""The page on which users connect a database of their own."""

from __future__ import annotations

import pytest

from tests.support.applications import tenant_of
from tests.support.engines import fresh_database, use
from tests.web.conftest import account, browser_of

PATH = "/settings/database/own"


@pytest.fixture
def allowed(make_parts):
    return make_parts(allow_user_databases="true", tenant_db_hosts_allowed="127.0.0.0/8")


@pytest.fixture
def ada(allowed):
    import web

    return browser_of(web.create(allowed), account(allowed, "ada@example.org"))


@pytest.fixture
def typed(request, tmp_path, ada):
    import sqlalchemy as sa

    with fresh_database(use(request, "postgresql"), tmp_path) as url:
        where = sa.make_url(url)
        yield {
            "csrf_token": ada.csrf,
            "db_type": "postgresql",
            "db_host": where.host,
            "db_port": str(where.port),
            "db_name": where.database,
            "db_user": where.username,
            "db_password": str(where.password or ""),
        }


def test_where_the_operator_did_not_say_so_there_is_no_such_page(browser):
    assert PATH not in browser.get("/settings/database").text
    assert browser.get(PATH).status_code == 404
    assert browser.post(PATH, data={"csrf_token": browser.csrf}).status_code == 404


def test_a_database_is_tried_without_a_change_and_then_connected(ada, typed, allowed):
    assert PATH in ada.get("/settings/database").text
    tried = ada.post(PATH, data=typed | {"step": "probe"})
    assert "This would work" in tried.text
    assert tenant_of(allowed.manager, ada.user.id).db_type == "sqlite"
    done = ada.post(PATH, data=typed)
    assert (done.status_code, done.location) == (303, "/settings/database")
    place = tenant_of(allowed.manager, ada.user.id)
    assert (place.db_type, place.origin, place.owned) == ("postgresql", "user", False)
    assert "PostgreSQL" in ada.get("/settings/database").text
    ada.post("/tasks", data={"csrf_token": ada.csrf, "title": "In my own"})
    assert "In my own" in ada.get("/tasks").text


@pytest.mark.parametrize(
    ("field", "text"), [("db_host", "169.254.169.254"), ("db_host", "x/y"), ("db_name", "a b"), ("db_port", "70000")]
)
def test_what_cannot_be_is_said_beside_its_field_and_nothing_is_lost(ada, typed, allowed, field, text):
    answer = ada.post(PATH, data=typed | {field: text})
    assert answer.status_code == 422
    control = next(line for line in answer.text.splitlines() if f'name="{field}"' in line)
    assert 'aria-invalid="true"' in control
    assert text in control
    assert tenant_of(allowed.manager, ada.user.id).db_type == "sqlite"
