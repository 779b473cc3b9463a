"""Registration, login and logout, as a visitor sees them."""

from __future__ import annotations

import re

import pytest

import web
from tenancy import deadline
from tenancy.errors import StorageFullError
from tests.web.conftest import cookie
from web.http.addresses import local_path
from web.pages.sign_in import views as auth_pages

PASSWORD = "correct horse battery"
NEW = {"email": "eve@example.org", "password": PASSWORD, "display_name": "Eve"}


def test_registering_makes_account_and_database_and_signs_in(visit, parts):
    eve = visit()
    answer = eve.send("/auth/register", **NEW)
    assert (answer.status_code, answer.location) == (303, "/")
    page = eve.get("/")
    assert "Welcome, Eve" in page.html
    assert parts.manager.load_user_db_config(parts.accounts.find("eve@example.org").id)["status"] == "ready"


def test_a_taken_address_is_said_beside_its_field_and_the_text_is_kept(visit, user):
    answer = visit().send("/auth/register", email=user.email.upper(), password=PASSWORD, display_name="Eve & co")
    assert answer.status_code == 422
    assert "An account with this address already exists" in answer.text
    assert 'value="ADA@EXAMPLE.ORG"' in answer.text
    assert 'value="Eve &amp; co"' in answer.text
    assert PASSWORD not in answer.text


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"email": ""}, "email"),
        ({"email": "no address"}, "email"),
        ({"email": "a@b" + "c" * 300}, "email"),
        ({"password": ""}, "password"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"password": "eve@example.org"}, "password"),
        ({"display_name": "n" * 101}, "display_name"),
        ({"display_name": "nul\x00"}, "display_name"),
    ],
)
def test_a_wrong_field_is_named_and_no_account_is_made(visit, parts, typed, field):
    answer = visit().send("/auth/register", **NEW | typed)
    assert answer.status_code == 422
    assert f'id="register-{field}-error"' in answer.text
    assert parts.accounts.count() == 0


def test_all_that_is_wrong_is_named_at_once(visit):
    answer = visit().send("/auth/register", email="no address", password="short", display_name="n" * 101)
    assert answer.status_code == 422
    for field in ("email", "password", "display_name"):
        assert f'id="register-{field}-error"' in answer.text


def test_registering_twice_makes_one_account(visit, parts):
    eve = visit()
    form = eve.form("/auth/register")
    assert eve.client.post(form.action, data=form.values | NEW).status_code == 303
    second = visit().send("/auth/register", **NEW)
    assert second.status_code == 422
    assert parts.accounts.count() == 1


def test_a_head_request_does_nothing_whatever_it_carries(visit, parts, user):
    eve = visit()
    for path, typed in (("/auth/register", NEW), ("/auth/login", {"email": user.email, "password": PASSWORD})):
        answer = eve.client.head(path, data=typed)
        assert (answer.status_code, answer.location) == (200, None)
    assert eve.client.get("/tasks").status_code == 302
    assert parts.accounts.count() == 1
    eve.sign_in(user.email)
    assert eve.client.head("/auth/logout").status_code == 200
    eve.get("/tasks")


def test_a_reserved_address_is_refused(visit, make_parts):
    app = web.create(make_parts(admin_emails="boss@example.org"))
    answer = type(visit())(app).send("/auth/register", **NEW | {"email": "Boss@Example.org"})
    assert answer.status_code == 422
    assert "reserved" in answer.text


def test_closed_registration_says_so(visit, make_parts):
    closed = type(visit())(web.create(make_parts(registration="closed")))
    assert "Registration is closed" in closed.get("/auth/register", 403).html
    login = closed.form("/auth/login")
    answer = closed.client.post("/auth/register", data={"csrf_token": login.values["csrf_token"]} | NEW)
    assert answer.status_code == 403
    assert "/auth/register" not in closed.get("/").html


def test_an_account_whose_database_fails_stands_is_told_so_and_can_retry(visit, parts, monkeypatch):
    def full(*_: object) -> None:
        raise StorageFullError("the disk of the server is full: make room and try again.")

    with monkeypatch.context() as broken:
        broken.setattr(parts.manager, "provision", full)
        eve = visit()
        answer = eve.send("/auth/register", **NEW)
        assert (answer.status_code, answer.location) == (303, "/settings")
        page = eve.get("/settings")
        assert "Your account was created, but its database was not" in page.html
        assert "You have no database yet" in page.html
        assert "Settings" in eve.get("/tasks", 503).html
        again = eve.send("/settings", "/settings/database")
        assert again.status_code == 303
        assert "The disk of the server is full" in eve.get("/settings").html
    assert eve.send("/settings", "/settings/database").status_code == 303
    assert "Your database is ready." in eve.get("/settings").html
    assert eve.get("/tasks")


def test_whoever_waits_for_a_first_database_holds_a_thread_for_a_bounded_time(visit, parts):
    """A registered server that says nothing would keep it for ten minutes, and every new account another one."""
    waits: list[float] = []

    def note(name: str) -> None:
        waits.append(deadline.left(600))

    eve = visit()
    parts.manager.services.step = note
    eve.send("/auth/register", **NEW)
    registered = len(waits)
    parts.manager.services.step = lambda name: None
    parts.manager.delete_user_database(parts.accounts.find(NEW["email"]).id)
    parts.manager.services.step = note
    eve.send("/settings", "/settings/database")
    assert 0 < registered < len(waits)
    assert 20 < max(waits) <= deadline.UNHURRIED_S


class TestTheFirstAdministrator:
    @pytest.fixture
    def open_parts(self, make_parts):
        return make_parts(bootstrap_first_admin="true", trusted_hosts="localhost,unify.test")

    @pytest.fixture
    def come(self, visit, open_parts):
        """Give a function that registers from an address with headers, and says whether that made an administrator."""
        app = web.create(open_parts)

        def register(address="127.0.0.1", headers=None, **typed):
            visitor = type(visit())(app)
            visitor.client.environ_base["REMOTE_ADDR"] = address
            for name, value in (headers or {}).items():
                visitor.client.environ_base["HTTP_" + name.upper().replace("-", "_")] = value
            answer = visitor.send("/auth/register", **NEW | typed)
            if answer.status_code != 303:
                return answer
            return open_parts.accounts.find("eve@example.org").is_admin

        return register

    @pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
    def test_from_this_machine(self, come, address):
        assert come(address) is True

    @pytest.mark.parametrize("address", ["10.0.0.1", "192.0.2.7", "::2", ""])
    def test_not_from_another_machine(self, come, address):
        assert come(address) is False

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Proto"])
    def test_not_through_a_proxy_that_nobody_trusts(self, come, header):
        assert come(headers={header: "127.0.0.1"}) is False

    def test_with_the_printed_token_from_anywhere(self, come, open_parts):
        assert come("192.0.2.7", bootstrap_token=f" {open_parts.accounts.bootstrap_token} ") is True

    def test_a_wrong_token_is_refused_before_an_account_is_made(self, come, open_parts):
        answer = come("192.0.2.7", bootstrap_token="wrong")
        assert answer.status_code == 422
        assert 'id="register-bootstrap_token-error"' in answer.text
        assert open_parts.accounts.bootstrap_open()

    def test_only_the_first(self, come, visit, open_parts):
        assert come() is True
        second = type(visit())(web.create(open_parts))
        assert "bootstrap_token" not in second.get("/auth/register").html
        assert second.send("/auth/register", **NEW | {"email": "mallory@example.org"}).status_code == 303
        assert not open_parts.accounts.find("mallory@example.org").is_admin

    @pytest.mark.parametrize(
        ("chain", "expected"),
        [("127.0.0.1", True), ("192.0.2.7", False), ("127.0.0.1, 192.0.2.7", False), ("", False)],
    )
    def test_behind_a_trusted_proxy_the_client_counts_and_not_the_proxy(self, visit, make_parts, chain, expected):
        parts = make_parts(bootstrap_first_admin="true", trusted_proxy_count="1")
        visitor = type(visit())(web.create(parts))
        if chain:
            visitor.client.environ_base["HTTP_X_FORWARDED_FOR"] = chain
        assert visitor.send("/auth/register", **NEW).status_code == 303
        assert parts.accounts.find("eve@example.org").is_admin is expected

    def test_not_where_the_setting_is_off(self, visit, parts):
        assert visit().send("/auth/register", **NEW).status_code == 303
        assert not parts.accounts.find("eve@example.org").is_admin


def test_unknown_and_known_addresses_get_the_same_answer(visit, user):
    def answer(email):
        visitor = visit()
        form = visitor.form("/auth/login")
        got = visitor.client.post("/auth/login", data=form.values | {"email": email, "password": "wrong password"})
        return got.status_code, re.sub(r'name="csrf_token" value="[^"]+"', "", got.text).replace(email, "")

    known, unknown = answer(user.email), answer("nobody@example.org")
    assert known == unknown
    assert known[0] == 422
    assert auth_pages.BAD_CREDENTIALS in known[1]


def test_too_many_guesses_are_answered_429_with_the_time_to_wait(visit, user):
    visitor = visit()
    answers = [visitor.sign_in(user.email, "wrong password") for _ in range(11)]
    assert [answer.status_code for answer in answers[:10]] == [422] * 10
    assert answers[10].status_code == 429
    assert int(answers[10].headers["Retry-After"]) > 0
    assert "text/html" in answers[10].content_type


def test_guesses_from_elsewhere_do_not_lock_the_owner_out(visit, user):
    owner, stranger = visit(), visit()
    owner.sign_in(user.email)
    owner.send("/auth/logout")
    for _ in range(12):
        stranger.sign_in(user.email, "wrong password")
    assert stranger.sign_in(user.email).status_code == 429
    assert owner.sign_in(user.email).status_code == 303


def test_logging_out_ends_the_session_for_good(ada, app):
    kept = ada.client.get_cookie(cookie(app))
    assert ada.get("/auth/logout")
    assert ada.get("/tasks"), "asking must not sign anybody out"
    answer = ada.send("/auth/logout")
    assert (answer.status_code, answer.location) == (303, "/auth/login")
    assert "You have been signed out" in ada.get("/auth/login").html
    copied = app.test_client()
    copied.set_cookie(cookie(app), kept.value)
    assert copied.get("/tasks").status_code == 302


def test_signing_in_again_ends_the_earlier_session_of_this_browser(visit, parts, user, other):
    visitor = visit()
    visitor.sign_in(user.email)
    form = visitor.form("/settings", "/auth/logout")
    visitor.client.post("/auth/login", data=form.values | {"email": other.email, "password": PASSWORD})
    assert parts.accounts.sessions(user.id) == []
    assert other.email in visitor.get("/settings").html


def test_remember_makes_a_longer_session_and_a_lasting_cookie(visit, app, parts, user):
    visitor = visit()
    visitor.sign_in(user.email)
    assert visitor.client.get_cookie(cookie(app)).expires is None
    remembered = visit()
    remembered.sign_in(user.email, remember="1")
    assert remembered.client.get_cookie(cookie(app)).expires is not None
    longer, shorter = sorted((row["expires_at"] for row in parts.accounts.sessions(user.id)), reverse=True)
    assert (longer - shorter).days >= 29


@pytest.mark.parametrize("target", ["/tasks", "/tasks?status=done&q=a%20b", "/notes/"])
def test_login_goes_on_to_a_local_page(visit, user, target):
    visitor = visit()
    form = visitor.form(f"/auth/login?next={target.replace('?', '%3F').replace('&', '%26')}", "/auth/login")
    answer = visitor.client.post("/auth/login", data=form.values | {"email": user.email, "password": PASSWORD})
    assert answer.location == target.replace("%20", " ") or answer.location == target


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "/\t/evil.example",
        "evil.example",
        "/auth/logout",
        "/a\r\nSet-Cookie: x=1",
        "",
        "///evil.example",
        " /tasks",
    ],
)
def test_login_goes_nowhere_else(app, visit, user, target):
    with app.test_request_context():
        assert local_path(target) is None
    answer = visit().sign_in(user.email, next=target)
    assert answer.location == "/"


def test_a_guarded_page_leads_to_login_and_back(visit, user):
    visitor = visit()
    answer = visitor.client.get("/tasks?status=done")
    assert answer.status_code == 302
    form = visitor.form(answer.location, "/auth/login")
    back = visitor.client.post("/auth/login", data=form.values | {"email": user.email, "password": PASSWORD})
    assert back.location == "/tasks?status=done"


def test_a_deactivated_account_is_out_at_its_next_request(ada, parts, user):
    parts.accounts.deactivate(user.id)
    assert ada.client.get("/tasks").status_code == 302
    assert ada.sign_in(user.email).status_code == 422
