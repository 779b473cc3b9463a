"""The settings: how things are shown, password, sessions, API keys, database and stored values."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import web
from repositories.repository_factory import RepositoryFactory
from tenancy.catalog.sessions import token_hash
from tenancy.catalog.tables import api_keys, user_database_configs
from tenancy.models import READABLE, State
from tests.support.browsing import Page, Visitor
from web.pages.account.user_agents import device

PASSWORD = "correct horse battery"
FRESH = "another good password"


TABS = ("/settings", "/settings/security", "/settings/keys", "/settings/database", "/settings/values")


def change(visitor, current=PASSWORD, new=FRESH):
    return visitor.send("/settings/security", "/settings/password", current_password=current, password=new)


def posts(page):
    return {form.action for form in page.forms if form.method == "POST"}


# ---------------------------------------------------------------- the pages together


def test_every_page_leads_to_every_other_and_says_where_one_is(ada):
    for here in TABS:
        page = ada.get(here)
        assert set(TABS) <= set(page.links)
        assert f'<a href="{here}" aria-current="page">' in page.html


@pytest.mark.parametrize("state", list(State))
def test_the_pages_answer_in_every_state(ada, parts, user, state):
    with parts.catalog.writing() as connection:
        connection.execute(
            user_database_configs.update()
            .values(state=state, last_error="the server refused")
            .where(user_database_configs.c.user_id == user.id)
        )
    pages = {tab: ada.get(tab) for tab in TABS}
    for tab in ("/settings", "/settings/database"):
        assert ("/settings/database" in posts(pages[tab])) == (state in (State.FAILED, State.PROVISIONING))
        assert ("The server refused" in pages[tab].html) == (state is State.FAILED)
        assert ('role="alert"' in pages[tab].html) == (state is not State.READY)
    told = pages["/settings/database"].html.partition("<dt>State</dt>")[2].partition("</dd>")[0]
    assert f">{state.value.replace('_', ' ')}<" in told
    assert ("/settings" in posts(pages["/settings/values"])) == (state in READABLE)


def test_each_page_sends_the_same_statements_however_much_there_is(statements, ada, parts, user, visit):
    def sent():
        counts = {}
        for tab in TABS:
            with statements() as found:
                ada.get(tab)
            counts[tab] = len(found)
        return counts

    sent()
    few = sent()
    for number in range(5):
        parts.accounts.issue_key(user.id, str(number))
        visit().sign_in(user.email)
        ada.send("/settings/values", "/settings", key=f"key{number}", value="v")
    assert sent() == few
    assert few["/settings"] == 1, "who asks, and with that everything the page shows"
    assert (few["/settings/security"], few["/settings/keys"]) == (2, 2)
    assert few["/settings/database"] <= 4
    assert few["/settings/values"] <= 3


# ---------------------------------------------------------------- you


def test_choices_are_kept_and_hold_from_the_next_page_on(ada, parts, user):
    answer = ada.send(
        "/settings",
        "/settings/you",
        display_name="Ada L.",
        time_zone="Asia/Kathmandu",
        week_start="sunday",
        theme="dark",
    )
    assert (answer.status_code, answer.location) == (303, "/settings")
    form = ada.form("/settings", "/settings/you")
    assert (
        form.values.items()
        >= {
            "display_name": "Ada L.",
            "time_zone": "Asia/Kathmandu",
            "week_start": "sunday",
            "theme": "dark",
            "shortcuts": "1",
        }.items()
    )
    page = ada.get("/tasks").html
    assert 'data-theme="dark"' in page
    assert "Ada L." in page
    assert parts.accounts.get(user.id).display_name == "Ada L."


def test_shortcuts_can_be_switched_off_and_on(ada):
    form = ada.form("/settings", "/settings/you")
    ada.client.post(form.action, data={key: text for key, text in form.values.items() if key != "shortcuts"})
    assert "shortcuts" not in ada.form("/settings", "/settings/you").values
    ada.send("/settings", "/settings/you", shortcuts="1")
    assert ada.form("/settings", "/settings/you").values["shortcuts"] == "1"


def test_who_chose_no_zone_is_asked_to(ada):
    for _ in range(2):
        assert "Times are shown in UTC." in ada.get("/settings").html
        assert ada.send("/settings", "/settings/you", theme="dark").status_code == 303, "the rest can be chosen without"
    ada.send("/settings", "/settings/you", time_zone="UTC")
    assert "Times are shown in UTC." not in ada.get("/settings").html, "UTC is a choice, too"


def test_a_zone_by_an_older_name_stays_chosen(ada, parts, user):
    parts.accounts.set_preferences(user.id, {"time_zone": "Asia/Calcutta"})
    assert ada.form("/settings", "/settings/you").values["time_zone"] == "Asia/Calcutta"
    assert ada.send("/settings", "/settings/you", theme="light").status_code == 303
    assert ada.form("/settings", "/settings/you").values["time_zone"] == "Asia/Calcutta"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("time_zone", "../../etc/passwd"),
        ("time_zone", "Mars/Olympus"),
        ("time_zone", ""),
        ("time_zone", "x" * 10_000),
        ("week_start", "friday"),
        ("theme", "<b>"),
        ("display_name", "x" * 101),
        ("display_name", "nul\x00"),
    ],
    ids=lambda value: value if value in ("time_zone", "week_start", "theme", "display_name") else "",
)
def test_a_choice_that_is_none_is_named_and_changes_nothing(ada, parts, user, field, text):
    ada.send("/settings", "/settings/you", time_zone="Europe/Berlin", theme="dark")
    before = ada.form("/settings", "/settings/you").values
    answer = ada.send("/settings", "/settings/you", **{"shortcuts": "1", field: text})
    assert answer.status_code == 422
    assert f'id="you-{field}-error"' in answer.text
    assert "x" * 10_000 not in answer.text
    shown = next(form for form in type(ada.get("/settings"))(answer.text).forms if form.action == "/settings/you")
    assert field == "display_name" or shown.values[field] == before[field]
    after = ada.form("/settings", "/settings/you").values
    assert {key: after[key] for key in after if key != "csrf_token"} == {
        key: before[key] for key in before if key != "csrf_token"
    }


def test_a_missing_choice_is_named(ada):
    answer = ada.post("/settings/you")
    assert answer.status_code == 422
    assert 'id="you-time_zone-error"' in answer.text


def test_a_name_that_runs_from_right_to_left_is_kept_as_it_is(ada):
    name = "\u0645\u0631\u062d\u0628\u0627 <b>"
    assert ada.send("/settings", "/settings/you", display_name=name).status_code == 303
    assert ada.form("/settings", "/settings/you").values["display_name"] == name


def test_the_choices_sent_twice_are_kept_once(ada, parts, user):
    form = ada.form("/settings", "/settings/you")
    for _ in range(2):
        assert ada.client.post(form.action, data=form.values | {"theme": "light"}).status_code == 303
    assert ada.form("/settings", "/settings/you").values["theme"] == "light"


# ---------------------------------------------------------------- your database


def test_what_is_archived_does_not_come_back_and_a_new_one_is_made_here(ada, parts, user):
    page = ada.get("/settings/database").html
    assert "cannot be restored" in page
    assert "bring it back" not in page
    parts.manager.delete_user_database(user.id)
    ada.send("/settings/database")
    assert "Everything works" in ada.get("/settings/database").html
    assert ada.get("/tasks")


def test_a_failure_that_has_a_code_is_told_in_words_for_its_user(ada, parts, user):
    with parts.catalog.writing() as connection:
        said = {"state": State.FAILED, "last_error": "run `unify db init 7`.", "last_error_code": "storage_full"}
        connection.execute(user_database_configs.update().where(user_database_configs.c.user_id == user.id), said)
    page = ada.get("/settings/database").html
    assert "so what you sent was not saved" in page
    assert "unify db init" not in page


def test_the_database_is_shown(ada, parts):
    page = ada.get("/settings/database")
    for shown in ("SQLite", "KiB", "ready", parts.manager.head, "up to date"):
        assert shown in page.html
    assert "/settings/database" not in posts(page), "nothing to retry while it is ready"


def test_every_word_that_the_state_may_be_is_explained(ada, parts, user):
    explained = ada.get("/settings/database").html.split('id="states"')[1]
    for word in ("not usable", "absent", *(state.replace("_", " ") for state in State)):
        assert f">{word}</span>" in explained
    Path(parts.settings.tenant_data_dir, parts.manager.load_user_db_config(user.id)["db_path"]).unlink()
    assert ">not usable</span>" in ada.get("/settings/database").html.split('id="states"')[0]


def test_where_the_database_lies_is_not_told(ada, parts, user):
    place = Path(parts.manager.load_user_db_config(user.id)["db_path"])
    page = ada.get("/settings/database").html
    assert str(place) not in page
    assert place.name not in page


def test_the_pages_answer_in_both_modes_and_say_whose_database_it_is(any_parts):
    made = any_parts.accounts.create("ada@example.org", password=PASSWORD)
    any_parts.manager.provision(made.id)
    visitor = Visitor(web.create(any_parts))
    assert visitor.sign_in(made.email).status_code == 303
    pages = {tab: visitor.get(tab).html for tab in TABS}
    shared = not any_parts.settings.multi_tenant_mode
    assert ("shared by all accounts" in pages["/settings/database"]) == shared
    assert ("a database of your own" in pages["/settings/database"]) != shared


def test_a_database_that_never_was_can_be_made(visit, parts):
    eve = visit()
    parts.accounts.create("eve@example.org", password=PASSWORD)
    assert eve.sign_in("eve@example.org").status_code == 303
    for tab in ("/settings", "/settings/database"):
        assert "You have no database yet" in eve.get(tab).html
    assert eve.send("/settings", "/settings/database").location == "/settings/database"
    page = eve.get("/settings/database").html
    assert "Your database is ready." in page
    assert "up to date" in page
    assert eve.post("/settings/database").status_code == 303, "once more changes nothing"


# ---------------------------------------------------------------- security


def test_changing_the_password_ends_the_other_sessions(ada, visit, parts, user):
    phone = visit()
    phone.sign_in(user.email)
    answer = change(ada)
    assert (answer.status_code, answer.location) == (303, "/settings/security")
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
    form = ada.form("/settings/security", "/settings/password")
    typed = form.values | {"current_password": PASSWORD, "password": FRESH}
    assert ada.client.post(form.action, data=typed).status_code == 303
    assert ada.client.post(form.action, data=typed).status_code == 422
    assert ada.get("/settings")


def test_signing_out_the_others_leaves_this_session(ada, visit, parts, user):
    others = [visit() for _ in range(2)]
    for each in others:
        each.client.environ_base["HTTP_USER_AGENT"] = "Phone <b>"
        each.sign_in(user.email)
    page = ada.get("/settings/security").html
    assert page.count("this session") == 1
    assert "Phone &lt;b&gt;" in page
    form = next(
        form for form in ada.get("/settings/security").forms if form.names == ["csrf_token"] and "end" in form.action
    )
    assert ada.client.post(form.action, data=form.values).status_code == 303
    assert "2 other sessions ended" in ada.get("/settings/security").html
    assert [each.client.get("/settings").status_code for each in others] == [302, 302]
    assert len(parts.accounts.sessions(user.id)) == 1
    assert "Sign out all others" not in ada.get("/settings/security").html


def test_one_session_is_signed_out_alone(ada, visit, parts, user):
    phone, tablet = visit(), visit()
    phone.client.environ_base["HTTP_USER_AGENT"] = "Mozilla/5.0 (iPhone) Version/18.0 Mobile Safari/604.1"
    tablet.client.environ_base["HTTP_USER_AGENT"] = "Mozilla/5.0 (iPad) Version/18.0 Safari/604.1"
    for each in (phone, tablet):
        each.sign_in(user.email)
    page = ada.get("/settings/security")
    assert "Safari on iPhone" in page.html
    named = [form.values["session"] for form in page.forms if "session" in form.names]
    ids = {session["user_agent"]: session["id"] for session in parts.accounts.sessions(user.id)}
    own = next(
        session["id"]
        for agent, session in ((s["user_agent"], s) for s in parts.accounts.sessions(user.id))
        if agent.startswith("Werkzeug")
    )
    assert own not in named, "this one ends by signing out"
    assert set(named) == set(ids.values()) - {own}
    stolen = next(session for agent, session in ids.items() if "iPhone" in agent)
    assert ada.post("/settings/sessions/end", session=stolen).status_code == 303
    assert phone.client.get("/settings").status_code == 302
    assert tablet.get("/settings")
    assert ada.post("/settings/sessions/end", session=stolen).status_code == 404, "it is gone"


def test_another_users_session_is_not_there(ada, bob, parts, user):
    [row] = parts.accounts.sessions(user.id)
    for named in (row["id"], row["token_hash"], "", "x" * 10_000):
        assert bob.post("/settings/sessions/end", session=named).status_code == 404
    assert ada.get("/settings")


def test_many_sessions_are_shown_in_parts_with_this_one_first(ada, parts, user):
    for number in range(60):
        parts.accounts.sign_in_without_password(user.id, user_agent=f"Robot {number}")
    first = ada.get("/settings/security")
    assert first.html.index("this session") < first.html.index("Robot")
    second = ada.get(next(link for link in first.links if "after=" in link))
    assert [page.html.count("Robot ") // 2 for page in (first, second)] == [49, 11]
    ada.get("/settings/security?after=nonsense", 404)


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 Edg/126.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1 Version/17.5 Safari/605.1",
            "Safari on macOS",
        ),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) CriOS/126.0 Mobile Safari/604.1", "Chrome on iPhone"),
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
            "Chrome on ChromeOS",
        ),
        ("curl/8.5.0", "curl/8.5.0"),
        ("", "Unknown program"),
        (None, "Unknown program"),
        ("y" * 200, "y" * 60 + "…"),
    ],
    ids=lambda value: "" if value is None or len(value) > 30 else value,
)
def test_a_user_agent_is_said_in_words(user_agent, words):
    assert device(user_agent) == words


# ---------------------------------------------------------------- API keys


def test_a_key_is_shown_once_works_and_is_revoked(ada, app, parts, user):
    answer = ada.send("/settings/keys", "/settings/keys", name="Backup <i>", read_only="1")
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    key = re.search(r'id="new-key">([^<]+)<', answer.text)[1]
    assert f'curl http://localhost/api/v1/tasks \\\n  -H "Authorization: Bearer {key}"' in answer.text
    page = ada.get("/settings/keys").html
    assert key not in page
    assert "Backup &lt;i&gt;" in page
    assert "read only" in page

    program = app.test_client()
    header = {"Authorization": f"Bearer {key}"}
    assert program.get("/api/v1/tasks", headers=header).status_code == 200
    assert program.get("/tasks", headers=header).status_code == 302, "a key opens no pages"
    [row] = parts.accounts.keys(user.id)
    assert ada.send("/settings/keys", f"/settings/keys/{row['id']}/revoke").status_code == 303
    assert program.get("/api/v1/tasks", headers=header).status_code == 401
    assert ada.post(f"/settings/keys/{row['id']}/revoke").status_code == 404


@pytest.mark.parametrize(
    ("field", "text"),
    [("name", "x" * 101), ("name", "nul\x00"), ("expires_at", "2001-01-01T00:00"), ("expires_at", "soon")],
)
def test_a_key_that_cannot_be_is_named(ada, parts, user, field, text):
    answer = ada.send("/settings/keys", "/settings/keys", **{field: text})
    assert answer.status_code == 422
    assert f'id="key-{field}-error"' in answer.text
    assert parts.accounts.keys(user.id) == []


def test_another_users_key_is_not_there(ada, bob, parts, user):
    key, _ = parts.accounts.issue_key(user.id, "mine")
    for key_id in (key["id"], uuid.uuid4()):
        assert bob.post(f"/settings/keys/{key_id}/revoke").status_code == 404
    assert len(parts.accounts.keys(user.id)) == 1


def test_many_keys_are_shown_in_parts_newest_first(ada, parts, user):
    for number in range(60):
        parts.accounts.issue_key(user.id, f"number {number:02}")
    first = ada.get("/settings/keys")
    second = ada.get(next(link for link in first.links if "after=" in link))
    assert [f">number {number:02}<" in first.html for number in range(60)] == [False] * 10 + [True] * 50
    assert [f">number {number:02}<" in second.html for number in range(60)] == [True] * 10 + [False] * 50
    ada.get(f"/settings/keys?after={uuid.uuid4()}", 404)


def test_a_key_says_when_it_was_used_and_whether_it_ended(ada, app, parts, user):
    _, secret = parts.accounts.issue_key(user.id, "busy")
    parts.accounts.issue_key(user.id, "idle")
    ended, _ = parts.accounts.issue_key(user.id, "ended", expires_days=1)
    with parts.catalog.writing() as connection:
        past = datetime(2001, 1, 1, tzinfo=UTC)
        connection.execute(api_keys.update().values(expires_at=past).where(api_keys.c.id == ended["id"]))
        connection.execute(
            api_keys.update()
            .values(last_used_at=datetime.now(UTC) - timedelta(hours=3))
            .where(api_keys.c.key_hash == token_hash(secret))
        )
    page = ada.get("/settings/keys").html
    assert page.count("last used 3 hours ago") == 1
    assert page.count("never used") == 2
    assert page.count(">expired<") == 1


# ---------------------------------------------------------------- stored values


def test_a_stored_value_is_added_changed_and_deleted(ada, bob):
    answer = ada.send("/settings/values", "/settings", key="theme.main", value="<b>dark</b>\r\n two")
    assert (answer.status_code, answer.location) == (303, "/settings/values")
    page = ada.get("/settings/values")
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
    answer = ada.send("/settings/values", "/settings", key=key, value="typed text")
    assert answer.status_code == 422
    assert 'id="value-key-error"' in answer.text
    assert "typed text" in answer.text


def test_a_value_that_is_too_long_is_named_on_both_pages(ada):
    ada.send("/settings/values", "/settings", key="a", value="short")
    for page, path in (("/settings/values", "/settings"), ("/settings/values/a", "/settings/values/a")):
        answer = ada.send(page, path, key="b", value="x" * 200_001)
        assert answer.status_code == 422
        assert 'id="value-value-error"' in answer.text
    assert ada.post("/settings/values/a").status_code == 422
    assert ada.post("/settings/values/none").status_code == 404


def test_the_value_form_sent_twice_is_once_and_never_overwrites(ada):
    for _ in range(2):
        assert ada.send("/settings/values", "/settings", key="a", value="one").status_code == 303
    assert ada.send("/settings/values", "/settings", key="a", value="two").status_code == 422
    assert ada.form("/settings/values/a").values["value"] == "one"


def test_many_values_are_paged_even_where_a_key_looks_like_an_id(ada, parts, user):
    from repositories.repository_factory import RepositoryFactory

    keys = [f"a{number:031x}" for number in range(60)]
    with parts.manager.session(user.id, write=True) as session:
        for key in keys:
            RepositoryFactory.get_repository("settings", session, user.id).create({"key": key, "value": "v"})
    first = ada.get("/settings/values")
    second = ada.get(next(link for link in first.links if "cursor=" in link))
    assert [key in first.html for key in keys] == [True] * 50 + [False] * 10
    assert [key in second.html for key in keys] == [False] * 50 + [True] * 10
    ada.get("/settings/values?cursor=nonsense", 400)


def test_a_value_that_changed_meanwhile_is_not_overwritten_unseen(ada, parts, user):
    def write(text):
        with parts.manager.session(user.id, write=True) as session:
            RepositoryFactory.get_repository("settings", session, user.id).put("a", text)

    write("old")
    opened = ada.form("/settings/values/a")
    write("by a program")
    answer = ada.client.post(opened.action, data=opened.values | {"value": "typed"})
    assert answer.status_code == 422
    assert "This value was changed elsewhere" in answer.text
    again = next(form for form in Page(answer.text).forms if form.action == opened.action)
    assert again.values["value"] == "typed", "what was typed stays"
    assert ada.form("/settings/values/a").values["value"] == "by a program"
    assert ada.client.post(again.action, data=again.values).status_code == 303, "who has been told may decide"
    assert ada.form("/settings/values/a").values["value"] == "typed"
    assert ada.post("/settings/values/a", value="without a version").status_code == 422


def test_a_value_that_changed_meanwhile_is_not_deleted_unseen(ada, parts, user):
    ada.send("/settings/values", "/settings", key="a", value="old")
    page = ada.get("/settings/values/a")
    deletion = next(form for form in page.forms if "/delete" in form.action)
    ada.send("/settings/values/a", value="new")
    answer = ada.client.post(deletion.action, data=deletion.values)
    assert answer.location == "/settings/values/a"
    assert "was not deleted" in ada.get("/settings/values/a").html
    deletion = next(form for form in ada.get("/settings/values/a").forms if "/delete" in form.action)
    assert ada.client.post(deletion.action, data=deletion.values).location == "/settings/values"
    ada.get("/settings/values/a", 404)
