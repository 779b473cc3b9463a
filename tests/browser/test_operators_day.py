"""The first day of an operator in the console, in a real browser, light, dark and on a phone."""

from __future__ import annotations

import re

import pytest

import web
from tests.support.applications import keep_server
from tests.support.visits import AT_A_DESK, LOOKS, PASSWORD, link, register, says, shows, sign_in

pytestmark = pytest.mark.browser


@pytest.mark.timeout(300)
@pytest.mark.parametrize("look", AT_A_DESK)
def test_an_operator_finds_out_acts_and_sees_what_came_of_it(make_parts, serve, browse, look):
    parts = make_parts(bootstrap_first_admin="true")
    address = serve(web.create(parts))
    root, bob = browse(address, **LOOKS[look]), browse(address, **LOOKS[look])
    register(root, "root@example.org", "Root")
    says(root, "This is the first account, so it is an administrator.")
    register(bob, "bob@example.org", "Bob")
    parts.accounts.create("new@example.org", display_name="Nobody yet")
    gone = parts.accounts.create("gone@example.org", display_name="Gone " + "w" * 60, password=PASSWORD)
    parts.accounts.deactivate(gone.id)

    sees_the_fleet(root, look)
    makes_a_database(root, parts, look)
    suspends_and_resumes(root, bob, look)
    asks_before_deleting(root, parts, look)
    reads_the_audit_log(root, look)
    looks_after_health(root, look)
    assert root.problems == []
    assert len(bob.problems) == 1, "the page that his suspended database could not give"
    assert "503" in bob.problems[0]


def sees_the_fleet(root, look):
    root.page.get_by_role("navigation", name="Account").get_by_role("link", name="Admin").click()
    shows(root, "The fleet at a glance")
    figures = root.page.locator(".figures").inner_text()
    for number, label in ((4, "accounts"), (2, "databases"), (2, "without a database"), (1, "deactivated")):
        assert re.search(rf"\b{number}\s+{label}", figures), figures
    root.picture(f"operator-fleet-{look}")
    link(root, "2 without a database").click()
    shows(root, "Users and databases")
    assert link(root, "new@example.org").is_visible()
    assert link(root, "bob@example.org").count() == 0
    link(root, "Show all").click()
    link(root, "bob@example.org").wait_for()
    root.picture(f"operator-users-{look}")
    root.page.get_by_placeholder("E-mail, name or number").fill("bob")
    root.press("Search")
    root.page.get_by_text("1 account shown").wait_for()
    link(root, "bob@example.org").click()
    shows(root, "bob@example.org")
    assert "as configured" in root.page.inner_text("main")
    root.picture(f"operator-tenant-{look}")


def makes_a_database(root, parts, look):
    """Try first, then make what is missing."""
    root.open("/admin/users?account=without&q=new")
    link(root, "new@example.org").click()
    assert "This account has no place to store its data." in root.page.inner_text("main")
    root.picture(f"operator-without-database-{look}")
    link(root, "Initialize its database").click()
    shows(root, "Initialize the database of new@example.org")
    assert "unify db init" in root.page.inner_text("main")
    root.picture(f"operator-initialize-{look}")
    root.press("Test connection")
    root.page.get_by_text("This would work.").wait_for()
    root.picture(f"operator-would-work-{look}")

    folder, elsewhere = parts.settings.tenant_data_dir, parts.settings.tenant_data_dir.with_name("elsewhere")
    folder.rename(elsewhere)  # as when a disk is not mounted
    folder.write_text("no folder")
    root.press("Test connection")
    root.page.get_by_text("This would not work.").wait_for()
    root.picture(f"operator-would-not-work-{look}")
    folder.unlink()
    elsewhere.rename(folder)

    root.press("Initialize")
    says(root, "The database of new@example.org was created.")
    shows(root, "new@example.org")
    link(root, "Test the connection").click()
    root.press("Test the connection")
    root.page.get_by_text("The database answers.").wait_for()
    root.picture(f"operator-connection-{look}")


def suspends_and_resumes(root, bob, look):
    root.open("/admin/users?q=bob")
    link(root, "bob@example.org").click()
    link(root, "Suspend").click()
    shows(root, "Suspend: bob@example.org")
    bob.open("/tasks")
    shows(bob, "Tasks")
    root.picture(f"operator-suspend-{look}")
    root.press("Suspend")
    says(root, "The database of bob@example.org is suspended")
    assert root.page.locator(".heading").get_by_text("suspended", exact=True).is_visible()
    assert bob.open("/tasks").status == 503
    assert "An administrator has suspended your database. Nothing is lost." in bob.page.inner_text("main")
    bob.picture(f"operator-suspended-user-{look}")
    link(root, "Resume").click()
    root.press("Resume")
    says(root, "The database of bob@example.org has been resumed.")
    bob.open("/tasks")
    shows(bob, "Tasks")


def asks_before_deleting(root, parts, look):
    """A wrong address changes nothing; the right one deletes the database and leaves the account."""
    found = parts.accounts.find("new@example.org")
    root.open(f"/admin/users/{found.id}")
    link(root, "Delete the database").click()
    root.page.get_by_label("To confirm, type the account's e-mail address").fill("bob@example.org")
    known = list(root.problems)
    root.press("Delete the database")
    root.page.get_by_text("Type new@example.org to confirm.").wait_for()
    root.picture(f"operator-not-this-one-{look}")
    assert parts.manager.load_user_db_config(found.id)["status"] == "ready"
    assert all("422" in problem for problem in root.problems[len(known) :]), root.problems
    root.problems[:] = known
    root.page.get_by_label("To confirm, type the account's e-mail address").fill("new@example.org")
    root.press("Delete the database")
    says(root, "The database of new@example.org has been deleted; the account still exists.")
    shows(root, "new@example.org")


def reads_the_audit_log(root, look):
    link(root, "Audit log").click()
    shows(root, "Audit log")
    rows = root.page.get_by_role("table").inner_text()
    for action in ("user.register", "tenant.provision", "tenant.suspended", "tenant.ready", "tenant.delete"):
        assert action in rows
    root.picture(f"operator-audit-{look}")
    root.page.get_by_label("Action").select_option("tenant.suspended")
    root.press("Filter")
    link(root, "Show all").wait_for()
    only = root.page.locator("main tbody tr")
    assert only.count() == 1
    for number, name, text in ((2, "Account", "bob@example.org"), (3, "By", "root@example.org console")):
        head, cell = root.page.get_by_role("columnheader", name=name), only.locator("td").nth(number)
        assert cell.inner_text() == text
        assert cell.bounding_box()["x"] == head.bounding_box()["x"], f"{text} stands under {name}"
    with root.page.expect_download() as download:
        link(root, "CSV").click()
    exported = download.value.path().read_text().splitlines()
    assert len(exported) == 2, "what the filter finds, under its heads"
    assert "tenant.suspended" in exported[1]
    root.press("Verify the log")
    root.page.get_by_text("The log is intact").wait_for()
    root.picture(f"operator-seal-{look}")


def looks_after_health(root, look):
    link(root, "Health").click()
    shows(root, "Health")
    health = root.page.inner_text("main")
    for fact in ("ready", "Catalog", "SQLite", "usable", "This process"):
        assert fact in health
    root.picture(f"operator-health-{look}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("look", AT_A_DESK)
def test_a_lost_database_is_told_with_what_to_do(make_parts, serve, browse, look):
    parts = make_parts()
    root = parts.accounts.create("root@example.org", password=PASSWORD, is_admin=True)
    parts.manager.provision(root.id)
    bob = parts.accounts.create("bob@example.org", display_name="Bob")
    parts.manager.provision(bob.id)
    (parts.settings.tenant_data_dir / f"user_{bob.id}.db").unlink()
    visitor = browse(serve(web.create(parts)), **LOOKS[look])
    visitor.open(f"/admin/users/{bob.id}")
    sign_in(visitor, root.email)
    shows(visitor, "bob@example.org")
    visitor.page.get_by_text("The database does not answer.").wait_for()
    visitor.picture(f"operator-lost-{look}")
    link(visitor, "Test the connection").click()
    visitor.press("Test the connection")
    assert "is gone" in visitor.page.get_by_role("status").first.inner_text()
    visitor.picture(f"operator-lost-test-{look}")
    link(visitor, "Overview").click()
    shows(visitor, "The fleet at a glance")
    visitor.picture(f"operator-trouble-{look}")
    assert visitor.problems == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("look", AT_A_DESK)
def test_servers_fit_the_window_and_a_refused_one_stays_in_its_form(make_parts, serve, browse, look):
    parts = make_parts()
    root = parts.accounts.create("root@example.org", password=PASSWORD, is_admin=True)
    keep_server(parts.manager, "one")
    keep_server(parts.manager, "The second of them, in the cellar")
    visitor = browse(serve(web.create(parts)), **LOOKS[look])
    visitor.open("/admin/servers")
    sign_in(visitor, root.email)
    shows(visitor, "Database servers")
    table = visitor.page.locator("div.scroll", has_text="Kept ready")
    if look != "phone":
        assert table.evaluate("each => each.scrollWidth - each.clientWidth") <= 0, "no action is cut off"
    visitor.page.get_by_text("Register a server").click()
    visitor.fill(Name="Third", Host="127.0.0.1", Port="1", User="operator", Password="hunter2")
    visitor.press("Register")
    visitor.page.get_by_text("No server answers at this host and port.").wait_for()
    assert visitor.page.get_by_label("Name", exact=True).input_value() == "Third"
    assert visitor.page.get_by_label("Password", exact=True).input_value() == ""
    assert "422" in visitor.problems.pop()
    visitor.picture(f"operator-server-refused-{look}")
    assert visitor.problems == []
