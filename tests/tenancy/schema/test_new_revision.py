"""``new_revision`` writes what the models changed, ready for every product, and refuses what it cannot do right."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from repositories.schema import MIGRATIONS, metadata
from tenancy.errors import ConfigurationError, MigrationError
from tenancy.schema.chain import Chain
from tenancy.schema.new_revision import MESSAGE_MAX, new_revision
from tenancy.schema.tables import TENANT_VERSION_TABLE
from tenancy.types import NAMING, KeyText, Line, LongText, RowId, Timestamp, utc_now
from tests.migrations.test_portable import DIALECTS, each_dialect, script_of
from tests.support import walk
from tests.support.applications import PROJECT, revision
from tests.support.revisions import unmarked_breaking_changes
from utils.commands.fleet.revisions import _laid_out

LAST = list(Chain(MIGRATIONS, TENANT_VERSION_TABLE).checksums)[-1]
NEXT = f"{int(LAST) + 1:04}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a copy of the tenants' chain."""
    shutil.copytree(MIGRATIONS / "versions", tmp_path / "chain" / "versions")
    return tmp_path / "chain"


@pytest.fixture
def models() -> sa.MetaData:
    """Give the models, to be changed."""
    copied = sa.MetaData(naming_convention=NAMING)
    for table in metadata.sorted_tables:
        table.to_metadata(copied)
    return copied


def chain_of(folder: Path) -> Chain:
    return Chain(folder, TENANT_VERSION_TABLE)


def made(folder: Path, models: sa.MetaData, message: str = "Change something"):
    return new_revision(chain_of(folder), models, message, tidy=lambda _, text: _laid_out(PROJECT / "x.py", text))


def add_columns(models: sa.MetaData) -> None:
    models.tables["tasks"].append_column(sa.Column("estimated", sa.Boolean, nullable=False, server_default=sa.false()))
    models.tables["notes"].append_column(sa.Column("archived_at", Timestamp))
    sa.Index(None, models.tables["notes"].c.user_id, models.tables["notes"].c.archived_at)


def add_a_table(models: sa.MetaData) -> None:
    tasks = models.tables["tasks"]
    sa.Table(
        "labels",
        models,
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", RowId(), primary_key=True),
        sa.Column("name", Line(50), nullable=False),
        sa.Column("name_key", KeyText(150), nullable=False),
        sa.Column("text", LongText()),
        sa.Column("task_id", RowId()),
        sa.Column("made_at", Timestamp, nullable=False, server_default=utc_now()),
        sa.ForeignKeyConstraint(["user_id", "task_id"], ["tasks.user_id", "tasks.id"]),
        sa.UniqueConstraint("user_id", "name_key"),
        **tasks.dialect_kwargs,
    )


def widen_parents(models: sa.MetaData) -> None:
    """Have SQLite rebuild tables that others point at."""
    models.tables["categories"].c.name.type = Line(150)
    models.tables["tasks"].c.title.type = Line(300)


def take_away(models: sa.MetaData) -> None:
    models.remove(models.tables["bin"])
    tasks = models.tables["tasks"]
    tasks.indexes = {index for index in tasks.indexes if "due_date" not in index.columns}
    tasks._columns.remove(tasks.c.due_time)
    tasks._columns.remove(tasks.c.due_date)
    models.tables["notes"].c.title.type = Line(100)


Change = Callable[[sa.MetaData], None]
CHANGES = [add_columns, add_a_table, widen_parents, take_away]


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_models_changed_is_made_on_every_product(
    whole_product: str, catalog_engine: sa.Engine, folder: Path, models: sa.MetaData, change: Change
):
    change(models)
    written = made(folder, models)
    chain = chain_of(folder)
    assert (written.revision, chain.head, written.destructive) == (NEXT, NEXT, change is take_away)
    walk.each_keeps_the_rows(chain, catalog_engine)
    assert walk.equals(chain, catalog_engine, models) == []
    walk.down(chain, catalog_engine, LAST)
    if change is not take_away:
        assert walk.equals(chain_of(MIGRATIONS), catalog_engine, metadata) == []


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_cut_off_run_left_is_passed_over(
    catalog_engine: sa.Engine, folder: Path, models: sa.MetaData, change: Change
):
    """Say the revision has not run, or has not come down, where each statement commits itself."""
    if catalog_engine.dialect.name != "mysql":
        return
    change(models)
    made(folder, models)
    chain = chain_of(folder)
    walk.up(chain, catalog_engine)
    say_it_is_at(catalog_engine, LAST)
    walk.up(chain, catalog_engine)
    walk.down(chain, catalog_engine, LAST)
    say_it_is_at(catalog_engine, NEXT)
    walk.down(chain, catalog_engine, LAST)
    walk.up(chain, catalog_engine)
    assert walk.equals(chain, catalog_engine, models) == []


@pytest.mark.parametrize("change", CHANGES)
@each_dialect
def test_it_can_be_written_out_as_sql(folder: Path, models: sa.MetaData, change: Change, dialect: str):
    """What runs without a database shows what products get that are not here: whole Unicode, no time cut short."""
    change(models)
    made(folder, models)
    script = script_of(folder.name, dialect, folder.parent)
    assert "UPDATE" in script
    if dialect == "mssql":
        changed = re.findall(r"ALTER COLUMN title ([A-Z]+)", script)
        assert set(changed) <= {"NVARCHAR"}
    if dialect == "mysql":
        assert not re.search(r"\b(TEXT|DATETIME)\b(?!\(6\))", script)


def test_the_worked_example_of_the_guide_fills_rows_in(
    whole_product: str, catalog_engine: sa.Engine, folder: Path, models: sa.MetaData
):
    guide = (PROJECT / "docs" / "how-to" / "migrations.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(def upgrade.+?)```", guide, re.DOTALL)
    assert example is not None
    models.tables["tasks"].append_column(sa.Column("due_minute", sa.SmallInteger))
    written = made(folder, models)
    head, downgrade = re.split(r"def upgrade.+?(?=def downgrade)", written.path.read_text(), flags=re.DOTALL)
    written.path.write_text(head + example[1] + "\n\n" + downgrade)
    chain = chain_of(folder)
    walk.up(chain, catalog_engine, LAST)
    with catalog_engine.begin() as connection:
        for name, time in (("t1", "'08:30'"), ("t2", "NULL")):
            connection.exec_driver_sql(
                f"INSERT INTO tasks (user_id, id, title, due_time) VALUES (1, '{name}', 'x', {time})"
            )
    walk.up(chain, catalog_engine)
    with catalog_engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT due_minute FROM tasks ORDER BY id").scalars().all()
    assert found == [510, None]
    assert all(script_of(folder.name, dialect, folder.parent) for dialect in DIALECTS)


def say_it_is_at(engine: sa.Engine, name: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {TENANT_VERSION_TABLE} SET version_num = '{name}'")


@pytest.mark.parametrize("change", CHANGES)
def test_the_file_is_in_the_houses_style(folder: Path, models: sa.MetaData, change: Change):
    change(models)
    written = made(folder, models, "let things be (otherwise).")
    text = written.path.read_text(encoding="utf-8")
    assert written.path.name == f"{NEXT}_let_things_be_otherwise.py"
    assert text.startswith(f'"""Let things be (otherwise).\n\nRevision {NEXT}, after {LAST}. ')
    assert f'revision = "{NEXT}"\ndown_revision = "{LAST}"\ndestructive = {change is take_away}\n' in text
    assert chain_of(folder).checksums[NEXT] == written.checksum
    for words in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *words, "--config", str(PROJECT / "pyproject.toml"), str(written.path)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_what_it_breaks_is_told_and_makes_it_destructive(folder: Path, models: sa.MetaData):
    take_away(models)
    written = made(folder, models)
    assert "drops table bin" in written.breaks
    assert "drops or renames column tasks.due_time" in written.breaks
    assert any("column notes.title" in line for line in written.breaks)
    assert any("compare it with its revision" in line for line in written.look_at)
    unmarked = re.sub("destructive = True", "destructive = False", written.path.read_text())
    written.path.write_text(unmarked)
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        found = unmarked_breaking_changes(chain_of(folder), connection, transactional_ddl=True)
    engine.dispose()
    assert [line.split(" and ", 1)[1] for line in found] == written.breaks


def test_a_check_that_alembic_does_not_see_is_named(folder: Path, models: sa.MetaData):
    add_columns(models)
    models.tables["tasks"].append_constraint(sa.CheckConstraint("version > 0", name="version"))
    assert any("tasks: write the check ck_tasks_version yourself" in line for line in made(folder, models).look_at)


def test_a_type_of_somebody_elses_stays_what_the_models_say(tmp_path: Path):
    """What is read back from SQLite looks like a type of the house."""
    revision(
        tmp_path / "chain",
        "0001",
        None,
        "op.create_table('x', sa.Column('id', sa.Integer, primary_key=True), sa.Column('at', sa.DateTime))",
    )
    theirs = sa.MetaData()
    sa.Table("x", theirs, sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.DateTime, nullable=False))
    text = made(tmp_path / "chain", theirs).path.read_text()
    assert 'batch_op.alter_column("at", existing_type=sa.DateTime(), nullable=False)' in text


def test_models_that_agree_with_the_chain_are_refused(folder: Path, models: sa.MetaData):
    with pytest.raises(MigrationError, match=f"match revision {LAST}: there is nothing to write"):
        made(folder, models)
    assert list(chain_of(folder).checksums)[-1] == LAST


def test_two_heads_are_refused(folder: Path, models: sa.MetaData):
    add_columns(models)
    revision(folder, "other", LAST)
    revision(folder, "another", LAST)
    with pytest.raises(MigrationError, match="2 heads"):
        made(folder, models)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "in a few words"),
        ("  ", "in a few words"),
        ("x" * (MESSAGE_MAX + 1), "over 100"),
        ("a\nb", r"holds '\\n'"),
        ('say """', "holds '\"'"),
        ("c:\\x", "holds"),
        ("drop; {x}", "holds"),
        ("дом", "needs a letter from a to z"),
        ("...", "needs a letter"),
    ],
)
def test_a_message_that_names_no_file_is_refused(folder: Path, models: sa.MetaData, message: str, reason: str):
    add_columns(models)
    with pytest.raises(ConfigurationError, match=reason) as refused:
        made(folder, models, message)
    assert refused.value.field == "message"
    assert NEXT not in chain_of(folder).checksums


def test_a_file_that_is_there_is_not_overwritten(folder: Path, models: sa.MetaData):
    add_columns(models)
    there = folder / "versions" / f"{NEXT}_change_something.py"

    def somebody_was_faster(path: Path, text: str) -> str:
        there.write_text("mine")
        return text

    with pytest.raises(MigrationError, match="is there already"):
        new_revision(chain_of(folder), models, "Change something", tidy=somebody_was_faster)
    assert there.read_text() == "mine"


def test_the_first_revision_of_an_empty_chain_is_made(tmp_path: Path, models: sa.MetaData):
    (tmp_path / "chain" / "versions").mkdir(parents=True)
    written = made(tmp_path / "chain", models, "Make everything")
    assert (written.revision, written.destructive) == ("0001", False)
    chain = chain_of(tmp_path / "chain")
    assert (chain.head, list(chain.checksums)) == ("0001", ["0001"])
