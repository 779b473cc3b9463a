"""Migrations: whole revisions or none, one at a time in a process, two chains in one database."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext

from compose import Parts
from tenancy import TenantManager
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.errors import MigrationError, RevisionMismatchError
from tenancy.models import State
from tenancy.schema.chain import Chain
from tests.support.applications import (
    PROJECT,
    add_tenants,
    add_users,
    forked,
    revision,
    small_manager,
    tenant_of,
    together,
)

TABLE = "op.create_table({0!r}, sa.Column('id', sa.Integer, primary_key=True))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a chain of three revisions: tables a, b and c."""
    for number, (name, down) in enumerate([("a", None), ("b", "0001"), ("c", "0002")], 1):
        revision(tmp_path / "chain", f"000{number}", down, TABLE.format(name), f"op.drop_table({name!r})")
    return tmp_path / "chain"


@contextmanager
def opened(path: Path) -> Iterator[sa.Connection]:
    """Open a database as migrations do."""
    backend = SQLiteBackend(path.parent)
    engine = backend.catalog_engine(f"sqlite:///{path}")
    backend.make_catalog(engine)
    proxied = engine.raw_connection()
    driver = proxied.driver_connection
    proxied.detach()
    with backend.migrating(driver) as connection:
        yield connection


def tables(connection: sa.Connection) -> set[str]:
    found = set(sa.inspect(connection).get_table_names())
    connection.rollback()
    return found


def chain_of(folder: Path) -> Chain:
    return Chain(folder, "version")


def upgrade(path: Path, chain: Chain, **more) -> list[str]:
    with opened(path) as connection:
        return chain.upgrade(connection, transactional_ddl=True, **more)


def test_a_database_is_brought_to_head_once(tmp_path, folder):
    chain, path = chain_of(folder), tmp_path / "x.db"
    assert chain.head == "0003"
    assert upgrade(path, chain, target="0001") == ["0001"]
    assert upgrade(path, chain) == ["0002", "0003"]
    assert upgrade(path, chain) == []
    with opened(path) as connection:
        assert chain.current(connection) == "0003"
        assert tables(connection) == {"a", "b", "c", "version"}


def test_a_database_is_taken_back(tmp_path, folder):
    chain, path, heard = chain_of(folder), tmp_path / "x.db", []
    upgrade(path, chain)
    with opened(path) as connection:
        undone = chain.downgrade(
            connection, "0001", transactional_ddl=True, on_apply=lambda _, *seen: heard.append(seen[:3])
        )
        assert undone == ["0003", "0002"]
        assert tables(connection) == {"a", "version"}
        assert chain.current(connection) == "0001"
    assert heard == [(name, "downgrade", chain.checksums[name]) for name in undone]
    assert upgrade(path, chain) == ["0002", "0003"]


def test_a_revision_that_fails_half_way_leaves_nothing_and_the_next_run_goes_on(tmp_path, folder):
    """goals.md, trap 2: pysqlite's own transactions do not cover DDL."""
    path, whole = tmp_path / "x.db", (folder / "versions" / "0002.py").read_text()
    half = TABLE.format("b") + "\nop.execute('INSERT INTO a VALUES (7)')\nop.execute('no SQL at all')"
    revision(folder, "0002", "0001", half)
    with pytest.raises(MigrationError, match="after 0001 failed") as failed:
        upgrade(path, chain_of(folder))
    assert failed.value.fields["applied"] == ["0001"]
    with opened(path) as connection:
        assert tables(connection) == {"a", "version"}
        assert connection.exec_driver_sql("SELECT count(*) FROM a").scalar() == 0
        connection.rollback()
        assert chain_of(folder).current(connection) == "0001"
    (folder / "versions" / "0002.py").write_text(whole)
    assert upgrade(path, chain_of(folder)) == ["0002", "0003"]


def test_what_is_written_with_a_revision_fails_and_stays_with_it(tmp_path, folder):
    def note(connection, name, direction, checksum, took_ms) -> None:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS notes (revision TEXT)")
        connection.exec_driver_sql("INSERT INTO notes VALUES (?)", (name,))
        if name == "0002":
            raise ZeroDivisionError

    with pytest.raises(MigrationError):
        upgrade(tmp_path / "x.db", chain_of(folder), on_apply=note)
    with opened(tmp_path / "x.db") as connection:
        assert connection.exec_driver_sql("SELECT revision FROM notes").scalars().all() == ["0001"]
        connection.rollback()
        assert tables(connection) == {"a", "notes", "version"}


def test_threads_that_migrate_at_once_never_mix_databases_up(tmp_path):
    """goals.md, trap 1: Alembic's ``op`` is a module global."""

    def migrate(number: int) -> list[str]:
        folder, path = tmp_path / f"chain{number}", tmp_path / f"{number}.db"
        revision(folder, "0001", None, TABLE.format(f"first_{number}"))
        revision(folder, "0002", "0001", TABLE.format(f"second_{number}"))
        return upgrade(path, chain_of(folder))

    assert together([lambda n=n: migrate(n) for n in range(24)]) == [["0001", "0002"]] * 24
    for number in range(24):
        with opened(tmp_path / f"{number}.db") as connection:
            assert tables(connection) == {f"first_{number}", f"second_{number}", "version"}


def test_processes_that_migrate_one_database_at_once_apply_each_revision_once(tmp_path, folder):
    path = tmp_path / "x.db"
    with opened(path) as connection:
        connection.exec_driver_sql("CREATE TABLE log (revision TEXT)")
        connection.commit()

    def migrate() -> str:
        def log(connection, name, *_):
            connection.exec_driver_sql("INSERT INTO log VALUES (?)", (name,))

        try:
            return str(upgrade(path, chain_of(folder), on_apply=log))
        except MigrationError:
            return "refused"

    children = [forked(migrate) for _ in range(4)]
    outcomes = [child.result() for child in children]
    assert set(outcomes) <= {"['0001', '0002', '0003']", "[]", "refused", "['0002', '0003']", "['0003']"}
    with opened(path) as connection:
        assert connection.exec_driver_sql("SELECT revision FROM log ORDER BY 1").scalars().all() == [
            "0001",
            "0002",
            "0003",
        ]
        connection.rollback()
        assert tables(connection) == {"a", "b", "c", "log", "version"}


def test_two_heads_are_refused_by_name(folder):
    revision(folder, "0003b", "0002")
    with pytest.raises(MigrationError, match="2 heads"):
        _ = chain_of(folder).head


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (None, r"has no folder versions: make .+/versions"),
        ({}, r"is empty: `fleet.revisions.new_revision\(\)` writes the first one"),
        ({"a.py": "import nonesuch"}, r"cannot be read: a.py, line 1: ModuleNotFoundError"),
        ({"a.py": "def ("}, r"cannot be read: SyntaxError: .+\(a.py, line 1\)"),
        ({"a.py": "x = 1"}, r"cannot be read: .*a_py"),
        ({"a.py": "revision = '2'; down_revision = '1'"}, r"no file has the revision '1'"),
        ({"a.py": "revision = '1'; down_revision = '2'", "b.py": "revision = '2'; down_revision = '1'"}, "Cycle"),
        (dict.fromkeys(("a.py", "b.py"), "revision = '1'; down_revision = None"), r"versions/[ab].py has the revision"),
    ],
)
@pytest.mark.filterwarnings("ignore:Revision 1:UserWarning")  # Alembic's own word, beside the error
def test_a_folder_that_is_no_chain_is_named_with_the_argument_and_the_next_step(tmp_path, files, told):
    for name, text in (files or {}).items():
        (tmp_path / "chain" / "versions").mkdir(parents=True, exist_ok=True)
        (tmp_path / "chain" / "versions" / name).write_text(text + "\n")
    if files == {}:
        (tmp_path / "chain" / "versions").mkdir(parents=True)
    manager = small_manager(tmp_path, tmp_path / "chain")  # the catalog's own chain is whole
    try:
        with pytest.raises(MigrationError, match=told) as refused:
            _ = manager.head
        assert refused.value.message.startswith(f"TenantSchema(migrations) is {tmp_path / 'chain'}: ")
    finally:
        manager.close()


def test_a_database_newer_than_the_code_is_refused_and_unharmed(tmp_path, folder):
    path = tmp_path / "x.db"
    upgrade(path, chain_of(folder))
    (folder / "versions" / "0003.py").unlink()
    with pytest.raises(RevisionMismatchError, match="0003") as refused:
        upgrade(path, chain_of(folder))
    assert refused.value.fields["revision"] == "0003"
    with opened(path) as connection:
        assert tables(connection) == {"a", "b", "c", "version"}


def test_a_version_table_with_two_rows_is_refused(tmp_path, folder):
    upgrade(tmp_path / "x.db", chain_of(folder))
    with opened(tmp_path / "x.db") as connection:
        connection.exec_driver_sql("INSERT INTO version VALUES ('0001')")
        connection.commit()
        with pytest.raises(RevisionMismatchError, match="2 revisions"):
            chain_of(folder).upgrade(connection, transactional_ddl=True)


def test_checksums_and_fingerprint_follow_the_text_of_the_revisions(folder):
    before = chain_of(folder)
    assert list(before.checksums) == ["0001", "0002", "0003"]
    assert (before.knows("0002"), before.knows("0004")) == (True, False)
    with (folder / "versions" / "0002.py").open("a") as file:
        file.write("# a comment\n")
    after = chain_of(folder)
    changed = [name for name in before.checksums if before.checksums[name] != after.checksums[name]]
    assert changed == ["0002"]
    assert before.fingerprint != after.fingerprint


def test_checksums_do_not_depend_on_how_lines_end(folder):
    """A checkout on Windows ends them otherwise; the databases are the same."""
    before = chain_of(folder)
    for file in (folder / "versions").glob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    after = chain_of(folder)
    assert after.checksums == before.checksums
    assert after.fingerprint == before.fingerprint


# --- tables that are rebuilt ----------------------------------------------------------------------------

PARENTS = """
op.create_table("parents", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20)))
op.create_table(
    "children",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.Integer, sa.ForeignKey("parents.id", ondelete="CASCADE")),
)
"""
REBUILT = """
with op.batch_alter_table("parents", recreate="always") as batch:
    batch.alter_column("name", type_=sa.String(40), nullable=True)
"""
ORPHANING = (
    REBUILT
    + """
op.execute("DELETE FROM parents WHERE id = 2")
"""
)


@pytest.fixture
def families(tmp_path: Path) -> Iterator[Callable[[str], tuple]]:
    """Give a function that makes a tenant with two parents and their children, and the manager that migrates it on."""
    managers: list[TenantManager] = []

    def make(next_revision: str) -> tuple:
        old, new = tmp_path / "old", tmp_path / "new"
        for folder in (old, new):
            revision(folder, "0001", None, PARENTS)
        revision(new, "0002", "0001", next_revision)
        before, after = small_manager(tmp_path, old), small_manager(tmp_path, new)
        managers.extend((before, after))
        (user_id,) = add_users(before, 1)
        before.provision(user_id)
        with before.session(user_id, write=True) as session:
            for parent in (1, 2):
                session.execute(sa.text(f"INSERT INTO parents VALUES ({parent}, 'p')"))
                session.execute(sa.text(f"INSERT INTO children VALUES ({parent * 10}, {parent})"))
        before.engines.close()
        return before, after, user_id

    yield make
    for manager in managers:
        manager.close()


def test_a_rebuilt_table_keeps_its_child_rows(families):
    """goals.md, trap 2: with foreign keys on, the rebuild's DROP would delete them without a word."""
    _, after, user_id = families(REBUILT)
    after.provision(user_id)
    with after.session(user_id) as session:
        assert session.execute(sa.text("SELECT id, parent_id FROM children ORDER BY id")).all() == [(10, 1), (20, 2)]
        assert session.execute(sa.text("PRAGMA foreign_keys")).scalar() == 1
        assert session.execute(sa.text("PRAGMA foreign_key_list(children)")).all()[0][2] == "parents"


def test_a_rebuild_that_would_orphan_rows_is_refused_and_taken_back(families, tmp_path):
    before, after, user_id = families(ORPHANING)
    with pytest.raises(MigrationError, match="children without their parent in parents"):
        after.provision(user_id)
    tenant = tenant_of(after, user_id)
    assert (tenant.state, tenant.revision, tenant.last_error_code) == (State.FAILED, "0001", "migration_failed")
    assert before.provision(user_id).tenant.state is State.READY  # the version that made it serves it again
    with before.session(user_id) as session:
        assert session.execute(sa.text("SELECT count(*) FROM parents")).scalar() == 2
        assert session.execute(sa.text("SELECT id, parent_id FROM children ORDER BY id")).all() == [(10, 1), (20, 2)]


def test_one_tenant_that_fails_is_named_and_the_others_reach_head(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        revision(folder, "0001", None, TABLE.format("a"))
    revision(new, "0002", "0001", "op.execute('CREATE UNIQUE INDEX one ON a (id % 2)')")
    before, after = small_manager(tmp_path, old), small_manager(tmp_path, new)
    ids = add_users(before, 4)
    before.initialize_all(lambda result: None)
    with before.session(ids[2], write=True) as session:
        session.execute(sa.text("INSERT INTO a VALUES (1), (3)"))
    before.engines.close()

    results = after.initialize_all(lambda result: None)
    assert [(result.user_id, result.ok) for result in results] == [(n, n != ids[2]) for n in ids]
    assert isinstance(results[2].error, MigrationError)
    with after.session(ids[0]) as session:
        assert session.execute(sa.text("SELECT version_num FROM tenant_version")).scalar() == "0002"
    with pytest.raises(Exception, match="failed"), after.session(ids[2]):
        raise AssertionError("it was opened")
    revision(new, "0002", "0001", "op.execute('CREATE INDEX one ON a (id)')")
    fixed = small_manager(tmp_path, new)
    assert fixed.provision(ids[2]).created is False
    with fixed.session(ids[2]) as session:
        assert session.execute(sa.text("SELECT id FROM a ORDER BY id")).scalars().all() == [1, 3]
    for manager in (before, after, fixed):
        manager.close()


# --- two chains in one database -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["admin", "tenant"])
def test_two_chains_in_one_database_have_nothing_to_propose(shared_parts: Parts, tmp_path: Path, name: str):
    """goals.md, trap 17: autogenerate of one chain would drop the other's tables."""
    from alembic import command
    from alembic.config import Config

    shared_parts.manager.close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'admin.db'}")
    with engine.connect() as connection:
        there = set(sa.inspect(connection).get_table_names())
        assert {"admin_version", "tenant_version", "users", "tasks", "tenancy_identity", "tenancy_ledger"} <= there
        written = io.StringIO()
        config = Config(PROJECT / "migrations" / name / "alembic.ini", stdout=written, attributes={})
        config.attributes["connection"] = connection
        command.check(config)
    engine.dispose()
    assert "No new upgrade operations detected" in written.getvalue()


def test_the_plain_alembic_command_asks_for_a_database_in_a_line():
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    with pytest.raises(CommandError, match=r"-x url=sqlite:///scratch\.db"):
        command.current(Config(PROJECT / "migrations" / "tenant" / "alembic.ini"))


def test_making_the_template_from_many_threads_makes_it_whole(make_parts):
    parts = make_parts()
    ids = add_users(parts, 8)
    assert [type(made).__name__ for made in together([lambda n=n: parts.manager.provision(n) for n in ids])] == [
        "Provisioned"
    ] * 8
    assert all(parts.manager.reports.test(user_id)["ok"] for user_id in ids)
    assert threading.active_count() < 20
    assert add_tenants(parts, 1)


def test_each_run_has_a_context_as_alembic_would_make_it(folder, tmp_path):
    """P6 depends on the copying: what a new Alembic keeps in a context has to be followed in ``Chain._context``."""
    chain, asked = Chain(folder, "version"), []
    options = {"fn": lambda heads, _: asked.append(heads) or (), "script": chain._scripts, "version_table": "version"}
    options |= {"on_version_apply": (), "transaction_per_migration": True, "transactional_ddl": True}
    with opened(tmp_path / "one.db") as connection:
        first = chain._context(connection, options)
    with opened(tmp_path / "two.db") as connection:
        second = chain._context(connection, options)
        made = MigrationContext.configure(connection, opts=options)
        assert _held(second) == _held(made), "Alembic keeps other attributes in a context than are set"
        assert _held(second.impl) == _held(made.impl), "Alembic keeps other attributes in an impl than are set"
        second.run_migrations()
        assert tables(connection) == {"version"}
    assert asked == [()]
    assert first.connection is not second.connection
    assert first.impl.memo is not second.impl.memo
    pattern = chain._contexts["sqlite"]
    assert (pattern.connection, pattern.impl.connection) == (None, None), "it could lead to another tenant's database"


def _held(alembics: object) -> dict[str, object]:
    """Give an object's attributes, but for those that each object makes anew."""
    return {name: value for name, value in vars(alembics).items() if name not in ("impl", "_version")}
