"""What MySQL promises beside the contract of all products: a hostile server gets no file, and no answer breaks us."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tenancy.backends import Backends
from tenancy.backends.logins import Login
from tenancy.errors import BackendError
from tests.engines import server_address, use

GREETING = (
    b"\x0a8.4.0\x00" + struct.pack("<I", 7) + b"saltsalt\x00" + b"\xff\xf7\x2d\x02\x00\xff\xdf\x15"
    + b"\x00" * 10 + b"saltsaltsalt\x00" + b"mysql_native_password\x00"
)  # fmt: skip
"""A server's first packet (dev.mysql.com, "Protocol::HandshakeV10"), without its length."""
OK = b"\x00\x00\x00\x02\x00\x00\x00"


@pytest.fixture
def mysql(tmp_path: Path):
    return Backends(tmp_path).get("mysql")


@contextmanager
def impostor(play: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve a port: ``play`` has each connection until it returns."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    try:
                        play(peer)
                    except (ConnectionError, EOFError):
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def packet(number: int, body: bytes) -> bytes:
    return struct.pack("<I", len(body))[:3] + bytes([number % 256]) + body


def heard(peer: socket.socket) -> bytes:
    """Read one packet, or raise EOFError."""
    body = _exactly(peer, 4)
    return _exactly(peer, int.from_bytes(body[:3], "little"))


def _exactly(peer: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        more = peer.recv(length - len(got))
        if not more:
            raise EOFError
        got += more
    return got


def login(port: int) -> Login:
    return Login("127.0.0.1", port, "root", "secret")


def test_a_server_that_asks_for_a_file_gets_none(mysql, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("only for this machine")
    said: list[bytes] = []

    def play(peer: socket.socket) -> None:
        peer.sendall(packet(0, GREETING))
        heard(peer)
        peer.sendall(packet(2, OK))
        while b"time_zone" not in heard(peer):  # ours: of what the driver sets itself it does not read the answer
            peer.sendall(packet(1, OK))
        peer.sendall(packet(1, b"\xfb" + str(secret).encode()))
        while True:
            said.append(peer.recv(65_536))
            if not said[-1]:
                return

    with impostor(play) as port, pytest.raises(BackendError) as refused:
        mysql.open(login(port))
    assert refused.value.code == "database_unreachable"
    assert said
    assert b"only for this machine" not in b"".join(said)


def test_whatever_a_server_greets_with_is_refused_with_a_code(mysql):
    choose = random.Random(7)
    greetings: list[bytes] = []

    def play(peer: socket.socket) -> None:
        peer.sendall(greetings[-1])
        heard(peer)
        peer.sendall(packet(2, bytes(choose.randrange(256) for _ in range(choose.randrange(40)))))

    with impostor(play) as port:
        for _ in range(300):
            greeting = bytearray(GREETING)
            for _ in range(choose.randrange(6)):
                greeting[choose.randrange(len(greeting))] = choose.randrange(256)
            del greeting[choose.randrange(2, len(greeting) + 40) :]
            greetings.append(packet(choose.choice([0, 0, 0, 1, 255]), bytes(greeting)))
            with pytest.raises(BackendError):
                mysql.open(login(port))


@pytest.mark.parametrize("plugin", [b"client_ed25519", b"dialog", b"sha256_password", b"no_such_plugin"])
def test_a_server_that_wants_another_kind_of_login_is_refused_with_a_code(mysql, plugin):
    def play(peer: socket.socket) -> None:
        peer.sendall(packet(0, GREETING))
        heard(peer)
        peer.sendall(packet(2, b"\xfe" + plugin + b"\x00" + b"saltsaltsaltsaltsalt\x00"))
        heard(peer)
        peer.sendall(packet(4, b"\xff\x15\x04#28000no"))

    with impostor(play) as port, pytest.raises(BackendError):
        mysql.open(login(port))


def test_what_migrations_made_is_told_whole_and_not_where_more_than_tables_stands(request, mysql):
    """Percent signs, generated columns and rows come along; a view or trigger is left to the recorded statements."""
    from tenancy.backends.mysql import _told
    from tenancy.backends.server import run

    address = server_address(use(request, "mysql"))
    who = Login(address.host, address.port or 3306, address.username, address.password or "")
    with closing(mysql.at_server(who)) as driver:
        run(driver, "CREATE DATABASE unify_told CHARACTER SET utf8mb4")
        try:
            driver.select_db("unify_told")
            run(
                driver,
                "CREATE TABLE a (id INT PRIMARY KEY, share VARCHAR(9) DEFAULT '5 %', twice INT AS (id * 2) STORED)",
                "CREATE TABLE b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES a (id))",
                "INSERT INTO a (id) VALUES (4)",
                "INSERT INTO b VALUES (1, 4)",
            )
            told = _told(driver)
            run(driver, "DROP TABLE b", "DROP TABLE a")
            cursor = driver.cursor()
            for text, values in told:
                cursor.execute(cursor.mogrify(text, values))
            cursor.execute("SELECT b.id, a.id, share, twice FROM a JOIN b ON b.a = a.id")
            assert cursor.fetchall() == ((1, 4, "5 %", 8),)
            run(driver, "CREATE VIEW v AS SELECT id FROM a")
            assert _told(driver) is None
        finally:
            run(driver, "DROP DATABASE unify_told")
