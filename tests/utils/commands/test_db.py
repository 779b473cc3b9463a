from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tenancy import backends
from tenancy.catalog import claims, tenants
from tenancy.models import State
from utils.commands import db


@pytest.fixture
def peopled(ready):
    """Two users with databases."""
    for name in "ab":
        assert ready("users", "create", "--email", f"{name}@example.org").exit_code == 0
    return ready


def document(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_configuration_table_is_created_once(call):
    first = document(call("db", "create-config-table", "--json"))
    assert first["applied"]
    assert first["at_head"]
    assert document(call("db", "create-config-table", "--json"))["applied"] == []


def test_a_new_catalog_beside_databases_of_another_is_warned_of_once(call, settings):
    settings.tenant_data_dir.mkdir(parents=True, exist_ok=True)
    (settings.tenant_data_dir / "user_7.db").touch()
    first, again = call("db", "create-config-table"), call("db", "create-config-table")
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert str(settings.tenant_data_dir) in first.stderr
    assert "restore it" in first.stderr
    assert again.stderr == ""


def test_a_catalog_that_fails_is_named_with_its_place_and_without_its_password(shell, tmp_path):
    damaged = tmp_path / "damaged.db"
    damaged.write_text("no database")
    for url, place in (
        (f"sqlite:///{damaged}", str(damaged)),
        ("sqlite:////proc/nope.db", "/proc/nope.db"),
        ("postgresql://ada:hushhush@127.0.0.1:1/unify", "127.0.0.1:1/unify"),
    ):
        refused = shell("db", "create-config-table", ADMIN_DATABASE_URL=url)
        assert refused.returncode == 1
        assert f"(ADMIN_DATABASE_URL: {place})" in refused.stderr
        assert "TENANT_DATA_DIR" not in refused.stderr
        assert "hushhush" not in refused.stdout + refused.stderr
        assert refused.stderr.count("\n") == 1


def test_commands_before_that_say_what_to_type(call):
    for words in (("users", "list"), ("db", "status"), ("db", "init", 1)):
        refused = call(*words)
        assert refused.exit_code == 1
        assert "unify db create-config-table" in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_initializing_twice_makes_one_database(peopled, settings):
    peopled("db", "delete", "a@example.org", "--yes")
    assert document(peopled("db", "init", 1, "--json"))["created"] is True
    again = document(peopled("db", "init", 1, "--json"))
    assert again["created"] is False
    assert again["config"]["user_id"] == 1
    assert (settings.tenant_data_dir / "user_1.db").exists()


def test_initializing_all_goes_on_past_a_failure_and_names_it(ready, settings, parts_without_databases):
    obstacle = settings.tenant_data_dir / "user_2.db"
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("somebody else's file")
    run = ready("db", "init-all", "--json")
    assert run.exit_code == 1
    told = json.loads(run.stdout)
    assert (told["users"], told["created"]) == (3, 2)
    assert [row["user_id"] for row in told["failed"]] == [2]
    assert "User 2 (b@example.org) failed" in run.stderr
    assert "3 of 3" in run.stderr
    obstacle.unlink()
    assert document(ready("db", "init-all", "--json")) == {"users": 3, "created": 1, "already_ready": 2, "failed": []}


@pytest.fixture
def parts_without_databases(ready, settings):
    """Three accounts, none with a database."""
    import compose

    parts = compose.build(settings)
    for name in "abc":
        parts.accounts.create(f"{name}@example.org")
    parts.close()


def test_testing_a_database_tells_its_revision(peopled):
    found = document(peopled("db", "test", 1, "--json"))
    assert found["ok"] is True
    assert found["revision"] == found["head_revision"]


def test_testing_a_lost_database_fails_and_makes_no_new_one(peopled, settings):
    file = settings.tenant_data_dir / "user_1.db"
    for lost in file.parent.glob("user_1.db*"):
        lost.unlink()
    refused = peopled("db", "test", 1)
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert not file.exists()
    told = peopled("db", "test", 1, "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["ok"] is False


def test_info_shows_the_configuration_without_secrets(peopled):
    found = document(peopled("db", "info", "b@example.org", "--json"))
    assert found["db_type"] == "sqlite"
    assert found["password_set"] is False
    assert not any("password" in name for name in set(found) - {"password_set"})
    assert "user_2.db" in peopled("db", "info", 2).stdout


def test_info_of_a_user_without_a_database_fails(ready, parts_without_databases):
    refused = ready("db", "info", 1)
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1


def test_databases_are_listed_and_filtered(peopled):
    assert [row["user_id"] for row in document(peopled("db", "list", "--json"))["items"]] == [1, 2]
    assert [row["user_id"] for row in document(peopled("db", "list", "--query", "b@", "--json"))["items"]] == [2]
    assert document(peopled("db", "list", "--state", "failed", "--json"))["items"] == []
    assert document(peopled("db", "list", "--behind", "--json"))["items"] == []
    assert peopled("db", "list", "--state", "happy").exit_code == 2
    assert peopled("db", "list", "--inactive-since", "2023-02-29").exit_code == 2
    assert "b@example.org" in peopled("db", "list").stdout


def test_more_databases_than_a_page_are_all_listed(peopled, monkeypatch):
    monkeypatch.setattr("utils.commands.db.PAGE", 1)
    assert [row["user_id"] for row in document(peopled("db", "list", "--json"))["items"]] == [1, 2]


def test_status_counts_states_and_names_every_database(peopled):
    found = document(peopled("db", "status", "--json"))
    assert found["catalog"]["at_head"] is True
    assert found["by_status"] == {"ready": 2}
    assert (found["behind"], found["not_ready"], found["users_without_database"]) == ([], [], 0)
    told = peopled("db", "status").stdout
    assert "2 ready" in told
    assert "a@example.org" in told


def test_stats_sum_sizes(peopled):
    found = document(peopled("db", "stats", "--json"))
    assert found["total_databases"] == 2
    assert found["total_size_mb"] > 0
    told = peopled("db", "stats").stdout
    assert f"2 databases, {found['total_size_mb']} MiB in total." in told
    assert " MB" not in told


def test_deleting_needs_a_yes_where_nobody_can_be_asked(peopled, settings):
    file = settings.tenant_data_dir / "user_1.db"
    refused = peopled("db", "delete", 1)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert file.exists()
    assert peopled("db", "delete", 1, "--yes").exit_code == 0
    assert not file.exists()
    assert peopled("db", "info", 1).exit_code == 1
    assert (settings.tenant_data_dir / "user_2.db").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("db", "init"),
        ("db", "init", "-1"),
        ("db", "init", "1", "2"),
        ("db", "init", "1", "--db-type", "oracle"),
        ("db", "init", "1", "--db-port", "0"),
        ("db", "init", "1", "--db-password", "x"),
        ("db", "nothing"),
        ("db",),
    ],
)
def test_wrong_usage_exits_2(call, words):
    refused = call(*words)
    assert refused.exit_code == 2
    assert refused.stdout == ""


def test_a_database_password_comes_from_standard_input_and_is_not_shown(peopled):
    refused = peopled(
        "db", "init", 1, "--db-type", "sqlite", "--db-user", "u", "--db-password-stdin", stdin="hunter2-hunter2\n"
    )
    assert refused.exit_code == 1
    assert "hunter2" not in refused.output


def test_the_same_commands_work_on_one_shared_database(call, make_settings):
    shared = make_settings(multi_tenant_mode="false")

    def run(*words):
        return document(call(*words, "--json", settings=shared))

    run("db", "create-config-table")
    run("users", "create", "--email", "a@example.org")
    assert run("db", "init", 1)["config"]["status"] == "ready"
    assert run("db", "init-all")["failed"] == []
    assert run("db", "test", "a@example.org")["ok"] is True
    status = run("db", "status")
    assert (status["multi_tenant"], status["by_status"], status["users_without_database"]) == (False, {"ready": 1}, 0)
    assert run("db", "stats")["total_databases"] == 1
    assert "one shared database" in call("db", "status", settings=shared).stdout
    for words in (("delete", 1, "--yes"), ("release", 1)):
        refused = call("db", *words, settings=shared)
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "users share one database" in refused.stderr


def test_nobody_is_told_that_a_database_was_made_where_all_share_one(call, make_settings, parts_without_databases):
    shared = make_settings(multi_tenant_mode="false")

    def run(*words):
        return call(*words, settings=shared).stdout

    run("db", "create-config-table")
    assert "user 1 (a@example.org) got their first rows there" in run("db", "init", 1)
    assert "user 1 (a@example.org) already had theirs there" in run("db", "init", 1)
    assert "2 got their first rows in the shared database, 1 already had theirs, 0 failed" in run("db", "init-all")
    assert "in the database that all users share" in run("users", "create", "--email", "d@example.org")


def test_before_there_is_a_shared_database_status_says_so(call, make_settings):
    document(call("db", "create-config-table", "--json"))
    status = document(call("db", "status", "--json", settings=make_settings(multi_tenant_mode="false")))
    assert status["total_databases"] == 0
    told = call("db", "status", settings=make_settings(multi_tenant_mode="false")).stdout
    assert "the shared database is not at head: unify db create-config-table." in told
    assert "behind" not in told


def test_a_database_is_suspended_and_resumed(ready):
    assert ready("users", "create", "--email", "ada@example.org").exit_code == 0
    assert "is suspended" in ready("db", "suspend", "ada@example.org").output
    for word in ("test", "init"):
        refused = ready("db", word, 1)
        assert (refused.exit_code, "suspended" in refused.output, "unify db resume 1" in refused.output) == (
            1,
            True,
            True,
        )
    done = ready("db", "resume", 1, "--json")
    assert json.loads(done.stdout) == {"user_id": 1, "status": "ready", "resumed": True}
    again = ready("db", "resume", 1)
    told = "The database of user 1 (ada@example.org) is not suspended: nothing was done.\n"
    assert (again.exit_code, again.stdout) == (0, told)
    assert json.loads(ready("db", "resume", 1, "--json").stdout)["resumed"] is False
    assert ready("db", "test", 1).exit_code == 0


def test_a_database_that_cannot_be_suspended_is_named_with_what_to_do(peopled, settings):
    file = settings.tenant_data_dir / "user_1.db"
    file.write_text("no database any more")
    refused = peopled("db", "suspend", 1)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert f"{file}, was not suspended: " in refused.stderr
    assert "unify users deactivate 1" in refused.stderr


def test_a_database_that_is_not_there_cannot_be_suspended(ready):
    assert ready("db", "suspend", 99).exit_code == 1


def test_a_damaged_row_is_named_by_every_command_that_lists_and_the_others_are_there(peopled, settings):
    path = settings.admin_database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as driver:
        driver.execute("UPDATE user_database_configs SET db_password = CAST(x'67c328' AS TEXT) WHERE user_id = 1")
        driver.commit()
    for words in (("db", "list"), ("db", "status"), ("db", "stats")):
        done = peopled(*words)
        assert done.exit_code == 0
        assert "User 1: its catalog row is damaged (db_password)" in done.stderr
    assert [row["damaged"] for row in document(peopled("db", "list", "--json"))["items"]] == [["db_password"], []]
    made = peopled("db", "init-all")
    assert made.exit_code == 1
    assert "User 1 (a@example.org) failed: a row of the catalog is damaged" in made.stderr
    assert "1 already ready, 1 failed" in made.stdout
    rotated = peopled("credentials", "rotate")
    assert rotated.exit_code == 1
    assert "user 1 (catalog_damaged)" in rotated.stderr
    assert "1 password cannot be read" in peopled("credentials", "status").stdout


def test_a_database_that_cannot_be_deleted_is_let_go_of_and_removed_later(peopled, settings):
    file = settings.tenant_data_dir / "user_1.db"
    file.write_text("no database any more")
    refused = peopled("db", "delete", 1, "--yes")
    assert refused.exit_code == 1
    assert "unify db delete 1 --forget" in refused.stderr
    forgotten = peopled("db", "delete", 1, "--yes", "--forget")
    assert "unify db leftovers" in forgotten.stdout
    (left,) = document(peopled("db", "leftovers", "--json"))["items"]
    assert (left["user_id"], left["reason"], left["db_path"]) == (1, "forgotten", "user_1.db")
    assert document(peopled("db", "init", 1, "--json"))["config"]["db_path"] != str(file)
    assert document(peopled("db", "leftovers", "--remove", "--json"))["items"] == []
    assert not file.exists()
    unknown = peopled("db", "leftovers", "--confirm", 99)
    assert (unknown.exit_code, "unify db leftovers" in unknown.stderr) == (1, True)


def test_what_still_stands_in_the_way_of_removing_is_said_at_once(peopled, settings):
    file = settings.tenant_data_dir / "user_1.db"
    file.write_text("no database any more")
    peopled("db", "delete", 1, "--yes", "--forget")
    file.unlink()
    file.mkdir()
    tried = peopled("db", "leftovers", "--remove")
    assert (tried.exit_code, tried.stderr.count("\n")) == (1, 1)
    assert "the list says why" in tried.stderr
    (line,) = (line for line in tried.stdout.splitlines() if "user_1.db" in line)
    assert "an operator gave it up" in line
    assert "   -   " not in line
    assert document(peopled("db", "leftovers", "--confirm", 1, "--json"))["items"] == []


def test_an_operation_is_ended_for_an_operator_who_knows_that_its_process_is_gone(peopled, parts):
    assert "No operation holds" in peopled("db", "release", 1).stdout
    with parts.catalog.writing() as connection:
        tenant = tenants.get(connection, 1)
        claims.take(parts.catalog, connection, tenant.tenant_id, "migrate", 60, least=tenant.epoch + 1)
    refused = peopled("db", "suspend", 1).stderr
    assert "the database of user 1 is busy (migrate) until " in refused
    assert "If its process is gone: `unify db release 1`" in refused
    assert f"(held by {claims.runner()}: host, process, thread)" in refused
    assert str(tenant.tenant_id) not in refused
    assert "Ended 'migrate'" in peopled("db", "release", 1).stdout
    assert peopled("db", "suspend", 1).exit_code == 0


def test_the_words_that_options_take_are_those_of_the_engine():
    assert tuple(State) == db.STATES
    assert set(db.TYPES) == {"sqlite", *backends._ON_SERVERS}
