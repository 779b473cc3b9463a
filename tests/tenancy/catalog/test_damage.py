"""One damaged row of the catalog: every list names it and shows the others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tenancy.backends.server.sql import run
from tenancy.catalog import Catalog, api_keys, damage, runs, servers, sessions, tenant_errors, tenants
from tenancy.catalog.runs import Rules, Selection
from tenancy.catalog.tables import catalog_metadata
from tenancy.catalog.tenant_errors import TenantErrorEntry
from tenancy.credentials import rotation
from tenancy.credentials.keyring import Keyring, generate_key
from tenancy.errors import CatalogDamagedError, CatalogNotReadyError
from tests.conftest import make_user
from tests.support import engines
from tests.support.applications import keep_server

NO_UTF8 = "CAST(x'67c328' AS TEXT)"
BLOB = "x'c328'"
SPOILT = {"text": NO_UTF8, "blob": BLOB}


@pytest.fixture
def spoil(parts):
    """Give a function that writes what is no value into one column of one row, past SQLAlchemy."""

    def write(table, column, row, value):
        path = parts.settings.admin_database_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as driver:
            driver.execute("PRAGMA foreign_keys = off")
            done = driver.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = {row}")
            driver.commit()
        assert done.rowcount == 1

    return write


@pytest.fixture
def three(parts):
    return [make_user(parts, f"user{number}@example.org") for number in range(3)]


def test_a_session_that_the_server_ended_is_no_damage(request):
    backend, login = engines.backend_of(engines.use(request, "postgresql")), engines.server_login("postgresql")
    address = engines.server_address("postgresql").set(database="postgres")
    engine = backend.catalog_engine(address.render_as_string(hide_password=False))
    catalog = Catalog(engine, "k" * 32)
    query = sa.select(sa.literal(1).label("one"))
    with pytest.raises(CatalogNotReadyError), catalog.reading() as connection:
        ours = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
        with closing(backend.open(login)) as other:
            run(other, f"SELECT pg_terminate_backend({ours})")
        damage.read(connection, query)
    engine.dispose()


def listed(manager):
    return {row["user_id"]: row["damaged"] for row in manager.reports.databases()}


@pytest.mark.parametrize(
    ("column", "value"),
    [("db_password", NO_UTF8), ("db_password", BLOB), ("state", NO_UTF8), ("tenant_id", BLOB), ("last_used_at", BLOB)],
    ids=["text", "blob", "state", "id", "moment"],
)
def test_a_database_whose_row_is_damaged_is_listed_and_named_beside_the_others(parts, three, spoil, column, value):
    first, bad, last = (user.id for user in three)
    spoil("user_database_configs", column, bad, value)
    manager = parts.manager
    assert listed(manager) == {first: [], bad: [column], last: []}
    stats = manager.get_user_database_stats()
    assert [entry.get("damaged") for entry in stats["databases"]] == [None, [column], None]
    assert stats["total_databases"] == 3
    (shown,) = [row for row in manager.reports.databases() if row["user_id"] == bad]
    assert (shown["last_error_code"], column in shown["last_error"]) == ("catalog_damaged", True)
    results = manager.initialize_all(lambda result: None)
    named = [(result.user_id, result.error.code) for result in results if not result.ok]
    assert named == [(bad, "catalog_damaged")]
    assert manager.reports.test(first)["ok"]
    with pytest.raises(CatalogDamagedError):
        manager.tenant_of(bad)


@pytest.mark.parametrize("value", SPOILT.values(), ids=SPOILT)
def test_rotating_counts_and_names_what_cannot_be_read_and_seals_the_rest(parts, three, spoil, value):
    manager = parts.manager
    keep_server(manager, "good")
    keep_server(manager, "bad")
    with manager.catalog.writing() as connection:
        for user in three:
            tenant = tenants.get(connection, user.id)
            tenants.change(connection, tenant, db_password=manager.keyring.seal("x", tenant.binding))
    spoil("user_database_configs", "db_password", three[1].id, value)
    spoil("database_servers", "db_password", 2, value)
    fresh = generate_key()
    both = Keyring([fresh, *parts.settings.tenant_credential_keys])
    assert rotation.status(manager.catalog, both)["unreadable"] == 2
    done = rotation.rotate(manager.catalog, both)
    assert (done["rotated"], done["unreadable"], done["to_rotate"]) == (3, 2, 2)
    code = CatalogDamagedError.code
    assert [(one.get("user_id") or one["server"], one["code"]) for one in done["failed"]] == [
        (three[1].id, code),
        ("bad", code),
    ]


@pytest.fixture
def filled(parts, three):
    """Leave a row in each table that is listed, for the first user."""
    manager, user = parts.manager, three[0]
    keep_server(manager, "one")
    with manager.catalog.writing() as connection:
        api_keys.add(connection, user.id, "k", False, None)
        sessions.add(connection, user.id, "t", datetime(2100, 1, 1, tzinfo=UTC), {"user_agent": "u", "address": "a"})
        moment = datetime.now(UTC)
        tenant_errors.add(connection, {(user.id, "a"): TenantErrorEntry("m", moment, moment)})
        run = runs.add(connection, "migrate", Selection().written(), Rules(), target="0002")
        runs.add_items(connection, run, [sa.true()], sa.literal("0002"), [0, 3])
    return manager, user


LISTS = {
    "users": lambda manager, user: manager.initialize_all(lambda result: None) and manager.reports.accounts_page()[0],
    "user_database_configs": lambda manager, user: manager.reports.databases() and manager.reports.accounts_page()[0],
    "database_servers": lambda manager, user: manager.servers(),
    "sessions": lambda manager, user: in_reading(manager, lambda c: sessions.of_user(c, user.id)),
    "api_keys": lambda manager, user: in_reading(manager, lambda c: api_keys.of_user(c, user.id)),
    "audit_log": lambda manager, user: manager.audit.page(),
    "tenant_errors": lambda manager, user: (
        manager.reports.overview()["troubled"] and manager.reports.tenant(user.id)["errors"]
    ),
    "fleet_runs": lambda manager, user: manager.fleet.recent(),
    "fleet_items": lambda manager, user: manager.fleet.items(1),
}


def in_reading(manager, work):
    with manager.catalog.reading() as connection:
        return work(connection)


@pytest.mark.parametrize("table", LISTS)
def test_whatever_column_is_damaged_a_list_is_as_long_as_before(filled, spoil, table):
    manager, user = filled
    number = len(LISTS[table](manager, user))
    assert number
    path = str(manager.catalog.engine.url.database)
    for column in catalog_metadata.tables[table].columns:
        asked_by = ("run_id", "user_id", "token_hash", "expires_at", "purpose")  # a list is asked for by these
        if column.name == "id" or column.name in asked_by or column.name.endswith("_key"):
            continue
        with closing(sqlite3.connect(path)) as driver:
            kept = driver.execute(f"SELECT quote({column.name}) FROM {table} WHERE rowid = 1").fetchone()[0]
        for value in (*SPOILT.values(), kept):
            spoil(table, column.name, 1, value)
            assert len(LISTS[table](manager, user)) == number, (column.name, value)


def test_the_row_and_its_column_are_told_to_the_log_without_what_stands_there(parts, three, spoil, caplog):
    spoil("users", "display_name", three[1].id, "CAST(x'736563726574c3' AS TEXT)")
    names = [user.display_name for user in parts.accounts.list()]
    assert names == [three[0].display_name, damage.UNREADABLE, three[2].display_name]
    told = caplog.text
    assert f"users.id {three[1].id}" in told
    assert "display_name" in told
    assert "secret" not in told


def test_a_damaged_audit_row_is_named_as_changed(parts, three, spoil):
    spoil("audit_log", "detail", 2, NO_UTF8)
    with pytest.raises(Exception, match="audit row 2 was changed"):
        parts.manager.audit.verify()


def test_a_server_whose_row_is_damaged_takes_no_database_and_the_other_does(parts, spoil):
    keep_server(parts.manager, "bad")
    keep_server(parts.manager, "good")
    spoil("database_servers", "db_host", 1, BLOB)
    with parts.catalog.writing() as connection:
        assert servers.place(connection, "postgresql").name == "good"


def test_accounts_are_listed_in_the_console_with_what_can_be_read(parts, three, spoil):
    spoil("users", "email", three[0].id, NO_UTF8)
    rows, _ = parts.manager.reports.accounts_page(sort="created")
    assert [row["email"] for row in rows] == [damage.UNREADABLE, three[1].email, three[2].email]


def test_a_damaged_epoch_of_an_account_hinders_no_database_that_is_there(parts, three, spoil):
    whole, gone = three[0].id, three[1].id
    parts.manager.delete_user_database(gone)
    for user_id in (whole, gone):
        spoil("users", "database_epoch", user_id, "'x'")
    assert not parts.manager.provision(whole).created
    with pytest.raises(CatalogDamagedError, match=f"user {gone}"):
        parts.manager.provision(gone)
