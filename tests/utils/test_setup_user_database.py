"""Walk through the menu as an operator does: in a real terminal, and over a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from utils.menu import ENTRIES

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = PROJECT / "utils" / "setup_user_database.py"

AS_SCRIPT = [str(SCRIPT)]
AS_MODULE = ["-m", "utils.setup_user_database"]


@pytest.fixture
def terminals():
    """Skip where the system has no terminals to give: a chroot or container without /dev/pts."""
    try:
        ends = os.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal can be opened here ({error}): mount /dev/pts")
    for end in ends:
        os.close(end)


@pytest.fixture
def open_menu(terminals, environ, elsewhere):
    """Open the menu in a terminal, from another folder."""
    opened = []

    def run(words=AS_SCRIPT):
        menu = pexpect.spawn(
            sys.executable,
            words,
            env=environ | {"PYTHONPATH": str(PROJECT)},
            cwd=str(elsewhere),
            encoding="utf-8",
            timeout=30,
            dimensions=(60, 120),
        )
        opened.append(menu)
        menu.expect_exact("Choice: ")
        return menu

    yield run
    for menu in opened:
        menu.close(force=True)


@pytest.fixture
def piped(environ, elsewhere):
    """Feed lines to the menu over a pipe, from another folder."""

    def run(*lines, words=AS_SCRIPT):
        return subprocess.run(
            [sys.executable, *words],
            input="".join(f"{line}\n" for line in lines),
            env=environ | {"PYTHONPATH": str(PROJECT)},
            cwd=elsewhere,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def choose(menu, *answers):
    """Answer the menu's questions, one after the other; give what it printed until it asks for a choice again."""
    for answer in answers:
        menu.sendline(answer)
        menu.expect_exact(
            ["Choice: ", "e-mail: ", "(y/N): ", "for none): ", "the key: ", "E-mail: ", "Repeat to confirm: "]
        )
    return menu.before


def leave(menu):
    menu.sendline("0")
    menu.expect_exact("Goodbye.")
    menu.expect(pexpect.EOF)
    menu.close()
    return menu.exitstatus


def add_users(shell, *names):
    for name in names:
        assert shell("users", "create", "--email", f"{name}@example.org").returncode == 0


def test_the_first_entries_and_exit_have_their_fixed_numbers():
    assert [entry.words for entry in ENTRIES[:5]] == [
        ("db", "create-config-table"),
        ("db", "init"),
        ("db", "init-all"),
        ("db", "test"),
        ("db", "status"),
    ]


@pytest.mark.terminal
@pytest.mark.parametrize("words", [AS_SCRIPT, AS_MODULE], ids=["script", "module"])
def test_an_operator_walks_through_the_fixed_entries(open_menu, shell, environ, words):
    menu = open_menu(words)
    assert "configuration table is ready" in choose(menu, "1")
    add_users(shell, "a", "b")
    for user in ("1", "2"):
        assert shell("db", "delete", user, "--yes").returncode == 0
    assert "was created" in choose(menu, "2", "1")
    assert "1 created, 1 already ready" in choose(menu, "3")
    assert "answered in" in choose(menu, "4", "b@example.org")
    status = choose(menu, "5")
    assert "2 ready" in status
    assert "a@example.org" in status
    assert leave(menu) == 0
    assert {path.name for path in Path(environ["TENANT_DATA_DIR"]).glob("*.db")} >= {"user_1.db", "user_2.db"}


@pytest.mark.terminal
def test_wrong_entries_are_answered_with_what_to_type(open_menu):
    menu = open_menu()
    for wrong in ("x", "-1", "99", "000199", "00001", "9" * 5000, "1;drop", "²"):
        menu.sendline(wrong[:200])
        menu.expect_exact(f"type a number from 1 to {len(ENTRIES)}, or 0 to leave.")
        menu.expect_exact("Choice: ")
    choose(menu, "1")
    menu.sendline("2")
    menu.expect_exact("User id or e-mail: ")
    for wrong in ("0", "-1", "abc", "1;drop"):
        menu.sendline(wrong)
        menu.expect_exact("type an id such as 1, or an e-mail address.")
        menu.expect_exact("User id or e-mail: ")
    assert "Nothing was done." in choose(menu, "")
    assert leave(menu) == 0


@pytest.mark.terminal
def test_a_failed_entry_is_told_in_one_line_and_the_menu_goes_on(open_menu):
    menu = open_menu()
    assert "unify db create-config-table" in choose(menu, "5")
    choose(menu, "1")
    told = choose(menu, "4", "7")
    assert "Error: " in told
    assert "Traceback" not in told
    assert leave(menu) == 0


@pytest.mark.terminal
def test_control_c_and_control_d_leave_politely(open_menu):
    for leaving in (lambda menu: menu.sendintr(), lambda menu: menu.sendeof()):
        for step in ((), ("2",)):
            menu = open_menu()
            choose(menu, *step)
            leaving(menu)
            menu.expect_exact("Goodbye.")
            menu.expect(pexpect.EOF)
            assert "Traceback" not in menu.before
            menu.close()
            assert menu.exitstatus == 0


@pytest.mark.terminal
def test_the_further_entries_do_what_their_commands_do(open_menu):
    menu = open_menu()
    choose(menu, "1")
    made = choose(menu, "7", "a@example.org", "Ann", "y")
    assert "Password" in made
    menu.sendline("long enough password")
    menu.expect_exact("Repeat to confirm: ")
    menu.sendline("long enough password")
    menu.expect_exact("Choice: ")
    assert "as an administrator" in menu.before
    assert "long enough" not in menu.before
    assert "a@example.org" in choose(menu, "6")
    assert "user_1.db" in choose(menu, "11", "1")
    assert "Store it now" in choose(menu, "15", "1", "laptop")
    listed = choose(menu, "16", "a@example.org")
    assert "laptop" in listed
    asked = choose(menu, "14", "1")
    assert "Delete the database of user 1 (a@example.org), sqlite in " in asked
    assert "user_1.db, with everything in it?" in asked
    assert "Nothing was done." in choose(menu, "n")
    assert "Deleted the database" in choose(menu, "14", "1", "y")
    assert "all seals are intact" in choose(menu, "20")
    assert leave(menu) == 0


def number_of(*words):
    (number,) = (number for number, entry in enumerate(ENTRIES, 1) if (*entry.words, *entry.options) == words)
    return str(number)


def test_a_database_that_cannot_be_removed_is_let_go_of_and_taken_off_the_list(piped, environ):
    files = Path(environ["TENANT_DATA_DIR"])
    for number, name in ((1, "a"), (2, "b")):
        piped("1", "7", f"{name}@example.org", "", "n")
        (files / f"user_{number}.db").write_text("no database any more")
    forget, listed = number_of("db", "delete", "--forget"), number_of("db", "leftovers")
    refused = piped("14", "1", "y")
    assert "unify db delete 1 --forget" in refused.stderr
    kept = piped(forget, "1", "")
    assert "(a@example.org), sqlite in " in kept.stderr
    assert "Nothing was done." in kept.stderr
    for user in "12":
        assert "may still exist" in piped(forget, user, "y").stdout
    assert {"user_1.db", "user_2.db"} <= set(piped(listed).stdout.split())
    taken = piped(number_of("db", "leftovers", "--confirm"), "none", "1").stdout
    assert "'none' is not a valid whole number" in taken
    assert "Taken off the list: the database of user 1, user_1.db." in taken
    removed = piped(number_of("db", "leftovers", "--remove")).stdout
    assert "Removed: the database of user 2, user_2.db." in removed
    assert "No databases are left behind." in removed
    assert [path.name for path in files.glob("user_*.db")] == ["user_1.db"]


def test_an_operation_is_ended_from_the_menu(piped):
    piped("1", "7", "a@example.org", "", "n")
    assert "No operation holds the database of user 1 (a@example.org)." in piped(number_of("db", "release"), "1").stdout


def test_the_menu_works_over_a_pipe(piped):
    done = piped("1", "7", "a@example.org", "", "n", "2", "1", "5", "0")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "already ready" in done.stdout
    assert done.stdout.endswith("Goodbye.\n")


def test_what_a_command_said_stays_on_the_screen_until_the_menu_is_asked_for(piped):
    heading = "Unify: users and their databases"
    said = piped("1", "5", "0").stdout
    assert said.count(heading) == 1
    assert said.count("Press Enter to show the menu.") == 2
    assert piped("1", "", "0").stdout.count(heading) == 2


def test_the_end_of_a_pipe_ends_the_menu(piped):
    for lines in ((), ("1",), ("2",)):
        done = piped(*lines, words=AS_MODULE)
        assert done.returncode == 0
        assert done.stdout.endswith("Goodbye.\n")
        assert "Traceback" not in done.stderr


def test_bytes_that_are_no_text_are_answered_too(environ, elsewhere):
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=b"\xff\xfe\n\x00\n0\n",
        env=environ,
        cwd=elsewhere,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout.count(b"is not in the menu") == 2


def test_words_after_the_script_are_a_command(shell):
    assert shell("db", "create-config-table").returncode == 0
    assert shell("db", "init").returncode == 2


@pytest.mark.terminal
def test_control_c_during_work_returns_to_the_menu(open_menu, environ):
    """A password prompt is where a command waits in the middle of its work."""
    menu = open_menu()
    choose(menu, "1")
    choose(menu, "7", "a@example.org", "", "n")
    os.kill(menu.pid, signal.SIGINT)
    menu.expect_exact("Aborted!")
    menu.expect_exact("Choice: ")
    assert leave(menu) == 0
