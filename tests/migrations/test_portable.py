"""Compile every CREATE of both chains for the four databases, none of which needs to be there for it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import mssql, mysql, postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from repositories.schema import metadata
from tenancy.catalog.tables import catalog_metadata
from tenancy.schema.tables import tenancy_tables

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
DIALECTS = {module.__name__.rpartition(".")[2]: module.dialect for module in (sqlite, postgresql, mysql, mssql)}
LONGEST_NAME = 63  # bytes, in PostgreSQL, which cuts longer ones

each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
each_chain = pytest.mark.parametrize("chain", ["admin", "tenant"])


def dialect_of(name: str) -> sa.Dialect:
    made: sa.Dialect = DIALECTS[name]()
    if name == "mssql":
        made.server_version_info = (16, 0)  # not connected it takes itself for one from before 2008, without DATE
    return made


def script_of(chain: str, dialect: str, folder: Path = MIGRATIONS) -> str:
    """Give the SQL that the chain would run, from nothing to its head."""
    scripts, written = ScriptDirectory(str(folder / chain)), io.StringIO()
    context = MigrationContext.configure(
        dialect=dialect_of(dialect),
        opts={
            "as_sql": True,
            "output_buffer": written,
            "fn": lambda revision, _: scripts._upgrade_revs("head", revision),
            "script": scripts,
            "version_table": f"{chain}_version",
        },
    )
    with Operations.context(context):
        context.run_migrations()
    return written.getvalue()


def created(script: str) -> list[str]:
    return re.findall(r"CREATE (?:TABLE|UNIQUE INDEX|INDEX) .*?;", script, re.DOTALL)


@each_chain
@each_dialect
def test_every_create_compiles(chain: str, dialect: str) -> None:
    tables = {"admin": catalog_metadata, "tenant": metadata}[chain].tables
    script = created(script_of(chain, dialect))
    made = {match[1] for statement in script if (match := re.match(r"CREATE TABLE [\[`\"]?(\w+)", statement))}
    made -= {f"_alembic_tmp_{name}" for name in tables}  # what SQLite rebuilds a table by
    assert made == {*tables, f"{chain}_version"}


@pytest.mark.parametrize("described", [catalog_metadata, tenancy_tables, metadata], ids=["admin", "house", "tenant"])
@each_dialect
def test_every_table_as_described_compiles(described: sa.MetaData, dialect: str) -> None:
    for table in described.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect_of(dialect)))
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect_of(dialect)))


@each_chain
def test_mysql_gets_long_texts_microseconds_and_whole_utf8(chain: str) -> None:
    statements = [text for text in created(script_of(chain, "mysql")) if "_version" not in text.partition("(")[0]]
    script = "\n".join(statements)
    assert not re.search(r"\b(TEXT|DATETIME)\b(?!\(6\))", script)
    for statement in statements:
        if statement.startswith("CREATE TABLE"):
            assert "CHARSET=utf8mb4" in statement
            assert "ENGINE=InnoDB" in statement


@each_chain
def test_sql_server_gets_unicode_microseconds_and_keys_it_can_index(chain: str) -> None:
    script = "\n".join(created(script_of(chain, "mssql")))
    assert not re.search(r"\b(TEXT|NTEXT|DATETIME|UNIQUEIDENTIFIER)\b", script)
    assert not re.search(r"ON (DELETE|UPDATE)", script)
    for constraint in re.findall(r"(?:PRIMARY KEY|UNIQUE)[^(]*\(([^)]*)\)", script):
        assert "max" not in constraint.lower()


@each_chain
@each_dialect
def test_every_constraint_has_a_name_that_no_engine_cuts(chain: str, dialect: str) -> None:
    script = "\n".join(created(script_of(chain, dialect)))
    for line in script.splitlines():
        if "AUTOINCREMENT" in line:  # SQLite takes it with an unnamed key only
            continue
        if re.search(r"PRIMARY KEY|UNIQUE \(|FOREIGN KEY|CHECK \(", line):
            named = re.search(r"CONSTRAINT [\[`\"]?(\w+)", line)
            assert named, line
            assert len(named[1].encode()) <= LONGEST_NAME
    for name in re.findall(r"INDEX [\[`\"]?(\w+)", script):
        assert len(name.encode()) <= LONGEST_NAME
