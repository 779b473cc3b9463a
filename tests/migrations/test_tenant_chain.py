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
from tenancy.migrate import Chain
from tenancy.models import CATALOG_VERSION_TABLE, TENANT_VERSION_TABLE, house_metadata

PROJECT = MIGRATIONS.parent.parent
CHAIN = Chain(MIGRATIONS, TENANT_VERSION_TABLE)


def transactional(engine: sa.Engine) -> bool:
    return engine.dialect.name != "mysql"


def up(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return CHAIN.upgrade(connection, transactional_ddl=transactional(engine))


def down(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return CHAIN.downgrade(connection, "base", transactional_ddl=transactional(engine))


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def config(connection: sa.Connection) -> Config:
    made = Config(MIGRATIONS / "alembic.ini")
    made.attributes["connection"] = connection
    return made


def test_the_chain_has_one_head_and_one_root() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1


def test_the_chain_makes_what_the_repositories_expect(catalog_engine: sa.Engine) -> None:
    assert up(catalog_engine) == list(CHAIN.checksums)
    with catalog_engine.connect() as connection:
        # Other engines spell a default back in words of their own; test_schema.py shows what defaults do there.
        defaults = connection.dialect.name == "sqlite"
        options = {"version_table": TENANT_VERSION_TABLE, "compare_type": True, "compare_server_default": defaults}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    assert found == []


def test_what_goes_up_comes_down_and_goes_up_again(catalog_engine: sa.Engine) -> None:
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


def test_each_chain_leaves_the_tables_of_the_others_alone(catalog_engine: sa.Engine) -> None:
    """Let Alembic compare a database that holds both chains and the house's own tables (one shared database)."""
    folders = (MIGRATIONS, MIGRATIONS.parent / "admin")
    with catalog_engine.begin() as connection:
        house_metadata.create_all(connection)
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
