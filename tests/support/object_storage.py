"""Start an S3 server of the test's own: moto, in an environment of its own, since boto3 cannot live beside ours.

The environment is ``.moto/`` in the project's folder; the first test that needs it makes it, and is skipped where that
is not possible.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.layers import PROJECT

HOME = PROJECT / ".moto"
WANTED = "moto[server]>=5.2,<6"
MADE_S, READY_S = 240.0, 60.0
KEY, SECRET = "AKIDEXAMPLE", "a/secret+with=signs"


def made_environment() -> Path:
    """Make the environment, once for all processes of a run; give its interpreter."""
    python, made = HOME / "bin" / "python", HOME / "made"
    with (PROJECT / ".moto.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", WANTED]
            try:
                for command in ([sys.executable, "-m", "venv", "--clear", str(HOME)], [str(python), *install]):
                    subprocess.run(command, check=True, capture_output=True, timeout=MADE_S)
            except (subprocess.SubprocessError, OSError) as error:
                pytest.skip(f"moto, the S3 server of these tests, cannot be installed: {type(error).__name__}")
            made.touch()
    return python


class S3Server:
    """Run one server; each test gives itself a bucket."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._number = 0

    def start(self, python: Path) -> None:
        command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)
        deadline = time.monotonic() + READY_S
        while True:
            try:
                urlopen(f"{self.endpoint}/moto-api/data.json", timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < deadline, "moto does not answer"
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(30)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def bucket(self) -> str:
        """Make a bucket; give its storage URL, with a login and a folder."""
        self._number += 1
        name = f"bucket-{self._number}"
        urlopen(Request(f"{self.endpoint}/{name}", method="PUT"), timeout=30).close()
        return self.url(name)

    def url(self, bucket: str) -> str:
        from urllib.parse import quote

        login = f"{KEY}:{quote(SECRET, safe='')}"
        return f"s3://{login}@{bucket}/some/folder?endpoint={self.endpoint}&region=us-east-1"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    pytest.importorskip("obstore")
    server = S3Server(tmp_path_factory.mktemp("moto") / "log")
    server.start(made_environment())
    yield server
    server.stop()
