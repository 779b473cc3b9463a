"""The console's overview, table, health page and their cost, and that they are nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

import web
from tenancy.catalog.tables import user_database_configs, users

PAGES = ("/admin/", "/admin/users", "/admin/audit", "/admin/health", "/admin/audit.csv", "/admin/audit.jsonl")


def test_the_overview_counts_the_fleet_and_every_figure_leads_to_what_it_counts(root, parts, user, other):
    parts.manager.suspend(other.id)
    parts.accounts.create("new@example.org")
    page = root.get("/admin/")
    assert page.html.count('<svg class="chart') == 3, "growth, states, types"
    for shown in ("4</span>", "suspended", "SQLite", "New accounts a week", parts.manager.head):
        assert shown in page.html
    for link in ("/admin/users?account=without", "/admin/users?state=failed", "/admin/users?state=suspended"):
        assert link in page.links
        root.get(link)
    assert "new@" in root.get("/admin/users?account=without").html
    assert page.inline == []


def test_an_overview_of_nothing_says_so(root, parts):
    page = root.get("/admin/")
    assert "No errors are recorded." in page.html
    assert "No sizes are known yet" in page.html


def test_trouble_is_shown_with_whose_it_is(root, parts, user):
    parts.manager.note_error(user.id, "storage_full", "the disk is full: make room.", "r-1")
    parts.manager.observations.flush([])
    page = root.get("/admin/")
    assert "storage_full" in page.html
    assert f"/admin/users/{user.id}" in page.links
    tenant = root.get(f"/admin/users/{user.id}").html
    assert "The disk is full: make room." in tenant
    assert "r-1" in tenant


def test_users_and_their_databases_are_listed(root, parts, user, other):
    parts.manager.suspend(other.id)
    without = parts.accounts.create("new@example.org", display_name="<script>x</script>")
    page = root.get("/admin/users")
    for shown in (user.email, other.email, without.email, "suspended", "absent", "ready", "root@example.org"):
        assert shown in page.html
    assert "<script>x" not in page.html
    assert f"/admin/users/{without.id}" in page.links


def test_the_list_is_paged_by_key_searched_and_sorted(root, parts):
    for number in range(60):
        parts.accounts.create(f"person{number:02}@example.org")
    first = root.get("/admin/users")
    assert "person48@" in first.html
    assert "person49@" not in first.html
    assert "50 accounts shown of 61" in first.html
    second = root.get(next(link for link in first.links if "after=" in link))
    assert "person49@" in second.html
    assert "person59@" in second.html
    assert "/admin/users" in second.links, "back to the first page"
    found = root.get("/admin/users?q=PERSON07%40")
    assert "person07@" in found.html
    assert "person08@" not in found.html
    backwards = root.get("/admin/users?sort=-email").html
    assert 'aria-sort="descending"' in backwards
    assert backwards.index("root@") < backwards.index("person59@") < backwards.index("person11@")
    assert "No account matches" in root.get("/admin/users?q=100%25").html
    assert root.get("/admin/users?q=%00%22%3Cscript%3E").inline == []


def test_filters_find_what_they_name_and_stay_while_sorting_and_paging(root, parts, user, other):
    parts.manager.suspend(other.id)
    parts.accounts.deactivate(user.id)
    suspended = root.get("/admin/users?state=suspended")
    assert other.email in suspended.html
    assert user.email not in suspended.html
    assert "/admin/users?state=suspended&sort=-size" in [link.replace("&amp;", "&") for link in suspended.links]
    assert user.email in root.get("/admin/users?account=deactivated").html
    assert user.email not in root.get("/admin/users?account=active").html
    assert other.email not in root.get("/admin/users?behind=1").html
    _set(parts, other.id, revision="0001")
    assert other.email in root.get("/admin/users?behind=1").html
    assert user.email not in root.get("/admin/users?idle=7").html
    with parts.catalog.writing() as connection:
        old = datetime.now(UTC) - timedelta(days=40)
        connection.execute(sa.update(users).where(users.c.id == user.id).values(last_seen_at=old))
    assert user.email in root.get("/admin/users?idle=30").html


@pytest.mark.parametrize(
    "asked", ["after=x", "sort=password_hash", "state=x", "type=x", "account=x", "idle=1", "behind=2"]
)
def test_a_list_that_cannot_be_is_refused(root, asked):
    root.get(f"/admin/users?{asked}", 400)


def test_a_place_in_one_list_is_not_a_place_in_another(root, parts):
    for number in range(51):
        parts.accounts.create(f"person{number:02}@example.org")
    link = next(link for link in root.get("/admin/users?sort=email").links if "after=" in link)
    root.get(link.replace("sort=email", "sort=size"), 400)


def test_health_says_how_everything_is_and_the_command_for_it(root, parts, user, settings):
    page = root.get("/admin/health")
    for shown in ("SQLite", parts.manager.head, str(settings.tenant_data_dir), "newest", "unify credentials status"):
        assert shown in page.html
    for secret in (*settings.tenant_credential_keys, settings.secret_key, settings.audit_key):
        assert secret not in page.html
    assert ">ready<" in page.html
    _set(parts, user.id, state="failed", revision=None)
    assert "need attention" in root.get("/admin/health").html


def test_statements_do_not_grow_with_the_users(statements, root, parts, user):
    paths = [*PAGES[:4], f"/admin/users/{user.id}", f"/admin/users/{user.id}/initialize", "/admin/users?state=ready"]
    few = {path: _counted(statements, root, path) for path in paths}
    _register(parts, 300)
    assert {path: _counted(statements, root, path) for path in paths} == few
    assert max(few.values()) <= 12, few


def test_everybody_else_is_refused(ada, visit):
    assert "Only administrators may do this." in ada.get("/admin/", 403).html
    assert 'href="/admin/"' not in ada.get("/").html
    visitor = visit()
    for path in PAGES:
        ada.get(path, 403)
        assert visitor.client.get(path).status_code == 302


def test_shared_mode_lists_the_users_of_the_one_database(visit, shared_parts):
    made = shared_parts.accounts.create("root@example.org", password="correct horse battery", is_admin=True)
    root = type(visit())(web.create(shared_parts))
    root.sign_in(made.email)
    for path in ("/admin/", "/admin/users"):
        page = root.get(path)
        assert "All users share one database" in page.html
        assert "absent" not in page.html
    tenant = root.get(f"/admin/users/{made.id}")
    assert "the shared database" in tenant.html
    assert not [link for link in tenant.links if link.endswith(("suspend", "delete", "initialize"))]
    assert "The database answers." in root.send(f"/admin/users/{made.id}/test").text
    root.send(f"/admin/users/{made.id}/suspend")
    assert "Nothing was changed" in root.get("/admin/").html
    assert "share one database" in root.get(f"/admin/users/{made.id}/initialize").html
    assert root.send(f"/admin/users/{made.id}/initialize").status_code == 303


def _counted(statements, root, path):
    root.get(path)
    with statements() as sent:
        root.get(path)
    return len(sent)


def _set(parts, user_id, **values):
    with parts.catalog.writing() as connection:
        mine = user_database_configs.c.user_id == user_id
        connection.execute(sa.update(user_database_configs).where(mine).values(**values))


def _register(parts, number):
    from bench.world import register_only

    register_only(parts, number)
