"""The page on which users see, make and restore the backups of their own data."""

from __future__ import annotations

import re

import pytest

from tenancy.catalog.backups import BackupState
from tenancy.catalog.jobs import JobState
from tenancy.errors import StorageUnavailableError
from tests.support.applications import PATIENCE_S
from tests.support.backups import ARGUMENTS, keep_backup, key_pair
from tests.support.browsing import PASSWORD
from tests.support.jobs import working

PATH = "/settings/data"


@pytest.fixture
def parts(make_parts, tmp_path):
    """Give the joined parts with keys for backups; jobs are added and nobody works on them."""
    return make_parts(**key_pair(tmp_path))


def jobs(parts):
    return [(job.kind, job.arguments, job.actor_id) for job in reversed(parts.manager.jobs.page())]


def test_users_see_their_own_backups_and_nothing_of_where_they_are(ada, parts, user, other):
    assert "No backups yet" in ada.get(PATH).html
    kept = keep_backup(parts.manager, user.id, hours=3)
    keep_backup(parts.manager, user.id, state=BackupState.FAILED, error="s3://bucket refused.", error_code="x")
    foreign = keep_backup(parts.manager, other.id, size_bytes=77_000_000)
    page = ada.get(PATH)
    for shown in ("3 hours ago", "4.8 MiB", "1,234 rows", "failed"):
        assert shown in page.html
    for hidden in (
        foreign.id,
        "73.4 MiB",
        kept.checksum,
        "s3://",
        "12345678",
        kept.tenant_id,
        parts.settings.backup_url,
    ):
        assert str(hidden) not in page.html
    assert f"{PATH}/{kept.id}/restore" in page.links
    assert page.inline == page.unlabelled == []


def test_a_user_is_told_when_the_last_backup_is_old(ada, parts, user):
    assert "There is no backup of your data yet." in ada.get(PATH).html
    keep_backup(parts.manager, user.id, hours=100)
    assert "Your last backup is of" in ada.get(PATH).html
    keep_backup(parts.manager, user.id, hours=1)
    assert "Your last backup is of" not in ada.get(PATH).html


def test_the_list_goes_on_on_the_next_page(ada, bob, parts, user):
    for hours in range(51):
        keep_backup(parts.manager, user.id, hours=hours, row_count=7000 + hours)
    first = ada.get(PATH)
    assert "7,049" in first.html
    assert "7,050" not in first.html
    following = next(link for link in first.links if "cursor=" in link)
    assert "7,050" in ada.get(following).html
    bob.get(following, 400)


def test_a_backup_is_a_job_whose_progress_is_followed_by_loading_the_page_again(ada, parts, user):
    started = ada.send(PATH)
    assert started.status_code == 303
    assert jobs(parts) == [("backup", {"user": str(user.id)}, user.id)]
    assert ada.send(PATH).location == started.location, "a second click finds the first one's job"
    page = ada.get(started.location)
    assert "as soon as the server has time" in page.html
    assert started.location in page.links
    assert started.location in ada.get(PATH).links
    with working(parts.manager):
        parts.manager.jobs.wait(parts.manager.jobs.page()[0].id, PATIENCE_S)
    assert "Your data has been backed up." in ada.get(started.location).html
    assert started.location not in ada.get(PATH).links


def test_a_job_that_failed_says_so_in_words_for_users(ada, parts, user):
    from tenancy.jobs.kinds import Kind

    def fail(run, arguments):
        raise StorageUnavailableError("s3://bucket does not answer.")

    parts.manager.jobs.kinds.register(Kind("backup", "Fail.", fail, ARGUMENTS["backup"], most_attempts=1))
    started = ada.send(PATH)
    with working(parts.manager):
        job = parts.manager.jobs.wait(parts.manager.jobs.page()[0].id, PATIENCE_S)
    assert job.state is JobState.FAILED
    page = ada.get(started.location).html
    assert "The storage of backups is not answering at the moment." in page
    assert "Your data is as it was." in page
    assert "s3://" not in page


def test_a_restore_needs_the_password_and_says_what_goes_out_of_sight(ada, parts, user):
    kept = keep_backup(parts.manager, user.id, hours=3)
    path = f"{PATH}/{kept.id}/restore"
    assert "is not in this backup" in ada.get(path).html
    for typed in ("", "a wrong password", "x" * 10_000):
        refused = ada.send(path, current_password=typed)
        assert refused.status_code == 422
        assert 'aria-invalid="true"' in refused.text
    assert jobs(parts) == []
    started = ada.send(path, current_password=PASSWORD)
    assert started.status_code == 303
    assert jobs(parts) == [("restore", {"user": str(user.id), "backup": str(kept.id)}, user.id)]
    assert "as soon as the server has time" in ada.get(started.location).html


def test_undoing_a_restore_says_how_much_goes_out_of_sight_and_needs_a_tick_and_the_password(ada, parts, user):
    path = f"{PATH}/undo"
    assert ada.client.get(path).location == PATH
    backup = parts.manager.backups.create(user.id)
    parts.manager.restores.restore(user.id, backup.id)
    assert path in ada.get(PATH).links
    assert "Nothing was written since then" in ada.get(path).html
    ada.post("/tasks", title="Written since")
    assert "At least 1 row was" in ada.get(path).html
    for typed in ({}, {"current_password": PASSWORD}, {"discard_newer": "1"}):
        assert ada.send(path, **{"current_password": ""} | typed).status_code == 422
    assert jobs(parts) == []
    assert ada.send(path, discard_newer="1", current_password=PASSWORD).status_code == 303
    assert jobs(parts) == [("undo", {"user": str(user.id), "discard_newer": True}, user.id)]


def test_a_user_backs_up_restores_and_undoes_the_restore(ada, parts, user):
    ada.post("/tasks", title="In the backup")
    assert _worked(parts, ada.send(PATH)).state is JobState.DONE
    (backup,) = parts.manager.backups.listed()
    ada.post("/tasks", title="Written since")
    restored = ada.send(f"{PATH}/{backup.id}/restore", current_password=PASSWORD)
    assert _worked(parts, restored).state is JobState.DONE
    assert "Your data has been restored." in ada.get(restored.location).html
    tasks = ada.get("/tasks").html
    assert ("In the backup" in tasks, "Written since" in tasks) == (True, False)
    undone = ada.send(f"{PATH}/undo", current_password=PASSWORD)
    assert _worked(parts, undone).state is JobState.DONE
    assert "Written since" in ada.get("/tasks").html


def test_wrong_passwords_are_throttled(ada, parts, user):
    from tenancy.catalog import login_failures

    kept = keep_backup(parts.manager, user.id)
    for _ in range(login_failures.LIMIT):
        assert ada.send(f"{PATH}/{kept.id}/restore", current_password="x").status_code == 422
    assert ada.send(f"{PATH}/{kept.id}/restore", current_password=PASSWORD).status_code == 429
    assert jobs(parts) == []


def test_another_restore_meanwhile_is_refused_in_words_for_users(ada, parts, user):
    first, second = (keep_backup(parts.manager, user.id, hours=hours) for hours in (1, 2))
    ada.send(f"{PATH}/{first.id}/restore", current_password=PASSWORD)
    refused = ada.send(f"{PATH}/{second.id}/restore", current_password=PASSWORD)
    assert refused.location == PATH
    page = ada.get(PATH).html
    assert "Something else that you asked for is under way" in page
    assert "unify jobs" not in page
    assert len(jobs(parts)) == 1


def test_others_backups_and_jobs_are_404_like_those_that_are_not_there(ada, bob, parts, user, other):
    mine, theirs = keep_backup(parts.manager, user.id), keep_backup(parts.manager, other.id)
    failed = keep_backup(parts.manager, user.id, state=BackupState.FAILED)
    damaged = keep_backup(parts.manager, user.id, state=BackupState.DAMAGED)
    catalog = keep_backup(parts.manager, None)
    earlier = keep_backup(parts.manager, user.id, tenant_id=catalog.id)
    job = bob.send(PATH).location
    unknown = "0123abcd-0000-7000-8000-000000000000"
    answers = set()
    for key in (unknown, theirs.id, failed.id, damaged.id, catalog.id, earlier.id):
        for answer in (
            ada.client.get(f"{PATH}/{key}/restore"),
            ada.post(f"{PATH}/{key}/restore", current_password=PASSWORD),
        ):
            answers.add((answer.status_code, re.sub(r"[0-9a-f]{16}|csrf.*|value=\S+", "", _main(answer.text))))
    assert len(answers) == 1
    ada.get(f"{PATH}/{mine.id}/restore")
    seen = {re.sub("[0-9a-f]{16}", "", _main(ada.get(path, 404).html)) for path in (job, f"{PATH}/work/99")}
    assert len(seen) == 1
    assert bob.get(job)


def test_jobs_of_the_operator_are_not_shown_to_users(ada, parts, user):
    every = parts.manager.backup_jobs.backup_all()
    kept = keep_backup(parts.manager, user.id)
    check = parts.manager.backup_jobs.verify(kept.id)
    for job in (every, check):
        ada.get(f"{PATH}/work/{job.id}", 404)
    for key in ("0", "x", "9" * 30, "-1", str(2**31)):
        ada.get(f"{PATH}/work/{key}", 404)


def test_too_many_jobs_are_429(ada, parts):
    statuses = []
    for _ in range(13):
        statuses.append(ada.post(PATH).status_code)
    assert statuses == [303] * 12 + [429]
    assert len(jobs(parts)) == 1


def test_without_a_secret_key_here_a_user_makes_backups_and_asks_the_operator_for_restores(visit, make_parts, tmp_path):
    import web
    from tests.conftest import make_user

    parts = make_parts(backup_recipients=key_pair(tmp_path)["backup_recipients"])
    user = make_user(parts, "ada@example.org")
    ada = type(visit())(web.create(parts))
    ada.sign_in(user.email)
    kept = keep_backup(parts.manager, user.id)
    page = ada.get(PATH)
    assert "ask the operator of this site" in page.html
    assert f"{PATH}/{kept.id}/restore" not in page.links
    ada.get(f"{PATH}/{kept.id}/restore", 404)
    assert ada.send(PATH).status_code == 303


def test_where_backups_are_not_set_up_the_page_says_so(visit, make_parts):
    import web
    from tests.conftest import make_user

    parts = make_parts()
    user = make_user(parts, "ada@example.org")
    ada = type(visit())(web.create(parts))
    ada.sign_in(user.email)
    page = ada.get(PATH)
    assert "Backups are not set up on this site." in page.html
    assert PATH not in [form.action for form in page.forms]
    assert ada.post(PATH).status_code == 404


def test_in_shared_mode_there_is_nothing_to_back_up_by_oneself(visit, make_parts, tmp_path):
    import web
    from tests.conftest import make_user

    parts = make_parts(multi_tenant_mode="false", **key_pair(tmp_path))
    user = make_user(parts, "ada@example.org")
    ada = type(visit())(web.create(parts))
    ada.sign_in(user.email)
    assert "All accounts share one database" in ada.get(PATH).html
    assert ada.post(PATH).status_code == 404


def test_the_page_works_while_the_database_is_being_replaced(ada, parts, user):
    from tenancy.catalog.tables import user_database_configs

    keep_backup(parts.manager, user.id)
    with parts.catalog.writing() as connection:
        connection.execute(user_database_configs.update(), {"state": "moving"})
    assert "Backups of your data" in ada.get(PATH).html
    assert "Your database is being replaced" in ada.get("/settings/database").html


def test_the_page_is_a_handful_of_statements(statements, ada, parts, user):
    for hours in range(30):
        keep_backup(parts.manager, user.id, hours=hours)
    ada.get(PATH)
    with statements() as sent:
        ada.get(PATH)
    assert len(sent) <= 5, sent


def _worked(parts, answer):
    """Have a worker do the job that an answer leads to."""
    assert answer.status_code == 303, answer.text
    with working(parts.manager):
        return parts.manager.jobs.wait(int(answer.location.rpartition("/")[2]), PATIENCE_S)


def _main(page):
    return page[page.index("<main") : page.index("</main>")]
