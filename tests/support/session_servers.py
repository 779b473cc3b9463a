"""Start one PostgreSQL and one MariaDB for a whole run of the tests, where their programs are installed.

A pytest plugin, loaded by ``tests/conftest.py``. These servers do not wait for the disk, so a database is made and
dropped several times faster than on one that somebody works with, and no other run of the tests is beside this one.
The first test that needs a product starts its server; the setting ``TEST_POSTGRES_URL`` or ``TEST_MYSQL_URL`` names
another server instead. Each server has a keeper, a process that stops it when the run has ended, however it ended: the
run holds a pipe open, and the kernel closes that pipe.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TextIO

import pytest

FOLDER = "TESTS_SESSION_SERVERS"
"""The environment variable by which a run tells its workers where the servers' addresses are written."""

_OPTIONS: dict[str, dict[str, object]] = {
    "postgresql": {
        "connections": 200,
        "password": "",
        "options": {
            "full_page_writes": "off",
            "autovacuum": "off",
            "shared_buffers": "64MB",
            "max_wal_size": "1GB",
            "checkpoint_timeout": "1h",
        },
    },
    "mysql": {"connections": 200, "password": ""},
}
_held: list[int] = []


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of this run, and the pipe that is open as long as the run lasts."""
    if FOLDER in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="unify-session-"))
    os.mkfifo(folder / "alive")
    _held.append(os.open(folder / "alive", os.O_RDWR))
    os.environ[FOLDER] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the keepers stop their servers."""
    while _held:
        os.close(_held.pop())
        shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


@cache
def url(engine: str) -> str | None:
    """Return the address of this run's server, which the first who asks starts; None where it cannot be started."""
    folder = os.environ.get(FOLDER)
    if folder is None or engine not in _OPTIONS:
        return None
    written = Path(folder) / engine
    with written.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not written.exists():
            written.write_text(_started(engine, folder))
    return written.read_text() or None


def _started(engine: str, folder: str) -> str:
    """Start a server with its keeper; return its address when it answers, or an empty text where there is none."""
    command = [sys.executable, "-m", __name__, engine, folder]
    started = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True)
    return started.stdout.strip()


def _main(engine: str, folder: str) -> None:
    """Leave a keeper behind, and print its server's address: whoever starts it does not have to wait for its end."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading) as line:
            sys.stdout.write(line.readline())
    else:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with os.fdopen(writing, "w") as line:
            _keep(engine, folder, line)


def _keep(engine: str, folder: str, line: TextIO) -> None:
    """Run a server until the run of the tests has ended."""
    from tests.support.servers import own_server

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # whoever ends the keeper ends its server
    try:
        with own_server(engine, **_OPTIONS[engine]) as server:
            line.write(f"{server.url}\n")
            line.flush()
            with open(Path(folder) / "alive", "rb") as alive:
                alive.read()
    except pytest.skip.Exception as absent:
        sys.stderr.write(f"{absent}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
