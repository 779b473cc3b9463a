"""Hold all tests to one rule of the house: nothing remote happens while the catalog is being written to.

While a thread is inside a write transaction of the catalog, opening a tenant's database, beginning a transaction on
it or asking its server anything raises. One silent server would hold up every sign-up.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tenancy.backends.base import Backend
from tenancy.backends.mysql.backend import MySQLBackend
from tenancy.backends.postgresql.backend import PostgreSQLBackend
from tenancy.backends.server.backend import ServerBackend
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.backends.sqlserver.backend import SQLServerBackend
from tenancy.catalog import Catalog
from tenancy.routing import guards

REMOTE = (
    *("connect", "connect_to_migrate", "at_server", "exists", "probe", "create", "create_many", "drop", "size_bytes"),
    *("keep", "kept", "put_back", "discard", "points", "clear_attempts", "alone_in_place", "make_empty"),
)
"""What reaches a tenant's database or its server."""

_here = threading.local()


class RemoteWhileWritingError(AssertionError):
    """Say that a tenant's database was reached inside a write transaction of the catalog."""


def _writing() -> int:
    return getattr(_here, "depth", 0)


@contextmanager
def _marked() -> Iterator[None]:
    _here.depth = _writing() + 1
    try:
        yield
    finally:
        _here.depth -= 1


def _refusing(work: Callable[..., Any], what: str) -> Callable[..., Any]:
    @functools.wraps(work)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        if _writing():
            raise RemoteWhileWritingError(f"{what} was called while the catalog was being written to")
        return work(*args, **kwargs)

    return refusing


def _marking(writing: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def marked(self: Catalog) -> Iterator[Any]:
        with writing(self) as connection, _marked():
            yield connection

    return marked


def _marking_work(repeating: Callable[..., Any]) -> Callable[..., Any]:
    def marked(self: Catalog, work: Callable[[Any], Any]) -> Any:
        def inside(connection: Any) -> Any:
            with _marked():
                return work(connection)

        return repeating(self, inside)

    return marked


@pytest.fixture(autouse=True, scope="session")
def nothing_remote_while_the_catalog_is_written_to() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "writing", _marking(Catalog.writing))
        patch.setattr(Catalog, "repeating", _marking_work(Catalog.repeating))
        patch.setattr(guards, "begin", _refusing(guards.begin, "guards.begin"))
        for kind in (Backend, ServerBackend, SQLiteBackend, PostgreSQLBackend, MySQLBackend, SQLServerBackend):
            for name in REMOTE:
                if name in vars(kind):
                    patch.setattr(kind, name, _refusing(vars(kind)[name], f"{kind.__name__}.{name}"))
        yield
