"""The console's pages of backups, restores and what is old, and what they start."""

from __future__ import annotations

import pytest

from tenancy.catalog.backups import BackupState
from tests.support.backups import keep_backup, key_pair

PATH = "/admin/backups"


@pytest.fixture
def parts(make_parts, tmp_path):
    """Give the joined parts with keys for backups; jobs are added and nobody works on them."""
    return make_parts(**key_pair(tmp_path))


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
    for command in ("verify", "show", "delete"):
        assert f"unify backup {command} {kept.id}" in page.html
    offered = [link for link in page.links if link.startswith(f"{PATH}/{kept.id}/")]
    assert {link.rpartition("/")[2] for link in offered} == {"verify", "try", "delete"}
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
    for path in (f"{PATH}/{key}", f"{PATH}/{key}/verify", f"{PATH}/{key}/delete"):
        root.get(path, 404)
    for path in (f"{PATH}/{key}/verify", f"{PATH}/{key}/delete", f"/admin/users/{user.id}/restore/{key}"):
        assert root.post(path).status_code == 404


# --- deleting ------------------------------------------------------------------------------------------


@pytest.fixture
def stored(parts, user):
    """Give two backups of a user that are in the storage, older first."""
    return [parts.manager.backups.create(user.id) for _ in range(2)]


def test_a_backup_is_deleted_after_a_question_and_the_last_good_one_is_not(root, parts, stored):
    older, last = stored
    assert f"unify backup delete {older.id}" in root.get(f"{PATH}/{older.id}/delete").html
    assert root.send(f"{PATH}/{older.id}/delete").location == PATH
    assert "The backup has been deleted." in root.get(PATH).html
    assert root.send(f"{PATH}/{last.id}/delete").location == f"{PATH}/{last.id}"
    assert "is the last good backup" in root.get(PATH).html
    assert [backup.id for backup in parts.manager.backups.listed()] == [last.id]
    root.get(f"{PATH}/{older.id}", 404)


def test_old_backups_are_shown_before_they_are_deleted_by_a_job(root, parts, user, stored):
    old = keep_backup(parts.manager, user.id, hours=24 * 40)
    page = root.get(f"{PATH}/prune")
    assert "daily=7,weekly=4,monthly=12" in page.html
    planned = root.send(f"{PATH}/prune", keep="daily=1")
    assert planned.status_code == 200
    assert "Nothing has been deleted." in planned.text
    assert f"{PATH}/{old.id}" in planned.text
    assert str(stored[1].id) not in planned.text, "the newest stays"
    assert "unify backup prune --keep daily=1" in planned.text
    assert jobs(parts) == []
    assert root.post(f"{PATH}/prune", keep="daily=1", step="delete").location.startswith("/admin/jobs/")
    assert jobs(parts) == [("prune", {"keep": "daily=1"})]


@pytest.mark.parametrize("keep", ["", "x", "daily=0", "daily=7,daily=8", "hourly=3", "x" * 200, "--all"])
def test_a_rule_that_cannot_be_is_said_beside_its_field(root, parts, keep):
    for step in ("", "delete"):
        refused = root.post(f"{PATH}/prune", keep=keep, step=step)
        assert refused.status_code == 422, keep
        assert 'aria-invalid="true"' in refused.text
    assert jobs(parts) == []


# --- restoring -----------------------------------------------------------------------------------------


def test_a_restore_says_what_happens_to_newer_rows_and_needs_the_address_typed(root, parts, user):
    kept = keep_backup(parts.manager, user.id, hours=5)
    path = f"/admin/users/{user.id}/restore/{kept.id}"
    assert path in root.get(f"/admin/users/{user.id}").links
    page = root.get(path)
    for shown in ("are not in the backup", f"unify restore {user.id} {kept.id}", "No worker takes jobs"):
        assert shown in page.html
    for typed in ("", "bob@example.org"):
        refused = root.send(path, address=typed)
        assert refused.status_code == 422
        assert f"Type {user.email}" in refused.text
    assert jobs(parts) == []
    done = root.send(path, address=user.email.upper(), only_tables="tasks, notes", as_new_user="")
    assert done.location.startswith("/admin/jobs/")
    asked = {"user": str(user.id), "backup": str(kept.id), "only_tables": "tasks,notes"}
    assert jobs(parts) == [("restore", asked)]


def test_anothers_backup_is_404_to_restore(root, parts, user, other):
    theirs, catalog = keep_backup(parts.manager, other.id), keep_backup(parts.manager, None)
    damaged = keep_backup(parts.manager, user.id, state=BackupState.DAMAGED)
    for key in (theirs.id, catalog.id, damaged.id):
        root.get(f"/admin/users/{user.id}/restore/{key}", 404)
        assert root.post(f"/admin/users/{user.id}/restore/{key}", address=user.email).status_code == 404


def test_without_a_secret_key_here_the_command_is_shown_and_no_button(visit, make_parts, tmp_path):
    import web
    from tests.support.browsing import PASSWORD

    parts = make_parts(backup_recipients=key_pair(tmp_path)["backup_recipients"])
    made = parts.accounts.create("root@example.org", password=PASSWORD, is_admin=True)
    parts.manager.provision(made.id)
    root = type(visit())(web.create(parts))
    root.sign_in(made.email)
    kept = keep_backup(parts.manager, made.id)
    path = f"/admin/users/{made.id}/restore/{kept.id}"
    for shown in (f"/admin/users/{made.id}", f"{PATH}/{kept.id}", path):
        page = root.get(shown)
        assert f"unify restore {made.id} {kept.id}" in page.html
        assert path not in [*page.links, *(form.action for form in page.forms)]
    assert root.post(path, address=made.email).status_code == 409
    assert jobs(parts) == []


def test_a_restore_is_undone_only_with_a_tick_where_rows_were_written_since(root, ada, parts, user, stored):
    path = f"/admin/users/{user.id}/undo-restore"
    assert root.client.get(path).location == f"/admin/users/{user.id}"
    assert "is there to undo" in root.get("/admin/").html
    parts.manager.restores.restore(user.id, stored[0].id)
    assert path in root.get(f"/admin/users/{user.id}").links
    page = root.get(path)
    assert "No row was written since then" in page.html
    assert 'name="discard_newer"' not in page.html
    ada.post("/tasks", title="Written since")
    page = root.get(path)
    assert "At least 1 row was" in page.html
    assert "<code>tasks</code>" in page.html
    assert "--undo --discard-newer" in page.html
    refused = root.send(path)
    assert (refused.status_code, "Tick this to confirm." in refused.text) == (422, True)
    assert jobs(parts) == []
    assert root.send(path, discard_newer="1").location.startswith("/admin/jobs/")
    assert jobs(parts) == [("undo", {"user": str(user.id), "discard_newer": True})]


def test_everybody_else_is_refused(ada, visit, parts, user):
    kept = keep_backup(parts.manager, user.id)
    visitor = visit()
    paths = [PATH, f"{PATH}/{kept.id}", f"{PATH}/prune", *(f"{PATH}/{kept.id}/{each}" for each in ("verify", "delete"))]
    paths += [f"/admin/users/{user.id}/{each}" for each in (f"restore/{kept.id}", "undo-restore", "backup")]
    for path in paths:
        ada.get(path, 403)
        assert visitor.client.get(path).status_code == 302
        assert ada.post(path).status_code in (403, 405)
    assert jobs(parts) == []


def _counted(statements, root, path):
    root.get(path)
    with statements() as sent:
        root.get(path)
    return len(sent)
