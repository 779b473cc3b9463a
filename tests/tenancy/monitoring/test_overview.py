"""The console's questions: the fleet at a glance, a tenant's report, the audit log, health; in both modes."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog.tables import audit_log
from tenancy.errors import AuditBrokenError, ConfigurationError, UserNotFoundError
from tests.support.applications import add_tenants, add_users, change_config


@pytest.fixture
def statements(any_parts):
    sent = []

    def note(connection, cursor, statement, *_):
        sent.append(statement)

    sa.event.listen(any_parts.catalog.engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(any_parts.catalog.engine, "before_cursor_execute", note)


def test_the_glance_is_a_handful_of_statements_whatever_there_is(any_parts, statements):
    add_users(any_parts, 1)
    statements.clear()
    any_parts.manager.reports.overview()
    first = len(statements)
    add_tenants(any_parts, 5)
    statements.clear()
    found = any_parts.manager.reports.overview()
    assert len(statements) <= first <= 7
    assert found["accounts"] == 6


def test_the_glance_tells_each_mode_apart(parts, shared_parts):
    add_tenants(parts, 2)
    add_users(parts, 1)
    found = parts.manager.reports.overview()
    assert (found["databases"], found["without_database"], found["by_state"]) == (2, 1, {"ready": 2})
    assert found["by_revision"] == {parts.manager.head: 2}
    shared = shared_parts.manager.reports.overview()
    assert (shared["databases"], shared["without_database"], shared["largest"]) == (1, 0, [])


def test_the_glance_names_who_is_in_trouble_once(parts):
    (user_id,) = add_tenants(parts, 1)
    for code in ("database_busy", "storage_full"):
        parts.manager.note_error(user_id, code, "no", None)
    parts.activity.flush()
    ((who, email, code, at),) = parts.manager.reports.overview()["troubled"]
    assert (who, email, code) == (user_id, "user0@example.org", "storage_full")
    assert at.tzinfo is not None


def test_an_unfiltered_page_is_one_statement(any_parts, statements):
    add_tenants(any_parts, 3)
    statements.clear()
    rows, place = any_parts.manager.reports.accounts_page(limit=2)
    assert (len(rows), len(statements)) == (2, 1)
    rest, end = any_parts.manager.reports.accounts_page(limit=2, after=place)
    assert (len(rest), end) == (1, None)
    assert {row["status"] for row in rows + rest} == {"ready"}


@pytest.mark.parametrize("sort", ["id", "email", "created", "used", "size"])
def test_where_all_share_one_database_every_order_and_filter_works(shared_parts, sort):
    add_users(shared_parts, 3)
    for wanted, number in (({}, 3), ({"state": "ready"}, 3), ({"state": "failed"}, 0), ({"account": "without"}, 0)):
        rows, _ = shared_parts.manager.reports.accounts_page(sort=sort, **wanted)
        assert len(rows) == number


def test_an_unknown_order_or_kind_of_account_is_refused(any_parts):
    add_users(any_parts, 1)
    for wrong in ({"sort": "password_hash"}, {"account": "rich"}):
        with pytest.raises(ConfigurationError):
            any_parts.manager.reports.accounts_page(**wrong)


def test_a_report_holds_what_the_database_says_of_itself(any_parts):
    (user_id,) = add_users(any_parts, 1)
    any_parts.manager.provision(user_id)
    report = any_parts.manager.reports.tenant(user_id)
    assert report["account"]["id"] == user_id
    assert report["identity"]["tenant_id"] == report["config"]["tenant_id"]
    assert report["identity"]["user_id"] == (user_id if any_parts.manager.multi_tenant else None)
    assert [entry["revision"] for entry in report["ledger"]] == list(any_parts.manager.chain.checksums)
    assert report["ledger"][0]["applied_at"].tzinfo is not None
    assert (report["claim"], report["errors"], "unreachable" in report) == (None, [], False)


def test_a_report_shows_no_secret(parts):
    (user_id,) = add_tenants(parts, 1)
    change_config(parts.manager, user_id, db_password="sealed-hunter2", db_options='{"key": "hunter2"}')
    text = (
        str(parts.manager.reports.tenant(user_id))
        + str(parts.manager.reports.accounts_page())
        + str(parts.manager.reports.health())
    )
    assert "hunter2" not in text


def test_a_report_is_given_where_the_database_cannot_be_reached(parts, no_sqlserver_driver):
    gone, damaged, foreign, unbuilt = add_tenants(parts, 4)
    folder = parts.settings.tenant_data_dir
    (folder / f"user_{gone}.db").unlink()
    (folder / f"user_{damaged}.db").write_bytes(b"no database " * 1000)
    change_config(parts.manager, foreign, tenant_id=uuid.uuid4())
    change_config(parts.manager, unbuilt, db_type="sqlserver")
    codes = {
        user_id: parts.manager.reports.tenant(user_id)["unreachable"]["code"]
        for user_id in (gone, damaged, foreign, unbuilt)
    }
    assert codes == {
        gone: "database_missing",
        damaged: "database_unreachable",
        foreign: "identity_mismatch",
        unbuilt: "credential_tampered",
    }


def test_a_report_reads_a_database_that_is_behind_or_suspended(parts):
    (user_id,) = add_tenants(parts, 1)
    parts.manager.suspend(user_id)
    change_config(parts.manager, user_id, revision="0000")
    report = parts.manager.reports.tenant(user_id)
    assert (report["config"]["status"], report["config"]["behind"]) == ("suspended", True)
    assert (report["identity"]["state"], len(report["ledger"]) > 0) == ("suspended", True)


def test_a_report_leaves_no_connection_and_changes_nothing(parts):
    (user_id,) = add_tenants(parts, 1)
    before = parts.manager.engines.stats()
    parts.manager.reports.tenant(user_id)
    assert parts.manager.engines.stats() == before
    assert not (parts.settings.tenant_data_dir / f"user_{user_id}.db-shm").exists()


def test_a_report_of_somebody_without_a_database_and_of_nobody(parts):
    (user_id,) = add_users(parts, 1)
    report = parts.manager.reports.tenant(user_id)
    assert (report["config"], report["identity"], report["ledger"]) == (None, None, [])
    with pytest.raises(UserNotFoundError):
        parts.manager.reports.tenant(4711)


def test_a_report_names_the_operation_under_way(parts):
    (user_id,) = add_tenants(parts, 1)
    tenant = parts.manager.tenant_of(user_id)
    with parts.catalog.writing() as connection:
        parts.manager.provisioner.claim(connection, tenant, "move")
    claim = parts.manager.reports.tenant(user_id)["claim"]
    assert claim["operation"] == "move"
    assert claim["expires_at"] > datetime.now(UTC)


def test_the_audit_log_is_paged_newest_first_and_filtered(any_parts):
    first = any_parts.accounts.create("a@example.org")
    second = any_parts.accounts.create("b@example.org", is_admin=True)
    with any_parts.manager.tenant(first.id, actor_id=second.id):
        any_parts.accounts.promote(first.id)
    manager = any_parts.manager
    newest, *older = manager.audit.page()
    assert (newest["action"], newest["email"], newest["actor_email"]) == (
        "user.promote",
        "a@example.org",
        "b@example.org",
    )
    assert newest["at"].tzinfo is not None
    assert "seal" not in newest
    assert [row["action"] for row in manager.audit.page(user_id=first.id)] == ["user.promote", "user.create"]
    assert [row["id"] for row in manager.audit.page(actor_id=second.id)] == [newest["id"]]
    assert manager.audit.page(before_id=newest["id"]) == older
    assert manager.audit.page(since=datetime.now(UTC) + timedelta(minutes=1)) == []
    assert len(manager.audit.page(until=datetime.now(UTC) + timedelta(minutes=1))) == len(older) + 1
    assert manager.audit.page(action="user.create", limit=1)[0]["detail"] == {"is_admin": True}
    assert {"user.create", "user.promote"} <= set(manager.audit.actions())
    assert manager.audit.actions() == sorted(manager.audit.actions())


def test_an_export_goes_through_everything_in_steps(any_parts, monkeypatch):
    from tenancy.monitoring import audit

    monkeypatch.setattr(audit, "EXPORTED_AT_ONCE", 2)
    for number in range(5):
        any_parts.accounts.create(f"p{number}@example.org")
    found = list(any_parts.manager.audit.entries(action="user.create"))
    assert found == any_parts.manager.audit.page(action="user.create")
    assert len(found) == 5


def test_a_changed_audit_row_is_found(any_parts):
    any_parts.accounts.create("a@example.org")
    rows = any_parts.manager.audit.verify()["rows"]
    assert rows == len(any_parts.manager.audit.page())
    with any_parts.catalog.writing() as connection:
        connection.execute(audit_log.update(), {"action": "user.nothing"})
    with pytest.raises(AuditBrokenError):
        any_parts.manager.audit.verify()


def test_health_tells_how_everything_is(any_parts):
    found = any_parts.manager.reports.health()
    assert (found["catalog"]["at_head"], found["catalog"]["db_type"]) == (True, "sqlite")
    assert found["storage"]["sqlite"]["problem"] == ""
    assert 0 < found["storage"]["sqlite"]["free_bytes"] <= found["storage"]["sqlite"]["total_bytes"]
    assert found["engines"]["connection_limit"] > found["engines"]["connections"]
    assert [key["newest"] for key in found["credential_keys"]] == [True]
    assert found["tenants"]["failed"] == found["tenants"]["behind"] == 0


def test_health_finds_a_data_folder_that_cannot_be_made_before_anybody_needs_it(make_parts, tmp_path):
    (tmp_path / "taken").write_text("a file")
    found = make_parts(tenant_data_dir=tmp_path / "taken" / "users").manager.reports.health()["storage"]["sqlite"]
    assert (found["exists"], found["problem"]) == (False, "TENANT_DATA_DIR cannot be made: taken is not a folder.")


def test_health_counts_which_keys_are_needed_and_names_a_lost_one(parts):
    first, second = add_tenants(parts, 2)
    newest = parts.manager.keyring.newest
    change_config(parts.manager, first, db_password=f"{newest}.secret")
    change_config(parts.manager, second, db_password="deadbeef.secret")
    keys = {key["key_id"]: (key["known"], key["used_by"]) for key in parts.manager.reports.health()["credential_keys"]}
    assert keys == {newest: (True, 1), "deadbeef": (False, 1)}


def test_health_answers_where_the_catalog_does_not(make_parts, tmp_path):
    parts = make_parts()
    parts.catalog.close()
    (tmp_path / "admin.db").rename(tmp_path / "elsewhere.db")
    found = parts.manager.reports.health()
    assert (found["catalog"]["reachable"], found["tenants"], found["credential_keys"]) == (False, None, None)
