"""One contract for every product: what archives are made from, and what fills a database that nobody uses yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from tenancy.backends.copying import BATCH_BYTES, BATCH_ROWS, Column, Kind, Table, by_size
from tenancy.errors import BackendError, MigrationError, ReadOnlyRouteError
from tenancy.models import Tenant
from tests.support.engines import ENGINES, use
from tests.support.homes import THINGS, Home, attempt, blueprint, home_of

TEXT = sa.String(40)
OF_THINGS = Table("things", (Column("name", Kind.TEXT, TEXT), Column("counter", Kind.INTEGER, sa.Integer())), ("name",))
OF_PARTS = Table("parts", (Column("thing", Kind.TEXT, TEXT),))
NAMES = ["", "A", "Z", "a", "a ", "a\t", "aa", "z", "Ä", "ß", "é", "\ufffd", "😀"]
"""In the order of their bytes in UTF-8, which is no language's."""


@pytest.fixture(params=ENGINES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return home_of(use(request, request.param), tmp_path_factory.mktemp("home"))


@pytest.fixture
def made(home: Home) -> Iterator[Tenant]:
    placed = home.place()
    home.create(placed, blueprint(placed), attempt())
    yield placed
    home.drop(placed)


def write(home: Home, tenant: Tenant, statement: sa.Executable, values: Any = None) -> None:
    with home.backend.filling(home.connect_to_migrate(tenant)) as connection:
        connection.execute(statement, values)
        connection.commit()


def load(home: Home, tenant: Tenant, table: Table, rows: list[Any]) -> None:
    with home.backend.copying.loading(tenant, home.access(tenant)) as connection:
        with home.backend.copying.unordered(connection):
            home.backend.copying.insert(connection, table, rows)
        connection.commit()


def read(home: Home, tenant: Tenant, table: Table) -> list[tuple[Any, ...]]:
    with home.backend.copying.snapshot(tenant, home.access(tenant)) as connection:
        return [tuple(row) for batch in home.backend.copying.rows(connection, table) for row in batch]


def test_a_snapshot_shows_one_state_while_others_write(home, made):
    copying = home.backend.copying
    with copying.snapshot(made, home.access(made)) as connection:
        writer = threading.Thread(target=write, args=(home, made, THINGS.insert(), {"name": "later", "counter": 1}))
        writer.start()
        writer.join(20)
        assert not writer.is_alive()
        found = [row for batch in copying.rows(connection, OF_THINGS) for row in batch]
        assert [tuple(row) for row in found] == [("first", 0)]
    assert [name for name, _ in read(home, made, OF_THINGS)] == ["first", "later"]


def test_a_snapshot_cannot_write(home, made):
    if home.backend.name == "sqlserver":
        pytest.skip("it has no read-only transactions")
    with (
        pytest.raises(ReadOnlyRouteError),
        home.backend.copying.snapshot(made, home.access(made)) as connection,
    ):
        connection.execute(THINGS.delete())


def test_all_tables_are_listed_with_their_columns(home, made):
    with home.backend.copying.snapshot(made, home.access(made)) as connection:
        found = home.backend.copying.tables(connection)
    assert set(found) == {"things", "parts", "tenancy_identity", "tenancy_ledger", "tenant_version"}
    assert found["things"] == ("name", "counter")


def test_texts_are_sorted_by_their_bytes(home, made):
    write(home, made, THINGS.delete())
    load(home, made, OF_THINGS, [(name, None) for name in reversed(NAMES) if name != "a "])
    assert [name for name, _ in read(home, made, OF_THINGS)] == [name for name in NAMES if name != "a "]


def test_a_table_without_a_key_is_sorted_by_all_columns_null_first(home, made):
    write(home, made, THINGS.insert(), [{"name": name, "counter": 0} for name in ("A", "a")])
    load(home, made, OF_PARTS, [("a",), (None,), ("A",), ("a",)])
    assert read(home, made, OF_PARTS) == [(None,), ("A",), ("a",), ("a",)]


def test_many_rows_come_in_batches(home, made):
    write(home, made, THINGS.delete())
    load(home, made, OF_THINGS, [(f"{number:06}", number) for number in range(3 * BATCH_ROWS + 1)])
    with home.backend.copying.snapshot(made, home.access(made)) as connection:
        sizes = [len(batch) for batch in home.backend.copying.rows(connection, OF_THINGS)]
    assert sizes == [BATCH_ROWS] * 3 + [1]


def test_rows_may_come_before_their_parents(home, made):
    copying = home.backend.copying
    with copying.loading(made, home.access(made)) as connection:
        with copying.unordered(connection):
            copying.insert(connection, OF_PARTS, [("second",)])
            with copying.unordered(connection):  # a second load in the same transaction
                copying.insert(connection, OF_THINGS, [("second", 2)])
        connection.commit()
    assert read(home, made, OF_PARTS) == [("second",)]
    with pytest.raises((sa.exc.IntegrityError, BackendError, MigrationError)):
        write(home, made, sa.table("parts", sa.column("thing")).insert(), {"thing": "none"})
        with home.backend.migrating(home.connect_to_migrate(made)) as connection:  # SQLite's plain connections look
            home.backend.check_before_commit(connection)


def test_a_row_without_its_parent_is_found(home, made):
    with pytest.raises((MigrationError, BackendError)):
        load(home, made, OF_PARTS, [("nobody",)])
    assert read(home, made, OF_PARTS) == []


def test_values_are_taken_as_they_are_given(home, made):
    odd = ["%s", "?", ":name", "\\", "'", '"', "a\nb", "{}", "%(x)s"]
    write(home, made, THINGS.delete())
    load(home, made, OF_THINGS, [(name, None) for name in odd])
    assert sorted(name for name, _ in read(home, made, OF_THINGS)) == sorted(odd)


def test_a_batch_ends_when_its_values_are_large():
    rows = [("x" * (BATCH_BYTES // 2), n) for n in range(5)] + [("", n) for n in range(BATCH_ROWS + 1)]
    assert [len(batch) for batch in by_size(iter(rows), [0])] == [2, 2, BATCH_ROWS, 2]


def test_an_open_cursor_does_not_outlive_its_reader(home, made):
    write(home, made, THINGS.insert(), [{"name": f"{n}", "counter": n} for n in range(20)])
    with home.backend.copying.snapshot(made, home.access(made)) as connection:
        with closing(home.backend.copying.rows(connection, OF_THINGS)) as rows:
            next(rows)
        assert home.backend.copying.tables(connection)
