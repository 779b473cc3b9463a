"""Make SQLAlchemy engines over connections to servers: engines of one registered server share compiled SQL.

SQLAlchemy's cache keys hold the dialect object, and a dialect asks each new engine's first connection half a dozen
things. A dialect of ``SharedDialect`` compares equal to its like (same class, same server, same version), and asks
once. What a server answers decides how SQL is written, so an answer counts for that server alone, and nothing that a
server of a user's own answers is kept: it could spoil the SQL of everybody else.
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
"""What belongs to one engine alone, though its first connection brings it."""


class SharedDialect:
    """Mix into a dialect: what its like have learned of a server need not be asked again.

    The dialect objects themselves are not shared: MySQL's keeps the first tenant's schema name.
    """

    supports_statement_cache = True
    standing: tuple[Any, Any] | None = None
    """The server and its version, once a connection has told them; None for a server that a user named."""

    _learned: ClassVar[dict[tuple[type, Any], dict[str, Any]]] = {}

    def version_of(self, driver: Any) -> Any:
        """Give the server's version as the driver knows it without asking."""
        raise NotImplementedError

    def schema_of(self, driver: Any) -> str | None:
        """Give the schema that this connection works in."""
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
    """Make the engine of one tenant; the one that SQLAlchemy makes first readies the dialect, and is not used."""
    made = make_engine(scheme, creator, poolclass=TenantPool)
    options = made.get_execution_options()
    return TenantEngine(
        made.pool, made.dialect, made.url, query_cache_size=0, execution_options=options, hide_parameters=True
    )


def watch(engine: sa.Engine, socket_of: Callable[[Any], int | None]) -> sa.Engine:
    """Have the pool open a connection anew whose server has hung up while it lay there.

    Nothing is asked of the server: an idle connection's socket is only readable when it was closed.
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
