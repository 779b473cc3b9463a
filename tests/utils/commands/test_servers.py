"""``unify servers``: what is typed, what is printed, what it ends with."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest
import sqlalchemy as sa

from tenancy.catalog import servers
from tests.support.engines import server_address, use
from tests.support.servers import own_server


@pytest.fixture
def url(request):
    use(request, "postgresql")
    return server_address("postgresql").render_as_string(hide_password=False)


def test_a_server_is_added_listed_tested_drained_and_removed(ready, url):
    added = ready("servers", "add", "one", "--type", "postgresql", "--url-stdin", "--weight", 3, stdin=f"{url}\n")
    assert (added.exit_code, added.stderr) == (0, "")
    assert "Server one is registered: postgresql on " in added.stdout
    listed = json.loads(ready("servers", "list", "--json").output)["items"]
    assert [(row["name"], row["weight"], row["state"]) for row in listed] == [("one", 3, "accepting")]
    assert "one" in ready("servers", "list").output
    tested = ready("servers", "test", "ONE")
    assert tested.stdout.startswith("Server one answered in ")
    assert "its login may create databases and logins" in tested.stdout
    assert "draining" in ready("servers", "drain", "one").output
    assert "accepting" in ready("servers", "accept", "one").output
    assert ready("servers", "remove", "one").exit_code == 0
    assert "No server is registered" in ready("servers", "list").output


def test_what_is_done_to_a_servers_rights_is_said(ready):
    with own_server("postgresql") as own, closing(psycopg2.connect(own.url)) as driver, driver.cursor() as cursor:
        driver.autocommit = True
        cursor.execute("CREATE ROLE neighbour LOGIN")

        def add():
            return ready("servers", "add", "one", "--type", "postgresql", "--url-stdin", stdin=f"{own.url}\n").stdout

        left = add()
        assert "Rights on the server: nothing was changed." in left
        assert "Note: every login, tenants' too, may enter the database postgres" in left
        revoked = "revoked CONNECT ON DATABASE postgres FROM PUBLIC"
        assert f'{revoked}, and granted it to "neighbour"' in ready("servers", "tidy", "one").stdout
        assert ready("servers", "tidy", "one").stdout == "Server one: there was nothing to do.\n"
        cursor.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        assert f'On it: {revoked}, and granted it to "neighbour".' in ready("servers", "remove", "one").stdout
        cursor.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC; DROP OWNED BY neighbour; DROP ROLE neighbour")
        assert f"Rights on the server: {revoked}." in add()


@pytest.fixture
def add(ready, url):
    """Register the tests' server, with a password that it does not look at."""
    named = sa.make_url(url).set(password="hunter2").render_as_string(hide_password=False)

    def run(name="one", *words, stdin=f"{named}\n"):
        return ready("servers", "add", name, "--type", "postgresql", "--url-stdin", *words, stdin=stdin)

    return run


def document(result):
    assert result.exit_code == 0, result.stderr
    assert "hunter2" not in result.output
    return json.loads(result.stdout)


def test_a_server_that_is_registered_twice_is_told_by_its_other_name(ready, add):
    assert "already registered" not in add("one").stdout
    assert "Note: this server is already registered as 'one'" in add("two").stdout


def test_every_command_answers_programs_without_the_password(ready, add):
    made = document(add("one", "--max-tenants", 5, "--json"))
    assert made["max_tenants"] == 5
    assert document(ready("servers", "list", "--json")) == {"items": [made]}
    assert document(ready("servers", "test", "one", "--json"))["may_create"] is True
    assert document(ready("servers", "drain", "one", "--json"))["state"] == "draining"
    assert document(ready("servers", "accept", "one", "--json"))["state"] == "accepting"
    assert document(ready("servers", "remove", "one", "--json")) == {"name": "one", "removed": True}


def test_a_new_password_is_kept_once_it_opens_the_server(ready, add):
    add()
    kept = ready("servers", "set-password", "one", "--password-stdin", stdin="hunter2\n")
    assert (kept.exit_code, kept.stdout) == (0, "The new password of server one has been stored.\n")
    assert document(ready("servers", "set-password", "one", "--password-stdin", "--json", stdin="hunter2\n"))["name"]
    assert ready("servers", "set-password", "one").exit_code == 2
    nobody = ready("servers", "set-password", "two", "--password-stdin", stdin="hunter2\n")
    assert (nobody.exit_code, nobody.stderr.count("\n")) == (1, 1)
    assert "hunter2" not in nobody.output


def test_a_users_database_is_placed_until_the_server_drains_and_the_server_stays_while_it_stands(ready, add):
    add()
    for name in "ab":
        ready("users", "create", "--email", f"{name}@example.org")
        ready("db", "delete", f"{name}@example.org", "--yes")
    made = document(ready("db", "init", 1, "--db-type", "postgresql", "--json"))["config"]
    try:
        assert (made["db_type"], made["status"]) == ("postgresql", "ready")
        assert ready("servers", "drain", "one").stdout == "Server one is draining; databases there: 1.\n"
        refused = ready("db", "init", 2, "--db-type", "postgresql")
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "unify servers add" in refused.stderr
        kept = ready("servers", "remove", "one")
        assert (kept.exit_code, kept.stderr.count("\n")) == (1, 1)
        assert "1 database is still on server 'one'" in kept.stderr
        assert "move or" not in kept.stderr, "no command moves one"
        assert "unify servers drain" in kept.stderr
    finally:
        assert ready("db", "delete", 1, "--yes").exit_code == 0
    assert ready("servers", "remove", "one").exit_code == 0


def test_pools_are_filled_and_shown_and_one_that_fails_is_a_failure(ready, add, parts, settings):
    assert "No server is registered" in ready("servers", "fill").stdout
    add()
    empty = {"wanted": 0, "ready": 0, "made": 0, "retired": 0, "busy": False, "code": None, "error": None}
    assert document(ready("servers", "fill", "--json")) == {"items": [{"name": "one"} | empty]}
    one = replace(settings, pending_tenants=1)
    filled = ready("servers", "fill", "ONE", settings=one)
    assert (filled.exit_code, filled.stderr) == (0, "")
    assert "kept ready" in ready("servers", "list").stdout
    listed = document(ready("servers", "list", "--json"))["items"]
    assert [(row["pending"], row["pool_error"]) for row in listed] == [(1, None)]
    retired = document(ready("servers", "fill", "one", "--json"))["items"]  # which asks for none
    assert [(row["ready"], row["retired"]) for row in retired] == [(0, 1)]
    with parts.catalog.writing() as connection:
        server = servers.by_name(connection, "one")
        servers.change(connection, server, db_port=1)
    failed = ready("servers", "fill", "one", settings=one)
    assert failed.exit_code == 1
    assert "1 of 1 pools could not be filled: one" in failed.stderr
    with parts.catalog.writing() as connection:
        servers.change(connection, server, db_port=server.db_port)
    assert ready("servers", "fill", "two").exit_code == 1
    ready("servers", "fill", "one", settings=one)
    removed = ready("servers", "remove", "one")
    assert (removed.exit_code, "dropped 1 database kept ready" in removed.stdout) == (0, True), removed.output


@pytest.mark.parametrize(
    ("stdin", "code", "said"),
    [
        ("", 2, "standard input is empty"),
        ("x" * 5000, 2, "longer than 4096 bytes"),
        (b"\xff\xfe\n", 2, "not UTF-8"),
        ("not a url hunter2\n", 1, "url is not a database URL"),
        ("mysql://root:hunter2@127.0.0.1/\n", 1, "url: the scheme is not one for PostgreSQL"),
        ("oracle://u:hunter2@127.0.0.1/\n", 1, "the scheme must be one of sqlite, postgresql,"),
        ("postgresql://u:hunter2@127.0.0.1:54x2/\n", 1, "the port is not a number"),
        ("postgresql://u:hunter2@127.0.0.1:99999/\n", 1, "the port must be a whole number from 1 to 65535"),
        ("postgresql://u:hun@ter2@127.0.0.1/\n", 1, "write an @ in the user or password as %40"),
        ("postgresql://u:hunter2@127.0.0.1:1/\n", 1, "no server answers"),
        ("postgresql://u:hunter2@127.0.0.1:1/?hostaddr=10.0.0.1\n", 1, "is not an option"),
    ],
)
def test_a_url_that_cannot_be_used_registers_nothing_and_is_not_shown(ready, add, stdin, code, said):
    refused = add(stdin=stdin)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert said in refused.stderr
    assert "hunter2" not in refused.output
    assert document(ready("servers", "list", "--json")) == {"items": []}


def test_a_server_that_does_not_pass_is_a_failure(ready, add, parts):
    add()
    with parts.catalog.writing() as connection:
        servers.change(connection, servers.by_name(connection, "one"), db_host="evil.example.org")
    failed = ready("servers", "test", "one")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: Server one failed the test: a stored credential ")
    assert json.loads(ready("servers", "test", "one", "--json").stdout)["code"] == "credential_tampered"


def test_a_name_cannot_send_commands_to_the_terminal(ready, add):
    refused = add("\x1b]0;owned\x07")
    assert refused.exit_code == 1
    assert "\x1b" not in refused.output
    assert add("[bold]x").exit_code == 0
    assert "[bold]x" in ready("servers", "list").stdout


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("one", "--type", "oracle", "--url-stdin"), "x\n"),
        (("one", "--url-stdin"), "x\n"),
        (("one", "--type", "mysql", "--url-stdin"), ""),
        (("one", "--type", "mysql"), ""),
        (("one", "--type", "mysql", "--url-stdin", "--weight", "0"), "x\n"),
        (("one", "--type", "mysql", "--url-stdin", "--weight", "1001"), "x\n"),
        (("one", "--type", "mysql", "--url-stdin", "--max-tenants", "0"), "x\n"),
        (("one", "--type", "mysql", "--url-stdin", "--max-tenants", "many"), "x\n"),
        (("one", "--type", "sqlite", "--url-stdin"), "x\n"),
        (("one", "--type", "mysql", "--url", "mysql://u:hunter2@h/"), ""),
        (("one", "mysql://u:hunter2@h/", "--type", "mysql"), ""),
    ],
)
def test_wrong_usage_is_told(ready, words, stdin):
    assert ready("servers", "add", *words, stdin=stdin).exit_code == 2


@pytest.mark.parametrize("named", ["", "[FreeTDS]\nDriver=/nowhere/libtdsodbc.so\n"], ids=["none", "one that is gone"])
def test_a_missing_odbc_driver_is_this_machines_matter(shell, tmp_path, named):
    pytest.importorskip("pyodbc", exc_type=ImportError)
    (tmp_path / "odbcinst.ini").write_text(named)
    shell("db", "create-config-table")
    words = ("servers", "add", "one", "--type", "sqlserver", "--url-stdin")
    refused = shell(*words, stdin="mssql://sa:hunter2@127.0.0.1:1/\n", ODBCSYSINI=str(tmp_path))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "on this machine" in refused.stderr
    assert "apt-get install tdsodbc unixodbc" in refused.stderr


@pytest.mark.parametrize("word", ["test", "drain", "accept", "remove"])
def test_a_name_of_no_server_is_told_in_one_line(ready, word):
    done = ready("servers", word, "nobody")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "no server named 'nobody'" in done.stderr
