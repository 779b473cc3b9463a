"""Backends: one contract for every database product, and what SQLite promises beside it.

A later product joins by its place in ``BACKENDS``; everything above the line runs for each of them.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenancy.backends import Backends
from tenancy.backends.base import WHOSE_SQL, Attempt, Backend, Blueprint, DatabaseFields
from tenancy.backends.sqlite import SQLiteBackend
from tenancy.backends.sqlite_files import BUSY_TIMEOUT_S, url_path
from tenancy.errors import (
    AccessDeniedError,
    ClaimLostError,
    ConfigurationError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    ProvisionError,
    ReadOnlyRouteError,
    StorageFullError,
    UnsupportedBackendError,
)
from tenancy.models import Placement, State, house_metadata, identity
from tests.engines import use
from tests.tenancy.support import FaultAt, Gate, Stopped, forked, in_child, named, together

BACKENDS: dict[str, Callable[[Path], Backend]] = {"sqlite": lambda folder: SQLiteBackend(folder / "users")}
THINGS = sa.table("things", sa.column("name"), sa.column("counter"))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[use(request, request.param)](tmp_path)


@pytest.fixture
def place(backend: Backend) -> Callable[..., Placement]:
    """Give a function that says where a user's database belongs."""

    def make(user_id: int = 1) -> Placement:
        planned = backend.plan(user_id, DatabaseFields())
        return Placement(tenant_id=uuid.uuid4(), user_id=user_id, state=State.READY, version=1, epoch=1, **planned)

    return make


@pytest.fixture
def tenant(place) -> Placement:
    return place()


def build(connection: sa.Connection) -> None:
    house_metadata.create_all(connection)
    connection.exec_driver_sql("CREATE TABLE things (name VARCHAR(40) PRIMARY KEY, counter INTEGER)")
    connection.exec_driver_sql("CREATE TABLE parts (thing VARCHAR(40) REFERENCES things (name))")
    connection.commit()


def blueprint(tenant: Placement, name: str = "first", fingerprint: str = "f" * 8) -> Blueprint:
    def fill(connection: sa.Connection) -> None:
        connection.execute(THINGS.insert(), {"name": name, "counter": 0})
        kept = {"id": 1, "tenant_id": tenant.tenant_id, "user_id": tenant.user_id, "kind": "tenant", "epoch": 1}
        now = sa.func.current_timestamp()
        connection.execute(identity.insert().values(state="ready", created_at=now, **kept))

    return Blueprint(fingerprint, build, fill)


def attempt(number: int = 1, step: Callable[[str], None] = lambda name: None, holding=contextlib.nullcontext):
    return Attempt(number, step, holding)


@pytest.fixture
def made(backend: Backend, tenant: Placement) -> Placement:
    backend.create(tenant, blueprint(tenant), attempt())
    return tenant


@pytest.fixture
def engine(backend: Backend, made: Placement) -> Iterator[sa.Engine]:
    """Give an engine as the cache makes it: transactions say whether they write."""
    engine = backend.engine(lambda: backend.connect(made, None))
    asked = "tenancy_write"
    sa.event.listen(engine, "begin", lambda c: backend.begin(c, c.get_execution_options().get(asked, True)))
    yield engine
    engine.dispose()


@contextlib.contextmanager
def transaction(engine: sa.Engine, *, write: bool) -> Iterator[sa.Connection]:
    with engine.connect().execution_options(tenancy_write=write) as connection, connection.begin():
        yield connection


def names(backend: Backend, tenant: Placement) -> list[str]:
    with closing(backend.connect(tenant, None)) as driver, closing(driver.cursor()) as cursor:
        cursor.execute("SELECT name FROM things ORDER BY name")
        return [row[0] for row in cursor.fetchall()]


class TestContract:
    def test_a_database_is_made_whole_and_says_whose_it_is(self, backend, tenant):
        assert not backend.exists(tenant)
        assert backend.size_bytes(tenant) is None
        assert backend.modified(tenant) is None
        backend.create(tenant, blueprint(tenant), attempt())
        assert backend.exists(tenant)
        assert backend.size_bytes(tenant) > 0
        assert backend.modified(tenant).tzinfo is not None
        assert names(backend, tenant) == ["first"]
        with closing(backend.connect(tenant, None)) as driver, closing(driver.cursor()) as cursor:
            cursor.execute(WHOSE_SQL)
            whose = cursor.fetchone()
        assert (uuid.UUID(str(whose[0])), *whose[1:4]) == (tenant.tenant_id, 1, "tenant", 1)

    def test_what_stands_there_already_is_not_touched(self, backend, made):
        with pytest.raises(DatabaseExistsError):
            backend.create(made, blueprint(made, "second"), attempt(2))
        assert names(backend, made) == ["first"]

    def test_each_step_is_named_before_it_is_taken_and_may_fail(self, backend, tenant):
        steps = FaultAt()
        backend.create(tenant, blueprint(tenant), attempt(step=steps))
        backend.drop(tenant)
        for position in range(1, len(steps.seen) + 1):
            with pytest.raises(Stopped):
                backend.create(tenant, blueprint(tenant), attempt(position, FaultAt(position)))
            whole = names(backend, tenant) == ["first"] if backend.exists(tenant) else None
            assert whole is not False
            backend.drop(tenant)
        backend.create(tenant, blueprint(tenant), attempt(99))
        assert names(backend, tenant) == ["first"]

    def test_an_attempt_that_lost_its_claim_shows_nothing(self, backend, tenant):
        @contextlib.contextmanager
        def lost():
            raise ClaimLostError("lost")
            yield

        with pytest.raises(ClaimLostError):
            backend.create(tenant, blueprint(tenant), attempt(holding=lost))
        assert not backend.exists(tenant)
        assert backend.size_bytes(tenant) is None

    def test_sixteen_at_once_make_one(self, backend, tenant):
        results = together(
            [lambda n=n: backend.create(tenant, blueprint(tenant, f"by {n}"), attempt(n)) for n in range(1, 17)]
        )
        assert [type(result) for result in results if result is not None] == [DatabaseExistsError] * 15
        assert names(backend, tenant) == [f"by {results.index(None) + 1}"]

    def test_dropping_twice_is_no_harm_and_another_can_be_made(self, backend, made):
        backend.drop(made)
        backend.drop(made)
        assert not backend.exists(made)
        backend.create(made, blueprint(made, "again"), attempt(2))
        assert names(backend, made) == ["again"]

    def test_connecting_never_makes_a_database(self, backend, tenant, made):
        backend.drop(made)
        with pytest.raises(DatabaseMissingError, match="none is made in its place"):
            backend.connect(made, None)
        assert not backend.exists(made)

    def test_two_tenants_have_two_databases(self, backend, place, made):
        second = place(2)
        backend.create(second, blueprint(second, "other"), attempt())
        assert names(backend, made) == ["first"]
        assert names(backend, second) == ["other"]
        backend.drop(second)
        assert names(backend, made) == ["first"]

    def test_a_reading_transaction_cannot_write(self, backend, engine):
        with pytest.raises(sa.exc.DBAPIError) as refused, transaction(engine, write=False) as connection:
            connection.execute(THINGS.insert(), {"name": "second"})
        assert isinstance(backend.explain(refused.value), ReadOnlyRouteError)
        with transaction(engine, write=True) as connection:  # the same pooled connection
            connection.execute(THINGS.insert(), {"name": "third"})
        with transaction(engine, write=False) as connection:
            found = connection.execute(sa.select(THINGS.c.name).order_by(THINGS.c.name)).scalars().all()
        assert found == ["first", "third"]

    def test_an_error_takes_the_whole_transaction_back(self, backend, made, engine):
        with pytest.raises(ZeroDivisionError), transaction(engine, write=True) as connection:
            connection.execute(THINGS.insert(), {"name": "second"})
            raise ZeroDivisionError
        assert names(backend, made) == ["first"]

    def test_read_then_write_from_sixteen_threads_is_never_refused(self, engine):
        """Compare-and-set on one row: every thread gets its turn (goals.md, trap 12)."""
        done = []

        def add_one() -> None:
            for _ in range(5):
                with transaction(engine, write=True) as connection:
                    counter = connection.execute(sa.select(THINGS.c.counter)).scalar_one()
                    changed = connection.execute(
                        THINGS.update().where(THINGS.c.counter == counter), {"counter": counter + 1}
                    )
                    done.append(changed.rowcount)

        assert together([add_one] * 16) == [None] * 16
        assert done == [1] * 80
        with transaction(engine, write=False) as connection:
            assert connection.execute(sa.select(THINGS.c.counter)).scalar_one() == 80

    def test_a_migration_takes_its_ddl_back_and_leaves_the_connection_closed(self, backend, made):
        driver = backend.connect(made, None)
        with pytest.raises(ZeroDivisionError), backend.migrating(driver) as connection:
            connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
            raise ZeroDivisionError
        with backend.migrating(backend.connect(made, None)) as connection:
            assert sa.inspect(connection).has_table("half") is not backend.transactional_ddl
        with pytest.raises(Exception, match="closed"):
            driver.cursor()

    def test_rows_without_their_parent_are_refused_before_a_migration_commits(self, backend, made):
        with backend.migrating(backend.connect(made, None)) as connection:
            connection.exec_driver_sql("INSERT INTO parts VALUES ('first')")
            backend.check_before_commit(connection)
            connection.exec_driver_sql("DELETE FROM things")
            with pytest.raises(Exception, match="parts"):
                backend.check_before_commit(connection)

    def test_an_error_that_says_nothing_about_health_is_not_explained(self, backend, engine):
        assert backend.explain(ValueError("no")) is None
        with pytest.raises(sa.exc.IntegrityError) as refused, transaction(engine, write=True) as connection:
            connection.execute(THINGS.insert(), {"name": "first"})
        assert backend.explain(refused.value) is None


# --- SQLite ---------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(tmp_path: Path) -> SQLiteBackend:
    return SQLiteBackend(tmp_path / "users")


@pytest.fixture
def file(sqlite: SQLiteBackend) -> Path:
    """Give user 1's file, made."""
    tenant = _place(sqlite)
    sqlite.create(tenant, blueprint(tenant), attempt())
    return sqlite.data_dir / "user_1.db"


def _place(sqlite: SQLiteBackend, user_id: int | None = 1, **more) -> Placement:
    planned = sqlite.plan(user_id or 1, DatabaseFields()) | more
    tenant_id = uuid.UUID(int=user_id or 0)
    return Placement(tenant_id=tenant_id, user_id=user_id, state=State.READY, version=1, epoch=1, **planned)


def _pragma(driver, name: str):
    return driver.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_connection_is_durable_and_bounded(sqlite, file):
    with closing(sqlite.connect(_place(sqlite), None)) as driver:
        assert _pragma(driver, "journal_mode") == "wal"
        assert _pragma(driver, "synchronous") == 2  # FULL
        assert _pragma(driver, "foreign_keys") == 1
        assert _pragma(driver, "cache_size") == -512
        assert _pragma(driver, "busy_timeout") == BUSY_TIMEOUT_S * 1000
        assert _pragma(driver, "trusted_schema") == 0
        with pytest.raises(sqlite3.OperationalError, match="too many attached"):
            driver.execute("ATTACH ':memory:' AS other")


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
    driver = sqlite.connect(_place(sqlite), None)
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
    for use_it in (lambda: sqlite.connect(tenant, None), lambda: sqlite.exists(tenant), lambda: sqlite.drop(tenant)):
        with pytest.raises(IdentityError, match="not theirs"):
            use_it()
    with pytest.raises(IdentityError):
        sqlite.create(tenant, blueprint(tenant), attempt())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["db_host", "db_port", "db_name", "db_user", "db_password", "db_path"])
def test_connection_fields_cannot_be_given(sqlite, name):
    with pytest.raises(ConfigurationError) as refused:
        sqlite.plan(1, DatabaseFields(**{name: "x"}))
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
    backend.create(tenant, blueprint(tenant), attempt())
    assert names(backend, tenant) == ["first"]
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
        closing(sqlite.connect(_place(sqlite), None)) as first,
        closing(sqlite.connect(_place(sqlite), None)) as second,
    ):
        first.execute("BEGIN IMMEDIATE")
        second.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(sqlite3.OperationalError) as locked:
            second.execute("BEGIN IMMEDIATE")
        assert isinstance(sqlite.explain(locked.value), DatabaseBusyError)


def test_readers_do_not_wait_for_a_writer(sqlite, file):
    with closing(sqlite.connect(_place(sqlite), None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO things VALUES ('not yet', 0)")
        assert names(sqlite, _place(sqlite)) == ["first"]


def test_a_full_disk_is_said_by_a_statement(sqlite, file):
    with closing(sqlite.connect(_place(sqlite), None)) as driver:
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
            sqlite.create(tenant, blueprint(tenant), attempt())
        except StorageFullError as error:
            return named(error)
        return "made"

    assert in_child(make_under_a_limit) == "StorageFullError"
    assert _files(file.parent) == ["user_1.db"]


def test_a_file_in_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "users").write_text("in the way")
    backend = SQLiteBackend(tmp_path / "users")
    with pytest.raises(AccessDeniedError, match="TENANT_DATA_DIR"):
        backend.create(_place(backend), blueprint(_place(backend)), attempt())
    assert (tmp_path / "users").read_text() == "in the way"


def test_a_wal_left_of_another_file_is_not_played_into_a_new_one(sqlite, file):
    """Somebody removed user_1.db and not its WAL: its rows must not come up in whatever is made next."""
    driver = sqlite.connect(_place(sqlite), None)
    with closing(driver):
        driver.execute("INSERT INTO things VALUES ('an old secret', 0)")
        kept = file.with_name("user_1.db-wal").read_bytes()
    file.unlink()
    file.with_name("user_1.db-wal").write_bytes(kept)
    tenant = _place(sqlite)
    with pytest.raises(DatabaseExistsError, match=r"user_1\.db-wal"):
        sqlite.create(tenant, blueprint(tenant), attempt(2))
    assert _files(file.parent) == ["user_1.db-wal"]
    sqlite.drop(tenant)
    sqlite.create(tenant, blueprint(tenant), attempt(3))
    assert names(sqlite, tenant) == ["first"]


def test_a_connection_to_a_removed_file_does_no_harm_to_its_successor(sqlite, file):
    """The last connection to a file removes its WAL when it closes, by name."""
    tenant = _place(sqlite)
    late = sqlite.connect(tenant, None)
    late.execute("INSERT INTO things VALUES ('before', 0)")
    sqlite.drop(tenant)
    sqlite.create(tenant, blueprint(tenant), attempt(2))
    with closing(sqlite.connect(tenant, None)) as driver:
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
        fresh.create(tenant, blueprint(tenant), attempt())
    assert _files(file.parent) == ["user_1.db"]
    _template(file).unlink()
    fresh.create(tenant, blueprint(tenant), attempt(2))
    assert names(fresh, tenant) == ["first"]


def test_a_template_is_made_once_and_again_for_another_schema(sqlite):
    built = []

    def drawing(tenant: Placement, fingerprint: str) -> Blueprint:
        plain = blueprint(tenant)

        def note_and_build(connection: sa.Connection) -> None:
            built.append(fingerprint)
            build(connection)

        return Blueprint(fingerprint, note_and_build, plain.fill)

    for user_id in (1, 2, 3):
        tenant = _place(sqlite, user_id)
        sqlite.create(tenant, drawing(tenant, "old" if user_id < 3 else "new"), attempt())
    assert built == ["old", "new"]


def test_a_template_whose_making_fails_leaves_nothing(sqlite):
    tenant = _place(sqlite)

    def fail(connection: sa.Connection) -> None:
        build(connection)
        raise Stopped

    with pytest.raises(Stopped):
        sqlite.create(tenant, Blueprint("f", fail, lambda connection: None), attempt())
    assert list((sqlite.data_dir / ".templates").iterdir()) == []
    sqlite.create(tenant, blueprint(tenant), attempt(2))


def test_processes_that_make_the_template_at_once_make_one(tmp_path):
    def make(user_id: int) -> list[str]:
        backend = SQLiteBackend(tmp_path / "users")
        tenant = _place(backend, user_id)
        go.wait()
        backend.create(tenant, blueprint(tenant, f"of {user_id}"), attempt())
        return names(backend, tenant)

    go = Gate()
    children = [forked(lambda n=n: make(n)) for n in range(1, 5)]
    go.open()
    assert [child.result() for child in children] == [[f"of {n}"] for n in range(1, 5)]
    assert len(list((tmp_path / "users" / ".templates").iterdir())) == 1


def test_threads_that_make_many_databases_at_once_mix_nothing_up(sqlite):
    tenants = [_place(sqlite, user_id) for user_id in range(1, 41)]

    def make(part: int) -> None:
        for tenant in tenants[part::8]:
            sqlite.create(tenant, blueprint(tenant, f"of {tenant.user_id}"), attempt())

    assert together([lambda n=n: make(n) for n in range(8)]) == [None] * 8
    assert [names(sqlite, tenant) for tenant in tenants] == [[f"of {tenant.user_id}"] for tenant in tenants]
    assert threading.active_count() < 50


# --- which backend --------------------------------------------------------------------------------------


def test_an_unknown_type_names_the_field_and_a_known_one_says_it_is_not_there(tmp_path):
    backends = Backends(tmp_path)
    assert backends.get("sqlite").name == "sqlite"
    with pytest.raises(ConfigurationError, match="db_type must be one of") as refused:
        backends.get("oracle")
    assert refused.value.field == "db_type"
    with pytest.raises(UnsupportedBackendError, match="not available in this version"):
        backends.get("sqlserver")


@pytest.mark.parametrize("url", ["nonsense", "oracle://secret@host/db", "://"])
def test_a_url_of_no_known_database_names_the_setting_and_not_the_url(tmp_path, url):
    with pytest.raises(ConfigurationError) as refused:
        Backends(tmp_path).for_url(url, "ADMIN_DATABASE_URL")
    assert refused.value.field == "ADMIN_DATABASE_URL"
    assert "secret" not in str(refused.value)
