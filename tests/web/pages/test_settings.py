"""The settings page: database, password, sessions, API keys and stored values."""

from __future__ import annotations

import re
import uuid

import pytest

from tenancy.models import State, user_database_configs

PASSWORD = "correct horse battery"
FRESH = "another good password"


def change(visitor, current=PASSWORD, new=FRESH):
    return visitor.send("/settings", "/settings/password", current_password=current, password=new)


def test_the_database_is_shown(ada, parts):
    page = ada.get("/settings").html
    for shown in ("sqlite", "KiB", "ready", parts.manager.head):
        assert shown in page
    assert "/settings/database" not in page, "nothing to retry while it is ready"


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
def test_the_page_answers_in_every_state(ada, parts, user, state):
    with parts.catalog.writing() as connection:
        connection.execute(
            user_database_configs.update()
            .values(state=state, last_error="the server refused")
            .where(user_database_configs.c.user_id == user.id)
        )
    page = ada.get("/settings").html
    assert state.value.replace("_", " ") in page
    assert ("/settings/database" in page) == (state in (State.FAILED, State.PROVISIONING))
    assert ("The server refused" in page) == (state is State.FAILED)


def test_changing_the_password_ends_the_other_sessions(ada, visit, parts, user):
    phone = visit()
    phone.sign_in(user.email)
    answer = change(ada)
    assert (answer.status_code, answer.location) == (303, "/settings")
    assert ada.get("/settings")
    assert phone.client.get("/settings").status_code == 302
    assert visit().sign_in(user.email).status_code == 422
    assert visit().sign_in(user.email, FRESH).status_code == 303


@pytest.mark.parametrize(
    ("current", "new", "field"),
    [
        ("", FRESH, "current_password"),
        (PASSWORD, "", "password"),
        ("not the one", FRESH, "current_password"),
        (PASSWORD, "short", "password"),
        (PASSWORD, "x" * 1025, "password"),
        (PASSWORD, "ada@example.org", "password"),
    ],
)
def test_a_password_that_cannot_be_is_named(ada, visit, user, current, new, field):
    answer = change(ada, current, new)
    assert answer.status_code == 422
    assert f'id="password-{field}-error"' in answer.text
    assert FRESH not in answer.text
    assert visit().sign_in(user.email).status_code == 303


def test_the_password_form_sent_twice_changes_it_once(ada):
    form = ada.form("/settings", "/settings/password")
    typed = form.values | {"current_password": PASSWORD, "password": FRESH}
    assert ada.client.post(form.action, data=typed).status_code == 303
    assert ada.client.post(form.action, data=typed).status_code == 422
    assert ada.get("/settings")


def test_signing_out_the_others_leaves_this_session(ada, visit, parts, user):
    others = [visit() for _ in range(2)]
    for each in others:
        each.client.environ_base["HTTP_USER_AGENT"] = "Phone <b>"
        each.sign_in(user.email)
    page = ada.get("/settings").html
    assert page.count("this session") == 1
    assert "Phone &lt;b&gt;" in page
    assert ada.send("/settings", "/settings/sessions/end").status_code == 303
    assert "2 other sessions ended" in ada.get("/settings").html
    assert [each.client.get("/settings").status_code for each in others] == [302, 302]
    assert len(parts.accounts.sessions(user.id)) == 1


def test_a_key_is_shown_once_works_and_is_revoked(ada, app, parts, user):
    answer = ada.send("/settings", "/settings/keys", name="Backup <i>", read_only="1")
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    key = re.search(r'id="new-key">([^<]+)<', answer.text)[1]
    page = ada.get("/settings").html
    assert key not in page
    assert "Backup &lt;i&gt;" in page
    assert "read only" in page

    program = app.test_client()
    header = {"Authorization": f"Bearer {key}"}
    assert program.get("/api/v1/tasks", headers=header).status_code == 200
    assert program.get("/tasks", headers=header).status_code == 302, "a key opens no pages"
    [row] = parts.accounts.keys(user.id)
    assert ada.send("/settings", f"/settings/keys/{row['id']}/revoke").status_code == 303
    assert program.get("/api/v1/tasks", headers=header).status_code == 401
    assert ada.post(f"/settings/keys/{row['id']}/revoke").status_code == 404


@pytest.mark.parametrize(
    ("field", "text"),
    [("name", "x" * 101), ("name", "nul\x00"), ("expires_at", "2001-01-01T00:00"), ("expires_at", "soon")],
)
def test_a_key_that_cannot_be_is_named(ada, parts, user, field, text):
    answer = ada.send("/settings", "/settings/keys", **{field: text})
    assert answer.status_code == 422
    assert f'id="key-{field}-error"' in answer.text
    assert parts.accounts.keys(user.id) == []


def test_another_users_key_is_not_there(ada, bob, parts, user):
    key, _ = parts.accounts.issue_key(user.id, "mine")
    for key_id in (key["id"], uuid.uuid4()):
        assert bob.post(f"/settings/keys/{key_id}/revoke").status_code == 404
    assert len(parts.accounts.keys(user.id)) == 1


def test_a_stored_value_is_added_changed_and_deleted(ada, bob):
    answer = ada.send("/settings", "/settings", key="theme.main", value="<b>dark</b>\r\n two")
    assert (answer.status_code, answer.location) == (303, "/settings#values")
    page = ada.get("/settings")
    assert "&lt;b&gt;dark&lt;/b&gt;" in page.html
    path = "/settings/values/theme.main"
    assert path in page.links
    assert ada.form(path).values["value"] == "<b>dark</b>\n two"
    assert ada.send(path, value="").status_code == 303
    assert ada.form(path).values["value"] == ""
    for status in (bob.client.get(path).status_code, bob.post(path, value="x").status_code):
        assert status == 404
    assert bob.post(f"{path}/delete").status_code == 404
    assert ada.send(path, f"{path}/delete").status_code == 303
    ada.get(path, 404)


@pytest.mark.parametrize("key", ["", "  ", "Theme", "9lives", "a b", "a/b", "x" * 65, "nul\x00", "é", "../x"])
def test_a_key_of_a_value_that_cannot_be_is_named_and_the_value_kept(ada, key):
    answer = ada.send("/settings", "/settings", key=key, value="typed text")
    assert answer.status_code == 422
    assert 'id="value-key-error"' in answer.text
    assert "typed text" in answer.text


def test_a_value_that_is_too_long_is_named_on_both_pages(ada):
    ada.send("/settings", "/settings", key="a", value="short")
    for path in ("/settings", "/settings/values/a"):
        answer = ada.send(path, path, key="b", value="x" * 200_001)
        assert answer.status_code == 422
        assert 'id="value-value-error"' in answer.text
    assert ada.post("/settings/values/a").status_code == 422
    assert ada.post("/settings/values/none").status_code == 404


def test_the_value_form_sent_twice_is_once_and_never_overwrites(ada):
    for _ in range(2):
        assert ada.send("/settings", "/settings", key="a", value="one").status_code == 303
    assert ada.send("/settings", "/settings", key="a", value="two").status_code == 422
    assert ada.form("/settings/values/a").values["value"] == "one"


def test_many_values_are_paged_even_where_a_key_looks_like_an_id(ada, parts, user):
    from repositories.repository_factory import RepositoryFactory

    keys = [f"a{number:031x}" for number in range(60)]
    with parts.manager.session(user.id, write=True) as session:
        for key in keys:
            RepositoryFactory.get_repository("settings", session, user.id).create({"key": key, "value": "v"})
    first = ada.get("/settings")
    link = next(link for link in first.links if "cursor=" in link)
    second = ada.get(link.partition("#")[0])
    assert [key in first.html for key in keys] == [True] * 50 + [False] * 10
    assert [key in second.html for key in keys] == [False] * 50 + [True] * 10
    ada.get("/settings?cursor=nonsense", 400)


def test_the_page_sends_the_same_statements_however_much_there_is(statements, ada, parts, user, visit):
    ada.get("/settings")
    with statements() as few:
        ada.get("/settings")
    for number in range(5):
        parts.accounts.issue_key(user.id, str(number))
        visit().sign_in(user.email)
        ada.send("/settings", "/settings", key=f"key{number}", value="v")
    with statements() as many:
        ada.get("/settings")
    assert len(many) == len(few) <= 6
