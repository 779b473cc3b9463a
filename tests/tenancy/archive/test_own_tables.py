"""Tables of the tenant's own travel along, or the archive is refused with their name; none is left out silently."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tenancy.archive.own_tables import Definition
from tenancy.errors import ArchiveError
from tenancy.models import Tenant
from tests.support import archives
from tests.support.engines import use
from tests.support.homes import Home, home_of

INSTALLATION = "7e570b"
PARENT = str(archives.PARENTS[1].hex)
TABLES = {
    "sqlite": "CREATE TABLE bikes (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE DEFAULT 'x''y', "
    "made TIMESTAMP DEFAULT CURRENT_TIMESTAMP, fast BOOLEAN DEFAULT 1, price DECIMAL(10,2), photo BLOB, about TEXT, "
    "user_id INTEGER, parent CHAR(32), next INTEGER REFERENCES bikes (id), "
    "FOREIGN KEY (user_id, parent) REFERENCES zz_parents (user_id, id) ON DELETE CASCADE)",
    "postgresql": "CREATE TABLE bikes (id SERIAL PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE DEFAULT 'x''y', "
    "made TIMESTAMP DEFAULT now(), fast BOOLEAN DEFAULT true, price NUMERIC(10,2), photo BYTEA, about TEXT, "
    "user_id INTEGER, parent CHAR(32), next INTEGER REFERENCES bikes (id), "
    "FOREIGN KEY (user_id, parent) REFERENCES zz_parents (user_id, id) ON DELETE CASCADE)",
    "mysql": "CREATE TABLE bikes (id INTEGER PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40) NOT NULL DEFAULT 'x''y' "
    "UNIQUE, made DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6), fast BOOLEAN DEFAULT true, price DECIMAL(10,2), "
    "photo LONGBLOB, about LONGTEXT, user_id INTEGER, parent CHAR(32), next INTEGER REFERENCES bikes (id), "
    "FOREIGN KEY (user_id, parent) REFERENCES zz_parents (user_id, id) ON DELETE CASCADE)",
}
ROWS = (
    "INSERT INTO bikes (id, name, made, fast, price, photo, about, user_id, parent, next) VALUES "
    "(3, 'b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
    f"(1, 'a', '2026-01-02 03:04:05.000006', {{yes}}, 9.90, {{bytes}}, 'é 😀', 1, '{PARENT}', 3)"
)
CIRCLE = "UPDATE bikes SET next = 1 WHERE id = 3"
ALONE = "CREATE TABLE bikes (id INTEGER PRIMARY KEY, name VARCHAR(40))"


def run(home: Home, tenant: Tenant, *statements: str) -> None:
    with closing(home.connect_to_migrate(tenant)) as driver, closing(driver.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement)
        driver.commit()


def rows_of(engine: str) -> str:
    raw = {"postgresql": "'\\x00ff'::bytea"}.get(engine, "X'00FF'")
    return ROWS.format(yes="true" if engine == "postgresql" else "1", bytes=raw)


@pytest.mark.parametrize(
    ("source", "target"),
    [(one, two) for one in TABLES for two in TABLES if "sqlite" in (one, two) or one == two],
)
def test_a_table_with_keys_defaults_and_a_circle_travels(
    source: str, target: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    schema = archives.schema_in(tmp_path)
    here = home_of(use(request, source), tmp_path / "here", INSTALLATION)
    there = home_of(use(request, target), tmp_path / "there", INSTALLATION)
    with archives.database(here, schema, rows=True) as one, archives.database(there, schema) as two:
        run(here, one, TABLES[source], rows_of(source), CIRCLE)
        archive, contents = archives.exported(here, one, schema)
        assert contents.rows["bikes"] == 2
        assert archives.load(there, two, schema, archive) == contents
        assert archives.held(there, two, schema) == contents
        run(there, two, "INSERT INTO bikes (about) VALUES ('new')")
        assert next_row(there, two) == (4, "x'y")
        with pytest.raises(there.backend.driver_errors):
            run(there, two, "INSERT INTO bikes (name, next) VALUES ('c', 77)")


def next_row(home: Home, tenant: Tenant) -> Any:
    with closing(home.connect_to_migrate(tenant)) as driver, closing(driver.cursor()) as cursor:
        cursor.execute("SELECT id, name FROM bikes WHERE about = 'new' AND made > '2020-01-01' AND fast = true")
        return tuple(cursor.fetchone())


def test_another_owner_is_written_where_a_key_names_the_owner(tmp_path: Path) -> None:
    schema, home = archives.schema_in(tmp_path), home_of("sqlite", tmp_path)
    with archives.database(home, schema, rows=True) as one:
        run(home, one, TABLES["sqlite"], rows_of("sqlite"), CIRCLE)
        archive, contents = archives.exported(home, one, schema)
        other = home_of("sqlite", tmp_path / "other")
        with archives.database(other, schema) as two:
            loaded = archives.load(other, two, schema, archive, owner=5)
            assert archives.held(other, two, schema) == loaded != contents
            assert loaded.rows == contents.rows
            with closing(other.connect(two)) as driver:
                found = driver.execute('SELECT DISTINCT user_id FROM bikes UNION SELECT user_id FROM "values"')
                assert sorted(found.fetchall(), key=str) == [(5,), (None,)]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (ALONE.replace("40)", "40) CHECK (name <> 'x')"), "CHECK"),
        (ALONE.replace("VARCHAR(40)", "JSON"), "type"),
        (ALONE.replace("VARCHAR(40)", ""), "type"),
        (ALONE.replace("VARCHAR(40)", "TIME"), "type"),
        (ALONE.replace("VARCHAR(40)", "VARCHAR(40) DEFAULT (hex(randomblob(4)))"), "default"),
        (ALONE.replace("VARCHAR(40)", "VARCHAR(40) AS (id + 1)"), "computed"),
        (f"{ALONE}; CREATE INDEX i ON bikes (lower(name))", "index|expression"),
        (f"{ALONE}; CREATE UNIQUE INDEX i ON bikes (name) WHERE id > 3", "index"),
        (f"{ALONE}; CREATE TRIGGER t AFTER INSERT ON bikes BEGIN DELETE FROM bikes; END", "triggers"),
        ("CREATE VIRTUAL TABLE bikes USING fts5 (name)", "virtual"),
        ('CREATE TABLE "bi""kes" (id INTEGER PRIMARY KEY)', "name"),
        ('CREATE TABLE bikes ("i""d" INTEGER PRIMARY KEY)', "name"),
    ],
)
def test_a_table_that_would_not_be_the_same_is_refused(statement: str, why: str, tmp_path: Path) -> None:
    schema, home = archives.schema_in(tmp_path), home_of("sqlite", tmp_path)
    with archives.database(home, schema, rows=True) as tenant:
        first, _, second = statement.partition("; ")
        run(home, tenant, first, *([second] if second else []))
        with pytest.raises(ArchiveError, match=f"bi.*not the application's own.*{why}"):
            archives.exported(home, tenant, schema)


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_what_a_server_alone_has_is_refused(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    schema, home = archives.schema_in(tmp_path), home_of(use(request, engine), tmp_path, INSTALLATION)
    statements = {
        "postgresql": [
            "CREATE TABLE bikes (id INTEGER, parts JSONB)",
            "CREATE TABLE bikes (id INTEGER, parts TEXT[])",
            "CREATE TABLE bikes (id INTEGER) PARTITION BY RANGE (id)",
            "CREATE SCHEMA more; CREATE TABLE more.bikes (id INTEGER)",
        ],
        "mysql": [
            "CREATE TABLE bikes (id INTEGER, parts ENUM('a', 'b'))",
            "CREATE TABLE bikes (id INTEGER, parts GEOMETRY)",
            "CREATE TABLE bikes (id INTEGER, parts TIME)",
        ],
    }[engine]
    with archives.database(home, schema) as tenant:
        for statement in statements:
            run(home, tenant, *statement.split("; "))
            with pytest.raises(ArchiveError, match="bikes"):
                archives.exported(home, tenant, schema)
            run(home, tenant, f"DROP TABLE {'more.' if 'more' in statement else ''}bikes")


def test_a_description_comes_back_as_it_was(tmp_path: Path) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql(TABLES["sqlite"])
        found = Definition.of(connection, "bikes")
        assert Definition.read("bikes", found.to_dict()) == found
        connection.exec_driver_sql("DROP TABLE bikes")
        made = found.made(archives.metadata)
        list(found.keys(made))
        made.create(connection)
        again = Definition.of(connection, "bikes")
        assert (again.key, again.uniques, again.parents) == (found.key, found.uniques, found.parents)
    engine.dispose()
