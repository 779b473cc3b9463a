"""Make SQLAlchemy engines over connections to servers; all engines of one registered server share compiled SQL.

SQLAlchemy's cache of compiled SQL has the dialect object in its keys, and each new dialect sends half a dozen queries
over its first connection. With ``SharedDialect`` two dialects of the same class, server and version are equal, and only
the first one sends those queries.

The answers decide how SQL is written. So they are used for that server alone, and the answers of a server that a user
named are not kept at all: a hostile server could otherwise change the SQL of other users.

P2 (first use of a tenant) and P8 (memory of an idle tenant) depend on ``LRUCache``, on ``_type_memos`` and on the
attributes that a dialect sets in ``initialize``, which are private to SQLAlchemy (tests/house/test_private_parts.py).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import LRUCache

from tenancy.backends.gates import commit
from tenancy.backends.tenant_engine import TenantEngine, TenantPool

CATALOG_POOL = {"pool_size": 8, "max_overflow": 8, "pool_timeout": 4.0}
_OWN = {"_type_memos", "default_schema_name"}
"""What ``initialize`` sets and dialects must not share: it belongs to one engine."""


class SharedDialect:
    """Mix into a dialect class: what one dialect learned about a server is copied to the next.

    The objects themselves are not shared: each has a ``default_schema_name``, which on MySQL is the tenant's database.
    """

    supports_statement_cache = True
    standing: tuple[Any, Any] | None = None
    """The server and its version, once there was a connection; None for a server that a user named."""

    _learned: ClassVar[dict[tuple[type, Any], dict[str, Any]]] = {}

    def version_of(self, driver: Any) -> Any:
        """Return the server's version as the driver knows it; no query is sent."""
        raise NotImplementedError

    def schema_of(self, driver: Any) -> str | None:
        """Return the default schema of a connection."""
        raise NotImplementedError

    def initialize(self, connection: sa.Connection) -> None:
        driver = connection.connection.dbapi_connection
        server = getattr(driver, "server", None)
        standing = None if server is None else (server, self.version_of(driver))
        known = self._learned.get((type(self), standing))
        if known is None:
            before = dict(vars(self))
            super().initialize(connection)  # type: ignore[misc]  # the dialect this is mixed into has it
            changed = {name for name, value in vars(self).items() if before.get(name, _OWN) is not value}
            known = {name: vars(self)[name] for name in changed - _OWN}
            if standing is not None:
                self._learned[type(self), standing] = known
        vars(self).update(known)
        self.standing = standing
        self.default_schema_name = self.schema_of(driver)

    def do_commit(self, dbapi_connection: Any) -> None:
        commit(dbapi_connection)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return type(other) is type(self) and self.standing is not None and other.standing == self.standing

    def __hash__(self) -> int:
        return id(self) if self.standing is None else hash((type(self), self.standing))


_compiled: LRUCache[Any, Any] = LRUCache(2000)


def make_engine(
    scheme: str, creator: Callable[[], Any], *, shown: dict[str, Any] | None = None, **kw: Any
) -> sa.Engine:
    """Make an engine over ``creator``; ``shown`` (host, port, database) is only what its URL says."""
    return sa.create_engine(
        sa.URL.create(scheme, **(shown or {})),
        creator=creator,
        query_cache_size=0,
        hide_parameters=True,
        execution_options={"compiled_cache": _compiled},
        **{"poolclass": QueuePool, **kw},
    )


def tenant_engine(scheme: str, creator: Callable[[], Any]) -> TenantEngine:
    """Make the engine of one tenant, with the dialect of an ordinary engine that is then thrown away."""
    made = make_engine(scheme, creator, poolclass=TenantPool)
    options = made.get_execution_options()
    return TenantEngine(
        made.pool, made.dialect, made.url, query_cache_size=0, execution_options=options, hide_parameters=True
    )


def watch(engine: sa.Engine, socket_of: Callable[[Any], int | None]) -> sa.Engine:
    """Have the pool reopen a pooled connection that its server has closed.

    No query is sent, unlike ``pool_pre_ping``: the socket of an idle connection is readable only after a close.
    """

    def look(driver: Any, record: Any, proxied: Any) -> None:
        if hung_up(socket_of(driver)):
            raise sa.exc.DisconnectionError("the server closed this connection.")

    event.listen(engine, "checkout", look)
    return engine


def hung_up(socket: int | None) -> bool:
    if socket is None:
        return False
    poll = select.poll()
    poll.register(socket, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
