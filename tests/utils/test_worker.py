"""Speak to a real server through bare sockets: slow, broken and endless clients beside an ordinary one."""

from __future__ import annotations

import http.client
import os
import re
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from cryptography.fernet import Fernet

PROJECT = Path(__file__).resolve().parents[2]
LINE = b"Host: localhost\r\n"
SHORT = "import utils.arrivals as a; a.GRACE_S = a.HEAD_S = {seconds}; "
WAYS = {
    "unify serve": "from utils.cli import main; sys.argv = ['unify', 'serve', '--threads', '1']; main()",
    "gunicorn": "from gunicorn.app.wsgiapp import run; "
    "sys.argv = ['gunicorn', '--threads', '1', 'app:create_app()']; run()",
}


class Running:
    """One server with one worker of one thread, so that a single client that holds it holds everybody."""

    def __init__(self, way: str, folder: Path, *, seconds: float, prefix: str = "") -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            self.port = taken.getsockname()[1]
        self.log = folder / "log"
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environ = kept | {
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "SECRET_KEY": os.urandom(32).hex(),
            "AUDIT_KEY": os.urandom(32).hex(),
            "TENANT_CREDENTIAL_KEYS": Fernet.generate_key().decode(),
            "ADMIN_DATABASE_URL": f"sqlite:///{folder / 'admin.db'}",
            "TENANT_DATA_DIR": str(folder / "users"),
            "BOOTSTRAP_FIRST_ADMIN": "true",
            "TRUSTED_PROXY_COUNT": "0",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "JOB_WORKER": "false",
        }
        self.unify("db", "create-config-table")
        program = "import sys; " + SHORT.format(seconds=seconds) + WAYS[way]
        with self.log.open("wb") as lines:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program], env=self.environ, cwd=PROJECT, stdout=lines, stderr=lines
            )
        self.wait_for_answer()

    def unify(self, *words: str) -> None:
        script = PROJECT / "utils" / "setup_user_database.py"
        subprocess.run([sys.executable, script, *words], env=self.environ, check=True, capture_output=True)

    def wait_for_answer(self) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                self.ask()
                return
            except OSError:
                assert time.monotonic() < end, self.log.read_text()
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.02)

    def ask(self, path: str = "/healthz", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def say(self, data: bytes, *, shut: bool = False) -> bytes:
        """Send bytes; give everything that is answered until the server ends the connection."""
        with closing(self.connect()) as client:
            client.sendall(data)
            if shut:
                client.shutdown(socket.SHUT_WR)
            return everything(client)


def everything(client: socket.socket) -> bytes:
    answered = b""
    while part := client.recv(65536):
        answered += part
    return answered


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.fixture(scope="module", params=list(WAYS))
def server(request, tmp_path_factory):
    """Give a server that cuts slow clients long after the test, so that nothing but the loop can help."""
    running = Running(request.param, tmp_path_factory.mktemp("patient"), seconds=60)
    yield running
    running.process.terminate()
    running.process.wait(30)
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """Give a server that cuts slow clients after half a second."""
    running = Running("unify serve", tmp_path_factory.mktemp("hasty"), seconds=0.5)
    yield running
    running.process.kill()
    running.process.wait()


SLOW = {
    "nothing": b"",
    "head": b"GET /healthz HTTP/1.1\r\n" + LINE + b"X-Long: ",
    "body": b"POST /auth/login HTTP/1.1\r\n" + LINE + b"Content-Length: 1000\r\n\r\nemail=",
    "chunks": b"POST /auth/login HTTP/1.1\r\n" + LINE + b"Transfer-Encoding: chunked\r\n\r\n400\r\nemail=",
    "between requests": b"GET /healthz HTTP/1.1\r\n" + LINE + b"\r\nGET /he",
    "at its end": b"GET /healthz HTTP/1.0\r\n" + LINE + b"\r\n",
}


@pytest.mark.parametrize("what", SLOW)
def test_fifty_slow_clients_hold_no_thread(server, what):
    with ExitStack() as opened:
        for _ in range(50):
            client = opened.enter_context(closing(server.connect()))
            client.sendall(SLOW[what])
        assert [server.ask().status for _ in range(3)] == [200] * 3


def test_a_client_that_does_not_read_holds_no_thread(server):
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.settimeout(1)
        asked = b"GET /api/v1/openapi.json HTTP/1.1\r\n" + LINE + b"\r\n"
        with pytest.raises(TimeoutError):  # it has stopped reading us, so an answer of its waits
            while True:
                client.sendall(asked * 1000)
        assert server.ask().status == 200


@pytest.mark.parametrize("what", ["head", "body", "chunks"])
def test_what_comes_too_slowly_is_cut_and_told(hasty, what):
    answer = hasty.say(SLOW[what])
    assert status(answer) == 408
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b'"code": "request_timeout"}')


def test_a_connection_that_says_nothing_ends_without_a_word(hasty):
    assert hasty.say(b"") == b""


@pytest.mark.parametrize("letters", [150_000, 340_000])
def test_a_form_comes_whole_however_long_its_encoding_makes_it(server, letters):
    """The form is refused for its field, and not for a token that was lost on the way."""
    with requests.Session() as visitor:
        page = f"http://127.0.0.1:{server.port}/auth/register"
        token = re.search(r'name="csrf_token" value="([^"]+)"', visitor.get(page, timeout=20).text)[1]
        answer = visitor.post(page, {"csrf_token": token, "email": "\u8bed" * letters}, timeout=20)
    assert answer.status_code == 422
    assert "csrf_failed" not in answer.text


@pytest.mark.parametrize("body", [b"zz\r\nhello\r\n", b"-1\r\nhello\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhel"])
def test_broken_chunks_are_400_for_anybody(server, body):
    for asked in (b"POST /api/v1/tasks", b"POST /auth/login", b"GET /healthz", b"DELETE /nothing"):
        head = asked + b" HTTP/1.1\r\n" + LINE + b"Transfer-Encoding: chunked\r\n\r\n"
        assert status(server.say(head + body, shut=True)) == 400


def test_a_body_that_ends_too_soon_is_400(server):
    answer = server.say(b"POST /nothing HTTP/1.1\r\n" + LINE + b"Content-Length: 9\r\n\r\nabc", shut=True)
    assert status(answer) == 400


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(100)), 431),
        (b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 51_200 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 204_800 + b"\r\n", 431),
        (b"GET /" + b"x" * 9216 + b" HTTP/1.1\r\n", 414),
        (b"GET /" + b"x" * 204_800 + b" HTTP/1.1\r\n", 414),
        (b"GET /healthz HTTP/1.1\n", 400),
    ],
)
def test_what_is_too_long_is_told_before_the_app(server, head, expected):
    assert status(server.say(head + LINE + b"\r\n")) == expected


def test_a_refused_body_leaves_the_connection_good(server):
    refused = b"POST /api/v1/nothing HTTP/1.1\r\n" + LINE + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000
    innocent = b"GET /healthz HTTP/1.1\r\n" + LINE + b"Connection: close\r\n\r\n"
    answers = re.findall(rb"HTTP/1.1 (\d+)", server.say(refused + innocent))
    assert answers == [b"404", b"200"]


def test_a_body_that_is_not_read_closes_the_connection_and_the_answer_arrives(server):
    head = b"POST /api/v1/nothing HTTP/1.1\r\n" + LINE + b"Content-Length: 4000000\r\n\r\n"
    answer = server.say(head + b"x" * 4_000_000)
    assert status(answer) == 404
    assert b"\r\nConnection: close\r\n" in answer


def test_a_client_is_told_to_go_on_once_and_not_for_what_is_refused(server):
    head = b"POST /nothing HTTP/1.1\r\n" + LINE + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: "
    with closing(server.connect()) as client:
        client.sendall(head + b"5\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert status(everything(client)) == 404
    assert status(server.say(head + b"5000000\r\n\r\n")) == 404


@contextmanager
def limited(server, bounded: int, most: int):
    """Bound a resource of a server's one worker from outside."""
    (worker,) = psutil.Process(server.process.pid).children()
    soft, hard = worker.rlimit(bounded)
    worker.rlimit(bounded, (most, hard))
    try:
        yield worker
    finally:
        worker.rlimit(bounded, (soft, hard))
    assert worker.is_running(), server.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit() is Linux's")
@pytest.mark.parametrize("piece", [1000, 1448, 4096])
def test_a_full_disk_cuts_the_body_and_not_the_worker(server, piece):
    length = 600_000
    head = f"POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
    with limited(server, resource.RLIMIT_FSIZE, 300_000), closing(server.connect()) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe: the connection is cut
            client.sendall(head)
            for _ in range(length // piece + 1):
                client.sendall(b"x" * piece)
            assert client.recv(1) == b"", "it was answered"
            raise ConnectionResetError
        assert server.ask().status == 200


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit() is Linux's")
def test_connections_beyond_the_files_that_may_be_open_wait_and_end_no_worker(server):
    told, began = server.log.read_text().count("No connection can be accepted"), time.monotonic()
    with limited(server, resource.RLIMIT_NOFILE, 0) as worker, closing(server.connect()) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n" + LINE + b"\r\n")
        end = time.monotonic() + 20
        while server.log.read_text().count("No connection can be accepted") < told + 3:
            assert time.monotonic() < end, server.log.read_text()
            time.sleep(0.02)
        assert time.monotonic() - began > 1.9, "it did not rest between three tries"
        worker.rlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        assert status(everything(client)) == 200


def test_requests_in_a_row_are_answered_in_their_order(server):
    paths = [b"/healthz", b"/nothing", b"/readyz", b"/auth/login"]
    asked = [b"GET " + path + b" HTTP/1.1\r\n" + LINE for path in paths]
    answers = server.say(b"\r\n".join(asked) + b"Connection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"404", b"200", b"200"]


def test_no_client_speaks_for_a_proxy(server):
    forged = {"SCRIPT_NAME": "//evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil"}
    answer = server.ask("/tasks", **forged)
    assert (answer.status, answer.headers["Location"]) == (302, "/auth/login?next=/tasks")
    assert "Strict-Transport-Security" not in answer.headers


def test_nothing_of_the_servers_is_left_in_the_home_folder(server):
    # What gunicorn keeps in HOME is a control socket: whoever can reach it commands the server.
    assert not [path for path in Path(server.environ["HOME"]).rglob("*") if "gunicorn" in path.name]


def test_every_way_to_start_tells_the_bootstrap_token(server):
    assert "bootstrap token" in server.log.read_text()
