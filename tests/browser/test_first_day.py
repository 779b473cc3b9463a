"""The first day of two people who know nothing of each other, in a real browser, light, dark and on a phone."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import web
from repositories.repository_factory import RepositoryFactory
from tests.support.visits import LOOKS, ON_A_PHONE, link, register, says, shows, sign_in

pytestmark = pytest.mark.browser

ZONE = "Europe/Berlin"
PAGES = ("/", "/tasks", "/notes", "/events", "/categories", "/bin", "/search?q=garden", "/settings")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("look", ON_A_PHONE)
def test_two_people_work_side_by_side_and_see_nothing_of_each_other(make_parts, serve, browse, look):
    parts = make_parts(bootstrap_first_admin="true")
    address = serve(web.create(parts))
    ada, bob = (browse(address, zone=ZONE, **LOOKS[look]) for _ in range(2))
    ada.open("/")
    ada.picture(f"day-welcome-{look}")
    for visitor, name in ((ada, "Ada"), (bob, "Bob")):
        register(visitor, f"{name.lower()}@example.org", name)
        if visitor is ada:
            ada.picture(f"day-registered-{look}")
        make_category(visitor, name)
        add_tasks(visitor, name)
        write_note(visitor, name)
        plan_evening(visitor, name)
    for path in PAGES:
        ada.open(path)
        ada.picture(f"day-{re.sub('[^a-z]+', '-', path).strip('-') or 'home'}-{look}")

    ada_sees, bob_sees = texts_of(ada), texts_of(bob)
    for title in ("Water the tomatoes", "Order seeds", "Bread", "Concert", "garden"):
        assert f"{title} of Ada" in ada_sees
        assert f"{title} of Bob" in bob_sees
    assert "of Bob" not in ada_sees
    assert "of Ada" not in bob_sees
    assert {path.name for path in parts.settings.tenant_data_dir.glob("*.db")} >= {"user_1.db", "user_2.db"}

    work_through_the_list(ada, look)
    sign_out_and_in_again(ada)
    assert ada.problems == []
    assert bob.problems == []


def make_category(visitor, owner):
    visitor.open("/categories")
    assert link(visitor, "Uncategorized").is_visible(), "everybody has that one"
    visitor.fill(Name=f"garden of {owner}")
    visitor.press("Green")
    assert visitor.page.get_by_label("Colour", exact=True).input_value() == "#2f8f4e"
    visitor.press("Add category")
    says(visitor, f"Added “garden of {owner}”.")


def add_tasks(visitor, owner):
    visitor.open("/")
    line = visitor.page.get_by_label("Quick add")
    line.fill(f"Water the tomatoes of {owner} today !3")
    visitor.page.get_by_text("Understood:").wait_for()
    understood = visitor.page.locator("#quick-understood")
    understood.get_by_text(f"Water the tomatoes of {owner}", exact=True).wait_for()
    line.press("Enter")
    says(visitor, f"Added “Water the tomatoes of {owner}”")
    today = visitor.page.get_by_role("list", name="Today")
    assert "high priority" in today.inner_text()

    visitor.open("/tasks")
    visitor.page.get_by_text("Add a task").click()
    in_five_days = datetime.now(ZoneInfo(ZONE)).date() + timedelta(days=5)
    visitor.fill(Title=f"Order seeds of {owner}", Due=in_five_days.isoformat())
    visitor.page.get_by_label("Priority").first.select_option("Medium")
    visitor.page.get_by_label("Category", exact=True).select_option(label=f"garden of {owner}")
    visitor.press("Add task")
    says(visitor, f"Added “Order seeds of {owner}”.")
    row = visitor.page.get_by_role("listitem").filter(has_text=f"Order seeds of {owner}")
    for fact in ("due", "medium priority", f"garden of {owner}"):
        assert fact in row.inner_text()


def write_note(visitor, owner):
    visitor.open("/notes")
    visitor.fill(Title=f"Bread of {owner}", Text="Mix **flour** and water")
    visitor.page.get_by_role("region", name="Preview").locator("strong", has_text="flour").wait_for()
    visitor.page.get_by_label("Pin to the start page").check()
    visitor.press("Add note")
    says(visitor, f"Added “Bread of {owner}”.")
    visitor.open("/")
    pinned = visitor.page.get_by_role("region", name="Pinned notes")
    pinned.get_by_role("link", name=f"Bread of {owner}").click()
    shows(visitor, f"Bread of {owner}")
    assert visitor.page.locator("main strong").inner_text() == "flour"


def plan_evening(visitor, owner):
    visitor.open("/events")
    visitor.page.get_by_text("New event", exact=True).click()
    visitor.fill(Title=f"Concert of {owner}", Place="Town hall")
    tomorrow = datetime.now(ZoneInfo(ZONE)) + timedelta(days=1)
    for label, hour in (("Starts", 19), ("Ends", 22)):
        moment = tomorrow.replace(hour=hour, minute=30).strftime("%Y-%m-%dT%H:%M")
        visitor.page.get_by_label(re.compile(f"^{label}")).fill(moment)
    visitor.press("Add event")
    says(visitor, f"Added “Concert of {owner}”.")
    chip = visitor.page.get_by_role("link", name=f"Concert of {owner}")
    assert "19:30" in chip.inner_text()
    visitor.open("/")
    assert f"Concert of {owner}" in visitor.page.get_by_role("region", name="Next events").inner_text()


def texts_of(visitor):
    found = []
    for path in PAGES:
        assert visitor.open(path).status == 200
        found.append(visitor.page.inner_text("main"))
    return "\n".join(found)


def work_through_the_list(ada, look):
    """Change a task where it stands, finish one by one press, delete another and have it back."""
    page = ada.page
    ada.open("/tasks")
    link(ada, "Edit Order seeds of Ada").click()
    page.get_by_role("list", name="Tasks").get_by_label("Title").fill("Order seeds and pots")
    ada.picture(f"day-inline-{look}")
    ada.press("Save")
    link(ada, "Order seeds and pots").wait_for()

    ada.press("Done: Water the tomatoes of Ada")
    page.get_by_role("button", name="Not done after all: Water the tomatoes of Ada").wait_for()
    ada.press("Delete Order seeds and pots")
    says(ada, "Deleted “Order seeds and pots”.")
    link(ada, "Order seeds and pots").wait_for(state="detached")
    ada.picture(f"day-deleted-{look}")
    ada.press("Undo")
    says(ada, "back.")
    link(ada, "Order seeds and pots").wait_for()
    ada.open("/tasks")
    assert link(ada, "Water the tomatoes of Ada").count() == 0, "what is done is out of the way"

    page.get_by_label("Select Order seeds and pots").check()
    page.get_by_text("1 selected").wait_for()
    ada.picture(f"day-selected-{look}")
    page.get_by_role("group", name="Selected tasks").get_by_role("button", name="Doing").click()
    page.get_by_role("listitem").filter(has_text="Order seeds and pots").get_by_text("doing", exact=True).wait_for()


def sign_out_and_in_again(ada):
    ada.page.locator("header").get_by_role("button", name="Sign out").click()
    says(ada, "You have been signed out.")
    ada.open("/tasks")
    shows(ada, "Sign in")
    sign_in(ada, "ada@example.org")
    shows(ada, "Tasks")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("look", ON_A_PHONE)
def test_a_note_written_while_the_session_ended_is_not_lost(parts, user, serve, browse, look):
    ada = browse(serve(web.create(parts)), zone=ZONE, **LOOKS[look])
    ada.open("/notes")
    sign_in(ada, user.email)
    shows(ada, "Notes")
    ada.fill(Title="Kept", Text="A long thought.")
    parts.accounts.end_sessions(user.id)
    ada.press("Add note")
    ada.page.get_by_text("What you typed has been kept").wait_for()
    ada.picture(f"day-session-ended-{look}")
    sign_in(ada, user.email)
    shows(ada, "What you typed is still here")
    assert "Text\nA long thought." in ada.page.inner_text("main")
    ada.picture(f"day-kept-{look}")
    ada.press("Save it now")
    says(ada, "Added “Kept”.")
    with parts.manager.session(user.id) as session:
        notes = RepositoryFactory.get_repository("notes", session, user.id).list(limit=5)
    assert [note["body"] for note in notes] == ["A long thought."]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("look", ON_A_PHONE)
def test_what_is_wrong_stands_beside_its_field_and_the_rest_is_kept(parts, user, serve, browse, look):
    ada = browse(serve(web.create(parts)), zone=ZONE, **LOOKS[look])
    ada.open("/notes")
    sign_in(ada, user.email)
    shows(ada, "Notes")
    ada.fill(Title=" ", Text="kept")
    ada.press("Add note")
    ada.page.get_by_text("Please correct one field.").wait_for()
    title = ada.page.get_by_label("Title")
    assert title.get_attribute("aria-invalid") == "true"
    assert (
        "This field is required."
        in ada.page.locator(f"#{title.get_attribute('aria-describedby').split()[-1]}").inner_text()
    )
    assert ada.page.get_by_label("Text").input_value() == "kept"
    ada.picture(f"day-refused-{look}")
    ada.open("/nothing")
    link(ada, "Go to the start page").wait_for()
    ada.picture(f"day-not-found-{look}")
    # The browser itself notes the two answers that are meant to be refusals; nothing else may be noted.
    assert [re.sub(r".*status of (\d+).*", r"\1", problem) for problem in ada.problems] == ["422", "404"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("look", ON_A_PHONE)
def test_colours_and_keys_are_chosen_in_the_settings(parts, user, serve, browse, look):
    ada = browse(serve(web.create(parts)), zone=ZONE, **LOOKS[look])
    ada.open("/settings")
    sign_in(ada, user.email)
    shows(ada, "Settings")
    other = "Light" if look == "dark" else "Dark"
    ada.page.get_by_label("Colours").select_option(other)
    ada.press("Save settings")
    says(ada, "Your settings are saved.")
    assert ada.page.locator("html").get_attribute("data-theme") == other.lower()
    ada.picture(f"day-settings-turned-{look}")
    link(ada, "API keys").click()
    ada.page.get_by_label("Name").fill("Backup script")
    ada.press("Create key")
    secret = ada.page.locator("#new-key").inner_text()
    principal = parts.accounts.principal_by_key(secret)
    assert principal is not None
    assert principal.user.id == user.id
    ada.picture(f"day-key-{look}")
    link(ada, "I have copied it").click()
    ada.page.get_by_text("never used").wait_for()
    assert secret not in ada.page.content(), "it is shown once"
    assert ada.problems == []
