"""Two people's first day, and an operator's, in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import web
from tests.browser.conftest import PHONE

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"
PAGES = ("/", "/tasks", "/notes", "/events", "/categories", "/settings", "/admin/")


def register(visitor, email, name):
    visitor.open("/")
    visitor.page.get_by_role("link", name="Create account").first.click()
    visitor.page.get_by_label("E-mail").fill(email)
    visitor.fill(Name=name, Password=PASSWORD)
    visitor.press("Create account")
    assert f"Welcome, {name}" in visitor.page.content()


def work(visitor, owner):
    """Fill a first day: tasks, notes, events and a category."""
    now = datetime.now(UTC)
    visitor.open("/categories")
    visitor.page.get_by_text("Add a category").click()
    visitor.fill(Name=f"{owner}'s garden", Colour="#2f8f4e")
    visitor.press("Add category")

    visitor.open("/tasks")
    for title, due, priority in (
        ("Water the tomatoes", 0, "High"),
        ("Return the ladder", -2, "Medium"),
        ("Order seeds", 5, "None"),
    ):
        if not visitor.page.get_by_label("Title").is_visible():
            visitor.page.get_by_text("Add a task").click()
        visitor.fill(Title=f"{title} ({owner})", Due=(now.date() + timedelta(days=due)).isoformat())
        visitor.page.get_by_label("Priority").select_option(priority)
        visitor.page.locator("#tasks-category_id").select_option(label=f"{owner}'s garden")
        visitor.press("Add task")
        visitor.page.get_by_text(f"Added “{title} ({owner})”.").wait_for()

    visitor.open("/notes")
    visitor.fill(Title=f"Bread ({owner})", Text="500 g flour\n350 g water\n10 g salt")
    visitor.page.get_by_label("Pin to the start page").check()
    visitor.press("Add note")

    visitor.open("/events")
    visitor.fill(Title=f"Concert ({owner})", Place="Town hall")
    for label, days, hour in (("Starts", 1, 19), ("Ends", 1, 22)):
        moment = (now + timedelta(days=days)).replace(hour=hour, minute=30)
        visitor.page.get_by_label(label).fill(moment.strftime("%Y-%m-%dT%H:%M"))
    visitor.press("Add event")


def texts_of(visitor):
    found = []
    for path in PAGES[:6]:
        visitor.open(path)
        found.append(visitor.page.inner_text("main"))
    return "\n".join(found)


@pytest.mark.timeout(300)
def test_two_people_work_side_by_side_and_see_nothing_of_each_other(make_parts, serve, browse):
    parts = make_parts(bootstrap_first_admin="true")
    address = serve(web.create(parts))
    ada, bob = browse(address), browse(address)

    ada.open("/")
    ada.picture("welcome-light")
    ada.open("/auth/register")
    ada.picture("register-light")
    for visitor, email, name in ((ada, "ada@example.org", "Ada"), (bob, "bob@example.org", "Bob")):
        register(visitor, email, name)
        if visitor is ada:
            visitor.picture("home-empty-light")
            for path in PAGES[1:6]:
                visitor.open(path)
                visitor.picture(f"{path.strip('/')}-empty-light")
        work(visitor, name)

    ada_sees, bob_sees = texts_of(ada), texts_of(bob)
    for title in ("Water the tomatoes", "Bread", "Concert", "garden"):
        assert title in ada_sees
        assert title in bob_sees
    assert "(Bob)" not in ada_sees
    assert "Bob's garden" not in ada_sees
    assert "(Ada)" not in bob_sees
    assert "Ada's garden" not in bob_sees
    assert {path.name for path in parts.settings.tenant_data_dir.glob("*.db")} >= {"user_1.db", "user_2.db"}

    ada.open("/tasks")
    ada.page.get_by_role("link", name="Edit Water the tomatoes (Ada)").click()
    ada.picture("task-edit-light")
    ada.page.get_by_label("Status").select_option("Done")
    ada.press("Save")
    ada.page.get_by_text("Saved “Water the tomatoes (Ada)”.").wait_for()
    ada.picture("tasks-light")

    ada.open("/auth/logout")
    ada.picture("logout-light")
    ada.page.locator("main").get_by_role("button", name="Sign out").click()
    assert ada.page.url.endswith("/auth/login")
    ada.open("/tasks")
    assert "/auth/login" in ada.page.url
    ada.page.get_by_label("E-mail").fill("ada@example.org")
    ada.fill(Password=PASSWORD)
    ada.press("Sign in")
    assert ada.page.url.endswith("/tasks")
    assert ada.problems == []
    assert bob.problems == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("look", "size"), [("light", None), ("dark", None), ("light", PHONE), ("dark", PHONE)])
def test_every_page_looks_right_in_light_and_dark_and_on_a_phone(make_parts, serve, browse, look, size):
    parts = make_parts(bootstrap_first_admin="true")
    address = serve(web.create(parts))
    ada = browse(address, scheme=look, size=size)
    name = f"{look}-phone" if size else look
    register(ada, "ada@example.org", "Ada")
    work(ada, "Ada")
    failed = parts.accounts.create("new@example.org", display_name="Nobody yet " + "w" * 60)
    parts.accounts.deactivate(failed.id)
    bob = parts.accounts.create("bob.with.a.long.address@department.example.org", display_name="Bob")
    parts.manager.provision(bob.id)
    for path in PAGES:
        answer = ada.open(path)
        assert answer.status == 200
        ada.picture(f"{path.strip('/') or 'home'}-{name}")
    ada.press(f"Test {bob.email}")
    ada.picture(f"admin-test-{name}")
    ada.open("/settings")
    ada.page.get_by_text("New key").click()
    ada.page.locator("#key-name").fill("Backup script")
    ada.press("Make key")
    ada.picture(f"key-{name}")
    ada.open("/notes")
    ada.page.get_by_text("Add a note").click()
    ada.page.get_by_label("Title").fill(" ")
    ada.page.get_by_label("Text").fill("kept")
    assert ada.problems == []
    ada.press("Add note")
    ada.page.get_by_text("This is needed.").wait_for()
    ada.picture(f"notes-error-{name}")
    ada.open("/nothing")
    ada.picture(f"not-found-{name}")
    # The browser itself notes the two answers that are meant to be refusals; nothing else may be noted.
    assert all("Failed to load resource" in problem for problem in ada.problems), ada.problems
    assert len(ada.problems) == 2


@pytest.mark.timeout(120)
def test_a_day_begins_by_keyboard_alone(parts, user, serve, browse):
    ada = browse(serve(web.create(parts)))
    ada.open("/auth/login")
    keys = ada.page.keyboard
    keys.press("Tab")
    assert ada.page.evaluate("document.activeElement.className") == "skip"
    keys.press("Enter")
    keys.press("Tab")
    assert ada.page.evaluate("document.activeElement.id") == "login-email"
    keys.type(user.email)
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    ada.page.wait_for_url("**/")
    focused = "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(12):
        keys.press("Tab")
        assert ada.page.evaluate(focused) == "solid", ada.page.evaluate("document.activeElement.outerHTML")
    assert ada.problems == []
