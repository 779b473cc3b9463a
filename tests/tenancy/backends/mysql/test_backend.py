"""What MySQL promises beside the contract of all products: a hostile server gets no file, and no answer breaks us."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenancy.backends import Backends
from tenancy.backends.access import Login, Options
from tenancy.backends.server.backend import fresh_password
from tenancy.backends.server.engines import SharedDialect
from tenancy.deadline import Patience
from tenancy.errors import BackendError, DatabaseTimeoutError
from tenancy.hosts import HostPolicy
from tests.support.engines import server_address, server_login, use

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
    """Percent signs, generated columns and rows come along; a view or trigger is left to the recorded statements.

    Run it on MySQL 8 too: MariaDB does not call a column generated whose default is an expression.
    """
    from tenancy.backends.mysql.tables import dump
    from tenancy.backends.server.sql import run

    address = server_address(use(request, "mysql"))
    who = Login(address.host, address.port or 3306, address.username, address.password or "")
    with closing(mysql.at_server(who)) as driver:
        run(driver, "CREATE DATABASE unify_dumped CHARACTER SET utf8mb4")
        try:
            driver.select_db("unify_dumped")
            run(
                driver,
                "CREATE TABLE a (id INT PRIMARY KEY, share VARCHAR(9) DEFAULT '5 %', twice INT AS (id * 2) STORED)",
                "CREATE TABLE b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES a (id))",
                "INSERT INTO a (id) VALUES (4)",
                "ALTER TABLE b ADD COLUMN made DATETIME DEFAULT CURRENT_TIMESTAMP",  # MySQL 8: DEFAULT_GENERATED
                "INSERT INTO b VALUES (1, 4, '2001-02-03')",
            )
            dumped = dump(driver)
            run(driver, "DROP TABLE b", "DROP TABLE a")
            cursor = driver.cursor()
            for text, values in dumped:
                cursor.execute(cursor.mogrify(text, values))
            cursor.execute("SELECT b.id, a.id, share, twice, YEAR(made) FROM a JOIN b ON b.a = a.id")
            assert cursor.fetchall() == ((1, 4, "5 %", 8, 2001),)
            run(driver, "CREATE VIEW v AS SELECT id FROM a")
            assert dump(driver) is None
        finally:
            run(driver, "DROP DATABASE unify_dumped")


def test_an_answer_that_comes_byte_by_byte_is_given_up_as_a_whole(mysql):
    """The driver's own timeouts begin anew with every byte."""
    gone = threading.Event()
    sent: list[int] = []

    def play(peer: socket.socket) -> None:
        for byte in packet(0, GREETING):
            if gone.wait(0.2):
                return
            peer.sendall(bytes([byte]))
            sent.append(byte)

    with impostor(play) as port:
        try:
            with pytest.raises(DatabaseTimeoutError):
                mysql.open(replace(login(port), options=Options(connect_timeout_s=1)))
        finally:
            gone.set()
    assert 0 < len(sent) < len(GREETING)


def test_long_work_is_given_up_for_a_silence_and_not_for_its_length(mysql):
    """An answer that takes longer than each silence may, on a connection for migrations, is waited for."""
    gone = threading.Event()

    def play(peer: socket.socket) -> None:
        peer.sendall(packet(0, GREETING))
        heard(peer)
        peer.sendall(packet(2, OK))
        while b"slow" not in heard(peer):
            peer.sendall(packet(1, OK))
        for byte in packet(1, OK):
            gone.wait(0.15)
            peer.sendall(bytes([byte]))
        heard(peer)
        gone.wait()

    with impostor(play) as port:
        driver = mysql.open(login(port))
        driver.patience = Patience(0.5, each_silence=True)
        try:
            assert driver.query("slow") == 0
            with pytest.raises(DatabaseTimeoutError), mysql.explained():
                driver.query("never")
        finally:
            gone.set()


def test_what_a_server_says_of_itself_counts_for_that_server_alone(mysql, request):
    """ANSI_QUOTES, say, which decides how names are quoted in the SQL that is sent."""
    said = server_login(use(request, "mysql"))
    theirs = replace(said, policy=HostPolicy.of(["127.0.0.0/8"]))

    def dialects(who: Login, known: bool) -> list[sa.Dialect]:
        found = []
        for _ in range(2):
            with mysql.filling(mysql.open(who)) as connection:
                dialect = connection.dialect
                assert ((type(dialect), dialect.standing) in SharedDialect._learned) is known
                found.append(dialect)
        return found

    ours, again = dialects(said, True)
    assert ours == again
    assert hash(ours) == hash(again)
    users_own, another = dialects(theirs, False)
    assert users_own != another
    assert users_own not in (ours, again)
    elsewhere = replace(said, host="localhost")
    assert dialects(elsewhere, True)[0] != ours


def test_a_password_that_is_made_satisfies_the_rules_of_servers():
    """Those of MySQL 8's validate_password in its policy MEDIUM; to be run on a MySQL 8 that has the component."""
    for _ in range(50):
        made = fresh_password()
        kinds = (str.isdigit, str.islower, str.isupper, lambda character: not character.isalnum())
        assert all(any(map(kind, made)) for kind in kinds)
        assert "'" not in made
        assert "\\" not in made


def test_a_statement_that_a_server_does_not_take_is_told_by_its_number(request, mysql):
    """A server of a user's own may refuse anything at all: with ANSI_QUOTES, our way of quoting names."""
    driver = mysql.open(server_login(use(request, "mysql")))
    with mysql.filling(driver) as connection:
        with pytest.raises(BackendError, match="ProgrammingError 1064"), mysql.explained():
            driver.query("no statement")
        with pytest.raises(sa.exc.ProgrammingError), mysql.explained(others_pass=True):
            connection.execute(sa.text("no statement"))
        with pytest.raises(BackendError, match="ProgrammingError 1064"), mysql.explained():
            connection.execute(sa.text("no statement"))
