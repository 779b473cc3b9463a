"""Do what docs/how-to/embed.md says, in an empty folder: `tenancy` under an application with tables of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import fields
from http.client import HTTPConnection
from pathlib import Path

import pytest

from settings import PROJECT, SETTINGS
from tenancy.credentials.keyring import generate_key
from tenancy.manager import Options

PAGE = (PROJECT / "docs" / "how-to" / "embed.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""Let pip find everything but our package in the environment of these tests, and nothing anywhere else."""

FLASK = [sys.executable, "-m", "flask", "--app", "shop"]


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def environment(**more: str) -> dict[str, str]:
    ours = {setting.name for setting in SETTINGS} | {"FLASK_APP", "VIRTUAL_ENV", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "COVERAGE_PROCESS_START": "", **more}


@pytest.fixture
def folder(tmp_path):
    """Give an empty folder beside a checkout."""
    left_out = shutil.ignore_patterns(".git", ".venv", "data", "build", "*.egg-info", "tests", "bench", "__pycache__")
    shutil.copytree(PROJECT, tmp_path / "unify", ignore=left_out)
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def type_in(folder: Path, text: str) -> str:
    """Type a block; it ends well, line for line, and its answer is given."""
    given = environment(PYTHONPATH=sysconfig.get_path("purelib"), **OFFLINE)
    done = subprocess.run(
        ["sh", "-ec", text], cwd=folder, env=given, capture_output=True, encoding="utf-8", timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_empty_folder_and_the_page_give_an_application_that_stores_and_migrates(folder):
    assert [language for language, _ in BLOCKS] == ["sh", "sh", "python", "sh", "sh", "sh", "sh", "diff", "sh"]
    (application,), (change,), (install, keys, first, people, serve, ask, second) = map(
        blocks, ("python", "diff", "sh")
    )
    type_in(folder, install)
    type_in(folder, keys)
    assert (folder / ".env").stat().st_mode & 0o077 == 0
    (folder / "shop.py").write_text(application)
    assert type_in(folder, first).splitlines() == ["0001_orders.py"]
    type_in(folder, people)
    assert sorted(path.name for path in folder.glob("data/users/user_*.db")) == ["user_1.db", "user_2.db"]

    port = free_port()
    if curl := shutil.which("curl"):
        with served(folder, serve, port):
            answers = type_in(folder, ask.replace(":5000", f":{port}"))
        assert answers.splitlines() == [line.removeprefix("# ") for line in ask.splitlines() if line.startswith("#")]

    kept, added = (line[1:] + "\n" for line in change.splitlines())
    assert application.count(kept) == 1
    (folder / "shop.py").write_text(application.replace(kept, kept + added))
    written, *reached = type_in(folder, second).splitlines()
    assert (written, reached) == ("0002_orders_have_a_note.py", ["user 1 is at head", "user 2 is at head"])
    look = "from shop import manager; print(manager.fetch_all('SELECT user_id, number, note FROM orders', user_id={}))"
    rows = [type_in(folder, f'.venv/bin/python -m dotenv run .venv/bin/python -c "{look.format(n)}"') for n in (1, 2)]
    assert rows == (["[(1, 1, None)]\n", "[(2, 7, None)]\n"] if curl else ["[]\n", "[]\n"])
    if not curl:
        pytest.skip("the page's requests were not sent: curl is not installed")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class served:  # noqa: N801 - read as words
    """Serve the application while the block lasts."""

    def __init__(self, folder: Path, command: str, port: int) -> None:
        given = environment(PYTHONPATH=sysconfig.get_path("purelib"), FLASK_RUN_PORT=str(port))
        self.port = port
        self.log = (folder / "serve.log").open("w+")
        self.process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=folder, env=given, stdout=self.log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> None:
        until = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < until:
            try:
                connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/orders")
                assert connection.getresponse().status == 401  # nobody is let in without a key
                connection.close()
                return
            except ConnectionRefusedError:
                time.sleep(0.1)
        self.__exit__()
        pytest.fail(Path(self.log.name).read_text())

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


@pytest.fixture
def shop(tmp_path):
    """Give the application's folder as it is before its first revision, and a way to run its commands."""
    (tmp_path / "shop.py").write_text(blocks("python")[0])
    keys = {"TENANT_CREDENTIAL_KEYS": generate_key(), "AUDIT_KEY": "k" * 64, "PYTHONPATH": str(PROJECT)}

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        given = environment(**keys | more)
        return subprocess.run(
            [*FLASK, *words], cwd=tmp_path, env=given, capture_output=True, encoding="utf-8", timeout=100, check=False
        )

    return run


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    assert not re.search("Traceback|Exception ignored", done.stderr), done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_steps_that_are_left_out_are_named_with_the_next_one(shop, tmp_path):
    assert "email" in refused(shop("add-user", "nonsense"))
    early = refused(shop("add-user", "ada@example.org"))
    assert "call `manager.prepare_catalog()`" in early
    without_folder = refused(shop("revise", "Orders"))
    assert "TenantSchema(migrations) is " in without_folder
    assert f"make {tmp_path}/migrations/versions" in without_folder
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    assert shop("migrate").returncode == 0  # the catalog, and nobody's database
    assert "`fleet.revisions.new_revision()` writes the first one" in refused(shop("add-user", "ada@example.org"))

    assert shop("revise", "Orders").stdout == "0001_orders.py\n"
    finished = shop("migrate")  # what was half made
    assert (finished.returncode, finished.stdout) == (0, "user 1 is at head\n")
    again = shop("add-user", "ada@example.org")
    assert re.fullmatch(r"unify_\S+\n", again.stdout), again.stderr
    assert "already match revision 0001" in refused(shop("revise", "Orders"))


def test_the_page_names_every_option_of_a_manager():
    named = re.findall(r"^\| .+ \| .*`Options\((\w+)=", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(field.name for field in fields(Options))


def test_the_page_names_settings_as_they_are():
    named = re.findall(r"^\| `([A-Z_]+)(?:=\w+)?` \|", PAGE, re.MULTILINE)
    assert set(named) <= {setting.name for setting in SETTINGS}
    assert len(named) > 5
