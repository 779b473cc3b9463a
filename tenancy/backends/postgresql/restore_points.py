"""Keep restore points on PostgreSQL: copies by CREATE DATABASE ... TEMPLATE, which are made whole or not at all.

Nobody but a superuser may connect to a point, not even its owner. A tenant's database is never closed and never absent
meanwhile: CREATE DATABASE locks newcomers out by itself while it copies, and two renames in one transaction take the
old database out of its place and the copy of the point into it. So a kill leaves nothing that somebody has to open
again. Before that transaction ends the claim is asked: the renames lock newcomers out too, so that whoever took it
over has not been there, and finds what was put back.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from psycopg2 import errors

from tenancy import names
from tenancy.backends.base import Rebuild
from tenancy.backends.postgresql.rights import CLOSED, alone, emptied, keep_closed, there
from tenancy.backends.server.backend import column, one, run
from tenancy.backends.server.restore_points import LOCK_S, ServerPoints, Way, raising_epoch


class PostgreSQLPoints(ServerPoints):
    """Copy and swap whole databases."""

    def beside(self, driver: Any, name: str) -> list[str]:
        return column(driver, "SELECT datname FROM pg_database WHERE left(datname, length(%s)) = %s", (name, name))

    def remains(self, point: str) -> tuple[str, ...]:
        return (point, f"{point}_new", f"{point}_back", f"{point}_old")

    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        """The connection's own limit of time for locks holds for these too."""
        if not wait_s:
            return bool(one(driver, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)))
        try:
            one(driver, "SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
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
            f"ALTER DATABASE {_q(draft)} WITH CONNECTION LIMIT -1",
        )
        self._raise_epoch(way, draft)
        way.step("swap")
        self._swap(way, draft, old)
        way.step("remove replaced")
        self.drop_database(way.driver, old)

    def _copy(self, way: Way, source: str, target: str) -> None:
        """Make a copy that nobody may enter, from its first moment on: PUBLIC could, had it only its rights taken."""
        alone(way.driver, source, f"CREATE DATABASE {_q(target)} TEMPLATE {_q(source)} {CLOSED}")
        way.step("close copy")
        run(way.driver, keep_closed(target))

    def _raise_epoch(self, way: Way, draft: str) -> None:
        if way.claim is None:
            return
        with closing(self.connect_to_migrate(way.tenant.with_(db_name=draft), way.access)) as driver:
            run(driver, raising_epoch(way.claim))
            driver.commit()

    def _swap(self, way: Way, draft: str, old: str) -> None:
        """Rename both in one transaction; a database that is gone has only its place to fill."""
        renames = [_rename(way.database, old)] if there(way.driver, way.database) else []

        def swap() -> None:
            with way.driver:  # a transaction, though the connection's other statements commit themselves
                run(way.driver, *renames, _rename(draft, way.database))
                way.check()

        emptied(way.driver, way.database, swap)


def _whose(way: Way) -> str:
    """Say in a point's comment whose it is: nobody can enter it to look."""
    return f"restore point of tenant {way.tenant.tenant_id}"


def _rename(name: str, to: str) -> str:
    return f"ALTER DATABASE {_q(name)} RENAME TO {_q(to)}"


def _q(name: str) -> str:
    return names.quoted(name)
