"""Start database servers of the test's own: with passwords, few connections, and to be stopped, frozen and killed.

The servers of ``tests/support/engines.py`` are for all tests of a run. These live in a folder and on a port of their
own, run as a user without rights, and are gone in the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.engines import switched_off

if TYPE_CHECKING:
    from tests.support.certificates import Certificate

PASSWORD = "pw '\\ %40?host=x;Server=y é☃"
READY_S = 60.0
ROOM_BYTES = 8 << 30
_SHARED_MEMORY = Path("/dev/shm")
_DEBIAN = ("/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))


class OwnServer(ABC):
    """Run one server; ``url`` is its administrator's, ``address`` where it listens."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder = folder
        self.password = password
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        from urllib.parse import quote

        secret = f":{quote(self.password, safe='')}" if self.password else ""
        return f"{self.scheme}://{self.user}{secret}@127.0.0.1:{self.port}/"

    scheme: str
    user: str

    def encrypt(self, certificate: Certificate) -> None:
        """Offer TLS with a certificate from the next connection on."""
        for name, text in (("server.crt", certificate.chain), ("server.key", certificate.key)):
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o600)
        _give_away(self.folder)
        self._read_certificate()

    @abstractmethod
    def _read_certificate(self) -> None:
        """Have the server read its certificate's files."""

    def _administer(self, *statements: str) -> object:
        """Run statements as the administrator; give the first value of the last one."""
        from tests.support.engines import backend_of

        backend = backend_of(self.scheme)
        driver = backend.at_server(backend.login(f"{self.url}?tls=off", "URL"))
        with closing(driver), closing(driver.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Say whether the server takes its administrator's login."""

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(_unprivileged(self._command()), stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "the server does not answer"

    def stop(self) -> None:
        """Stop at once, as for a restart: connections are cut."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT if self.scheme == "postgresql" else signal.SIGTERM)
            process.wait(READY_S)

    def freeze(self) -> None:
        """Stop every process of the server where it is: the kernel goes on answering for them."""
        assert self._process is not None
        self._signal(signal.SIGSTOP)
        while not all(_stopped(thread) for thread in Path(f"/proc/{self._process.pid}/task").iterdir()):
            continue

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        for pid in [self._process.pid, *_children(self._process.pid)]:
            with suppress(ProcessLookupError):  # a connection's process may end meanwhile
                os.kill(pid, number)


class OwnPostgreSQL(OwnServer):
    scheme = "postgresql"
    user = "postgres"

    def __init__(
        self,
        folder: Path,
        *,
        connections: int = 40,
        password: str = PASSWORD,
        made_with: tuple[str, ...] = (),
        options: dict[str, str] | None = None,
    ) -> None:
        super().__init__(folder, password)
        self._options = {"fsync": "off", "max_connections": str(connections), "superuser_reserved_connections": "0"}
        self._options |= options or {}
        (folder / "password").write_text(password)
        _give_away(folder)
        secret = ("--auth=scram-sha-256", f"--pwfile={folder / 'password'}") if password else ("--auth=trust",)
        _run(
            [
                _tool("initdb"),
                f"--pgdata={folder / 'data'}",
                "--username=postgres",
                *secret,
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                *made_with,
            ]
        )

    def _command(self) -> list[str]:
        return [
            _tool("postgres"),
            *("-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)),
            *(word for name, value in self._options.items() for word in ("-c", f"{name}={value}")),
        ]

    def _read_certificate(self) -> None:
        files = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
        self.set(ssl="on", **{name: str(self.folder / file) for name, file in files.items()})

    def set(self, **options: str) -> None:
        """Change settings, and wait until new connections begin with them."""
        before = self._administer("SELECT pg_conf_load_time()")
        self._administer(*(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in options.items()))
        self._administer("SELECT pg_reload_conf()")
        deadline = time.monotonic() + READY_S
        while self._administer("SELECT pg_conf_load_time()") == before:
            assert time.monotonic() < deadline, "the server does not read its settings"

    def answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(
                host="127.0.0.1", port=self.port, user="postgres", password=self.password, dbname="postgres"
            ).close()
        except psycopg2.OperationalError:
            return False
        return True


class OwnMariaDB(OwnServer):
    scheme = "mysql"
    user = "root"

    def __init__(self, folder: Path, *, connections: int = 40, password: str = PASSWORD) -> None:
        super().__init__(folder, password)
        self._connections = connections
        self._tls: list[str] = []
        self._set = folder / "set.sql"
        secret = password.replace("\\", "\\\\").replace("'", "''")
        self._set.write_text(f"ALTER USER root@localhost IDENTIFIED BY '{secret}';\n", encoding="utf-8")
        _give_away(folder)
        _run(
            [
                _tool("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
                "--innodb-log-file-size=8M",
            ]
        )

    def _command(self) -> list[str]:
        return [
            _tool("mariadbd"),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self._set}",
            f"--max-connections={self._connections}",
            "--character-set-server=utf8mb4",
            "--innodb-log-file-size=8M",
            "--innodb-flush-method=nosync",
            "--innodb-flush-log-at-trx-commit=0",
            *self._tls,
        ]

    def _read_certificate(self) -> None:
        """Start again with them; FLUSH SSL reads them only in a server that had some at its start."""
        if self._tls:
            self._administer("FLUSH SSL")
            return
        self._tls = [f"--ssl-cert={self.folder / 'server.crt'}", f"--ssl-key={self.folder / 'server.key'}"]
        self.stop()
        self.start()

    def answers(self) -> bool:
        import pymysql

        try:
            pymysql.connect(
                host="127.0.0.1",
                port=self.port,
                user="root",
                password=self.password.encode(),  # a text would be sent as Latin-1
                ssl_disabled=True,
            ).close()
        except pymysql.err.OperationalError:
            return False
        return True


@contextmanager
def own_server(engine: str, **how: Any) -> Iterator[OwnServer]:
    """Run a server of the test's own; skip where its programs are not installed, or its setting is left empty.

    ``connections`` is how many it takes; with an empty ``password`` it takes every login without one. PostgreSQL only:
    ``made_with`` is what `initdb` is told besides, ``options`` what the server is.

    Not in pytest's folder, which each session that starts closes to the account under which the server runs.
    """
    if switched_off(engine):
        pytest.skip(f"{engine} is not to be used here: its setting is empty")
    kind = {"postgresql": OwnPostgreSQL, "mysql": OwnMariaDB}[engine]
    with tempfile.TemporaryDirectory(prefix="unify-server-", dir=_memory(), ignore_cleanup_errors=True) as folder:
        server = kind(Path(folder), **how)
        server.start()
        try:
            yield server
        finally:
            if server._process is not None:
                server.thaw()
            server.stop()


@contextmanager
def listener(*, hangs_up: bool = False) -> Iterator[tuple[int, list[socket.socket]]]:
    """Listen on a port, say nothing, and keep whom it was that connected; ``hangs_up``: and let them go at once."""
    import threading

    met: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                met.append(peer)
                if hangs_up:
                    peer.close()

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield server.getsockname()[1], met
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for peer in met:
        peer.close()


def _memory() -> str | None:
    """Give the file system in memory, if it has room: PostgreSQL makes a database four times faster there."""
    if os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free > ROOM_BYTES:
        return str(_SHARED_MEMORY)
    return None


def _tool(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_DEBIAN])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed here: no server of the test's own can be started")
    return found


def _run(command: list[str]) -> None:
    done = subprocess.run(_unprivileged(command), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]


def _unprivileged(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]


def _give_away(folder: Path) -> None:
    if os.geteuid() != 0:
        return
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "nobody", "nogroup")


def _stopped(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] in "TZX"
    except FileNotFoundError:
        return True


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
