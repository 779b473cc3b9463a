"""Name the private parts of other libraries that the code uses, so that a new version which lacks one says so here.

A private part is used where the library has no public way. Where a figure or a guarantee depends on it, its line says
which: P2 the first use of a tenant, P6 a revision over many tenants, P8 the memory of an idle tenant and P8w that of
one in use, R7 a server that does not answer.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import alembic
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext

from tests.support.layers import PROJECT

LIBRARIES = ("sqlalchemy", "alembic", "pymysql", "psycopg2")


@dataclass(frozen=True)
class Part:
    """Name a private part, what has it, the file that uses it, and what depends on it."""

    name: str
    owner: Callable[[], Any]
    file: str
    needed_for: str

    def missing(self) -> str:
        """Say that it is missing, or nothing."""
        owner = self.owner()
        if hasattr(owner, self.name):
            return ""
        what = getattr(owner, "__qualname__", type(owner).__qualname__)
        return f"{what} has no {self.name} any more: {self.file} needs it for {self.needed_for}."


def of(path: str) -> Callable[[], Any]:
    """Find a class or module when it is asked for."""

    def found() -> Any:
        module, _, name = path.partition(":")
        return getattr(import_module(module), name) if name else import_module(module)

    return found


def pool() -> sa.Pool:
    return sa.QueuePool(lambda: pytest.fail("nothing connects"))


def migration() -> MigrationContext:
    return MigrationContext.configure(dialect_name="sqlite")


def mysql_connection() -> Any:
    return import_module("pymysql.connections").Connection(defer_connect=True)


FILES = "tenancy/backends/sqlite/engines.py"
POOLS = "tenancy/backends/tenant_engine.py"
CHAIN = "tenancy/schema/chain.py"
MYSQL = "tenancy/backends/mysql/driver.py"
PARTS = [
    *(
        Part(name, of("sqlalchemy.pool:Pool"), POOLS, "a pool that costs little memory (P2, P8)")
        for name in ("_do_get", "_do_return_conn", "_create_connection", "_close_connection")
    ),
    *(
        Part(name, pool, POOLS, "a pool that can be made again (P2, P8)")
        for name in ("_creator", "_recycle", "_orig_logging_name", "_reset_on_return", "_pre_ping", "_dialect")
    ),
    Part("_ConnectionRecord", of("sqlalchemy.pool.base"), FILES, "connecting without a collection per pool (P2, P8w)"),
    Part("_create_connection", of("sqlalchemy.pool:Pool"), FILES, "connecting without a collection per pool (P2, P8w)"),
    Part("_invoke_creator", pool, FILES, "connecting without a collection per pool (P2, P8w)"),
    Part("_invoke_creator", pool, POOLS, "an engine that is a copy of another (P2, P8)"),
    Part("_invalidate_time", pool, POOLS, "reopening all connections of a file that was damaged"),
    Part(
        "_type_memos",
        of("sqlalchemy.engine.default:DefaultDialect"),
        "tenancy/backends/sqlite/engines.py",
        "dialects that share what they know of types (P2, P8)",
    ),
    Part(
        "_type_memos",
        of("sqlalchemy.engine.default:DefaultDialect"),
        "tenancy/backends/server/engines.py",
        "dialects that share what they learned of a server (P2, P8)",
    ),
    Part("LRUCache", of("sqlalchemy.util"), "tenancy/backends/sqlite/engines.py", "one cache of compiled SQL (P2, P8)"),
    Part("LRUCache", of("sqlalchemy.util"), "tenancy/backends/server/engines.py", "one cache of compiled SQL (P2, P8)"),
    Part("_for_update_arg", of("sqlalchemy:Select"), "tenancy/backends/sqlserver/dialects.py", "row locks"),
    Part(
        "_get_server_version_info",
        of("sqlalchemy.dialects.mssql.mssqlpython:MSDialect_mssqlpython"),
        "tenancy/backends/sqlserver/dialects.py",
        "servers whose version is worded differently",
    ),
    Part("_variant_mapping", of("sqlalchemy:UnicodeText"), "tenancy/schema/autogenerate.py", "types by their names"),
    Part("_repr_type", of("alembic.autogenerate.render"), "tenancy/schema/autogenerate.py", "writing a column's type"),
    Part("_upgrade_revs", of("alembic.script:ScriptDirectory"), CHAIN, "migrations without env.py (P6)"),
    Part("_downgrade_revs", of("alembic.script:ScriptDirectory"), CHAIN, "migrations without env.py (P6)"),
    *(
        Part(name, migration, CHAIN, "one context, copied for each database of a run (P6)")
        for name in (
            "_migrations_fn",
            "_transaction_per_migration",
            "_in_external_transaction",
            "on_version_apply_callbacks",
            "transactional_ddl",
            "impl",
            "opts",
        )
    ),
    *(
        Part(name, mysql_connection, MYSQL, "one deadline for a whole answer (R7)")
        for name in ("_rfile", "_sock", "_result", "_read_timeout", "_execute_command", "_force_close", "_closed")
    ),
    Part("_write_timeout", mysql_connection, MYSQL, "one deadline for a whole answer (R7)"),
    Part("_sock", mysql_connection, "tenancy/backends/mysql/backend.py", "finding connections that the server closed"),
    Part("_psycopg", of("psycopg2"), "tenancy/backends/postgresql/driver.py", "the SQLSTATE of a refused connection"),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.name}-{Path(part.file).stem}")
def test_a_private_part_is_there_and_used(part: Part) -> None:
    assert not part.missing(), part.missing()
    used = re.search(rf"\b{part.name}\b", (PROJECT / part.file).read_text(encoding="utf-8"))
    assert used, f"{part.file} does not use {part.name}: take it out of this list."


def test_an_engine_is_made_of_pool_dialect_and_url() -> None:
    """The constructor of Engine is not documented; ``TenantEngine`` is made by it (P2, P8)."""
    taken = list(inspect.signature(sa.Engine).parameters)
    assert taken[:3] == ["pool", "dialect", "url"], f"sqlalchemy.Engine takes {taken}: {POOLS} needs another way."
    assert {"query_cache_size", "execution_options", "hide_parameters"} <= set(taken)


def test_a_pool_says_whether_it_ends_a_connection_or_closes_it() -> None:
    taken = inspect.signature(sa.Pool._close_connection).parameters
    assert "terminate" in taken, f"Pool._close_connection has no argument terminate any more: {POOLS} overrides it."


def test_a_pool_can_be_made_with_the_events_of_another() -> None:
    """``TenantPool.recreate`` hands its listeners on (P2, P8)."""
    taken = set(inspect.signature(sa.Pool).parameters)
    needed = {"recycle", "echo", "logging_name", "reset_on_return", "pre_ping", "dialect", "_dispatch"}
    assert needed <= taken, f"sqlalchemy.Pool takes no {needed - taken} any more: {POOLS} hands it on."


def test_the_cache_of_compiled_sql_forgets_what_was_not_used_for_long() -> None:
    cache: Any = sa.util.LRUCache(10)
    for number in range(100):
        cache[number] = number
    assert len(cache) < 20, "sqlalchemy.util.LRUCache has no limit any more: the caches of compiled SQL need another."


def test_the_revision_that_a_context_is_at_can_be_given_to_it() -> None:
    """``Chain`` replaces the method that reads the version table of each database (P6)."""
    run = inspect.getsource(MigrationContext.run_migrations)
    assert "self.get_current_heads()" in run, f"alembic {alembic.__version__} reads heads otherwise: {CHAIN} (P6)."


def test_a_missing_part_is_named_with_its_place_and_its_reason() -> None:
    part = Part("_gone", of("sqlalchemy.pool:Pool"), POOLS, "a small pool (P8)")
    assert part.missing() == f"Pool has no _gone any more: {POOLS} needs it for a small pool (P8)."


def private_imports(code: str) -> Iterator[str]:
    """Find imports of private names, and of private modules, from the libraries."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES:
            words = [*(node.module or "").split("."), *(each.name for each in node.names)]
            yield from (word for word in words if word.startswith("_"))


@pytest.mark.parametrize("code", ["from sqlalchemy.sql._typing import x", "from alembic.util import _thing"])
def test_a_private_import_is_found(code: str) -> None:
    assert list(private_imports(code))


def test_no_private_import_is_missing_from_the_list() -> None:
    listed = {(part.file, part.name) for part in PARTS}
    for path in sorted((PROJECT / "tenancy").rglob("*.py")):
        file = path.relative_to(PROJECT).as_posix()
        for name in private_imports(path.read_text(encoding="utf-8")):
            assert (file, name) in listed, f"{file} imports {name}, which is private: name it in PARTS, and say why."
