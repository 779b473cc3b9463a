from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from utils import cli
from utils.toolbox import Toolbox

from .conftest import PROJECT

HEAVY = ("sqlalchemy", "alembic", "flask", "cryptography", "gunicorn", "rich", "tenancy.models", "settings", "compose")


@pytest.mark.parametrize("words", [["--help"], ["db", "--help"], ["users", "create", "--help"], ["serve", "--help"]])
def test_help_imports_nothing_heavy(words):
    program = (
        "import sys\nfrom utils.cli import unify\n"
        f"unify.main({words!r}, prog_name='unify', standalone_mode=False)\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "Usage: unify" in told.stdout
    assert told.stdout.splitlines()[-1] == "HEAVY []"


def test_help_names_every_group(shell):
    told = shell("--help")
    assert told.returncode == 0
    for name in cli.COMMANDS:
        assert f"\n  {name} " in told.stdout


def test_no_command_at_all_is_wrong_usage(shell):
    assert shell("bogus").returncode == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--bogus", "No such option '--bogus'. Help: unify --help"),
        ("bogus", "No such command 'bogus'. Help: unify --help"),
        ("db bogus", "No such command 'bogus'. Help: unify db --help"),
        ("db info", "Missing argument 'USER_ID'. Help: unify db info --help"),
        ("db info 1 2", "Got unexpected extra argument (2). Help: unify db info --help"),
        ("db list --inactive-since foo", "'--inactive-since': 'foo' is not a date: type one such as 2026-03-31"),
        ("db list --inactive-since 2026-02-30", "'2026-02-30' is not a date"),
        ("db leftovers --confirm x", "'--confirm': 'x' is not a valid whole number."),
        ("db leftovers --confirm 99999999999999999999", "'--confirm': 99999999999999999999 is too large."),
        ("keys revoke 99", "'KEY_ID': '99' is not the id of a key: `unify keys list --user E` shows them."),
        ("servers add x", "Missing option '--type'. Choose from: postgresql, mysql, sqlserver."),
        ("fleet show 99999999999999999999", "99999999999999999999 is too large."),
        ("audit verify --expect foo", "Invalid value for '--expect': type a head"),
    ],
)
def test_what_is_typed_wrong_is_one_line_that_names_the_field(shell, words, told):
    refused = shell(*words.split())
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert told in refused.stderr


def test_a_wrong_setting_stops_every_command_with_one_line(shell):
    refused = shell("users", "list", MULTI_TENANT_MODE="maybe")
    assert refused.returncode == 1
    assert "MULTI_TENANT_MODE" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""


def test_keys_that_are_missing_are_named_without_a_byte_of_the_others(shell, environ):
    refused = shell("users", "list", SECRET_KEY="short")
    assert refused.returncode == 1
    assert "SECRET_KEY" in refused.stderr
    assert not any(environ[name] in refused.stderr for name in ("AUDIT_KEY", "TENANT_CREDENTIAL_KEYS"))


@pytest.mark.parametrize(
    ("closed", "words"),
    [(">&-", "audit list"), ("2>&-", "db init-all"), ("<&-", "fleet verify"), ("<&- >&- 2>&-", "db list")],
)
def test_commands_work_without_a_standard_stream(ready, in_shell, closed, words):
    """A tenant's database is there too: sockets and files must not end where a line is printed."""
    assert (
        ready("users", "create", "--email", "ada@example.org", "--password-stdin", stdin="long enough").exit_code == 0
    )
    told = in_shell(f"{words} {closed}")
    assert (told.returncode, "Error" in told.stderr) == (0, False), told.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["--help", "--version", "db --help", "users list"])
def test_an_output_that_takes_nothing_is_said_without_a_traceback(shell, in_shell, words):
    assert shell("db", "create-config-table").returncode == 0
    refused = in_shell(f"{words} >/dev/full")
    assert refused.returncode != 0
    assert refused.stderr.startswith("Error: No space left on device.\n")
    assert "Traceback" not in refused.stderr


@pytest.fixture
def in_shell(environ, elsewhere):
    """Run ``unify`` from a shell, which can close and redirect its streams."""
    command = f"'{sys.executable}' '{PROJECT / 'utils' / 'setup_user_database.py'}'"

    def run(words):
        return subprocess.run(
            ["sh", "-c", f"{command} {words}"], env=environ, cwd=elsewhere, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture
def broken(monkeypatch):
    """A command with a mistake in it."""

    def stumble(*args, **kwargs):
        raise RuntimeError("a secret value")

    monkeypatch.setattr("utils.parameters.find_user", stumble)


def test_what_nobody_foresaw_ends_in_one_line_without_its_text(ready, broken):
    result = ready("users", "promote", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: unexpected RuntimeError")
    assert "LOG_LEVEL=DEBUG" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.output


def test_debugging_shows_where_it_comes_from(make_settings, broken):
    toolbox = Toolbox(make_settings(LOG_LEVEL="DEBUG"))
    result = CliRunner().invoke(cli.unify, ["users", "promote", "1"], obj=toolbox)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_the_toolbox_is_closed_after_every_command(settings):
    toolbox = Toolbox(settings)
    CliRunner().invoke(cli.unify, ["db", "create-config-table"], obj=toolbox)
    assert toolbox._parts is None


def test_every_command_that_shows_data_speaks_json():
    from .test_command_reference import COMMANDS

    silent = {path for path, command in COMMANDS.items() if not takes_json(command)}
    assert silent == {"unify serve", "unify worker"}


def takes_json(command: click.Command) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_no_command_takes_a_secret_as_a_word():
    from .test_command_reference import COMMANDS

    for path, command in COMMANDS.items():
        for option in command.params:
            if "password" in (option.name or ""):
                assert option.name.endswith("_stdin"), path
