"""The console's pages of backups, restores and what is old, and what they start."""

from __future__ import annotations

import pytest

from tenancy.catalog.backups import BackupState
from tests.support.backups import keep_backup, key_pair, know_kinds

PATH = "/admin/backups"


@pytest.fixture
def parts(make_parts, tmp_path):
    """Give the joined parts with keys for backups; jobs are added and nobody works on them."""
    parts = make_parts(**key_pair(tmp_path))
    know_kinds(parts.manager.jobs.kinds)
    return parts


@pytest.fixture
def keyless(make_parts):
    return make_parts()


def jobs(parts):
    return [(job.kind, job.arguments) for job in reversed(parts.manager.jobs.page())]


# --- the list ------------------------------------------------------------------------------------------


def test_the_list_tells_of_whom_from_when_and_how_each_backup_is(root, parts, user):
    assert "No backups yet" in root.get(PATH).html
    good = keep_backup(parts.manager, user.id, hours=2)
    keep_backup(parts.manager, user.id, state=BackupState.FAILED, error="no.", error_code="storage_unavailable")
    keep_backup(parts.manager, None, hours=3)
    page = root.get(PATH)
    for shown in (user.email, "4.8 MiB", "1,234", "the catalog", "storage_unavailable", "unify backup list"):
        assert shown in page.html
    assert f"{PATH}/{good.id}" in page.links
    assert page.inline == page.unlabelled == []


def test_the_figures_warn_of_what_is_old_or_missing(root, parts, user):
    keep_backup(parts.manager, user.id, hours=100)
    text = " ".join(root.get(PATH).html.split())
    assert '<span class="number">2</span> <span class="of">not backed up in the last 48 hours, of 2</span>' in text
    assert "4 days ago" in text
    for path in ("/admin/", "/admin/health"):
        page = root.get(path)
        assert PATH in " ".join(page.links)
        assert "48 hours" in page.html


def test_the_list_is_filtered_and_paged(root, parts, user, other):
    for hours in range(51):
        keep_backup(parts.manager, user.id, hours=hours, row_count=7000 + hours)
    keep_backup(parts.manager, other.id, state=BackupState.DAMAGED, row_count=99)
    first = root.get(f"{PATH}?user={user.email}")
    assert "7,049" in first.html
    assert "7,050" not in first.html
    following = next(link for link in first.links if "after=" in link)
    assert "7,050" in root.get(following).html
    root.get(following.replace(f"user={user.email}", f"user={other.id}"), 400)
    assert "7,001" not in root.get(f"{PATH}?user={other.id}").html
    assert "7,001" not in root.get(f"{PATH}?state=damaged").html
    for nobody in ("user=nobody@example.org", "user=0", "user=99", "kind=catalog"):
        assert "No backup matches" in root.get(f"{PATH}?{nobody}").html
    for wrong in ("state=x", "kind=x", "after=x"):
        root.get(f"{PATH}?{wrong}", 400)


def test_statements_do_not_grow_with_the_backups(statements, root, parts, user):
    paths = (PATH, f"/admin/users/{user.id}")
    kept = [keep_backup(parts.manager, user.id, hours=hours) for hours in range(2)]
    paths += (f"{PATH}/{kept[0].id}", f"/admin/users/{user.id}/restore/{kept[0].id}")
    few = {path: _counted(statements, root, path) for path in paths}
    for hours in range(30):
        keep_backup(parts.manager, user.id, hours=hours)
    assert {path: _counted(statements, root, path) for path in paths} == few
    assert max(few.values()) <= 12, few


# --- making them ---------------------------------------------------------------------------------------


def test_each_button_adds_its_job_once_and_leads_to_it(root, parts, user):
    for what, typed in (("user", user.email), ("user", str(user.id)), ("all", ""), ("catalog", ""), ("all", "")):
        done = root.post(PATH, what=what, user=typed)
        assert done.status_code == 303
        assert done.location.startswith("/admin/jobs/")
    assert jobs(parts) == [("backup", {"user": str(user.id)}), ("backup", {"all": True}), ("backup", {"catalog": True})]
    (me,) = {job.actor_id for job in parts.manager.jobs.page()}
    assert me == parts.accounts.find("root@example.org").id


@pytest.mark.parametrize("typed", ["", "nobody@example.org", "0", "99", "9" * 60, "\x00", "x" * 1000])
def test_a_backup_of_nobody_is_refused_beside_the_form(root, parts, typed):
    refused = root.post(PATH, what="user", user=typed)
    assert refused.status_code == 422
    assert "No backup was started" in refused.text
    assert jobs(parts) == []


def test_where_keys_are_missing_the_page_says_which_command_makes_them(visit, keyless):
    import web
    from tests.support.browsing import PASSWORD

    made = keyless.accounts.create("root@example.org", password=PASSWORD, is_admin=True)
    keyless.manager.provision(made.id)
    root = type(visit())(web.create(keyless))
    root.sign_in(made.email)
    for path in (PATH, f"/admin/users/{made.id}"):
        page = root.get(path).html
        assert "Nothing can be backed up yet" in page
        assert "unify credentials generate-identity" in page
    assert f"/admin/users/{made.id}/backup" not in root.get(f"/admin/users/{made.id}").links


# --- one backup ----------------------------------------------------------------------------------------


def test_one_backup_tells_what_is_known_and_names_the_command_of_each_action(root, parts, user):
    kept = keep_backup(parts.manager, user.id, hours=2)
    page = root.get(f"{PATH}/{kept.id}")
    for shown in (kept.id, kept.checksum, "12345678", "87654321", f"unify restore {user.id} {kept.id}"):
        assert str(shown) in page.html
    for command in ("verify", "show"):
        assert f"unify backup {command} {kept.id}" in page.html
    offered = [link for link in page.links if link.startswith(f"{PATH}/{kept.id}/")]
    assert {link.rpartition("/")[2] for link in offered} == {"verify", "try"}
    for link in offered:
        asked = root.get(link)
        assert [form.action for form in asked.forms if form.action == link], link
    assert jobs(parts) == []


def test_verifying_is_a_job(root, parts, user):
    kept = keep_backup(parts.manager, user.id)
    for action in ("verify", "try"):
        assert root.send(f"{PATH}/{kept.id}/{action}").location.startswith("/admin/jobs/")
    assert jobs(parts) == [
        ("verify", {"backup": str(kept.id)}),
        ("verify", {"backup": str(kept.id), "by_restoring": True}),
    ]


def test_the_catalogs_backup_is_restored_by_no_page(root, parts):
    kept = keep_backup(parts.manager, None)
    assert "unify restore" not in root.get(f"{PATH}/{kept.id}").html


@pytest.mark.parametrize("key", ["0123abcd-0000-7000-8000-000000000000", "1", "x", "0" * 32])
def test_a_backup_that_is_not_there_is_404(root, user, key):
    for path in (f"{PATH}/{key}", f"{PATH}/{key}/verify", f"{PATH}/{key}/try"):
        root.get(path, 404)
    for path in (f"{PATH}/{key}/verify", f"{PATH}/{key}/try", f"/admin/users/{user.id}/restore/{key}"):
        assert root.post(path).status_code == 404


def _counted(statements, root, path):
    root.get(path)
    with statements() as sent:
        root.get(path)
    return len(sent)
