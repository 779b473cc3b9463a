"""Start ``unify serve`` on a folder and a port of its own, with users, keys and rows made beforehand."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import compose
from bench.world import World, environ, folder
from settings import Settings
from tenancy.models import User

PROJECT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "utils.cli", "serve")
PATIENCE_S = 30.0


class Served:
    """Run a server process; entering makes the installation and starts it, leaving ends it and deletes all."""

    def __init__(
        self,
        *,
        workers: int = 4,
        tenants: int = 0,
        rows: int = 0,
        types: Sequence[str] = ("sqlite",),
        command: Sequence[str] = COMMAND,
        **overrides: object,
    ) -> None:
        self.port = free_port()
        self.users: list[User] = []
        self.keys: list[str] = []
        self.environ: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.folder: Path
        self._command = command
        self._tenants, self._rows, self._types = tenants, rows, types
        self._overrides = {"port": self.port, "web_concurrency": workers, "log_level": "WARNING"} | overrides
        self._stack = ExitStack()

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def __enter__(self) -> Served:
        self.folder = self._stack.enter_context(folder())
        self.environ = environ(self.folder, **self._overrides)
        self._populate()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
            self._leave_servers()
        finally:
            self._stack.close()

    def start(self) -> float:
        """Start the server; give the seconds until its first answer."""
        started = time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=PROJECT,
                env=dict(os.environ) | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_answer(started)
        return time.perf_counter() - started

    def kill(self) -> None:
        """End the server and its workers at once, as a power cut ends a process: SIGKILL to the whole group."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """Let the server finish its requests and end."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def _populate(self) -> None:
        parts = compose.build(Settings.load(self.environ, dotenv=None))
        try:
            parts.manager.prepare_catalog()
            world = World(self.folder, parts)
            world.register(sorted(set(self._types)))
            world.add_users(self._tenants, self._types)
            if self._rows:
                world.add_tasks(self._rows)
            self.users = world.users
            self.keys = [parts.accounts.issue_key(user.id, "bench")[1] for user in world.users]
        finally:
            parts.close()

    def _leave_servers(self) -> None:
        if set(self._types) == {"sqlite"}:
            return
        parts = compose.build(Settings.load(self.environ, dotenv=None))
        try:
            World(self.folder, parts, self.users).leave_servers()
        finally:
            parts.close()

    def _await_answer(self, started: float) -> None:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                if self.process is None or self.process.poll() is not None:
                    raise RuntimeError(
                        f"the server ended before it answered:\n{self.log.read_text()[-2000:]}"
                    ) from None
                if time.perf_counter() - started > PATIENCE_S:
                    raise
                time.sleep(0.02)  # nothing listens yet, and nothing tells when it will
            finally:
                connection.close()


def free_port() -> int:
    """Give a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
