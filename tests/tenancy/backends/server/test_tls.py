"""TLS with real servers: who shows a right certificate is talked to, and nobody else where ``tls=verify`` is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tenancy.backends import access
from tenancy.backends.access import Login, Options
from tenancy.backends.server.backend import ServerBackend
from tenancy.backends.server.sql import one
from tenancy.errors import DatabaseUnreachableError
from tests.support.certificates import DAY, Authority
from tests.support.engines import backend_of, use
from tests.support.servers import PASSWORD, OwnPostgreSQL, OwnServer, own_server

ENCRYPTED = {
    "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mysql": "SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'SSL_CIPHER'",
}
AUTHORITY, ANOTHER = Authority(), Authority()


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], OwnServer]]:
    with ExitStack() as stack:
        yield cache(lambda engine: stack.enter_context(own_server(engine)))


@pytest.fixture(params=list(ENCRYPTED))
def server(request: pytest.FixtureRequest, servers: Callable[[str], OwnServer]) -> OwnServer:
    return servers(use(request, request.param))


@pytest.fixture
def backend(server: OwnServer) -> ServerBackend:
    return backend_of(server.scheme)


def verified(server: OwnServer, ca: str | None = AUTHORITY.pem) -> Login:
    return Login("127.0.0.1", server.port, server.user, PASSWORD, options=Options(tls="verify", tls_ca=ca))


def is_encrypted(backend: ServerBackend, login: Login) -> bool:
    with closing(backend.open(login)) as driver:
        return bool(one(driver, ENCRYPTED[backend.name]))


def test_a_right_certificate_is_taken_and_the_connection_is_encrypted(server, backend):
    server.encrypt(AUTHORITY.certificate())
    assert is_encrypted(backend, verified(server))
    assert is_encrypted(backend, replace(verified(server), options=Options(tls="require")))
    assert not is_encrypted(backend, replace(verified(server), options=Options(tls="off")))


def test_the_file_behind_an_authority_may_be_cleaned_away(server, backend):
    server.encrypt(AUTHORITY.certificate())
    Path(access.ca_file(AUTHORITY.pem)).unlink()
    assert is_encrypted(backend, verified(server))


def test_without_an_authority_named_the_ones_of_the_machine_decide(server, backend, monkeypatch, tmp_path):
    server.encrypt(AUTHORITY.certificate())
    access.tls_context.cache_clear()
    with pytest.raises(DatabaseUnreachableError):  # this machine has not heard of the authority
        backend.open(verified(server, None))
    (tmp_path / "trusted.pem").write_text(AUTHORITY.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    access.tls_context.cache_clear()
    assert is_encrypted(backend, verified(server, None))
    access.tls_context.cache_clear()


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(lambda: AUTHORITY.certificate(address="127.0.0.2"), id="of another host"),
        pytest.param(lambda: ANOTHER.certificate(), id="by another authority"),
        pytest.param(lambda: AUTHORITY.certificate(ends=-DAY), id="expired"),
    ],
)
def test_a_wrong_certificate_is_refused_and_the_answer_says_where_to_look(server, backend, shown):
    server.encrypt(shown())
    with pytest.raises(DatabaseUnreachableError, match="check its certificate"):
        backend.open(verified(server))
    assert is_encrypted(backend, replace(verified(server), options=Options(tls="require")))  # whoever answers


def test_a_server_that_offers_no_encryption_is_not_talked_to_without_it(request, servers):
    """On PostgreSQL, which can be told to offer none; MariaDB makes itself a certificate since 11.4."""
    plain = servers(use(request, "postgresql"))
    assert isinstance(plain, OwnPostgreSQL)
    plain.set(ssl="off")
    for tls in ("require", "verify"):
        login = replace(verified(plain), options=Options(tls=tls, tls_ca=AUTHORITY.pem))
        with pytest.raises(DatabaseUnreachableError, match="no encrypted connection"):
            backend_of("postgresql").open(login)
