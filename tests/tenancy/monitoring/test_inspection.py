"""Operators' questions: where a database is, how large, how it is, and what is wrong with it; never a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenancy.catalog import tenant_sizes, tenants
from tenancy.catalog.tables import CATALOG_VERSION_TABLE, shared_database, user_database_configs
from tenancy.errors import ConfigurationError, TenantNotFoundError, UserNotFoundError
from tests.conftest import make_user
from tests.support.applications import keep_configs

INFO = {
    "user_id",
    "tenant_id",
    "db_type",
    "db_host",
    "db_port",
    "db_name",
    "db_user",
    "db_path",
    "password_set",
    "is_active",
    "status",
    "revision",
    "head_revision",
    "size_bytes",
    "last_used_at",
    "created_at",
}


def change(parts, user, **changes):
    with parts.catalog.writing() as connection:
        tenants.change(connection, tenants.get(connection, user.id), **changes)


def test_info_has_what_the_interface_names(parts, user):
    info = parts.manager.reports.info(user.id)
    assert set(info) >= INFO
    path = Path(info["db_path"])
    assert path == parts.settings.tenant_data_dir / f"user_{user.id}.db"
    assert info["size_bytes"] >= path.stat().st_size > 0
    assert (info["status"], info["revision"], info["password_set"]) == ("ready", parts.manager.head, False)
    assert info["created_at"].tzinfo is not None
    assert isinstance(info["tenant_id"], str)


def test_no_answer_holds_a_sealed_password(parts, user):
    sealed = parts.manager.keyring.seal("a password", parts.manager.tenant_of(user.id).binding)
    change(parts, user, db_password=sealed)
    manager = parts.manager
    answers = [
        manager.reports.info(user.id),
        manager.load_user_db_config(user.id),
        manager.reports.databases(),
        manager.get_user_database_stats(),
        manager.reports.test(user.id),
        manager.initialize_user_database(user.id),
    ]
    assert answers[0]["password_set"] is answers[1]["password_set"] is True
    text = json.dumps(answers, default=str)
    assert sealed not in text
    assert sealed.partition(".")[2][:20] not in text


@pytest.mark.parametrize("question", ["reports.info", "load_user_db_config", "reports.test"])
def test_an_account_without_a_database_is_told_apart_from_none(parts, question):
    account = parts.accounts.create("new@example.org")
    with pytest.raises(TenantNotFoundError):
        attrgetter(question)(parts.manager)(account.id)
    with pytest.raises((UserNotFoundError, TenantNotFoundError)):
        attrgetter(question)(parts.manager)(999)
    for bad in (0, -1, "1;drop", True):
        with pytest.raises(ConfigurationError) as refused:
            attrgetter(question)(parts.manager)(bad)
        assert refused.value.field == "user_id"


def test_info_of_somebody_who_is_not_there_says_so(parts):
    with pytest.raises(UserNotFoundError):
        parts.manager.reports.info(999)


def test_a_database_that_answers_is_said_to(parts, user):
    answer = parts.manager.reports.test(user.id)
    assert (answer["ok"], answer["code"], answer["revision"]) == (True, "ok", parts.manager.head)
    assert answer["latency_ms"] > 0


def test_a_lost_file_is_an_answer_and_no_new_file(parts, user):
    path = Path(parts.manager.reports.info(user.id)["db_path"])
    parts.manager.engines.close()
    path.unlink()
    answer = parts.manager.reports.test(user.id)
    assert (answer["ok"], answer["code"]) == (False, "database_missing")
    assert parts.manager.reports.info(user.id)["size_bytes"] is None
    assert parts.manager.get_user_database_stats()["databases"][0]["modified"] is None
    assert not path.exists()


def test_the_wrong_database_is_an_answer(parts, user, other):
    mine, theirs = (Path(parts.manager.reports.info(one.id)["db_path"]) for one in (user, other))
    parts.manager.engines.close()
    theirs.replace(mine)
    answer = parts.manager.reports.test(user.id)
    assert (answer["ok"], answer["code"]) == (False, "identity_mismatch")


def test_a_suspended_database_answers_and_is_not_ready(parts, user):
    parts.manager.suspend(user.id)
    answer = parts.manager.reports.test(user.id)
    assert (answer["ok"], answer["code"]) == (False, "tenant_not_ready")
    assert "suspended" in answer["message"]


def test_a_tampered_password_is_an_answer(parts, user, other):
    change(parts, user, db_password=parts.manager.keyring.seal("x", parts.manager.tenant_of(other.id).binding))
    assert parts.manager.reports.test(user.id)["code"] == "credential_tampered"


def test_statistics_count_by_status_and_type(parts, user, other):
    parts.manager.suspend(other.id)
    stats = parts.manager.get_user_database_stats()
    assert (stats["total_databases"], stats["by_type"]) == (2, {"sqlite": 2})
    assert stats["by_status"] == {"ready": 1, "suspended": 1}
    first = stats["databases"][0]
    assert (first["user_id"], first["name"], first["status"]) == (user.id, f"user_{user.id}.db", "ready")
    assert first["size_mb"] > 0
    assert abs(datetime.now(UTC) - first["modified"]) < timedelta(minutes=5)
    assert stats["total_size_mb"] == pytest.approx(sum(entry["size_mb"] for entry in stats["databases"]), abs=0.01)


def test_statistics_tell_what_a_server_keeps_as_it_was_last_measured_and_open_nothing(parts, user, monkeypatch):
    manager = parts.manager
    known, unknown = keep_configs(manager, 2, server_id=1, db_name="unify_x")
    with manager.catalog.writing() as connection:
        tenant_sizes.add(connection, tenant_sizes.today(), [(tenants.get(connection, known), 3 * 2**20)])

    def opened(*given):
        raise AssertionError("a database was opened")

    for name in ("connect", "connect_to_migrate", "at_server"):
        for backend in manager.backends.registered():
            if hasattr(backend, name):
                monkeypatch.setattr(type(backend), name, opened)
    stats = manager.get_user_database_stats()
    of_file, measured, never = stats["databases"]
    assert (of_file["user_id"], of_file["size_mb"] > 0, of_file["measured_at"] is not None) == (user.id, True, True)
    assert (measured["user_id"], measured["size_mb"], measured["name"]) == (known, 3.0, "unify_x")
    assert abs(datetime.now(UTC) - measured["measured_at"]) < timedelta(minutes=5)
    assert (never["user_id"], never["size_mb"], never["measured_at"]) == (unknown, None, None)
    assert (stats["total_databases"], stats["measured"]) == (3, 2)
    assert stats["total_size_mb"] == pytest.approx(of_file["size_mb"] + 3.0, abs=0.01)


def test_a_folder_that_cannot_be_entered_leaves_sizes_unknown(parts, user, monkeypatch):
    def refuse(path, **more):
        raise PermissionError(13, "refused", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    (entry,) = parts.manager.get_user_database_stats()["databases"]
    assert (entry["size_mb"], entry["measured_at"], entry["modified"]) == (None, None, None)


def test_statistics_of_nobody_are_zeros(parts):
    assert parts.manager.get_user_database_stats() == {
        "total_databases": 0,
        "total_size_mb": 0,
        "measured": 0,
        "by_status": {},
        "by_type": {},
        "databases": [],
    }


def test_databases_are_listed_by_user_id_page_by_page(parts):
    people = [make_user(parts, f"user{number}@example.org") for number in range(5)]
    first = parts.manager.reports.databases(limit=2)
    second = parts.manager.reports.databases(after=first[-1]["user_id"], limit=2)
    third = parts.manager.reports.databases(after=second[-1]["user_id"], limit=2)
    assert [row["user_id"] for row in first + second + third] == [person.id for person in people]
    assert [row["email"] for row in first] == [person.email for person in people[:2]]
    assert parts.manager.reports.databases(after=third[-1]["user_id"]) == []
    assert INFO - {"size_bytes"} <= set(first[0])


def test_lists_are_filtered_by_state_type_revision_use_and_owner(parts, user, other):
    def listed(**asked):
        return [row["user_id"] for row in parts.manager.reports.databases(**asked)]

    parts.manager.suspend(other.id)
    assert listed(state="suspended") == [other.id]
    assert listed(state="ready") == [user.id]
    assert listed(db_type="sqlite") == [user.id, other.id]
    assert listed(db_type="mysql") == []
    assert listed(behind=True) == []
    change(parts, user, revision="0000")
    assert listed(behind=True) == [user.id]
    assert parts.manager.reports.databases(behind=True)[0]["behind"] is True
    change(parts, other, revision=None)
    assert listed(behind=True) == [user.id, other.id]
    now = datetime.now(UTC)
    change(parts, user, last_used_at=now - timedelta(days=40), created_at=now - timedelta(days=90))
    assert listed(inactive_since=now - timedelta(days=30)) == [user.id]
    assert listed(inactive_since=now - timedelta(days=50)) == []
    change(parts, user, last_used_at=None)
    assert listed(inactive_since=now - timedelta(days=50)) == [user.id]
    assert listed(query="BOB@") == [other.id]
    assert listed(query="nobody") == []


def test_in_shared_mode_everybody_is_shown_the_one_database(shared_parts):
    people = [make_user(shared_parts, f"user{number}@example.org") for number in range(2)]
    manager = shared_parts.manager
    infos = [manager.reports.info(person.id) for person in people]
    assert infos[0]["tenant_id"] == infos[1]["tenant_id"]
    assert [info["user_id"] for info in infos] == [person.id for person in people]
    assert manager.reports.test(people[0].id)["ok"]
    assert manager.get_user_database_stats()["total_databases"] == 1
    with pytest.raises(UserNotFoundError):
        manager.reports.info(999)


def test_a_catalog_at_head_is_ready(parts):
    head = parts.manager.catalog_chain.head
    assert parts.manager.reports.catalog() == {"reachable": True, "revision": head, "head": head, "at_head": True}


def test_a_catalog_behind_is_reachable_and_not_at_head(parts):
    with parts.catalog.writing() as connection:
        connection.execute(sa.text(f"UPDATE {CATALOG_VERSION_TABLE} SET version_num = '0000'"))
    status = parts.manager.reports.catalog()
    assert (status["reachable"], status["revision"], status["at_head"]) == (True, "0000", False)


def test_a_catalog_that_was_never_migrated_is_not_at_head(make_settings):
    import compose

    parts = compose.build(make_settings())
    try:
        status = parts.manager.reports.catalog()
    finally:
        parts.close()
    assert (status["revision"], status["at_head"]) == (None, False)


def test_a_damaged_catalog_is_not_reachable(parts):
    parts.catalog.close()
    path = parts.settings.tenant_data_dir.parent / "admin.db"
    for file in path.parent.glob("admin.db*"):
        file.unlink()
    path.write_bytes(b"no database at all, but long enough to be read as one" * 100)
    assert parts.manager.reports.catalog()["reachable"] is False


def test_a_question_changes_nothing(parts, user):
    def rows():
        with parts.catalog.reading() as connection:
            return connection.execute(sa.select(user_database_configs)).all()

    before = rows()
    parts.manager.reports.info(user.id)
    parts.manager.reports.test(user.id)
    parts.manager.get_user_database_stats()
    parts.manager.reports.databases()
    assert rows() == before


def test_a_shared_database_that_is_not_made_yet_is_not_at_head_and_is_named_when_it_is_made(make_parts):
    parts = make_parts(multi_tenant_mode="true")
    changed = make_parts(multi_tenant_mode="false").manager  # its prepare_catalog has made the shared database
    assert changed.prepare_catalog() == []
    with parts.catalog.writing() as connection:
        connection.execute(shared_database.delete())
    assert changed.reports.catalog()["revision"] == changed.reports.catalog()["head"]
    assert changed.reports.catalog()["at_head"] is False
    assert parts.manager.reports.catalog()["at_head"] is True


def test_in_shared_mode_every_user_is_listed_with_the_shared_database(shared_parts):
    users = [make_user(shared_parts, f"{name}@example.org") for name in ("ada", "bob")]
    listed = shared_parts.manager.reports.databases()
    assert [(row["user_id"], row["email"], row["status"]) for row in listed] == [
        (user.id, user.email, "ready") for user in users
    ]
    assert shared_parts.manager.reports.databases(state="failed") == []
    assert [row["user_id"] for row in shared_parts.manager.reports.databases(after=users[0].id)] == [users[1].id]
    assert [row["user_id"] for row in shared_parts.manager.reports.databases(query="bob")] == [users[1].id]
