"""A session that ends while a form is filled in: its text is not lost, and nobody else can make use of that."""

from __future__ import annotations

import json
import re

import pytest

import web
from repositories.repository_factory import RepositoryFactory
from tests.support.browsing import PASSWORD, Page
from tests.web.conftest import cookie

OURS = {"Sec-Fetch-Site": "same-origin"}
TEXT = 'First line\nsecond "line" <b>&amp; more\n\n' + "long " * 200


def notes(parts, user):
    with parts.manager.session(user.id) as session:
        return [row["body"] for row in RepositoryFactory.get_repository("notes", session, user.id).list(limit=50)]


@pytest.fixture
def late(ada, parts, user):
    """Give a browser that has sent a note after its session ended, and the answer it got."""
    form = ada.form("/notes")
    parts.accounts.end_sessions(user.id)
    typed = form.values | {"title": "Kept", "body": TEXT.replace("\n", "\r\n")}
    return ada, ada.client.post("/notes", data=typed, headers=OURS)


def sign_in(visitor, answer, email, password=PASSWORD):
    """Fill in the login form of an answer, with all that it carries."""
    form = next(form for form in Page(answer.text).forms if form.action == "/auth/login")
    return visitor.client.post(form.action, data=form.values | {"email": email, "password": password}, headers=OURS)


def the_kept_form(answer):
    return next(form for form in Page(answer.text).forms if form.action not in ("/auth/logout", "/search"))


def test_the_text_comes_back_after_signing_in_and_is_saved_by_a_press(late, parts, user):
    ada, answer = late
    assert answer.status_code == 401
    assert "What you typed has been kept" in answer.text
    shown = sign_in(ada, answer, user.email)
    assert shown.status_code == 200
    assert "not been saved" in shown.text
    assert "second &#34;line&#34; &lt;b&gt;&amp;amp; more" in shown.text
    assert notes(parts, user) == [], "nothing happens without a press"
    form = the_kept_form(shown)
    assert form.action == "/notes"
    assert ada.client.post(form.action, data=form.values, headers=OURS).status_code == 303
    assert notes(parts, user) == [TEXT]


def test_wrong_passwords_in_between_lose_nothing(late, parts, user):
    ada, answer = late
    for _ in range(12):
        answer = sign_in(ada, answer, user.email, "wrong password")
        assert answer.status_code in (422, 429)
    assert int(answer.headers["Retry-After"]) > 0
    carried = next(form for form in Page(answer.text).forms if form.action == "/auth/login").values
    assert carried["kept:body"].replace("\r\n", "\n") == TEXT


def test_a_browser_that_lost_its_cookie_keeps_its_text_too(ada, app, parts, user):
    form = ada.form("/notes")
    ada.client.delete_cookie(cookie(app))
    answer = ada.client.post("/notes", data=form.values | {"title": "Kept", "body": TEXT}, headers=OURS)
    assert answer.status_code == 401
    assert "kept:body" in answer.text
    assert "Kept" in sign_in(ada, answer, user.email).text


def test_a_form_of_an_earlier_session_is_shown_again_with_a_token_that_works(ada, parts, user):
    form = ada.form("/notes")
    ada.send("/auth/logout")
    ada.sign_in(user.email)
    typed = form.values | {"title": "Kept", "body": "the text"}
    answer = ada.client.post("/notes", data=typed, headers=OURS)
    assert answer.status_code == 400
    assert "What you typed is still here" in answer.text
    assert notes(parts, user) == []
    again = the_kept_form(answer)
    assert ada.client.post(again.action, data=again.values, headers=OURS).status_code == 303
    assert notes(parts, user) == ["the text"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    ],
    ids=["nothing", "cross-site", "same-site", "none", "other-origin", "null-origin", "both"],
)
def test_what_another_site_sends_is_refused_as_ever(ada, parts, user, headers):
    answer = ada.client.post("/notes", data={"title": "Evil", "body": "evil text"}, headers=headers)
    assert answer.status_code == 400
    assert "evil text" not in answer.text
    parts.accounts.end_sessions(user.id)
    answer = ada.client.post("/notes", data={"title": "Evil", "body": "evil text"}, headers=headers)
    assert answer.status_code == 400
    assert "evil text" not in answer.text


def test_an_older_browser_is_known_by_the_origin(ada, parts, user):
    form = ada.form("/notes")
    parts.accounts.end_sessions(user.id)
    typed = form.values | {"title": "Kept", "body": "the text"}
    assert ada.client.post("/notes", data=typed, headers={"Origin": "http://localhost"}).status_code == 401


def test_secrets_tokens_and_files_are_not_carried(ada, parts, user, visit):
    token = ada.token
    parts.accounts.end_sessions(user.id)
    typed = {"csrf_token": token, "new_password": "very secret", "name": "laptop"}
    answer = ada.client.post("/notes", data=typed, headers=OURS)
    assert answer.status_code == 401
    assert "very secret" not in answer.text
    assert "kept:csrf_token" not in answer.text
    shown = sign_in(ada, answer, user.email)
    assert "laptop" in shown.text
    assert "Passwords and files are not kept" in shown.text


def test_a_button_without_text_leads_back_to_its_page(ada, parts, user):
    token = ada.token
    parts.accounts.end_sessions(user.id)
    headers = OURS | {"Referer": "http://localhost/bin"}
    answer = ada.client.post("/bin/empty", data={"csrf_token": token}, headers=headers)
    assert (answer.status_code, answer.location) == (302, "/auth/login?next=/bin")


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/notes",
        "//evil.example/notes",
        "/\\evil.example",
        "javascript:alert(1)",
        "/api/v1/notes",
        "/auth/logout",
        "/nothing",
        "/healthz",
        "notes",
        "",
        "/notes\n",
        "/admin/user/1/database/initialize",
    ],
)
def test_a_kept_form_goes_nowhere_but_to_our_pages(visit, user, address):
    visitor = visit()
    form = visitor.form("/auth/login")
    typed = form.values | {"email": user.email, "password": PASSWORD, "kept-address": address, "kept:title": "x"}
    answer = visitor.client.post("/auth/login", data=typed, headers=OURS)
    assert (answer.status_code, answer.location) == (303, "/")


def test_several_values_of_one_name_stay_several(ada, parts, user):
    token = ada.token
    parts.accounts.end_sessions(user.id)
    data = {"csrf_token": token, "id": ["one", "two"], "title": "x"}
    answer = ada.client.post("/notes", data=data, headers=OURS)
    shown = sign_in_all(ada, answer, user.email)
    assert re.findall(r'name="id" value="([^"]+)"', shown.text) == ["one", "two"]


def sign_in_all(visitor, answer, email):
    """Sign in sending every hidden field, also those of one name."""
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text.partition("auth/login")[2])
    data = [*hidden, ("email", email), ("password", PASSWORD)]
    form = {name: [value for other, value in data if other == name] for name, _ in data}
    return visitor.client.post("/auth/login", data=form, headers=OURS)


def test_a_form_as_long_as_any_may_be_gets_through_the_login_page(visit, make_parts, user_in):
    parts = make_parts(max_body_bytes="200000")
    user = user_in(parts)
    ada = visit_app(visit, parts, user)
    token = ada.token
    body = "x" * (200_000 - len(f"csrf_token={token}&title=t&body="))
    parts.accounts.end_sessions(user.id)
    answer = ada.client.post("/notes", data={"csrf_token": token, "title": "t", "body": body}, headers=OURS)
    assert answer.status_code == 401
    shown = sign_in(ada, answer, user.email)
    assert shown.status_code == 200
    assert body in shown.text


@pytest.fixture
def user_in():
    """Give a function that makes an account with a database in other parts than the usual ones."""

    def make(parts):
        made = parts.accounts.create("carol@example.org", password=PASSWORD)
        parts.manager.provision(made.id)
        return made

    return make


def visit_app(visit, parts, user):
    visitor = type(visit())(web.create(parts))
    assert visitor.sign_in(user.email).status_code == 303
    return visitor


class TestAskedByHtmx:
    HTMX = OURS | {"HX-Request": "true"}

    def test_the_page_stays_and_a_message_offers_to_sign_in(self, ada, parts, user):
        token = ada.token
        parts.accounts.end_sessions(user.id)
        for ask in (ada.client.get, ada.client.post):
            answer = ask("/tasks", data={"csrf_token": token, "title": "x"}, headers=self.HTMX)
            assert answer.status_code == 401
            assert answer.headers["HX-Reswap"] == "none"
            assert answer.headers["HX-Push-Url"] == "false"
            assert '<hx-partial hx-target="#messages"' in answer.text
            assert 'href="/auth/login" target="_blank"' in answer.text
            assert "<html" not in answer.text

    def test_after_signing_in_elsewhere_the_page_gets_the_new_token_and_a_second_press_works(self, ada, user):
        old = ada.token
        ada.send("/auth/logout")
        ada.sign_in(user.email)
        refused = ada.client.post("/tasks", data={"csrf_token": old, "title": "x"}, headers=self.HTMX)
        assert refused.status_code == 400
        assert "please try again" in refused.text
        token = json.loads(refused.headers["HX-Trigger"])["unify:token"]["token"]
        assert ada.client.post("/tasks", data={"csrf_token": token, "title": "x"}).status_code == 303

    def test_another_site_gets_no_token(self, ada):
        answer = ada.client.post("/tasks", data={"title": "x"}, headers={"HX-Request": "true"})
        assert answer.status_code == 400
        assert "HX-Trigger" not in answer.headers

    def test_every_other_error_is_a_message_too(self, ada):
        answer = ada.client.post(
            "/tasks/00000000-0000-0000-0000-000000000000/delete", data={"csrf_token": ada.token}, headers=self.HTMX
        )
        assert answer.status_code == 404
        assert answer.headers["HX-Reswap"] == "none"
        assert "<html" not in answer.text

    @pytest.mark.parametrize("header", ["HX-Boosted", "HX-History-Restore-Request"])
    def test_a_whole_page_is_answered_to_who_wants_one(self, ada, header):
        answer = ada.client.get("/nothing", headers=self.HTMX | {header: "true"})
        assert "<html" in answer.text


def test_programs_are_refused_as_ever(ada, parts, user):
    answer = ada.client.post("/api/v1/notes", json={"title": "x"}, headers=OURS)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
