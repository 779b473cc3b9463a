"""Operators and users are told how well databases are backed up."""

from __future__ import annotations

import pytest

from tenancy.catalog.backups import BackupState, Place
from tenancy.errors import BackupNotFoundError
from tenancy.types import new_id
from tests.support.applications import add_tenants
from tests.support.backups import keep_backup


@pytest.fixture
def reports(parts):
    return parts.manager.reports.backups


def test_databases_without_a_late_enough_good_backup_are_counted(parts, reports):
    old, failed, fresh, _ = add_tenants(parts, 4)
    assert (reports.standing()["late"], reports.standing()["oldest_at"]) == (4, None)
    oldest = keep_backup(parts.manager, old, hours=49)
    keep_backup(parts.manager, failed, state=BackupState.FAILED, error="no.", error_code="x")
    keep_backup(parts.manager, fresh, hours=47)
    found = reports.standing()
    assert (found["databases"], found["late"], found["never"], found["failed"]) == (4, 3, 2, 1)
    assert found["oldest_at"] == oldest.started_at
    assert (found["oldest_late"], found["warn_hours"]) == (True, 48)


def test_the_catalogs_own_backup_counts_for_itself(parts, reports):
    assert (reports.standing()["catalog_at"], reports.standing()["catalog_late"]) == (None, True)
    kept = keep_backup(parts.manager, None, hours=1)
    assert (reports.standing()["catalog_at"], reports.standing()["catalog_late"]) == (kept.started_at, False)


def test_where_there_is_no_database_nothing_is_late(reports):
    found = reports.standing()
    assert (found["databases"], found["late"], found["oldest_at"], found["oldest_late"]) == (0, 0, None, False)


def test_overview_and_health_tell_how_backups_stand(parts, reports):
    add_tenants(parts, 1)
    for found in (parts.manager.reports.overview(), parts.manager.reports.health()):
        assert found["backups"] == reports.standing()


def test_the_list_names_users_goes_on_behind_a_place_and_is_filtered(parts, reports):
    ada, bob = add_tenants(parts, 2)
    for hours in range(3):
        keep_backup(parts.manager, ada, hours=hours)
    keep_backup(parts.manager, bob, hours=9, state=BackupState.DAMAGED)
    keep_backup(parts.manager, None, hours=10)
    first = reports.page(limit=2)
    rest = reports.page(after=Place(first[-1]["started_at"], first[-1]["id"]))
    assert [(row["user_id"], row["email"] is not None) for row in (*first, *rest)] == [
        *[(ada, True)] * 3,
        (bob, True),
        (None, False),
    ]
    assert first[0]["key_ids"] == ["12345678", "abcdef01"]
    assert [row["user_id"] for row in reports.page(user_id=bob)] == [bob]
    assert [row["kind"] for row in reports.page(kind="catalog")] == ["catalog"]
    assert [row["user_id"] for row in reports.page(state="damaged")] == [bob]


def test_one_tenants_backups_say_when_the_last_good_one_was(parts, reports):
    ada, bob = add_tenants(parts, 2)
    mine = parts.manager.tenant_of(ada).tenant_id
    assert reports.of_tenant(mine) == {"rows": [], "last_at": None, "late": True}
    good = keep_backup(parts.manager, ada, hours=5)
    for hours in range(3):
        keep_backup(parts.manager, ada, hours=hours, state=BackupState.FAILED)
    keep_backup(parts.manager, bob)
    found = reports.of_tenant(mine, limit=2)
    assert [row.state for row in found["rows"]] == ["failed"] * 2
    assert (found["last_at"], found["late"]) == (good.started_at, False)
    assert len(reports.of_tenant(mine)["rows"]) == 4


def test_a_backup_that_is_not_there_is_said(parts, reports):
    kept = keep_backup(parts.manager, None)
    assert reports.get(kept.id) == kept
    with pytest.raises(BackupNotFoundError):
        reports.get(new_id())
