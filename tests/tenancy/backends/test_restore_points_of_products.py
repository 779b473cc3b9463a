"""What restore points of one product promise beside the contract: disks that fill, odd tables, plain logins."""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tenancy.backends.server.sql import one, run
from tenancy.backends.sqlite import restore_points
from tenancy.backends.values import ignore_step
from tenancy.errors import (
    AccessDeniedError,
    DatabaseBusyError,
    DatabaseUnreachableError,
    StorageFullError,
    UnsupportedBackendError,
)
from tenancy.models import Tenant
from tests.support.applications import in_child, named
from tests.support.engines import use
from tests.support.homes import Home, attempt, blueprint, build, home_of, plain_home

POINT = "run12"


def create(home: Home, tenant: Tenant) -> None:
    home.backend.restore_points.create(tenant, home.access(tenant), POINT)


def restore(home: Home, tenant: Tenant) -> None:
    home.backend.restore_points.restore(tenant, home.access(tenant), POINT, rebuild=build, claim=None, step=ignore_step)


def made_on(home: Home) -> Iterator[Tenant]:
    placed = home.place()
    try:
        home.create(placed, blueprint(placed), attempt())
        yield placed
    finally:
        home.backend.restore_points.delete(placed, home.access(placed), POINT)
        home.drop(placed)


def empty(home: Home, tenant: Tenant) -> None:
    with closing(home.plain(tenant)) as driver, closing(driver.cursor()) as cursor:
        cursor.execute("DELETE FROM things")
        driver.commit()


# --- SQLite -----------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Home:
    return home_of("sqlite", tmp_path)


@pytest.fixture
def of_file(files: Home) -> Iterator[Tenant]:
    yield from made_on(files)


def points(home: Home) -> list[Path]:
    found = home.backend.storage()
    assert found is not None
    folder = Path(found.path) / ".restore"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_a_point_is_one_file_that_the_server_alone_may_read(files, of_file):
    create(files, of_file)
    restore(files, of_file)
    (point,) = points(files)
    assert re.fullmatch(r"user_1\.db\.[0-9a-f]{32}\.run12", point.name)
    assert stat.S_IMODE(point.stat().st_mode) == 0o600
    assert stat.S_IMODE(point.parent.stat().st_mode) == 0o700


def test_rows_that_stand_in_the_wal_alone_are_kept(files, of_file):
    with closing(files.connect(of_file)) as driver:
        driver.execute("PRAGMA wal_autocheckpoint = 0")
        driver.execute("INSERT INTO things VALUES ('in the wal', 0)")
        create(files, of_file)
        empty(files, of_file)
        restore(files, of_file)
        assert driver.execute("SELECT name FROM things ORDER BY name").fetchall() == [("first",), ("in the wal",)]
    assert files.names(of_file) == ["first", "in the wal"]


def test_a_reader_keeps_what_it_began_with_and_then_sees_what_was_put_back(files, of_file):
    create(files, of_file)
    empty(files, of_file)
    with closing(files.connect(of_file)) as driver:
        driver.execute("BEGIN")
        assert driver.execute("SELECT count(*) FROM things").fetchone() == (0,)
        restore(files, of_file)
        assert driver.execute("SELECT count(*) FROM things").fetchone() == (0,)
        driver.execute("COMMIT")
        assert driver.execute("SELECT count(*) FROM things").fetchone() == (1,)


def test_a_writer_that_does_not_end_is_not_waited_for_for_ever(files, of_file, short_locks):
    with closing(files.connect(of_file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        create(files, of_file)
        with pytest.raises(DatabaseBusyError):
            restore(files, of_file)
        writer.execute("ROLLBACK")
    restore(files, of_file)


def test_a_disk_that_fills_while_a_point_is_made_leaves_the_earlier_one(files, of_file, monkeypatch):
    create(files, of_file)
    before = points(files)[0].read_bytes()

    def almost_full(draft: Path) -> sqlite3.Connection:
        driver = whole(draft)
        driver.execute("PRAGMA max_page_count = 3")
        return driver

    whole = restore_points.draft_connection
    monkeypatch.setattr(restore_points, "draft_connection", almost_full)
    with pytest.raises(StorageFullError):
        create(files, of_file)
    assert [path.read_bytes() for path in points(files)] == [before]
    assert files.names(of_file) == ["first"]


def test_a_limit_on_file_sizes_is_a_full_disk(files, of_file):
    with closing(files.connect(of_file)) as driver:
        driver.execute("CREATE TABLE large (content BLOB)")
        driver.execute("INSERT INTO large VALUES (zeroblob(200000))")

    def keep_under_a_limit() -> str:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            create(files, of_file)
        except StorageFullError as error:
            return named(error)
        return "kept"

    assert in_child(keep_under_a_limit) == "StorageFullError"
    assert points(files) == []
    assert files.names(of_file) == ["first"]


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:4096] + b"\xff" * 20_000])
def test_a_damaged_point_is_not_put_back(files, of_file, damage):
    create(files, of_file)
    (point,) = points(files)
    point.write_bytes(damage(point.read_bytes()))
    with pytest.raises(DatabaseUnreachableError, match="damaged: nothing was changed"):
        restore(files, of_file)
    assert files.names(of_file) == ["first"]


# --- a login with no more rights than it needs ------------------------------------------------------------


@pytest.fixture(params=["postgresql", "mysql"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """Give a server whose login has the documented rights, and no others."""
    with plain_home(use(request, request.param), tmp_path) as home:
        yield home


def test_a_login_that_is_no_superuser_keeps_points_while_a_worker_is_connected(plain):
    tenant = plain.place()
    plain.create(tenant, blueprint(tenant), attempt())
    worker = plain.connect(tenant)
    try:
        create(plain, tenant)
        empty(plain, tenant)
        worker = plain.connect(tenant)
        restore(plain, tenant)
        assert plain.names(tenant) == ["first"]
        assert list(plain.backend.checks.inventory(plain.access(tenant)))
    finally:
        worker.close()
        plain.backend.restore_points.delete(tenant, plain.access(tenant), POINT)
        plain.drop(tenant)


# --- MySQL ------------------------------------------------------------------------------------------------


@pytest.fixture
def mysql(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return home_of(use(request, "mysql"), tmp_path)


@pytest.fixture
def of_mysql(mysql: Home) -> Iterator[Tenant]:
    yield from made_on(mysql)


def test_numbers_that_the_server_counts_and_columns_that_it_computes_come_back(mysql, of_mysql):
    with closing(mysql.connect_to_migrate(of_mysql)) as driver:
        run(
            driver,
            "CREATE TABLE counted (id INT PRIMARY KEY AUTO_INCREMENT, share VARCHAR(9) DEFAULT '5 %',"
            " n INT, twice INT AS (n * 2) STORED, at DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6), day DATE)",
            "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
            "INSERT INTO counted (id, n, at, day) VALUES (0, 1, '2020-01-01 00:00:00.000001', '0000-00-00')",
            "INSERT INTO counted (id, n) VALUES (41, 2)",
        )
        create(mysql, of_mysql)
        run(driver, "DROP TABLE counted", "CREATE VIEW later AS SELECT * FROM things")
    restore(mysql, of_mysql)
    with closing(mysql.connect_to_migrate(of_mysql)) as driver, closing(driver.cursor()) as cursor:
        run(driver, "INSERT INTO counted (n) VALUES (3)")
        cursor.execute("SELECT id, share, twice, CAST(at AS CHAR), CAST(day AS CHAR) FROM counted ORDER BY id")
        found = cursor.fetchall()
        assert found[0] == (0, "5 %", 2, "2020-01-01 00:00:00.000001", "0000-00-00")
        assert [row[:3] for row in found[1:]] == [(41, "5 %", 4), (42, "5 %", 6)]
        assert one(driver, "SELECT COUNT(*) FROM information_schema.views WHERE table_schema = DATABASE()") == 0


@pytest.mark.parametrize(
    "more",
    [
        "CREATE VIEW v AS SELECT name FROM things",
        "CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW SET NEW.counter = 1",
        "CREATE PROCEDURE p() SELECT 1",
    ],
)
def test_a_database_that_holds_more_than_tables_has_no_point(mysql, of_mysql, more):
    with closing(mysql.connect_to_migrate(of_mysql)) as driver:
        run(driver, more)
    with pytest.raises(UnsupportedBackendError, match="more than tables"):
        create(mysql, of_mysql)
    assert not mysql.backend.restore_points.has(of_mysql, mysql.access(of_mysql), POINT)


def test_a_login_that_may_make_no_database_is_told_so(mysql, of_mysql):
    own = mysql.access(of_mysql).login
    with pytest.raises(AccessDeniedError, match="right to make databases"):
        mysql.backend.restore_points.create(of_mysql, replace(mysql.access(of_mysql), admin=own), POINT)
