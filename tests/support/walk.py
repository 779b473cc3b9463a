"""Walk a chain as the application does: each revision up, down and up again, over rows that were there before it.

Nothing here knows a revision or a table by name, so that it holds for every revision that is still to be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tenancy.backends import Backends
from tenancy.schema import describe
from tenancy.schema.chain import Chain
from tenancy.schema.describe import Shapes

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC).replace(tzinfo=None)
Rows = dict[str, list[tuple[Any, ...]]]


def up(chain: Chain, engine: sa.Engine, target: str = "head") -> list[str]:
    with migrating(engine) as (connection, given):
        return chain.upgrade(connection, target=target, **given)


def down(chain: Chain, engine: sa.Engine, target: str) -> list[str]:
    with migrating(engine) as (connection, given):
        return chain.downgrade(connection, target, **given)


@contextmanager
def migrating(engine: sa.Engine) -> Iterator[tuple[sa.Connection, dict[str, Any]]]:
    """Open a database as migrations do (SQLite: with foreign keys off, and checked before each commit)."""
    backend = Backends(Path()).for_url(engine.url.render_as_string(hide_password=False), "URL")
    proxied = engine.raw_connection()
    driver = proxied.driver_connection
    proxied.detach()
    with backend.migrating(driver) as connection:
        yield (
            connection,
            {
                "transactional_ddl": backend.transactional_ddl,
                "on_apply": lambda changed, *_: backend.check_before_commit(changed),
            },
        )


def each_goes_up_down_and_up_again(chain: Chain, engine: sa.Engine) -> None:
    """Compare the whole schema before and after each revision; one that is destructive brings back what it can."""
    for before, revision in pairwise(["base", *chain.checksums]):
        without = described(engine)
        assert up(chain, engine, revision) == [revision]
        with_it = described(engine)
        assert down(chain, engine, before) == [revision]
        assert before == "base" or not differ(without, described(engine), engine), (
            f"the downgrade of {revision} leaves another schema"
        )
        assert up(chain, engine, revision) == [revision]
        assert not differ(with_it, described(engine), engine), f"{revision} makes another schema the second time"


def each_keeps_the_rows(chain: Chain, engine: sa.Engine) -> None:
    """Write rows into every table at each revision, children too, and find them all after the next, up and down."""
    for number, (before, revision) in enumerate(pairwise(chain.checksums), 1):
        up(chain, engine, before)
        known = fill(engine, number)
        there = rows(engine, known)
        assert all(len(found) >= 2 for found in there.values())
        up(chain, engine, revision)
        if chain.is_destructive(revision):
            continue
        assert rows(engine, known) == there, f"{revision} changes rows"
        down(chain, engine, before)
        assert rows(engine, known) == there, f"the downgrade of {revision} changes rows"
        up(chain, engine, revision)
        assert rows(engine, known) == there, f"{revision} changes rows the second time"


def equals(chain: Chain, engine: sa.Engine, metadata: sa.MetaData, **options: Any) -> list[Any]:
    """Give what differs between a database at head and the models, named checks too: Alembic compares none of them."""
    given = {"version_table": chain.version_table, "compare_type": True, **options}
    with engine.connect() as connection:
        found = list(compare_metadata(MigrationContext.configure(connection, opts=given), metadata))
        found += missing_checks(connection, metadata)
    return found


def missing_checks(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    inspector, missing = sa.inspect(connection), []
    for table in metadata.sorted_tables:
        wanted = {str(c.name) for c in table.constraints if isinstance(c, sa.CheckConstraint) and c.name}
        try:
            there = {item["name"] for item in inspector.get_check_constraints(table.name)}
        except NotImplementedError:  # SQL Server's are not read
            continue
        missing += [f"{table.name} has no check {name}" for name in sorted(wanted - there)]
    return missing


# --- schemas and rows -----------------------------------------------------------------------------------


def described(engine: sa.Engine) -> Shapes:
    with engine.connect() as connection:
        return describe.described(connection)


def differ(one: Shapes, other: Shapes, engine: sa.Engine) -> list[str]:
    return list(describe.differences(one, other, engine.dialect))


def fill(engine: sa.Engine, number: int) -> sa.MetaData:
    """Write two rows into every table, each pointing at a row of its parent; give the tables as they are now."""
    known = sa.MetaData()
    with engine.begin() as connection:
        known.reflect(connection)
        for table in (table for table in known.sorted_tables if not table.name.endswith("_version")):
            for n in (number * 10, number * 10 + 1):
                connection.execute(table.insert().values(row(table, n)).inline())
    return known


def row(table: sa.Table, n: int) -> dict[str, Any]:
    """Give the n-th row: what has a default keeps it, what points at a parent points at its n-th row."""
    pointing = {key.parent.name for key in table.foreign_keys}
    needed = [c for c in table.c if c.server_default is None or c.name in pointing or c.primary_key]
    return {c.name: value(c, n) for c in needed if not c.computed}


def value(column: sa.Column[Any], n: int) -> Any:
    target = next((key.column for key in column.foreign_keys), None)
    if target is not None:
        return value(target, n)
    kind: Any = column.type
    if isinstance(kind, sa.Boolean):
        return True
    if isinstance(kind, sa.Integer | sa.Numeric):
        return n
    if isinstance(kind, sa.DateTime):
        return MOMENT
    if isinstance(kind, sa.Date):
        return date(2026, 1, n % 28 + 1)
    text = f"{n:032}" if isinstance(kind, sa.CHAR) else f"{n}é🐎"[: kind.length]
    return text.encode() if isinstance(kind, sa.LargeBinary | sa.VARBINARY) else text


def rows(engine: sa.Engine, known: sa.MetaData) -> Rows:
    """Give every value that these tables have a column for."""
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(found) for found in connection.execute(sa.select(table))), key=str)
            for table in known.sorted_tables
            if not table.name.endswith("_version")
        }
