"""Spend a whole day in the workspace without a mouse: no click, only keys, and always in sight of where one is."""

from __future__ import annotations

import re

import pytest

import web
from tests.support.keyboard import Keyboard

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"


@pytest.mark.timeout(300)
def test_a_whole_day_by_keyboard_alone(make_parts, serve, browse):
    parts = make_parts()
    ada = browse(serve(web.create(parts)), zone="Europe/Berlin")
    page, keys = ada.page, Keyboard(ada.page)

    def says(text):
        page.locator("#messages").get_by_text(text).wait_for()

    def shows(heading):
        page.get_by_role("heading", level=1, name=re.compile(heading)).wait_for()

    # She makes herself an account.
    ada.open("/")
    keys.to("Skip to content")
    keys.press("Enter")
    keys.go("Create account")
    shows("Create account")
    keys.fill("E-mail", "ada@example.org")
    keys.fill("Name", "Ada")
    keys.fill("Password", PASSWORD)
    keys.press("Enter")
    says("Welcome, Ada")
    assert parts.accounts.find("ada@example.org").preferences["time_zone"] == "Europe/Berlin"

    # She writes down what there is to do, and does some of it.
    for text in ("Return the ladder tomorrow 5pm #home !2", "Order seeds", "Water the tomatoes today"):
        keys.press("n")
        keys.type(text)
        keys.press("Enter")
        says("Added")
    keys.press("g", "t")
    shows("Tasks")
    keys.press("j", "d")
    page.get_by_role("button", name="Not done after all: Water the tomatoes").wait_for()
    keys.press("j", "e")
    keys.to("Title") if page.evaluate("document.activeElement.tagName") != "INPUT" else None
    keys.replace("Order seeds and pots")
    keys.press("Enter")
    page.get_by_role("link", name="Order seeds and pots", exact=True).wait_for()
    keys.go("Move Order seeds and pots down", tag="button")
    page.locator("#task-rows > li:last-child", has_text="Order seeds and pots").wait_for()
    keys.go("Delete Order seeds and pots", tag="button")
    says("Deleted")
    keys.press("u")
    says("back")
    shows("Tasks")
    page.get_by_role("link", name="Order seeds and pots", exact=True).wait_for()

    # She writes a note, sees how it will look, and finds it again.
    keys.press("g", "n")
    shows("Notes")
    keys.press("n")
    keys.fill("Title", "Bread")
    keys.fill("Text", "Mix **flour** and water")
    page.locator("main strong", has_text="flour").wait_for()
    keys.go("Add note", tag="button")
    says("Bread")
    keys.press("/")
    keys.type("flour")
    keys.press("Enter")
    shows("Search")
    keys.go("Bread", tag="a")
    shows("Bread")

    # She plans an evening, and looks at the month.
    keys.press("g", "e")
    shows("20")
    keys.press("n")
    keys.fill("Title", "Concert")
    keys.to("Starts")
    keys.type("12312026")
    keys.press("Tab")
    keys.type("0730PM")
    keys.go("Add event", tag="button")
    says("Concert")

    # She makes it dark, and gives a program a key.
    keys.press("g", "s")
    shows("Settings")
    keys.to("Colours")
    keys.type("Dark")
    keys.go("Save settings", tag="button")
    page.locator("html[data-theme=dark]").wait_for()
    keys.go("API keys", tag="a")
    page.get_by_role("heading", level=2, name="New key").wait_for()
    keys.to("Name")
    keys.type("Backup")
    keys.go("Create key", tag="button")
    page.locator("#new-key").wait_for()
    keys.go("Copy", tag="button")

    # She signs out.
    keys.go("Sign out", tag="button")
    page.wait_for_url("**/auth/login")
    assert ada.problems == []
