"""Verification: what is wrong with a database is found and named, what is safe is mended, nothing else is touched."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing

import pytest
import sqlalchemy as sa

from tenancy.catalog.claims import take
from tenancy.catalog.runs import Rules, Selection
from tenancy.fleet.repair import Repair
from tenancy.fleet.verify import Verification
from tenancy.models import State
from tests.support.applications import (
    add_task,
    add_tenants,
    add_users,
    audit_actions,
    change_config,
    set_back,
    tenant_of,
)
from tests.support.products import each_on_sqlite
from tests.support.servers import own_server
from tests.support.versions import COLUMN, fill, hand
from tests.tenancy.fleet.test_each_product import on_server

EVERYONE = Selection()


def findings(
    manager, *, repair: bool = False, selection: Selection = EVERYONE, alone: bool = False
) -> list[tuple[int | None, str, str]]:
    """Give what is found; a server that is not this test's ``alone`` holds databases of other tests."""
    checked = list(manager.fleet.verify(selection, repair=repair))
    found = [(each.user_id, each.code, each.what) for tenant in checked for each in tenant.found]
    return [each for each in found if alone or not (each[1] == "orphan" and "on server" in each[2])]


def codes(manager, **asked) -> set[tuple[int | None, str]]:
    return {(user_id, code) for user_id, code, _ in findings(manager, **asked)}


def spoil(manager, user_id: int, *statements: str) -> None:
    """Change a tenant's database behind the application's back, as the login that may."""
    manager.engines.close()
    tenant = tenant_of(manager, user_id)
    backend = manager.backends.get(tenant.db_type)
    with backend.migrating(backend.connect_to_migrate(tenant, manager.services.access(tenant))) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def one_beside_another(parts) -> int:
    """Give a user with a database on the product; of another one, whose database is a file, nothing may be found."""
    one, other = add_users(parts, 2)
    parts.manager.provision(one)
    parts.manager.initialize_user_database(other, db_type="sqlite")
    return one


def test_a_fleet_that_is_well_has_no_findings(parts_on_each):
    ids = add_tenants(parts_on_each, 3)
    add_task(parts_on_each.manager, ids[0], "mine")
    assert findings(parts_on_each.manager) == []


def test_a_migrated_database_is_as_well_as_a_new_one(parts_on_each):
    """Both ways lead to the same tables: made by a template, and by one revision after the other."""
    ids = add_tenants(parts_on_each, 2)
    set_back(parts_on_each.manager, ids[:1])
    assert findings(parts_on_each.manager) == [], "a database that is behind is what its own revision makes"
    manager = parts_on_each.manager
    manager.fleet.work(manager.fleet.start(EVERYONE, Rules()).id)
    assert findings(manager) == []


@each_on_sqlite(
    ("spoilt", "told"),
    [
        ("ALTER TABLE bin DROP COLUMN kind", "column bin.kind is missing"),
        ("ALTER TABLE bin ADD extra INTEGER", "unknown column bin.extra"),
        ("DROP TABLE bin", "table bin is missing"),
        ("CREATE TABLE others (id INTEGER)", "unknown table others"),
        ("DROP INDEX ix_bin_user_id_batch", "bin lacks index ix_bin_user_id_batch"),
    ],
    anywhere=(1, 4),
)
def test_what_differs_in_the_tables_is_named(parts_on_each, spoilt, told):
    manager = parts_on_each.manager
    one = one_beside_another(parts_on_each)
    dialect = tenant_of(manager, one).db_type
    if dialect in ("mysql", "sqlserver") and spoilt.startswith("DROP INDEX"):
        spoilt += " ON bin"
    spoil(manager, one, spoilt)
    found = findings(manager)
    assert {(user_id, code) for user_id, code, _ in found} >= {(one, "shape")}
    assert any(told in what for _, _, what in found)
    assert {user_id for user_id, _, _ in found} == {one}
    assert {code for _, code in codes(manager, repair=True)} >= {"shape"}, "no repair touches tables"


def test_a_constraint_and_a_type_that_differ_are_named(parts_on_each):
    manager = parts_on_each.manager
    (one,) = add_tenants(parts_on_each, 1)
    kind = tenant_of(manager, one).db_type
    if kind == "sqlite":
        rebuilt = "CREATE TABLE settings (user_id INTEGER NOT NULL, key VARCHAR(9), value TEXT)"
        spoil(manager, one, "DROP TABLE settings", rebuilt)
        told = {what for _, code, what in findings(manager) if code == "shape"}
        assert any("settings.key is VARCHAR(9)" in each for each in told)
        assert any(each.startswith("settings lacks primary key") for each in told)
        return
    alter = {
        "postgresql": "ALTER TABLE bin ALTER COLUMN title TYPE VARCHAR(300)",
        "mysql": "ALTER TABLE bin MODIFY title VARCHAR(300) NOT NULL",
        "sqlserver": "ALTER TABLE bin ALTER COLUMN title NVARCHAR(300) NOT NULL",
    }[kind]
    drop = "FOREIGN KEY" if kind == "mysql" else "CONSTRAINT"
    spoil(manager, one, alter, f"ALTER TABLE tasks DROP {drop} fk_tasks_user_id_category_id")
    told = {what for _, code, what in findings(manager) if code == "shape"}
    assert any("bin.title is" in each and "300" in each for each in told)
    assert any("tasks lacks foreign key (user_id, category_id) to categories" in each for each in told)


def test_rows_of_other_users_and_rows_without_parents_are_counted(parts_on_each):
    manager = parts_on_each.manager
    one, other = add_tenants(parts_on_each, 2)
    add_task(manager, one, "mine")
    spoil(manager, one, f"UPDATE tasks SET user_id = {other}")
    assert (one, "foreign_rows") in codes(manager)
    if tenant_of(manager, one).db_type == "sqlite":
        with closing(sqlite3.connect(manager.backends.get("sqlite").data_dir / f"user_{other}.db")) as driver, driver:
            driver.execute("DELETE FROM categories")
            row = (other, uuid.uuid4().hex, "x", uuid.uuid4().hex)
            driver.execute("INSERT INTO tasks (user_id, id, title, category_id) VALUES (?, ?, ?, ?)", row)
        assert (other, "dangling_rows") in codes(manager)


@each_on_sqlite(
    ("spoilt", "code"),
    [
        ("DROP TABLE tenant_version", "version_table"),
        ("DELETE FROM tenant_version", "version_table"),
        ("INSERT INTO tenant_version VALUES ('0001')", "version_table"),
        ("UPDATE tenant_version SET version_num = '0077'", "ahead"),
        ("DELETE FROM tenancy_ledger", "ledger"),
        ("DELETE FROM tenancy_ledger WHERE revision = '0002'", "ledger"),
        ("DELETE FROM tenancy_ledger WHERE revision = '0001'", "ledger"),
        ("DELETE FROM tenancy_identity", "identity_mismatch"),
        ("UPDATE tenancy_identity SET user_id = 99", "identity_mismatch"),
    ],
    anywhere=(0, 8),
)
def test_what_says_of_itself_what_cannot_be_is_named_and_left(parts_on_each, spoilt, code):
    manager = parts_on_each.manager
    one = one_beside_another(parts_on_each)
    kept = tenant_of(manager, one)
    spoil(manager, one, spoilt)
    assert codes(manager) == {(one, code)}
    assert codes(manager, repair=True) == {(one, code)}
    if code == "identity_mismatch":  # so that it can be removed again
        manager.backends.get(kept.db_type).drop(kept, manager.services.access(kept))


def test_a_revision_that_the_ledger_tells_of_twice_is_named(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    columns = "revision, direction, checksum, applied_at, duration_ms, app_version"
    twice = f"INSERT INTO tenancy_ledger (id, {columns}) SELECT 'ff', {columns} FROM tenancy_ledger"
    hand(tmp_path, user_id, twice)
    assert [(code, what) for _, code, what in findings(versions(1))] == [
        ("ledger", "the ledger tells twice that 0001 was applied")
    ]


def test_a_tenant_that_somebody_works_on_is_looked_at_another_time(parts):
    (user_id,) = add_tenants(parts, 1)
    spoil(parts.manager, user_id, "UPDATE tenancy_identity SET epoch = epoch + 1")
    tenant = tenant_of(parts.manager, user_id)
    with parts.catalog.writing() as connection:
        claim = take(parts.catalog, connection, tenant.tenant_id, "test", 60.0)
    assert codes(parts.manager) == set()
    with claim.ending():
        pass
    assert codes(parts.manager) == {(user_id, "epoch")}


def test_a_login_without_its_rights_is_given_them_again(request, make_parts):
    from tests.support.engines import use

    use(request, "postgresql")
    parts, clean_up = on_server(make_parts, "postgresql")
    try:
        (one,) = add_tenants(parts, 1)
        spoil(parts.manager, one, "REVOKE INSERT ON tasks FROM PUBLIC")
        assert codes(parts.manager) == {(one, "rights")}
        assert codes(parts.manager, repair=True) == set()
        add_task(parts.manager, one, "written again")
    finally:
        clean_up()


@each_on_sqlite(
    ("changes", "code"),
    [
        ({"revision": "0001"}, "catalog_behind"),
        ({"schema_fingerprint": "other"}, "catalog_behind"),
        ({"state": State.MIGRATING}, "closed"),
    ],
    anywhere=(2,),
)
def test_a_catalog_that_lags_behind_follows_the_database(parts_on_each, changes, code):
    manager = parts_on_each.manager
    one = one_beside_another(parts_on_each)
    change_config(manager, one, **changes)
    assert codes(manager) == {(one, code)}
    assert codes(manager, repair=True) == set()
    assert codes(manager) == set()
    tenant = tenant_of(manager, one)
    assert (tenant.state, tenant.revision) == (State.READY, manager.head)
    add_task(manager, one, "it works again")
    assert audit_actions(manager)[-1] == "tenant.repair"


def test_a_database_that_was_left_closed_is_opened_again(parts_on_each):
    manager = parts_on_each.manager
    (one,) = add_tenants(parts_on_each, 1)
    spoil(manager, one, "UPDATE tenancy_identity SET state = 'migrating', epoch = epoch + 1")
    assert codes(manager) == {(one, "closed"), (one, "epoch")}
    assert codes(manager, repair=True) == set()
    add_task(manager, one, "it works again")


def test_a_closed_database_whose_tables_are_not_in_order_stays_closed(parts_on_each):
    """A revision may have stopped half-way where each statement commits itself."""
    manager = parts_on_each.manager
    (one,) = add_tenants(parts_on_each, 1)
    spoil(manager, one, "ALTER TABLE bin ADD extra INTEGER", "UPDATE tenancy_identity SET state = 'migrating'")
    assert codes(manager, repair=True) == {(one, "closed_and_other"), (one, "shape")}


def test_a_repair_looks_again_once_nobody_else_changes_the_database(parts_on_each):
    """What was found well enough to be opened may have been altered since by whoever was at work on it."""
    manager = parts_on_each.manager
    (one,) = add_tenants(parts_on_each, 1)
    spoil(manager, one, "UPDATE tenancy_identity SET state = 'migrating'")
    looking, tenant = Verification(manager.services), tenant_of(manager, one)
    assert [each.code for each in looking.look(tenant)] == ["closed"]
    spoil(manager, one, "ALTER TABLE bin ADD extra INTEGER")
    assert Repair(manager.services).mend(one, looking) == []
    assert codes(manager) == {(one, "closed_and_other"), (one, "shape")}
    assert audit_actions(manager)[-1] != "tenant.repair"


def test_an_edited_revision_is_named_and_stamped_anew_only_where_its_tables_are_there(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    second = versions(2)
    second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    comment = COLUMN.format("c2") + "\n# said better"
    said_better = versions(2, comment, "comment")
    ((_, code, what),) = findings(said_better)
    assert (code, what) == ("edited", "revision 0002 was edited after it was applied")
    other = versions(2, COLUMN.format("d2"), "other")
    assert {code for _, code in codes(other, repair=True)} == {"shape", "edited_and_other"}
    assert codes(said_better, repair=True) == set()
    assert codes(said_better) == set()
    assert said_better.fleet.status()["at_head"] == 1
    assert said_better.fetch_all("SELECT c2 FROM things", user_id=user_id) == [(None,)]


@pytest.mark.parametrize(("how", "code"), [("corrupt", "database_unreachable"), ("gone", "database_missing")])
def test_a_file_that_cannot_be_used_is_named_and_the_rest_are_looked_at(versions, tmp_path, how, code):
    harmed, other = fill(versions(1), 2)
    path = tmp_path / "users" / f"user_{harmed}.db"
    path.unlink() if how == "gone" else path.write_bytes(b"no database" * 2000)
    hand(tmp_path, other, "ALTER TABLE things ADD COLUMN x")
    assert codes(versions(1)) == {(harmed, code), (other, "shape")}
    assert not (how == "gone" and path.exists())


def test_a_deletion_that_was_cut_off_behind_the_file_is_told_to_be_ended(versions, tmp_path):
    manager = versions(1)
    (user_id,) = fill(manager, 1)
    (tmp_path / "users" / f"user_{user_id}.db").unlink()
    change_config(manager, user_id, state=State.ARCHIVED)
    (found,) = findings(manager)
    assert found[:2] == (user_id, "database_missing")
    assert f"unify db delete {user_id}" in found[2]
    assert "restore" not in found[2]


def test_files_that_belong_to_nobody_are_named_and_left(versions, tmp_path):
    manager = versions(1)
    (user_id,) = fill(manager, 1)
    folder = tmp_path / "users"
    tenant = tenant_of(manager, user_id)
    left = {
        folder / "user_77.db": "database user_77.db",
        folder / "user_78.db-wal": "side file user_78.db-wal",
        folder / f"user_77.db.{uuid.uuid4().hex}.1.new": "draft user_77.db",
    }
    for path in left:
        path.write_bytes(b"")
    draft = folder / f"user_{user_id}.db.{tenant.tenant_id.hex}.1.new"
    draft.write_bytes(b"")
    found = findings(manager)
    assert len(found) == 4
    for name in left.values():
        assert any(name in what for _, _, what in found)
    assert len(findings(manager, repair=True)) == 3
    assert not draft.exists()
    assert all(path.exists() for path in left), "nobody's files are left alone"
    assert findings(manager, selection=Selection((user_id,))) == []
    assert list(manager.fleet.verify(EVERYONE, orphans=False))[1:] == []


def test_databases_and_logins_that_belong_to_nobody_are_named(request, make_parts):
    from tests.support.engines import use

    use(request, "postgresql")
    with own_server("postgresql") as server:
        parts, clean_up = on_server(make_parts, "postgresql", server.url)
        one, two = add_tenants(parts, 2)
        kept = tenant_of(parts.manager, two)
        parts.manager.engines.close()
        with parts.catalog.writing() as connection:
            connection.execute(sa.text(f"DELETE FROM user_database_configs WHERE user_id = {two}"))
        found = findings(parts.manager, alone=True)
        assert {code for _, code, _ in found} == {"orphan"}
        assert sorted(what.split(" test")[0] for _, _, what in found) == [
            f"the database {kept.db_name} on server",
            f"the login {kept.db_name} on server",
        ]
        parts.manager.servers.add("twin", "postgresql", server.url)
        assert findings(parts.manager, alone=True) == found, "what one name knows of, the other does not report"
        parts.manager.servers.remove("twin")
        server.stop()
        assert codes(parts.manager) == {(one, "connection_refused"), (None, "connection_refused")}
        server.start()
        clean_up()


def test_a_server_that_is_away_is_not_waited_for_tenant_after_tenant(request, make_parts, monkeypatch):
    from tests.support.engines import use

    use(request, "postgresql")
    with own_server("postgresql") as server:
        parts, clean_up = on_server(make_parts, "postgresql", server.url)
        ids = add_tenants(parts, 3)
        parts.manager.engines.close()
        backend = parts.manager.backends.get("postgresql")
        opened, open_one = [], backend.open
        monkeypatch.setattr(backend, "open", lambda login: opened.append(login) or open_one(login))
        server.stop()
        checked = list(parts.manager.fleet.verify(EVERYONE, orphans=False))
        assert [(each.found[0].user_id, each.found[0].code) for each in checked] == [
            (user_id, "connection_refused") for user_id in ids
        ]
        assert len(opened) == 1
        server.start()
        clean_up()


def test_one_that_was_never_finished_is_named(parts):
    (user_id,) = add_users(parts, 1)
    parts.manager.provision(user_id)
    change_config(parts.manager, user_id, revision=None, state=State.FAILED)
    assert codes(parts.manager) == {(user_id, "unmade")}
