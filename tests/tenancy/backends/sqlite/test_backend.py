"""What SQLite promises beside the contract of all products."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
import uuid
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenancy.backends import Backends
from tenancy.backends.access import NO_ACCESS
from tenancy.backends.base import Blueprint, DatabaseFields, Whose
from tenancy.backends.sqlite.backend import SQLiteBackend
from tenancy.backends.sqlite.files import BUSY_TIMEOUT_S, not_writable, url_path
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseUnreachableError,
    IdentityError,
    ProvisionError,
    StorageFullError,
    UnsupportedBackendError,
)
from tenancy.models import State, Tenant
from tests.support.applications import Gate, Stopped, forked, in_child, named, together
from tests.support.homes import Home, attempt, blueprint, build


def names(backend: SQLiteBackend, tenant: Tenant) -> list[str]:
    return Home(backend).names(tenant)


@pytest.fixture
def sqlite(tmp_path: Path) -> SQLiteBackend:
    return SQLiteBackend(tmp_path / "users")


@pytest.fixture
def file(sqlite: SQLiteBackend) -> Path:
    """Give user 1's file, made."""
    tenant = _place(sqlite)
    sqlite.create(tenant, NO_ACCESS, blueprint(tenant), attempt())
    return sqlite.data_dir / "user_1.db"


def _place(sqlite: SQLiteBackend, user_id: int | None = 1, **more) -> Tenant:
    tenant_id = uuid.UUID(int=user_id or 0)
    planned = sqlite.plan(Whose(user_id or 1, tenant_id), {}, None) | more
    return Tenant(tenant_id=tenant_id, user_id=user_id, state=State.READY, version=1, epoch=1, **planned)


def _pragma(driver, name: str):
    return driver.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_connection_is_durable_and_bounded(sqlite, file):
    with closing(sqlite.connect(_place(sqlite), NO_ACCESS)) as driver:
        assert _pragma(driver, "journal_mode") == "wal"
        assert _pragma(driver, "synchronous") == 2  # FULL
        assert _pragma(driver, "foreign_keys") == 1
        assert _pragma(driver, "cache_size") == -512
        assert _pragma(driver, "busy_timeout") == BUSY_TIMEOUT_S * 1000
        assert _pragma(driver, "trusted_schema") == 0
        with pytest.raises(sqlite3.OperationalError, match="too many attached"):
            driver.execute("ATTACH ':memory:' AS other")


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="this system does not tell how a file system is mounted")
def test_a_file_system_that_takes_no_writes_is_not_taken_for_a_matter_of_owners(file, monkeypatch):
    assert "it belongs to" in not_writable(file).message
    told = list(os.statvfs(file))
    told[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(told))
    assert not_writable(file).message == (
        "user_1.db is on a file system that is mounted read-only: mount it so that it can be written."
    )


def test_the_catalog_is_as_durable_and_its_writers_wait_for_each_other(sqlite, tmp_path):
    engine = sqlite.catalog_engine(f"sqlite:///{tmp_path}/deep/admin.db")
    sqlite.make_catalog(engine)
    try:
        with engine.connect() as connection:
            for name, value in {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}.items():
                assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value
            assert connection.connection.dbapi_connection.in_transaction
            connection.exec_driver_sql("CREATE TABLE counters (value INTEGER)")
            connection.exec_driver_sql("INSERT INTO counters VALUES (0)")
            connection.commit()

        def add_one() -> None:
            with engine.begin() as connection:
                value = connection.exec_driver_sql("SELECT value FROM counters").scalar_one()
                connection.exec_driver_sql("UPDATE counters SET value = ?", (value + 1,))

        assert together([add_one] * 16) == [None] * 16
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT value FROM counters").scalar_one() == 16
    finally:
        engine.dispose()
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "deep" / "admin.db").stat().st_mode) == 0o600


def test_files_are_the_servers_alone(sqlite, file):
    driver = sqlite.connect(_place(sqlite), NO_ACCESS)
    with closing(driver):
        driver.execute("INSERT INTO things VALUES ('written', 0)")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir() if path.is_file()}
    assert modes == {"user_1.db": 0o600, "user_1.db-wal": 0o600, "user_1.db-shm": 0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (file.parent, file.parent / ".templates")} == {0o700}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent / ".templates").iterdir()] == [0o600]


@pytest.mark.parametrize("path", ["../../admin.db", "file:x", ":memory:", "", None, "user_2.db", "/etc/passwd", "."])
def test_a_stored_file_name_other_than_the_servers_own_is_refused(sqlite, file, path, tmp_path):
    tenant = _place(sqlite, db_path=path)
    before = sorted(tmp_path.rglob("*"))
    for use_it in (sqlite.connect, sqlite.exists, sqlite.drop):
        with pytest.raises(IdentityError, match="not theirs"):
            use_it(tenant, NO_ACCESS)
    with pytest.raises(IdentityError):
        sqlite.create(tenant, NO_ACCESS, blueprint(tenant), attempt())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["db_host", "db_port", "db_name", "db_user", "db_password", "db_path"])
def test_connection_fields_cannot_be_given(sqlite, name):
    with pytest.raises(ConfigurationError) as refused:
        sqlite.given(DatabaseFields(**{name: "x"}))
    assert refused.value.field == name


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///a.db?vfs=x",
        "sqlite:///file:x",
    ],
)
def test_a_url_must_name_a_plain_file(url):
    with pytest.raises(ConfigurationError) as refused:
        url_path(url, "ADMIN_DATABASE_URL")
    assert refused.value.field == "ADMIN_DATABASE_URL"


def test_odd_characters_in_the_folder_are_only_characters(tmp_path):
    backend = SQLiteBackend(tmp_path / "a?mode=memory&b#c%41 d")
    tenant = _place(backend)
    backend.create(tenant, NO_ACCESS, blueprint(tenant), attempt())
    assert Home(backend).names(tenant) == ["first"]
    assert Path(backend.shown_path(tenant)).stat().st_size > 0


def test_a_damaged_file_is_named_as_damaged(sqlite, file):
    file.write_bytes(b"no database at all" * 500)
    with pytest.raises(DatabaseUnreachableError, match="damaged"):
        names_or_explained(sqlite)


def test_a_file_damaged_inside_is_named_as_damaged(sqlite, file):
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    with pytest.raises(DatabaseUnreachableError, match="damaged"):
        names_or_explained(sqlite)


def test_a_folder_in_place_of_the_file_is_said(sqlite, file):
    file.unlink()
    file.mkdir()
    with pytest.raises(DatabaseUnreachableError, match="cannot be opened"):
        names_or_explained(sqlite)


def names_or_explained(sqlite: SQLiteBackend) -> None:
    try:
        names(sqlite, _place(sqlite))
    except sqlite3.Error as error:
        raise (sqlite.explain(error) or error) from error


def test_a_lock_that_is_not_free_in_time_is_busy(sqlite, file):
    with (
        closing(sqlite.connect(_place(sqlite), NO_ACCESS)) as first,
        closing(sqlite.connect(_place(sqlite), NO_ACCESS)) as second,
    ):
        first.execute("BEGIN IMMEDIATE")
        second.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(sqlite3.OperationalError) as locked:
            second.execute("BEGIN IMMEDIATE")
        assert isinstance(sqlite.explain(locked.value), DatabaseBusyError)


def test_readers_do_not_wait_for_a_writer(sqlite, file):
    with closing(sqlite.connect(_place(sqlite), NO_ACCESS)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO things VALUES ('not yet', 0)")
        assert names(sqlite, _place(sqlite)) == ["first"]


def test_a_full_disk_is_said_by_a_statement(sqlite, file):
    with closing(sqlite.connect(_place(sqlite), NO_ACCESS)) as driver:
        driver.execute(f"PRAGMA max_page_count = {_pragma(driver, 'page_count')}")
        with pytest.raises(sqlite3.OperationalError) as full:
            driver.execute("INSERT INTO things VALUES (?, 0)", ("x" * 1_000_000,))
        assert isinstance(sqlite.explain(full.value), StorageFullError)


def test_a_full_disk_while_a_file_is_made_leaves_nothing(sqlite, file):
    """The process's own limit on file sizes stands for a disk that ends in the middle of the file."""

    def make_under_a_limit() -> str:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            tenant = _place(sqlite, 2)
            sqlite.create(tenant, NO_ACCESS, blueprint(tenant), attempt())
        except StorageFullError as error:
            return named(error)
        return "made"

    assert in_child(make_under_a_limit) == "StorageFullError"
    assert _files(file.parent) == ["user_1.db"]


def test_a_file_in_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "users").write_text("in the way")
    backend = SQLiteBackend(tmp_path / "users")
    with pytest.raises(AccessDeniedError, match="TENANT_DATA_DIR"):
        backend.create(_place(backend), NO_ACCESS, blueprint(_place(backend)), attempt())
    assert (tmp_path / "users").read_text() == "in the way"


def test_a_wal_left_of_another_file_is_not_played_into_a_new_one(sqlite, file):
    """Somebody removed user_1.db and not its WAL: its rows must not come up in whatever is made next."""
    driver = sqlite.connect(_place(sqlite), NO_ACCESS)
    with closing(driver):
        driver.execute("INSERT INTO things VALUES ('an old secret', 0)")
        kept = file.with_name("user_1.db-wal").read_bytes()
    file.unlink()
    file.with_name("user_1.db-wal").write_bytes(kept)
    tenant = _place(sqlite)
    with pytest.raises(DatabaseExistsError, match=r"user_1\.db-wal"):
        sqlite.create(tenant, NO_ACCESS, blueprint(tenant), attempt(2))
    assert _files(file.parent) == ["user_1.db-wal"]
    sqlite.drop(tenant, NO_ACCESS)
    sqlite.create(tenant, NO_ACCESS, blueprint(tenant), attempt(3))
    assert names(sqlite, tenant) == ["first"]


def test_a_connection_to_a_removed_file_does_no_harm_to_its_successor(sqlite, file):
    """The last connection to a file removes its WAL when it closes, by name."""
    tenant = _place(sqlite)
    late = sqlite.connect(tenant, NO_ACCESS)
    late.execute("INSERT INTO things VALUES ('before', 0)")
    sqlite.drop(tenant, NO_ACCESS)
    sqlite.create(tenant, NO_ACCESS, blueprint(tenant), attempt(2))
    with closing(sqlite.connect(tenant, NO_ACCESS)) as driver:
        driver.execute("INSERT INTO things VALUES ('after', 0)")
        in_child(late.close)
        late.close()
        assert file.with_name("user_1.db-wal").exists()
        assert in_child(lambda: names(sqlite, tenant)) == ["after", "first"]


def test_drafts_of_earlier_attempts_are_removed_and_others_are_not(sqlite, file):
    tenant, folder = _place(sqlite), file.parent
    for number in (1, 2, 3):
        (folder / f"user_1.db.{tenant.tenant_id.hex}.{number}.new").write_bytes(b"half")
    sqlite.clear_attempts(tenant, 3)
    assert _files(folder) == ["user_1.db", f"user_1.db.{tenant.tenant_id.hex}.3.new"]


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


# --- templates ------------------------------------------------------------------------------------------


def _template(file: Path) -> Path:
    (path,) = (file.parent / ".templates").iterdir()
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no database",
        lambda content: content[: len(content) // 2],
        lambda content: content[:4096] + b"\xff" * (len(content) - 4096),
    ],
    ids=["empty", "text", "cut off", "overwritten"],
)
def test_a_damaged_template_is_said_and_nothing_is_made_from_it(sqlite, file, damage):
    _template(file).write_bytes(damage(_template(file).read_bytes()))
    fresh, tenant = SQLiteBackend(sqlite.data_dir), _place(sqlite, 2)
    with pytest.raises(ProvisionError, match="is damaged: delete it"):
        fresh.create(tenant, NO_ACCESS, blueprint(tenant), attempt())
    assert _files(file.parent) == ["user_1.db"]
    _template(file).unlink()
    fresh.create(tenant, NO_ACCESS, blueprint(tenant), attempt(2))
    assert names(fresh, tenant) == ["first"]


def test_a_template_is_made_once_and_again_for_another_schema(sqlite):
    built = []

    def drawing(tenant: Tenant, fingerprint: str) -> Blueprint:
        plain = blueprint(tenant)

        def note_and_build(connection: sa.Connection) -> None:
            built.append(fingerprint)
            build(connection)

        return Blueprint(fingerprint, note_and_build, plain.fill)

    for user_id in (1, 2, 3):
        tenant = _place(sqlite, user_id)
        sqlite.create(tenant, NO_ACCESS, drawing(tenant, "old" if user_id < 3 else "new"), attempt())
    assert built == ["old", "new"]


def test_a_template_whose_making_fails_leaves_nothing(sqlite):
    tenant = _place(sqlite)

    def fail(connection: sa.Connection) -> None:
        build(connection)
        raise Stopped

    with pytest.raises(Stopped):
        sqlite.create(tenant, NO_ACCESS, Blueprint("f", fail, lambda connection: None), attempt())
    assert list((sqlite.data_dir / ".templates").iterdir()) == []
    sqlite.create(tenant, NO_ACCESS, blueprint(tenant), attempt(2))


def test_processes_that_make_the_template_at_once_make_one(tmp_path):
    def make(user_id: int) -> list[str]:
        backend = SQLiteBackend(tmp_path / "users")
        tenant = _place(backend, user_id)
        go.wait()
        backend.create(tenant, NO_ACCESS, blueprint(tenant, f"of {user_id}"), attempt())
        return Home(backend).names(tenant)

    go = Gate()
    children = [forked(lambda n=n: make(n)) for n in range(1, 5)]
    go.open()
    assert [child.result() for child in children] == [[f"of {n}"] for n in range(1, 5)]
    assert len(list((tmp_path / "users" / ".templates").iterdir())) == 1


def test_threads_that_make_many_databases_at_once_mix_nothing_up(sqlite):
    tenants = [_place(sqlite, user_id) for user_id in range(1, 41)]

    def make(part: int) -> None:
        for tenant in tenants[part::8]:
            sqlite.create(tenant, NO_ACCESS, blueprint(tenant, f"of {tenant.user_id}"), attempt())

    assert together([lambda n=n: make(n) for n in range(8)]) == [None] * 8
    assert [names(sqlite, tenant) for tenant in tenants] == [[f"of {tenant.user_id}"] for tenant in tenants]
    assert threading.active_count() < 50


# --- which backend --------------------------------------------------------------------------------------


def test_an_unknown_type_names_the_field_and_one_without_its_driver_says_so(tmp_path, monkeypatch):
    backends = Backends(tmp_path)
    assert backends.get("sqlite").name == "sqlite"
    with pytest.raises(ConfigurationError, match="db_type must be one of") as refused:
        backends.get("oracle")
    assert refused.value.field == "db_type"
    monkeypatch.setitem(sys.modules, "tenancy.backends.postgresql.backend", None)
    with pytest.raises(UnsupportedBackendError, match=r"pip install 'unify\[postgresql\]'"):
        backends.get("postgresql")


@pytest.mark.parametrize("url", ["nonsense", "oracle://secret@host/db", "://"])
def test_a_url_of_no_known_database_names_the_setting_and_not_the_url(tmp_path, url):
    with pytest.raises(ConfigurationError) as refused:
        Backends(tmp_path).for_url(url, "ADMIN_DATABASE_URL")
    assert refused.value.field == "ADMIN_DATABASE_URL"
    assert "secret" not in str(refused.value)
