"""Errors and sizes of tenants: noticed on the way, kept in memory, written off the request, forgotten in time."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.backends.base import DatabaseFields
from tenancy.backends.server.sql import run
from tenancy.catalog import tenant_errors as tenant_error_rows, tenant_sizes as tenant_size_rows
from tenancy.catalog.tables import SHARED_OWNER, tenant_errors, tenant_sizes
from tenancy.errors import DatabaseMissingError, DatabaseTimeoutError, TenantNotReadyError
from tenancy.monitoring import observations as room
from tests.support.applications import add_tenants, add_users, change_config
from tests.support.engines import server_address, use
from tests.support.servers import listener


@pytest.fixture
def server_url(request) -> str:
    return server_address(use(request, "postgresql")).render_as_string(hide_password=False)


def errors(parts, owner):
    with parts.catalog.reading() as connection:
        return tenant_error_rows.of_owner(connection, owner)


def used(parts, *ids):
    return [parts.manager.tenant_of(user_id) for user_id in ids]


def measured(parts, owner):
    with parts.catalog.reading() as connection:
        return tenant_size_rows.of_owner(connection, owner)


def test_an_error_is_written_later_and_the_same_again_is_counted(parts):
    (user_id,) = add_users(parts, 1)
    for number in range(3):
        parts.manager.note_error(user_id, "database_busy", f"try {number}", f"request-{number}")
    assert errors(parts, user_id) == []
    parts.activity.flush()
    parts.manager.note_error(user_id, "database_busy", "the last", "request-9")
    parts.manager.note_error(user_id, "storage_full", "full", None)
    parts.activity.flush()
    full, busy = errors(parts, user_id)
    assert (full["code"], full["count"], full["message"]) == ("storage_full", 1, "full")
    assert (busy["count"], busy["message"], busy["request_id"]) == (4, "the last", "request-9")
    assert busy["first_at"] < busy["last_at"] <= datetime.now(UTC)


def test_a_database_that_is_gone_is_noted_by_whoever_meets_it(parts):
    (user_id,) = add_tenants(parts, 1)
    (parts.settings.tenant_data_dir / f"user_{user_id}.db").unlink()
    for _ in range(2):
        with pytest.raises(DatabaseMissingError), parts.manager.session(user_id) as session:
            session.execute(sa.text("SELECT 1"))
    parts.activity.flush()
    assert [(found["code"], found["count"]) for found in errors(parts, user_id)] == [("database_missing", 2)]


def test_an_operation_that_fails_is_noted(make_parts, tmp_path):
    (tmp_path / "taken").write_text("a file")
    parts = make_parts(tenant_data_dir=tmp_path / "taken" / "users")
    (user_id,) = add_users(parts, 1)
    with pytest.raises(room.BackendError):
        parts.manager.provision(user_id)
    parts.activity.flush()
    assert [found["code"] for found in errors(parts, user_id)] == ["access_denied"]


def test_a_suspended_database_is_no_error(parts):
    (user_id,) = add_tenants(parts, 1)
    parts.manager.suspend(user_id)
    with pytest.raises(TenantNotReadyError), parts.manager.session(user_id):
        pytest.fail("it is suspended")
    parts.activity.flush()
    assert errors(parts, user_id) == []


def test_what_is_wrong_with_the_shared_database_is_noted_once_for_all(shared_parts):
    for user_id in add_users(shared_parts, 2):
        shared_parts.manager.note_error(user_id, "database_busy", "busy", None)
    shared_parts.activity.flush()
    assert [found["count"] for found in errors(shared_parts, SHARED_OWNER)] == [2]


def test_memory_is_bounded(parts, monkeypatch):
    monkeypatch.setattr(room, "MOST_NOTES", 3)
    for user_id in range(1, 9):
        parts.manager.note_error(user_id, "database_busy", "x" * 10_000, None)
    parts.activity.flush()
    with parts.catalog.reading() as connection:
        rows = connection.execute(sa.select(tenant_errors)).all()
    assert len(rows) == 3
    assert {len(row.message) for row in rows} == {room.LONGEST}


def test_what_has_not_happened_for_long_is_forgotten(parts):
    old, new = add_users(parts, 2)
    parts.manager.note_error(old, "database_busy", "long ago", None)
    parts.activity.flush()
    past = datetime.now(UTC) - timedelta(days=tenant_error_rows.KEPT_DAYS + 1)
    with parts.catalog.writing() as connection:
        connection.execute(tenant_errors.update(), {"last_at": past})
    parts.manager.note_error(new, "database_busy", "now", None)
    parts.activity.flush()
    assert (errors(parts, old), len(errors(parts, new))) == ([], 1)


def test_a_used_database_is_measured_once_a_day(parts):
    first, second = add_tenants(parts, 2)
    parts.manager.observations.flush(used(parts, first))
    again = room.Observations(parts.catalog, parts.manager.backends)
    again.flush(used(parts, first, second))
    ((day, size),) = measured(parts, first)
    assert day == tenant_size_rows.today()
    assert size == parts.manager.reports.info(first)["size_bytes"] > 0
    assert len(measured(parts, second)) == 1
    rows, _ = parts.manager.reports.accounts_page(sort="size")
    assert [row["size_bytes"] for row in rows] == [size, measured(parts, second)[0][1]]


def test_the_next_day_it_is_measured_again_and_old_days_go(parts, monkeypatch):
    (user_id,) = add_tenants(parts, 1)
    start = tenant_size_rows.today()
    for number in (0, 1, tenant_size_rows.KEPT_DAYS):
        monkeypatch.setattr(tenant_size_rows, "today", lambda number=number: start + timedelta(days=number))
        parts.manager.observations.flush(used(parts, user_id))
    assert [day - start for day, _ in measured(parts, user_id)] == [
        timedelta(days=1),
        timedelta(days=tenant_size_rows.KEPT_DAYS),
    ]


def test_a_database_that_cannot_be_measured_stops_nothing(parts, caplog):
    gone, there = add_tenants(parts, 2)
    change_config(parts.manager, gone, db_type="sqlserver")
    parts.manager.observations.flush(used(parts, gone, there))
    assert (measured(parts, gone), len(measured(parts, there))) == ([], 1)


def test_the_catalog_can_be_written_while_a_database_is_measured(parts, monkeypatch):
    """Whoever signs up while a database takes its time is not told that the catalog is busy."""
    (user_id,) = add_tenants(parts, 1)
    backend = parts.manager.backends.get("sqlite")
    real = backend.size_bytes

    def while_somebody_signs_up(*asked):
        add_users(parts, 1)
        return real(*asked)

    monkeypatch.setattr(backend, "size_bytes", while_somebody_signs_up)
    parts.manager.observations.flush(used(parts, user_id))
    assert len(measured(parts, user_id)) == 1


def test_two_processes_that_measure_one_database_at_once_write_one_figure(parts, monkeypatch):
    first, second = add_tenants(parts, 2)
    other = room.Observations(parts.catalog, parts.manager.backends)
    backend = parts.manager.backends.get("sqlite")
    real = backend.size_bytes

    def after_the_other_process(*asked):
        monkeypatch.setattr(backend, "size_bytes", real)
        other.flush(used(parts, first))
        return real(*asked)

    monkeypatch.setattr(backend, "size_bytes", after_the_other_process)
    parts.manager.observations.flush(used(parts, first, second))
    assert (len(measured(parts, first)), len(measured(parts, second))) == (1, 1)


@pytest.mark.parametrize("answer", [LookupError("anything"), -1, 2**70], ids=["raises", "negative", "too-large"])
def test_whatever_one_database_answers_the_others_are_measured(parts, monkeypatch, answer):
    strange, plain = add_tenants(parts, 2)
    backend = parts.manager.backends.get("sqlite")
    real = backend.size_bytes

    def asked(tenant, access):
        if tenant.user_id != strange:
            return real(tenant, access)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(backend, "size_bytes", asked)
    parts.manager.observations.flush(used(parts, strange, plain))
    assert (measured(parts, strange), len(measured(parts, plain))) == ([], 1)


def test_functions_that_the_owner_of_a_database_put_in_the_way_are_not_called(make_parts, server_url):
    parts = make_parts(default_tenant_db_type="postgresql")
    parts.manager.servers.add("one", "postgresql", server_url)
    (user_id,) = add_users(parts, 1)
    tenant = parts.manager.provision(user_id).tenant
    backend = parts.manager.backends.get("postgresql")
    try:
        with closing(backend.connect_to_migrate(tenant, parts.manager.services.access(tenant))) as driver:
            run(
                driver,
                "CREATE SCHEMA owners",
                "CREATE FUNCTION owners.pg_database_size(name) RETURNS bigint LANGUAGE plpgsql"
                " AS $$ BEGIN RAISE EXCEPTION 'called' USING ERRCODE = 'ZZ999'; END $$",
                "CREATE FUNCTION owners.current_database() RETURNS name LANGUAGE sql AS $$ SELECT 'postgres'::name $$",
                f"ALTER DATABASE {tenant.db_name} SET search_path = owners, public, pg_catalog",
            )
            driver.commit()
        parts.manager.observations.flush([tenant])
        assert len(measured(parts, user_id)) == 1
    finally:
        parts.manager.delete_user_database(user_id)


def test_a_server_that_is_silent_is_asked_once_a_round_and_the_others_are_measured(parts):
    first, second, elsewhere = add_users(parts, 3)
    parts.manager.provision(elsewhere)
    with listener() as (port, met):
        silent = DatabaseFields("mysql", "127.0.0.1", port, "some", "somebody", "x", None, {"connect_timeout_s": 1})
        for user_id in (first, second):
            with pytest.raises(DatabaseTimeoutError):
                parts.manager.provision(user_id, silent)
        before = len(met)
        parts.manager.observations.flush(used(parts, first, second, elsewhere))
        assert len(met) - before == 1
    assert (measured(parts, first), measured(parts, second), len(measured(parts, elsewhere))) == ([], [], 1)


def test_the_shared_database_is_measured_for_all(shared_parts):
    (user_id,) = add_users(shared_parts, 1)
    shared_parts.manager.provision(user_id)
    shared_parts.manager.observations.flush(used(shared_parts, user_id))
    ((_, size),) = measured(shared_parts, SHARED_OWNER)
    (row,), _ = shared_parts.manager.reports.accounts_page()
    assert row["size_bytes"] == size > 0


def test_deleting_a_database_forgets_its_sizes_and_errors(parts):
    (user_id,) = add_tenants(parts, 1)
    parts.manager.note_error(user_id, "database_busy", "busy", None)
    parts.manager.observations.flush(used(parts, user_id))
    parts.manager.delete_user_database(user_id)
    with parts.catalog.reading() as connection:
        assert (
            connection.execute(sa.select(tenant_errors)).all()
            == connection.execute(sa.select(tenant_sizes)).all()
            == []
        )


def test_of_two_databases_that_a_user_had_since_the_later_one_is_measured(parts):
    (user_id,) = add_tenants(parts, 1)
    earlier = used(parts, user_id)
    parts.manager.delete_user_database(user_id)
    parts.manager.provision(user_id)
    parts.manager.observations.flush([*earlier, *used(parts, user_id)])
    assert len(measured(parts, user_id)) == 1
