"""The image's HEALTHCHECK."""

from __future__ import annotations

import socket
from threading import Thread

import pytest
from werkzeug.serving import make_server

import web
from utils.healthcheck import is_up, named
from web.http.security import is_trusted


@pytest.fixture
def served(parts):
    server = make_server("127.0.0.1", 0, web.create(parts))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_answers_is_up(served):
    assert is_up(served, "localhost")


def test_it_is_asked_below_its_path_and_is_up_nowhere_else(served):
    assert is_up(served, "localhost", "/")
    assert not is_up(served, "localhost", "/elsewhere")


def test_where_nothing_listens_nothing_is_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not is_up(port, "localhost")


@pytest.mark.parametrize("trusted", ["unify.example.org", ".example.org", "[::1]", "192.0.2.1"])
def test_the_host_that_is_named_is_one_that_is_trusted(trusted):
    assert is_trusted(named((trusted,)), (trusted,))
