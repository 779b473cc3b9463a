"""Keep restore points on PostgreSQL: copies by CREATE DATABASE ... TEMPLATE, which are made whole or not at all.

Nobody may connect to a point, not even its owner. A tenant's database is never closed and never absent meanwhile:
CREATE DATABASE locks newcomers out by itself while it copies, and two renames in one transaction take the old
database out of its place and the copy of the point into it. So a kill leaves nothing that somebody has to open again.
"""

from __future__ import annotations

from typing import Any

from psycopg2 import errors

from tenancy import names
from tenancy.backends.base import Rebuild
from tenancy.backends.points import ServerPoints, Way
from tenancy.backends.server import column, one, run

TRIES = 3


class PostgreSQLPoints(ServerPoints):
    """Copy and swap whole databases."""

    def beside(self, driver: Any, name: str) -> list[str]:
        return column(driver, "SELECT datname FROM pg_database WHERE left(datname, length(%s)) = %s", (name, name))

    def remains(self, point: str) -> tuple[str, ...]:
        return (point, f"{point}_new", f"{point}_back", f"{point}_old")

    def lock(self, way: Way) -> bool:
        """The connection's own limit of time for locks holds for these too."""
        try:
            one(way.driver, "SELECT pg_advisory_lock(hashtextextended(%s, 0))", (way.database,))
        except errors.LockNotAvailable:
            return False
        return True

    def make_point(self, way: Way) -> None:
        draft = f"{way.point}_new"
        way.step("remove draft")
        self.drop_database(way.driver, draft)
        way.step("copy database")
        self._copy(way, way.database, draft)
        way.step("remove earlier point")
        self.drop_database(way.driver, way.point)
        way.step("publish point")
        run(way.driver, f"COMMENT ON DATABASE {_q(draft)} IS '{_whose(way)}'; {_rename(draft, way.point)}")

    def is_whole(self, way: Way) -> bool:
        told = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
        return bool(one(way.driver, told, (way.point,)) == _whose(way))

    def return_to(self, way: Way, rebuild: Rebuild) -> None:
        draft, old = f"{way.point}_back", f"{way.point}_old"
        way.step("remove drafts")
        self.drop_database(way.driver, draft)
        self.drop_database(way.driver, old)
        way.step("copy point")
        self._copy(way, way.point, draft)
        way.step("let in")
        run(
            way.driver,
            f"GRANT CONNECT ON DATABASE {_q(draft)} TO {_q(way.tenant.db_user or '')};"
            f"ALTER DATABASE {_q(draft)} WITH ALLOW_CONNECTIONS true",
        )
        way.step("swap")
        self._swap(way, draft, old)
        way.step("remove replaced")
        self.drop_database(way.driver, old)

    def _copy(self, way: Way, source: str, target: str) -> None:
        """Make a copy that nobody may enter, from its first moment on: PUBLIC could, had it only its rights taken."""
        made = f"CREATE DATABASE {_q(target)} TEMPLATE {_q(source)} ALLOW_CONNECTIONS false"
        _alone(way, source, made)
        way.step("close copy")
        run(way.driver, f"REVOKE ALL ON DATABASE {_q(target)} FROM PUBLIC")

    def _swap(self, way: Way, draft: str, old: str) -> None:
        """Rename both in one text, which is one transaction; a database that is gone has only its place to fill."""
        fill = _rename(draft, way.database)
        if not _there(way.driver, way.database):
            return run(way.driver, fill)
        _alone(way, way.database, f"{_rename(way.database, old)};{fill}")


def _alone(way: Way, database: str, statement: str) -> None:
    """End the sessions in a database and run what needs it empty; again where one slipped in between.

    The server itself waits five seconds for sessions to end ("CountOtherDBBackends").
    """
    for _ in range(TRIES - 1):
        _end_sessions(way, database)
        try:
            return run(way.driver, statement)
        except errors.ObjectInUse:
            continue
    _end_sessions(way, database)
    run(way.driver, statement)


def _end_sessions(way: Way, database: str) -> None:
    """A server's login that is no superuser may end the sessions of roles that it belongs to."""
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
    try:
        one(way.driver, ended, (database,))
    except errors.InsufficientPrivilege:
        run(way.driver, f"GRANT {_q(way.tenant.db_user or '')} TO CURRENT_USER")
        one(way.driver, ended, (database,))


def _whose(way: Way) -> str:
    """Say in a point's comment whose it is: nobody can enter it to look."""
    return f"restore point of tenant {way.tenant.tenant_id}"


def _there(driver: Any, name: str) -> bool:
    return one(driver, "SELECT 1 FROM pg_database WHERE datname = %s", (name,)) is not None


def _rename(name: str, to: str) -> str:
    return f"ALTER DATABASE {_q(name)} RENAME TO {_q(to)}"


def _q(name: str) -> str:
    return names.quoted(name)
