"""Type what docs/tutorial says, as its reader does: in a checkout, with `make run`, a browser's forms and a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from settings import PROJECT, SETTINGS

PAGES = PROJECT / "docs" / "tutorial"
DATABASES = "30"
"""How many stand in for ten thousand."""

PASSWORD = "correct horse battery"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def environment(**more: str) -> dict[str, str]:
    ours = {setting.name for setting in SETTINGS} | {"VIRTUAL_ENV", "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in ours} | more


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a checkout that was installed already: what `make` would download is taken from these tests' environment."""
    folder = tmp_path / "unify"
    left_out = shutil.ignore_patterns(".git", ".venv", ".env", "data", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(PROJECT, folder, ignore=left_out)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, words in {"python": "", "unify": " -m utils.cli"}.items():
        script = f'#!/bin/sh\nexport PYTHONPATH="{folder}"\nexec "{sys.executable}"{words} "$@"\n'
        (programs / name).write_text(script, encoding="utf-8")
        (programs / name).chmod(0o700)
    (folder / ".venv" / ".run").touch()
    return folder


def type_in(folder: Path, text: str, **more: str) -> str:
    """Type a block; each of its commands ends well, and what they answered is given."""
    done = subprocess.run(
        ["sh", "-ec", text],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(text: str) -> list[str]:
    """Give the answers that a block says its commands have."""
    return [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]


@contextlib.contextmanager
def served(folder: Path, command: str) -> Iterator[str]:
    """Type the command that serves, on a free port, and end it with Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    with (folder / "serve.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            cwd=folder,
            env=environment(PORT=port),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/healthz", process, folder / "serve.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            _press_ctrl_c(process)


def _press_ctrl_c(process: subprocess.Popen[bytes]) -> None:
    """End what a terminal would end; what ignores that for long is killed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            assert requests.get(url, timeout=5).status_code == 200
            return
        time.sleep(0.1)
    pytest.fail(log.read_text(encoding="utf-8"))


class Window:
    """Be a browser's window: it sends a page's form with the token that stands in it."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.session = requests.Session()

    def get(self, path: str) -> str:
        answer = self.session.get(self.site + path, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.text

    def send(self, page: str, to: str, **fields: str) -> None:
        token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', self.get(page))
        assert token is not None
        answer = self.session.post(self.site + to, data=fields | {"csrf_token": token[1]}, timeout=10)
        assert answer.status_code == 200, answer.text

    def register(self, email: str) -> None:
        self.send("/auth/register", "/auth/register", email=email, password=PASSWORD, display_name="")


def test_the_first_page_leads_from_nothing_to_two_users_who_cannot_see_each_other(checkout):
    run, files, listed, keys, ask, swap, put_back = blocks("two-users.md", "sh")
    curl = shutil.which("curl")
    with served(checkout, run) as site:
        ada, bob = Window(site), Window(site)
        ada.register("ada@example.org")
        ada.send("/tasks", "/tasks", title="Buy milk")
        bob.register("bob@example.org")
        assert ("Buy milk" in ada.get("/tasks"), "Buy milk" in bob.get("/tasks")) == (True, False)
        assert "bob@example.org" in ada.get("/admin/users")
        assert type_in(checkout, files).splitlines() == answers(files)
        assert len(re.findall(r"[12] +(?:ada|bob)@example\.org +sqlite +ready", type_in(checkout, listed))) == 2
        type_in(checkout, keys)
        assert (checkout / "ada.key").stat().st_mode & 0o077 == 0
        if curl:
            assert type_in(checkout, ask.replace("http://127.0.0.1:5000", site)).splitlines() == answers(ask)
    (reason,) = re.findall(r"\*(the database [^*]+)\*", (PAGES / "two-users.md").read_text(encoding="utf-8"))
    refused, *answered = type_in(checkout, f"exec 2>&1\n{swap}").splitlines()
    assert (reason in refused, answered) == (True, answers(swap))
    assert type_in(checkout, put_back).splitlines() == answers(put_back)
    if not curl:
        pytest.skip("the page's requests were not sent: curl is not installed")


def test_the_second_page_migrates_every_database_although_three_fail_at_first(checkout):
    number, users, accident, revise, migrate, show, finish, verify, rollback, clean_up = blocks(
        "ten-thousand-databases.md", "sh"
    )
    (change,) = blocks("ten-thousand-databases.md", "diff")
    type_in(checkout, ".venv/bin/python -m utils.make_env")  # as `make run` did on the first page
    number = number.replace("DATABASES=10000", f"DATABASES={DATABASES}")
    told = dict(re.findall(r"\b([A-Z_]+)=(\S+)", number))
    type_in(checkout, number)

    type_in(checkout, users, **told)
    assert len(list(checkout.glob("data/many/users/user_*.db"))) == int(DATABASES)
    type_in(checkout, accident, **told)
    change_models(checkout, change)
    assert re.search(rf"^{DATABASES} .+ would be migrated", type_in(checkout, revise, **told), re.MULTILINE)
    assert type_in(checkout, migrate, **told).splitlines()[-1:] == answers(migrate)
    reason = r"^(\d+) .* duplicate column name: estimate_minutes$"
    assert re.findall(reason, type_in(checkout, show, **told), re.MULTILINE) == ["7", "11", "13"]

    type_in(checkout, finish, **told)  # it ends with a command that fails while one database is behind
    type_in(checkout, verify, **told)
    assert f"{DATABASES} done" in type_in(checkout, rollback, **told)
    change_models(checkout, change, back=True)
    type_in(checkout, clean_up, **told)
    assert not (checkout / "data" / "many").exists()


def change_models(checkout: Path, change: str, *, back: bool = False) -> None:
    """Make the change that the page shows as a diff of one added line, or take it back."""
    kept, added = (line[1:] + "\n" for line in change.splitlines())
    file = checkout / "repositories" / "schema.py"
    old, new = (kept + added, kept) if back else (kept, kept + added)
    models = file.read_text(encoding="utf-8")
    assert models.count(old) == 1
    file.write_text(models.replace(old, new), encoding="utf-8")
