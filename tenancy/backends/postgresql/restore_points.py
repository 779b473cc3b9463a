"""Keep restore points on PostgreSQL: copies made by CREATE DATABASE ... TEMPLATE, each whole or not at all.

A point has CONNECTION LIMIT 0: only a superuser can connect to it, not even its owner.

A restore copies the point, and then swaps the copy and the tenant's database by two renames in one transaction. So the
tenant's database is never missing and never closed, and a kill leaves nothing that somebody has to open again. CREATE
DATABASE and RENAME keep new sessions out by themselves while they run. The claim is checked before that transaction
commits: a new holder of the claim cannot have connected yet, and afterwards finds the restored database.
"""

from __future__ import annotations

from contextlib import closing

from tenancy import names
from tenancy.backends.base import Rebuild
from tenancy.backends.postgresql.rights import CLOSED, alone, emptied, keep_closed, there
from tenancy.backends.restore_points import raising_epoch
from tenancy.backends.server.restore_points import Copying, ServerRestorePoints
from tenancy.backends.server.sql import one, run


class PostgreSQLRestorePoints(ServerRestorePoints):
    """Copy and swap whole databases."""

    def remains(self, point: str) -> tuple[str, ...]:
        return (point, f"{point}_new", f"{point}_back", f"{point}_old")

    def make_point(self, work: Copying) -> None:
        draft = f"{work.point}_new"
        work.step("remove draft")
        self.backend.drop_database(work.driver, draft)
        work.step("copy database")
        _copy(work, work.database, draft)
        work.step("remove earlier point")
        self.backend.drop_database(work.driver, work.point)
        work.step("publish point")
        run(work.driver, f"COMMENT ON DATABASE {_q(draft)} IS '{_whose(work)}'; {_rename(draft, work.point)}")

    def is_whole(self, work: Copying) -> bool:
        comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
        return bool(one(work.driver, comment, (work.point,)) == _whose(work))

    def return_to(self, work: Copying, rebuild: Rebuild) -> None:
        draft, old = f"{work.point}_back", f"{work.point}_old"
        work.step("remove drafts")
        self.backend.drop_database(work.driver, draft)
        self.backend.drop_database(work.driver, old)
        work.step("copy point")
        _copy(work, work.point, draft)
        work.step("let in")
        run(
            work.driver,
            f"GRANT CONNECT ON DATABASE {_q(draft)} TO {_q(work.tenant.db_user or '')};"
            f"ALTER DATABASE {_q(draft)} WITH CONNECTION LIMIT -1",
        )
        self._raise_epoch(work, draft)
        work.step("swap")
        _swap(work, draft, old)
        work.step("remove replaced")
        self.backend.drop_database(work.driver, old)

    def _raise_epoch(self, work: Copying, draft: str) -> None:
        if work.claim is None:
            return
        with closing(self.backend.connect_to_migrate(work.tenant.with_(db_name=draft), work.access)) as driver:
            run(driver, raising_epoch(work.claim))
            driver.commit()


def _copy(work: Copying, source: str, target: str) -> None:
    """CREATE DATABASE with CONNECTION LIMIT 0, not only REVOKE: between the two PUBLIC could connect."""
    alone(work.driver, source, f"CREATE DATABASE {_q(target)} TEMPLATE {_q(source)} {CLOSED}")
    work.step("close copy")
    run(work.driver, keep_closed(target))


def _swap(work: Copying, draft: str, old: str) -> None:
    """Swap by two renames in one transaction; if the tenant's database is gone, one rename is enough."""
    renames = [_rename(work.database, old)] if there(work.driver, work.database) else []

    def swap() -> None:
        with work.driver:  # psycopg2 begins a transaction here although the connection is in autocommit mode
            run(work.driver, *renames, _rename(draft, work.database))
            work.check()

    emptied(work.driver, work.database, swap)


def _whose(work: Copying) -> str:
    """Write the comment that says whose a point is: nobody can connect to it to read its identity row."""
    return f"restore point of tenant {work.tenant.tenant_id}"


def _rename(name: str, to: str) -> str:
    return f"ALTER DATABASE {_q(name)} RENAME TO {_q(to)}"


def _q(name: str) -> str:
    return names.quoted(name)
