from __future__ import annotations

import json

import pytest


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
    assert "2 databases" in peopled("db", "stats").stdout


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
    refused = call("db", "delete", 1, "--yes", settings=shared)
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1


def test_before_there_is_a_shared_database_status_says_so(call, make_settings):
    document(call("db", "create-config-table", "--json"))
    status = document(call("db", "status", "--json", settings=make_settings(multi_tenant_mode="false")))
    assert status["total_databases"] == 0


def test_a_database_is_suspended_and_resumed(ready):
    assert ready("users", "create", "--email", "ada@example.org").exit_code == 0
    assert "is suspended" in ready("db", "suspend", "ada@example.org").output
    refused = ready("db", "test", 1)
    assert (refused.exit_code, "suspended" in refused.output) == (1, True)
    done = ready("db", "resume", 1, "--json")
    assert json.loads(done.stdout) == {"user_id": 1, "status": "ready"}
    assert ready("db", "test", 1).exit_code == 0


def test_a_database_that_is_not_there_cannot_be_suspended(ready):
    assert ready("db", "suspend", 99).exit_code == 1
