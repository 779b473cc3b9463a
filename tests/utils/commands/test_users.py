from __future__ import annotations

import json

import pytest

import compose


def items(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["items"]


def test_creating_a_user_makes_the_account_and_its_database(ready, settings):
    made = ready(
        "users", "create", "--email", "a@example.org", "--name", "Ann", "--password-stdin", stdin="long enough pw\n"
    )
    assert made.exit_code == 0, made.stderr
    assert "Account 1 (a@example.org) created" in made.stdout
    assert (settings.tenant_data_dir / "user_1.db").exists()
    assert [(u["email"], u["display_name"], u["is_admin"]) for u in items(ready("users", "list", "--json"))] == [
        ("a@example.org", "Ann", False)
    ]


def test_an_address_is_told_as_it_was_typed(ready):
    made = ready("users", "create", "--email", "Ann@Example.org")
    assert "Account 1 (Ann@Example.org) created" in made.stdout
    assert "Account 1 (Ann@Example.org) has been deactivated" in ready("users", "deactivate", "1").stdout


def test_the_password_is_in_no_output(ready):
    made = ready("users", "create", "--email", "a@example.org", "--password-stdin", "--json", stdin="hunter2-hunter2\n")
    assert json.loads(made.stdout)["password_set"] is True
    assert "hunter2" not in made.output


def test_an_account_can_be_made_without_a_password(ready):
    made = ready("users", "create", "--email", "a@example.org")
    assert made.exit_code == 0
    assert "no password" in made.stdout


def test_an_administrator_is_made_with_admin_or_by_promotion(ready):
    assert "as an administrator" in ready("users", "create", "--email", "a@example.org", "--admin").stdout
    ready("users", "create", "--email", "b@example.org")
    promoted = ready("users", "promote", "b@example.org", "--json")
    assert json.loads(promoted.stdout)["is_admin"] is True


def test_the_only_administrator_is_taken_away_by_force_alone(ready):
    ready("users", "create", "--email", "a@example.org", "--admin")
    for command in ("deactivate", "demote"):
        refused = ready("users", command, "1")
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert (
            "is the only active administrator: make another account an administrator first (`unify users promote`); "
            "--force overrides this." in refused.stderr
        )
    assert "is no longer an administrator" in ready("users", "demote", "1", "--force").stdout
    assert ready("users", "deactivate", "1").exit_code == 0


def test_a_user_is_named_by_id_or_by_address(ready):
    ready("users", "create", "--email", "a@example.org")
    assert json.loads(ready("users", "deactivate", 1, "--json").stdout)["is_active"] is False
    assert json.loads(ready("users", "activate", "A@Example.org", "--json").stdout)["is_active"] is True


def test_a_second_account_of_one_address_fails_in_one_line(ready):
    ready("users", "create", "--email", "a@example.org")
    again = ready("users", "create", "--email", "A@example.org")
    assert again.exit_code == 1
    assert again.stderr.startswith("Error: ")
    assert again.stderr.count("\n") == 1
    assert again.stdout == ""


def test_an_account_whose_database_fails_exists_and_is_told_how_to_retry(ready, settings):
    settings.tenant_data_dir.mkdir(parents=True, exist_ok=True)
    obstacle = settings.tenant_data_dir / "user_1.db"
    obstacle.write_text("somebody else's file")
    made = ready("users", "create", "--email", "a@example.org")
    assert made.exit_code == 1
    assert "unify db init 1" in made.stderr
    assert made.stderr.count("\n") == 1
    assert obstacle.read_text() == "somebody else's file"
    assert len(items(ready("users", "list", "--json"))) == 1
    obstacle.unlink()
    assert ready("db", "init", 1).exit_code == 0


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        ("", "standard input is empty"),
        ("x" * 5000, "longer than 4096 bytes"),
        (b"\xff\xfe pass\n", "not UTF-8"),
        ("a pass\0word\n", "NUL"),
        (b"\xef\xbb\xbf\n", "is empty"),
    ],
)
def test_a_password_that_cannot_be_read_is_wrong_usage(ready, stdin, said):
    made = ready("users", "create", "--email", "a@example.org", "--password-stdin", stdin=stdin)
    assert made.exit_code == 2
    assert said in made.stderr
    assert items(ready("users", "list", "--json")) == []


def test_the_mark_that_an_editor_puts_before_the_text_is_no_part_of_the_password(ready, settings):
    mark = b"\xef\xbb\xbflong enough pw\r\n"
    assert ready("users", "create", "--email", "a@example.org", "--password-stdin", stdin=mark).exit_code == 0
    parts = compose.build(settings)
    try:
        assert parts.accounts.sign_in("a@example.org", "long enough pw").user.email == "a@example.org"
    finally:
        parts.close()


def test_a_weak_password_or_a_wrong_address_fails_and_makes_nothing(ready):
    assert ready("users", "create", "--email", "a@example.org", "--password-stdin", stdin="short\n").exit_code == 1
    assert ready("users", "create", "--email", "nobody").exit_code == 1
    assert items(ready("users", "list", "--json")) == []


def test_more_accounts_than_a_page_are_all_listed(ready, monkeypatch):
    monkeypatch.setattr("utils.commands.users.PAGE", 2)
    for name in "abcde":
        ready("users", "create", "--email", f"{name}@example.org")
    assert [u["id"] for u in items(ready("users", "list", "--json"))] == [1, 2, 3, 4, 5]
    assert [u["id"] for u in items(ready("users", "list", "--query", "c@", "--json"))] == [3]


def test_a_name_cannot_send_commands_to_the_terminal(ready):
    ready("users", "create", "--email", "a@example.org", "--name", "\x1b]0;owned\x07[bold]x")
    listed = ready("users", "list").stdout
    assert "\x1b" not in listed
    assert "[bold]x" in listed


@pytest.mark.parametrize("ref", ["0", "1;drop", "2147483648", "9" * 30, "x@", "nobody", ""])
def test_what_is_no_user_is_wrong_usage_and_told_what_to_type(ready, ref):
    refused = ready("users", "promote", ref)
    assert refused.exit_code == 2
    assert "is not a user: type an id such as 1, or an e-mail address." in refused.stderr


def test_a_user_who_is_not_there_fails_in_one_line(ready):
    for ref in ("7", "nobody@example.org"):
        refused = ready("users", "promote", ref)
        assert refused.exit_code == 1
        assert refused.stderr.count("\n") == 1


def test_an_operator_gives_an_account_a_new_password_and_its_sessions_end(ready, parts):
    ready("users", "create", "--email", "a@example.org")
    session = parts.accounts.sign_in_without_password(1)
    done = ready("users", "set-password", 1, "--password-stdin", stdin="a brand new one\n")
    assert done.exit_code == 0, done.stderr
    assert "brand new" not in done.output
    assert parts.accounts.principal_by_session(session.token) is None
    assert parts.accounts.sign_in("a@example.org", "a brand new one").user.id == 1


def test_signing_an_account_out_ends_its_sessions_and_leaves_its_keys(ready, parts):
    ready("users", "create", "--email", "a@example.org")
    session = parts.accounts.sign_in_without_password(1)
    _, key = parts.accounts.issue_key(1)
    done = ready("users", "sign-out", "a@example.org")
    assert (done.exit_code, done.stdout) == (0, "Account 1 (a@example.org): 1 session ended.\n")
    assert parts.accounts.principal_by_session(session.token) is None
    assert parts.accounts.principal_by_key(key) is not None
    assert ready("users", "sign-out", 99).exit_code == 1


def test_what_a_user_chose_for_their_pages_is_not_listed(ready, parts):
    ready("users", "create", "--email", "a@example.org")
    parts.accounts.set_preferences(1, {"time_zone": "Europe/Berlin"})
    assert "Berlin" not in ready("users", "list", "--json").output


def test_setting_no_password_is_wrong_usage(ready):
    ready("users", "create", "--email", "a@example.org")
    assert ready("users", "set-password", 1).exit_code == 2
