"""The console's page of database servers."""

from __future__ import annotations

import html
import re
import shlex

import pytest

from tests.support.browsing import Page
from tests.support.engines import server_address, use

PATH = "/admin/servers"


@pytest.fixture
def typed(request, root):
    use(request, "postgresql")
    where = server_address("postgresql")
    return {
        "csrf_token": root.token,
        "name": "First one",
        "db_type": "postgresql",
        "db_host": where.host,
        "db_port": str(where.port),
        "db_user": where.username,
        "db_password": str(where.password or ""),
        "tls": "prefer",
        "weight": "2",
    }


def test_a_server_is_registered_drained_tested_and_forgotten(root, typed, parts):
    assert "No server is registered" in root.get(PATH).html
    done = root.client.post(PATH, data=typed)
    assert (done.status_code, done.location) == (303, PATH)
    page = root.get(PATH).html
    assert "First one" in page
    assert "unify servers list" in page
    tested = root.client.post(f"{PATH}/First one/test", data=typed)
    assert "The server answers and takes the login. Its login may create databases and logins." in tested.text
    for action, state in (("drain", "draining"), ("accept", "accepting")):
        asked = root.get(f"{PATH}/First one/{action}").html
        assert f"unify servers {action} &#39;First one&#39;" in asked
        assert root.client.post(f"{PATH}/First one/{action}", data=typed).status_code == 303
        assert parts.manager.servers.get("first one")["state"] == state
    root.client.post(f"{PATH}/First one/remove", data=typed)
    assert parts.manager.servers() == []


def test_a_new_password_is_kept_once_it_opens_the_server_and_is_shown_nowhere(root, typed, parts):
    root.client.post(PATH, data=typed)
    asked = root.get(f"{PATH}/First one/password").html
    assert "unify servers set-password --password-stdin" in asked
    changed = root.client.post(f"{PATH}/First one/password", data=typed | {"password": "hunter2"})
    assert (changed.status_code, changed.location) == (303, PATH)
    assert "The new password of server" in root.get(PATH).html
    refused = root.client.post(f"{PATH}/First one/password", data=typed | {"password": "hunter\x002"})
    assert refused.status_code == 422
    assert "Nothing was changed: " in refused.text
    assert "hunter" not in refused.text
    assert root.client.get(f"{PATH}/Another one/password").status_code == 404


@pytest.mark.parametrize(
    ("field", "text"),
    [("name", ""), ("db_host", "a b"), ("db_port", "0"), ("db_user", ""), ("tls_ca", "no PEM"), ("weight", "0")],
)
def test_what_cannot_be_is_said_beside_its_field(root, typed, parts, field, text):
    answer = root.client.post(PATH, data=typed | {field: text})
    assert answer.status_code == 422
    assert f'id="server-{field}-error"' in answer.text
    assert parts.manager.servers() == []


def test_a_server_that_does_not_answer_is_said(root, typed, parts):
    answer = root.client.post(PATH, data=typed | {"db_port": "1"})
    assert answer.status_code == 422
    assert "no server answers" in answer.text.lower()
    assert 'id="server-db_port-error"' in answer.text, "the field to look at is named"
    assert re.search(r"<details open>\s*<summary>Register a server", answer.text)
    shown = next(form for form in Page(answer.text).forms if form.action == PATH)
    kept = {name: text for name, text in typed.items() if name not in ("csrf_token", "db_password")}
    assert shown.values | kept == shown.values | {"db_port": typed["db_port"]}
    assert parts.manager.servers() == []


def test_a_form_that_was_refused_stays_open_without_the_password(root, typed, parts):
    root.client.post(PATH, data=typed)
    for wrong in ({}, {"name": "Second", "db_user": "nobody_of_this_name", "db_password": "hunter2"}):
        answer = root.client.post(PATH, data=typed | wrong)
        assert answer.status_code == 422
        assert "The server was not registered." in answer.text
        assert re.search(r"<details open>\s*<summary>Register a server", answer.text)
        assert f'value="{(typed | wrong)["name"]}"' in answer.text
        assert "hunter2" not in answer.text


@pytest.mark.parametrize("name", ["a/b", "50%", "été", "a?b#c", "<b>&", "-x", "it's", "test", "; rm x"])
def test_a_server_is_reached_by_whatever_it_is_called(root, typed, parts, name):
    root.client.post(PATH, data=typed | {"name": name})
    page = root.get(PATH)
    assert "<b>&" not in page.html
    link = next(link for link in page.links if link.endswith("/drain"))
    asked = root.get(link)
    action = next(form.action for form in asked.forms if form.action.endswith("/drain"))
    assert root.client.post(action, data=typed).status_code == 303
    assert [(server["name"], server["state"]) for server in parts.manager.servers()] == [(name, "draining")]
    command = html.unescape(re.search(r"<code>(unify servers drain .+?)</code>", asked.html)[1])
    assert [word for word in shlex.split(command)[3:] if word != "--"] == [name], "it can be pasted into a shell"


def test_the_password_is_on_no_page_and_in_no_row(root, typed, parts):
    refused = root.client.post(PATH, data=typed | {"db_password": "hunter2", "weight": "0"})
    assert refused.status_code == 422
    root.client.post(PATH, data=typed | {"db_password": "hunter2"})
    shown = refused.text + root.get(PATH).html + root.client.post(f"{PATH}/First one/test", data=typed).text
    assert parts.manager.servers()
    assert "hunter2" not in shown + str(parts.manager.servers()) + str(parts.manager.audit.page())


def test_a_server_with_databases_is_not_forgotten_and_full_or_none_is_told(root, typed, parts):
    path = f"/admin/users/{parts.accounts.create('new@example.org').id}/initialize"
    empty = {"db_type": "postgresql", "db_host": "", "db_port": "", "db_name": "", "db_user": "", "db_password": ""}
    assert "Leave blank to use a registered server." in root.get(f"{path}?db_type=postgresql").html
    assert "there is no postgresql server for another database" in _after(root, path, empty)
    root.client.post(PATH, data=typed | {"max_tenants": "1"})
    try:
        assert "was created" in _after(root, path, empty)
        assert parts.manager.servers()[0]["tenants"] == 1
        root.client.post(f"{PATH}/First one/remove", data=typed)
        assert "Nothing was changed: 1 database is still on server" in html.unescape(root.get(PATH).html)
        second = f"/admin/users/{parts.accounts.create('second@example.org').id}/initialize"
        assert "all are full" in _after(root, second, empty)
    finally:
        for row in parts.manager.reports.databases(db_type="postgresql"):
            parts.manager.delete_user_database(row["user_id"])


def test_everybody_else_is_refused(ada, visit, parts):
    token = ada.token
    for path in (PATH, f"{PATH}/one/drain", f"{PATH}/one/remove"):
        ada.get(path, 403)
        assert ada.client.post(path, data={"csrf_token": token}).status_code == 403
        assert visit().client.get(path).status_code == 302
    assert parts.manager.servers() == []


def _after(root, path, typed):
    """Send a form, and give the page that it leads to."""
    answer = root.post(path, **typed)
    assert answer.status_code == 303
    return html.unescape(root.get(answer.location).html)


def test_names_of_no_server_are_not_there(root):
    assert root.client.get(f"{PATH}/nobody/test").status_code == 404
