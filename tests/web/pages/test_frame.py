"""The frame around every page: menus, messages, the theme, and what scripts are told."""

from __future__ import annotations

import json
import re

import pytest
from flask import Flask, session

from web.pages.common import flash, htmx
from web.pages.common.flash import TEXT_MAX, Message
from web.pages.sign_in.carried_form import Kept

NEW = {"email": "eve@example.org", "display_name": "Eve", "password": "one two three four"}


@pytest.fixture
def asked(app):
    """Give a function that runs another one inside a request of a visitor, and gives what it gives."""

    def run(act, **headers):
        with app.test_request_context("/", headers={name.replace("_", "-"): value for name, value in headers.items()}):
            return act()

    return run


@pytest.fixture
def speaking(app: Flask):
    """Give a browser of an application with one more page: it says something and goes to another."""
    said: list[tuple[str, str, str | None]] = []

    def speak():
        for text, tone, undo in said:
            flash.say(text, tone, undo=undo)
        return "", 204

    app.add_url_rule("/speak", "speak", speak)
    client = app.test_client()

    def show(*what):
        said[:] = what
        client.get("/speak")
        return client.get("/auth/login").text

    return show


def entries(page, label):
    menu = page.html.partition(f'aria-label="{label}"')[2].partition("</nav>")[0]
    return re.findall(r'<a href="([^"]+)"( aria-current="\w+")?', menu)


def test_the_menu_names_the_room_one_is_in(ada):
    for path in ("/", "/tasks", "/notes", "/events", "/categories"):
        current = [entry for entry, here in entries(ada.get(path), "Main") if here]
        assert current == [path]
    assert [entry for entry, here in entries(ada.get("/settings"), "Account") if here] == ["/settings"]
    assert not [entry for entry, here in entries(ada.get("/settings"), "Main") if here]


def test_administrators_alone_see_the_way_to_the_console(ada, root):
    assert "/admin/" not in ada.get("/").links
    assert "/admin/" in root.get("/").links


def test_visitors_are_shown_no_menu_and_no_search(visit):
    page = visit().get("/")
    assert "/search" not in [form.action for form in page.forms]
    assert "/tasks" not in page.links
    assert "X-CSRFToken" not in page.html


def test_the_search_box_of_every_page_is_a_form_that_needs_no_script(ada):
    [form] = [form for form in ada.get("/settings").forms if form.action == "/search"]
    assert (form.method, form.names) == ("GET", ["q"])


@pytest.mark.parametrize(
    ("chosen", "shown"), [(None, ""), ("light", ' data-theme="light"'), ("dark", ' data-theme="dark"')]
)
def test_the_theme_is_the_systems_or_the_chosen_one(ada, parts, user, chosen, shown):
    parts.accounts.set_preferences(user.id, {"theme": chosen})
    assert f'<html lang="en"{shown}>' in ada.get("/").html
    assert f'content="{chosen or "light dark"}"' in ada.get("/").html


def test_shortcuts_are_for_who_wants_them(ada, parts, user, visit):
    assert " data-shortcuts" in ada.get("/").html
    parts.accounts.set_preferences(user.id, {"shortcuts": "off"})
    assert " data-shortcuts" not in ada.get("/").html
    assert " data-shortcuts" not in visit().get("/").html


def test_htmx_gets_the_token_and_the_rules_of_the_house(ada):
    page = ada.get("/tasks").html
    headers = json.loads(re.search(r"hx-headers:inherited='([^']+)'", page)[1])
    assert ada.client.post("/tasks", data={"title": "x"}, headers=headers).status_code == 303
    config = json.loads(re.search(r"<meta name=\"htmx-config\" content='([^']+)'", page)[1])
    assert config["includeIndicatorCSS"] is False
    assert 422 not in config["noSwap"]
    assert {401, 404, "5xx"} <= set(config["noSwap"])


class TestMessages:
    def test_are_shown_once_in_their_tone_and_can_be_put_away_without_a_script(self, speaking):
        page = speaking(("It is done.", "good", None), ("Look out.", "warn", None))
        assert page.index('role="status"') < page.index("It is done.") < page.index("Look out.")
        assert '<div class="flash warn">' in page
        assert 'href="/auth/login" data-dismiss' in page
        assert "It is done." not in speaking()

    def test_offer_to_undo_with_a_form_that_needs_no_script(self, speaking):
        page = speaking(("Deleted.", "good", "/bin/1/restore"))
        form = page.partition("Deleted.")[2].partition("</form>")[0]
        assert '<form method="post" action="/bin/1/restore"' in form
        assert 'name="csrf_token"' in form

    def test_are_escaped(self, speaking):
        assert "&lt;b&gt;" in speaking(("<b>", "good", None))

    def test_that_are_far_too_long_do_not_break_the_cookie(self, speaking):
        page = speaking(("ж" * 5000, "good", None))
        assert "ж" * (TEXT_MAX - 1) + "…" in page

    def test_stand_outside_the_content_so_that_nothing_moves(self, speaking):
        page = speaking(("It is done.", "good", None))
        assert page.index("</main>") < page.index("It is done.")


class TestFragments:
    def test_are_for_htmx_alone(self, asked):
        assert not asked(htmx.wants_fragment)
        assert asked(htmx.wants_fragment, HX_Request="true")
        assert not asked(htmx.wants_fragment, HX_Request="true", HX_Boosted="true")
        assert not asked(htmx.wants_fragment, HX_Request="true", HX_History_Restore_Request="true")

    def test_bring_along_what_was_said_and_say_it_once(self, asked):
        def act():
            flash.say("Deleted.", undo="/bin/1/restore")
            first = htmx.fragment(
                "sign_in/fields.html", status=422, kept=Kept("/notes", ()), message=Message("And more.", "warn")
            )
            return first, "_flashes" in session

        answer, waits = asked(act)
        assert answer.status_code == 422
        beside = answer.get_data(as_text=True).partition("<hx-partial")[2]
        assert 'hx-target="#messages"' in beside
        assert "Deleted." in beside
        assert "And more." in beside
        assert not waits, "said once"

    def test_without_a_message_leave_the_shown_ones_alone(self, asked):
        answer = asked(lambda: htmx.fragment("sign_in/fields.html", kept=Kept("/notes", ())))
        assert "<hx-partial" not in answer.get_data(as_text=True)

    def test_can_send_the_browser_to_another_page(self, asked):
        answer = asked(lambda: htmx.htmx_redirect("/settings"))
        assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/settings")


class TestTheTimeZoneOfTheBrowser:
    def zone(self, parts, email):
        return parts.accounts.find(email).preferences.get("time_zone")

    def test_is_kept_when_somebody_registers(self, visit, parts):
        assert visit().send("/auth/register", **NEW, time_zone="Europe/Vienna").status_code == 303
        assert self.zone(parts, "eve@example.org") == "Europe/Vienna"

    def test_is_kept_at_the_first_sign_in_and_not_over_a_choice(self, visit, parts, user):
        visit().sign_in(user.email, time_zone="Asia/Tokyo")
        assert self.zone(parts, user.email) == "Asia/Tokyo"
        visit().sign_in(user.email, time_zone="Europe/Vienna")
        assert self.zone(parts, user.email) == "Asia/Tokyo"

    @pytest.mark.parametrize("name", ["", "Nowhere/Town", "../../etc/passwd", "x" * 5000, "europe/vienna"])
    def test_is_passed_over_where_it_is_none(self, visit, parts, user, name):
        assert visit().sign_in(user.email, time_zone=name).status_code == 303
        assert self.zone(parts, user.email) is None


@pytest.mark.parametrize("path", ["/nothing", "/tasks/00000000-0000-0000-0000-000000000000"])
def test_an_error_page_says_what_to_do(ada, path):
    page = ada.get(path, 404)
    assert "Look for it from the start page" in page.html
    assert "mention request" in page.html
