"""The tenants' chain makes the tables that the repositories expect, on every engine, forwards and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from repositories.schema import MIGRATIONS, metadata
from tenancy.catalog.tables import CATALOG_VERSION_TABLE
from tenancy.schema.chain import Chain
from tenancy.schema.tables import TENANT_VERSION_TABLE, tenancy_tables
from tests.support import walk
from tests.support.revisions import unmarked_breaking_changes

PROJECT = MIGRATIONS.parent.parent
CHAIN = Chain(MIGRATIONS, TENANT_VERSION_TABLE)


def transactional(engine: sa.Engine) -> bool:
    return engine.dialect.name != "mysql"


def up(engine: sa.Engine, target: str = "head") -> list[str]:
    return walk.up(CHAIN, engine, target)


def down(engine: sa.Engine, target: str = "base") -> list[str]:
    return walk.down(CHAIN, engine, target)


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def config(connection: sa.Connection) -> Config:
    made = Config(MIGRATIONS / "alembic.ini")
    made.attributes["connection"] = connection
    return made


def test_the_chain_has_one_head_and_one_root() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1


def test_the_chain_makes_what_the_repositories_expect(whole_product: str, catalog_engine: sa.Engine) -> None:
    assert up(catalog_engine) == list(CHAIN.checksums)
    # Other engines spell a default back in words of their own; test_schema.py shows what defaults do there.
    defaults = catalog_engine.dialect.name == "sqlite"
    assert walk.equals(CHAIN, catalog_engine, metadata, compare_server_default=defaults) == []


def test_each_revision_goes_up_comes_down_and_goes_up_again(whole_product: str, catalog_engine: sa.Engine) -> None:
    walk.each_goes_up_down_and_up_again(CHAIN, catalog_engine)
    assert walk.equals(CHAIN, catalog_engine, metadata) == []


def test_each_revision_keeps_the_rows_of_before_and_their_children(
    whole_product: str, catalog_engine: sa.Engine
) -> None:
    """goals.md, trap 2, for every revision there will be."""
    walk.each_keeps_the_rows(CHAIN, catalog_engine)


def test_each_revision_says_what_it_breaks(whole_product: str, catalog_engine: sa.Engine) -> None:
    with walk.migrating(catalog_engine) as (connection, given):
        assert unmarked_breaking_changes(CHAIN, connection, transactional_ddl=given["transactional_ddl"]) == []


def test_what_goes_up_comes_down_and_goes_up_again(whole_product: str, catalog_engine: sa.Engine) -> None:
    up(catalog_engine)
    made = tables(catalog_engine)
    assert down(catalog_engine) == list(reversed(CHAIN.checksums))
    assert tables(catalog_engine) == {TENANT_VERSION_TABLE}
    up(catalog_engine)
    assert tables(catalog_engine) == made == set(metadata.tables) | {TENANT_VERSION_TABLE}


def test_a_run_that_was_cut_off_is_finished_by_the_next(catalog_engine: sa.Engine) -> None:
    """Drop the last table and an index, which is what a kill leaves where each statement commits itself."""
    up(catalog_engine)
    if transactional(catalog_engine):
        return
    with catalog_engine.begin() as connection:
        metadata.tables["settings"].drop(connection)
        next(index for index in metadata.tables["events"].indexes if "starts_at" in index.columns).drop(connection)
        connection.exec_driver_sql(f"DELETE FROM {TENANT_VERSION_TABLE}")
    up(catalog_engine)
    with catalog_engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": TENANT_VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


ROWS = """
INSERT INTO categories (user_id, id, name, name_key) VALUES (1, 'c1', 'Öl', 'öl'), (2, 'c1', 'his', 'his');
INSERT INTO tasks (user_id, id, title, description, status, priority, due_date, category_id, created_at, version)
 VALUES (1, 't1', 'a 🐎', 'long', 'doing', 2, '2024-02-29', 'c1', '2024-01-01 10:00:00.123456', 7),
        (1, 't2', 'b', NULL, 'todo', 0, NULL, NULL, '2023-01-01 10:00:00.000001', 1),
        (2, 't1', 'his', NULL, 'done', 3, NULL, 'c1', '2024-01-01 10:00:00.123457', 2);
INSERT INTO notes (user_id, id, title, category_id) VALUES (1, 'n1', 'note', 'c1');
INSERT INTO events (user_id, id, title, category_id) VALUES (1, 'e1', 'event', 'c1');
"""


EVERY = "user_id id created_at updated_at version"
FIRST = {
    "categories": f"{EVERY} name name_key color",
    "tasks": f"{EVERY} title description status priority due_date category_id",
    "notes": f"{EVERY} title body pinned category_id",
    "events": f"{EVERY} title description location starts_at ends_at all_day category_id",
}
"""The columns of revision 0001; models of later revisions have more."""


def fill(engine: sa.Engine) -> None:
    """Write rows of two users as revision 0001 has them."""
    with engine.begin() as connection:
        for statement in filter(str.strip, ROWS.split(";")):
            connection.exec_driver_sql(statement)


def kept(engine: sa.Engine) -> dict[str, list[Any]]:
    """Give every value that revision 0001 has a column for."""
    with engine.connect() as connection:
        return {
            name: sorted(connection.execute(sa.select(*(table.c[column] for column in FIRST[name].split()))), key=str)
            for name, table in raw_tables().items()
        }


def raw_tables() -> dict[str, sa.Table]:
    """Describe the tables so that ids are the texts they are stored as."""
    copied = sa.MetaData()
    for name in FIRST:
        columns = [
            sa.Column(c.name, sa.String() if isinstance(c.type, sa.Uuid) else c.type) for c in metadata.tables[name].c
        ]
        sa.Table(name, copied, *columns)
    return dict(copied.tables)


def test_rows_of_the_first_revision_are_all_kept_and_stand_where_they_were_made(
    whole_product: str, catalog_engine: sa.Engine
) -> None:
    up(catalog_engine, "0001")
    fill(catalog_engine)
    before = kept(catalog_engine)
    assert [len(rows) for rows in before.values()] == [2, 3, 1, 1]
    up(catalog_engine)
    assert kept(catalog_engine) == before
    tasks = raw_tables()["tasks"]
    with catalog_engine.begin() as connection:
        for position, created_at in connection.execute(sa.select(tasks.c.position, tasks.c.created_at)):
            assert position == created_at
        connection.exec_driver_sql("INSERT INTO tasks (user_id, id, title) VALUES (1, 't3', 'new')")
        newest = connection.execute(sa.select(tasks.c.id).order_by(tasks.c.position.desc())).scalars().first()
        assert str(newest).strip() == "t3", "the default is the database's clock"
        connection.exec_driver_sql("DELETE FROM tasks WHERE id = 't3'")
    down(catalog_engine, "0001")
    assert kept(catalog_engine) == before
    up(catalog_engine)
    assert kept(catalog_engine) == before


def test_a_foreign_category_is_refused_after_the_tables_were_rebuilt(
    whole_product: str, catalog_engine: sa.Engine
) -> None:
    up(catalog_engine)
    fill(catalog_engine)
    for change in (
        "DELETE FROM categories WHERE user_id = 1",
        "UPDATE tasks SET category_id = 'c2'",
        "UPDATE tasks SET priority = 4",
        "UPDATE tasks SET status = 'later'",
        "UPDATE tasks SET position = NULL",
    ):
        with pytest.raises(sa.exc.DBAPIError), catalog_engine.begin() as connection:
            connection.exec_driver_sql(change)


CUTS = (
    "DROP TABLE bin; DROP INDEX ix_tasks_user_id_position_id ON tasks",
    "ALTER TABLE tasks MODIFY position DATETIME(6) NULL; UPDATE tasks SET position = NULL",
    "ALTER TABLE tasks DROP COLUMN due_time; DROP INDEX ix_bin_user_id_batch ON bin",
    "DROP INDEX ix_notes_user_id_pinned_updated_at_id ON notes",
)


@pytest.mark.parametrize("cut", range(len(CUTS)))
def test_the_second_revision_goes_on_where_it_was_cut_off(catalog_engine: sa.Engine, cut: int) -> None:
    """Undo some of it and forget that it ran; then do the same to the way back."""
    if transactional(catalog_engine):
        return
    up(catalog_engine)
    fill(catalog_engine)
    before = kept(catalog_engine)
    for cut_off_way in ("up", "down"):
        with catalog_engine.begin() as connection:
            for statement in CUTS[cut].split(";"):
                connection.exec_driver_sql(statement)
            if cut_off_way == "up":
                connection.exec_driver_sql(f"UPDATE {TENANT_VERSION_TABLE} SET version_num = '0001'")
        if cut_off_way == "down":
            down(catalog_engine, "0001")
        up(catalog_engine)
        with catalog_engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": TENANT_VERSION_TABLE})
            assert compare_metadata(context, metadata) == []
        assert kept(catalog_engine) == before


def test_each_chain_leaves_the_tables_of_the_others_alone(whole_product: str, catalog_engine: sa.Engine) -> None:
    """Let Alembic compare a database that holds both chains and the house's own tables (one shared database)."""
    folders = (MIGRATIONS, MIGRATIONS.parent / "admin")
    with catalog_engine.begin() as connection:
        tenancy_tables.create_all(connection)
    for folder, version_table in zip(folders, (TENANT_VERSION_TABLE, CATALOG_VERSION_TABLE), strict=True):
        with catalog_engine.connect() as connection:
            Chain(folder, version_table).upgrade(connection, transactional_ddl=transactional(catalog_engine))
    with catalog_engine.connect() as connection:
        command.check(config(connection))


@pytest.mark.parametrize("folder", [".", "/"])
def test_the_plain_alembic_command_works_from_any_folder(tmp_path: Path, folder: str) -> None:
    url = f"sqlite:///{tmp_path / 'scratch.db'}"

    def alembic(*words: str) -> str:
        alone = [sys.executable, "-m", "alembic", "-c", str(MIGRATIONS / "alembic.ini"), "-x", f"url={url}", *words]
        cwd = PROJECT if folder == "." else Path(folder)
        done = subprocess.run(alone, cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    alembic("upgrade", "head")
    assert CHAIN.head in alembic("current")
    alembic("check")
    engine = sa.create_engine(url)
    assert tables(engine) == {*metadata.tables, TENANT_VERSION_TABLE}
    engine.dispose()


def test_tables_do_not_depend_on_the_servers_defaults(catalog_engine: sa.Engine) -> None:
    if catalog_engine.dialect.name != "mysql":
        return
    with catalog_engine.begin() as connection:
        connection.exec_driver_sql("ALTER DATABASE CHARACTER SET latin1")
    up(catalog_engine)
    for name in metadata.tables:
        options: dict[str, Any] = sa.inspect(catalog_engine).get_table_options(name)
        assert options["mysql_engine"] == "InnoDB"
        assert options["mysql_default charset"] == "utf8mb4"
        assert options["mysql_collate"] == "utf8mb4_bin"
