"""Scratch databases on servers: what a killed process left is dropped by the next look, one in use is left alone."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.server.backend import ServerBackend
from tests.support.applications import PATIENCE_S, forked
from tests.support.engines import ENGINES, use
from tests.support.homes import home_of


@pytest.fixture(params=[engine for engine in ENGINES if engine != "sqlite"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ServerBackend, Access]:
    """Give a server to an installation of its own: tests run beside each other."""
    home = home_of(use(request, request.param), tmp_path, secrets.token_hex(3))
    assert isinstance(home.backend, ServerBackend)
    return home.backend, Access(None, home.server, home.installation)


def standing(backend: ServerBackend, access: Access) -> list[str]:
    assert access.admin is not None
    with closing(backend.at_server(access.admin)) as driver:
        there = backend.databases(driver, names.SCRATCH)
    return [name for name in there if names.installation_in(name) == access.installation]


def look(backend: ServerBackend, access: Access) -> None:
    with backend.checks.scratch(access) as connection:
        connection.exec_driver_sql("CREATE TABLE seen (n INT)")


def tidy(backend: ServerBackend, access: Access) -> None:
    assert access.admin is not None
    with closing(backend.at_server(access.admin)) as driver:
        told = backend.tidy(driver, access.installation, "")
    assert all(line.startswith(f"dropped {names.SCRATCH}{access.installation}_") for line in told)


@pytest.mark.parametrize("clear", [look, tidy])
def test_one_that_was_left_is_dropped_by_the_next(server, clear: Callable[[ServerBackend, Access], None]):
    backend, access = server

    def die() -> None:
        with backend.checks.scratch(access):
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(die).killed()
    assert len(standing(backend, access)) == 1
    deadline = time.monotonic() + PATIENCE_S
    while standing(backend, access):  # a server may hear of the end of a connection a moment later
        assert time.monotonic() < deadline
        clear(backend, access)


def test_one_in_use_and_one_of_another_installation_are_left(server):
    backend, access = server
    other = Access(None, access.admin, secrets.token_hex(3))
    with backend.checks.scratch(access) as connection, backend.checks.scratch(other):
        look(backend, access)
        tidy(backend, access)
        assert len(standing(backend, access)) == 1
        assert len(standing(backend, other)) == 1
        connection.exec_driver_sql("CREATE TABLE seen (n INT)")
    assert standing(backend, access) == standing(backend, other) == []
