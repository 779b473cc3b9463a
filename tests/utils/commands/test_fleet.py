from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

import compose
from repositories.schema import MIGRATIONS
from tenancy.schema.chain import Chain
from tenancy.schema.tables import TENANT_VERSION_TABLE
from tests.support.applications import set_back

FIRST, *LATER = Chain(MIGRATIONS, TENANT_VERSION_TABLE).checksums
HEAD = LATER[-1]


@pytest.fixture
def behind(ready, settings):
    """Three users, whose databases a restore took back to the first revision."""
    for name in "abc":
        assert ready("users", "create", "--email", f"{name}@example.org").exit_code == 0
    parts = compose.build(settings)
    set_back(parts.manager, [1, 2, 3])
    parts.close()
    return ready


def document(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def harm(settings, user_id: int) -> None:
    with closing(sqlite3.connect(settings.tenant_data_dir / f"user_{user_id}.db")) as driver, driver:
        driver.execute("DELETE FROM tenancy_ledger")


def test_a_fleet_at_head_says_so_and_a_migration_does_nothing(ready):
    ready("users", "create", "--email", "a@example.org")
    told = ready("fleet", "status")
    assert (told.exit_code, told.stdout) == (0, f"1 of 1 databases are at {HEAD}.\n")
    assert f"nothing to do, 1 tenant already at {HEAD}" in ready("fleet", "migrate").stdout


def test_who_is_behind_is_told_with_the_reason_until_it_was_migrated(behind):
    told = behind("fleet", "status")
    assert told.exit_code == 1
    assert f"0 of 3 databases are at {HEAD}; 3 behind." in told.stdout
    assert "it was not migrated yet" in told.stdout
    assert told.stderr == f"Error: 3 of 3 databases are not at {HEAD}. To migrate them: unify fleet migrate\n"
    run = behind("fleet", "migrate")
    assert (run.exit_code, run.stdout) == (0, f"Run 1 (to {HEAD}) is done: 3 done.\n")
    found = document(behind("fleet", "status", "--json"))
    assert (found["at_head"], found["behind"], found["not_at_head"]) == (3, 0, [])


def test_a_dry_run_changes_nothing(behind):
    plan = document(behind("fleet", "migrate", "--dry-run", "--json"))
    assert [(t["user_id"], t["from"], t["revisions"]) for t in plan["tenants"]] == [
        (n, FIRST, LATER) for n in (1, 2, 3)
    ]
    told = behind("fleet", "migrate", "--dry-run").stdout
    assert (
        f"3 tenants would be migrated to {HEAD}, 0 already there; there is no earlier run to estimate the time from."
        in told
    )
    assert document(behind("fleet", "runs", "--json")) == {"items": []}
    assert behind("fleet", "status").exit_code == 1


def test_one_that_fails_is_named_and_resume_finishes(behind, settings):
    harm(settings, 2)
    run = behind("fleet", "migrate")
    assert run.exit_code == 1
    assert run.stdout == f"Run 1 (to {HEAD}) is incomplete: 2 done, 1 failed.\n"
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("Error")]
    assert f"user 2 (b@example.org): the version table says {FIRST}, the ledger None" in line
    assert "Continue with `unify fleet resume 1`." in line
    shown = behind("fleet", "show").stdout
    assert "b@example.org" in shown
    assert "a@example.org" not in shown
    assert [row["state"] for row in document(behind("fleet", "show", 1, "--json"))["items"]] == [
        "done",
        "failed",
        "done",
    ]
    status = document_of_failure(behind("fleet", "status", "--json"))
    assert (status["failed"], status["not_at_head"][0]["user_id"]) == (1, 2)
    again = behind("fleet", "retry", 1, "--json")
    assert again.exit_code == 1
    assert [row["user_id"] for row in json.loads(again.stdout)["left"]] == [2]


def document_of_failure(result):
    assert result.exit_code == 1
    return json.loads(result.stdout)


def test_only_those_who_are_meant_are_migrated_and_taken_back(behind):
    assert document(behind("fleet", "migrate", "--only", "b@example.org, 3", "--json"))["counts"] == {"done": 2}
    assert document(behind("fleet", "migrate", "--type", "postgresql", "--json"))["counts"] == {}
    refused = behind("fleet", "rollback", 1)
    assert refused.exit_code == 2
    assert "Add --yes" in refused.stderr
    back = behind("fleet", "rollback", 1, "--yes")
    assert (back.exit_code, back.stdout) == (0, "Run 3 (rolling back run 1) is done: 2 done.\n")
    listed = document(behind("fleet", "runs", "--json"))["items"]
    assert [(run["id"], run["kind"], run["state"]) for run in listed] == [
        (3, "rollback", "done"),
        (2, "migrate", "done"),
        (1, "migrate", "done"),
    ]
    assert "rollback" in behind("fleet", "runs").stdout


def test_a_paused_run_is_shown_watched_and_cancelled(behind, settings):
    from tenancy.catalog.runs import Rules, Selection

    parts = compose.build(settings)
    run = parts.manager.fleet.start(Selection(), Rules())
    parts.close()
    assert "is paused: 0 of 3" in behind("fleet", "pause").stdout
    refused = behind("fleet", "migrate")
    assert refused.exit_code == 1
    assert f"unify fleet resume {run.id}" in refused.stderr
    assert "is paused: 3 waiting" in behind("fleet", "watch").stdout
    assert behind("fleet", "cancel").exit_code == 0
    assert "is cancelled: 3 cancelled" in behind("fleet", "show", run.id).stdout
    assert behind("fleet", "resume", run.id).stdout == f"Run {run.id} (to {HEAD}) is done: 3 done.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("migrate", "--to", "9999"), "there is no revision '9999'"),
        (("migrate", "--only", "nobody@example.org"), "no user with this address"),
        (("migrate", "--server", "nowhere"), "nowhere"),
        (("migrate", "--snapshot", "--no-restore-points"), "or none, not both"),
        (("show", "9"), "there is no fleet run 9"),
        (("show",), "There has been no fleet run yet"),
        (("pause", "9"), "there is no fleet run 9"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(ready, words, told):
    refused = ready("fleet", *words)
    assert refused.exit_code == 1
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("migrate", "--only", "one two"),
        ("migrate", "--only", ""),
        ("migrate", "--only", " , "),
        ("migrate", "--waves", "10,100"),
        ("migrate", "--waves", "50%,10%"),
        ("migrate", "--waves", "200%"),
        ("migrate", "--halt-after-failures", "0"),
        ("migrate", "--halt-after-failures", "120%"),
        ("migrate", "--halt-after-failures", "1.5"),
        ("migrate", "--canary", "0"),
        ("migrate", "--workers", "0"),
        ("resume", "x"),
    ],
)
def test_wrong_words_are_refused_as_such(ready, words):
    assert ready("fleet", *words).exit_code == 2


def test_in_shared_mode_there_is_no_fleet(call, make_settings):
    refused = call("fleet", "status", settings=make_settings(multi_tenant_mode="false"))
    assert refused.exit_code == 1
    assert "Users share one database" in refused.stderr


def test_a_run_in_processes_of_its_own_does_as_much(shell, environ, settings):
    assert shell("db", "create-config-table").returncode == 0
    for name in "ab":
        assert shell("users", "create", "--email", f"{name}@example.org").returncode == 0
    from settings import Settings

    parts = compose.build(Settings.load(environ, dotenv=None))
    set_back(parts.manager, [1, 2])
    parts.close()
    run = shell("fleet", "migrate", "--workers", 2, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["counts"] == {"done": 2}
    assert shell("fleet", "status").returncode == 0


# --- new-revision ---------------------------------------------------------------------------------------


@pytest.fixture
def changed_models(tmp_path, monkeypatch):
    """Let the application's models have one column more than its chain, which is a copy."""
    import shutil

    import sqlalchemy as sa

    from repositories import schema

    folder = tmp_path / "tenant"
    shutil.copytree(schema.MIGRATIONS / "versions", folder / "versions")
    models = sa.MetaData(naming_convention=schema.metadata.naming_convention)
    for table in schema.metadata.sorted_tables:
        table.to_metadata(models)
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    monkeypatch.setattr(schema, "metadata", models)
    models.tables["notes"].append_column(sa.Column("mood", sa.String(8)))
    return models


def test_a_new_revision_is_written_and_described(call, changed_models):
    made = document(call("fleet", "new-revision", "Give notes a mood", "--json"))
    assert made["path"].endswith(f"{made['revision']}_give_notes_a_mood.py")
    assert (made["destructive"], made["breaks"], made["look_at"]) == (False, [], [])
    assert len(made["checksum"]) == 64
    again = call("fleet", "new-revision", "Give notes a mood")
    assert again.exit_code == 1
    assert again.stderr == f"Error: the models already match revision {made['revision']}: there is nothing to write.\n"


def test_a_destructive_revision_is_told_with_its_reason(call, changed_models):
    changed_models.remove(changed_models.tables["bin"])
    told = call("fleet", "new-revision", "Throw the bin away")
    assert told.exit_code == 0, told.stderr
    assert "It is marked destructive, because it drops table bin." in told.stdout
    assert "make test" in told.stdout


def test_a_message_that_cannot_be_one_is_refused(call, changed_models):
    refused = call("fleet", "new-revision", "")
    assert refused.exit_code == 1
    assert refused.stderr == "Error: say in a few words what the revision does.\n"
    assert call("fleet", "new-revision").exit_code == 2
