"""PostgreSQL: what is sent to it, and how what it answers is read, where the contract does not say."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa
from psycopg2 import extensions

from tenancy.backends.access import Login, Options
from tenancy.backends.server.sql import one, run
from tenancy.errors import DatabaseTimeoutError, LoginRefusedError, TooManyConnectionsError
from tests.support.engines import backend_of, server_login, use
from tests.tenancy.backends.mysql.test_backend import impostor


class Told(extensions.cursor):
    """Keep what is sent."""

    sent: list[str]

    def execute(self, statement, values=None):
        self.sent.append(statement)
        return super().execute(statement, values)


def test_a_new_connection_asks_nothing_before_its_first_statement(request):
    """What SQLAlchemy asks for hstore takes longer than connecting does, in a database that is new."""
    use(request, "postgresql")
    backend, login = backend_of("postgresql"), server_login("postgresql")
    with backend.filling(backend.open(login)) as warm:  # a server's version is asked about once
        warm.execute(sa.text("SELECT 1"))
    driver = backend.open(login)
    Told.sent = []
    driver.cursor_factory = Told
    with backend.filling(driver) as connection:
        connection.execute(sa.text("SELECT 2"))
    assert Told.sent == ["SELECT 2"]


ENVIRONMENT = {
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "nowhere",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nowhere",
    "PGREQUIREAUTH": "gss",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGOPTIONS": "-c search_path=pg_catalog",
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "SQL, DMY",
    "PGCLIENTENCODING": "LATIN1",
    "PGAPPNAME": "another",
}


@pytest.mark.parametrize("service", ["found", "not_found"])
def test_nothing_in_the_environment_overrides_what_is_configured(request, monkeypatch, tmp_path, service):
    use(request, "postgresql")
    services = tmp_path / "services"
    services.write_text("[found]\nhostaddr=192.0.2.1\nport=1\nsslmode=verify-full\nreplication=database\n")
    for name, value in {**ENVIRONMENT, "PGSERVICE": service, "PGSERVICEFILE": str(services)}.items():
        monkeypatch.setenv(name, value)
    with closing(backend_of("postgresql").open(server_login("postgresql"))) as driver:
        told = [one(driver, f"SHOW {name}") for name in ("timezone", "datestyle", "client_encoding", "search_path")]
    assert told == ["UTC", "ISO, MDY", "UTF8", "public,pg_temp"]


def test_a_connection_has_its_own_search_path_whatever_the_database_says(request, server_login_into_a_database):
    backend, login = server_login_into_a_database
    with closing(backend.at_server(login)) as driver:
        run(driver, f"ALTER DATABASE {login.database} SET search_path = pg_catalog")
    with backend.filling(backend.open(login)) as connection:
        connection.execute(sa.text("CREATE TABLE here (id integer)"))
        found = connection.execute(sa.text("SELECT schemaname FROM pg_tables WHERE tablename = 'here'")).scalar_one()
    assert found == "public"


@pytest.fixture
def server_login_into_a_database(request):
    use(request, "postgresql")
    backend, login = backend_of("postgresql"), server_login("postgresql").into("unify_search_path")
    with closing(backend.at_server(login)) as driver:
        backend.make_plain_database(driver, login.database)
        try:
            yield backend, login
        finally:
            backend.drop_database(driver, login.database)


def refusal(state: str, words: str) -> bytes:
    """Give an ErrorResponse (postgresql.org, "Message Formats")."""
    fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": words}
    body = b"".join(kind.encode() + text.encode() + b"\0" for kind, text in fields.items()) + b"\0"
    return b"E" + struct.pack(">I", len(body) + 4) + body


def refusing(answer: bytes):
    def play(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.sendall(answer)

    return play


@pytest.mark.parametrize(
    ("state", "words", "expected"),
    [
        ("28P01", "Passwort-Authentifizierung für Benutzer »:  53300« fehlgeschlagen", LoginRefusedError),
        ("53300", "tut mir leid, schon zu viele Verbindungen", TooManyConnectionsError),
    ],
)
def test_a_refused_connection_is_read_by_its_code_whatever_the_language(state, words, expected):
    with impostor(refusing(refusal(state, words))) as port, pytest.raises(expected):
        backend_of("postgresql").open(Login("127.0.0.1", port, "somebody", "secret"))


def test_an_answer_that_comes_byte_by_byte_is_given_up_as_a_whole():
    gone = threading.Event()
    sent: list[int] = []

    def play(peer: socket.socket) -> None:
        for byte in refusal("28P01", "x" * 50):
            if gone.wait(0.2):
                return
            peer.sendall(bytes([byte]))
            sent.append(byte)

    login = Login("127.0.0.1", 0, "somebody", "secret", options=Options(connect_timeout_s=1))
    with impostor(play) as port:
        try:
            with pytest.raises(DatabaseTimeoutError):
                backend_of("postgresql").open(replace(login, port=port))
        finally:
            gone.set()
    assert 0 < len(sent) < 50
