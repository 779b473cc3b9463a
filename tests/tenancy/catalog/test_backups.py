"""What the catalog knows of backups: the last good one of each tenant, and who has none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog import backups
from tenancy.catalog.backups import CATALOG, Backup, BackupFilter, BackupState
from tenancy.catalog.tables import shared_database, user_database_configs, users
from tenancy.errors import BackupNotFoundError
from tenancy.types import new_id
from tests.support.moments import now

HOUR = timedelta(hours=1)


def make(tenant_id, *, hours=0.0, user_id=None, **changed):
    found = Backup(
        id=new_id(),
        kind="tenant",
        tenant_id=tenant_id,
        user_id=user_id,
        epoch=1,
        db_type="sqlite",
        started_at=now() - hours * HOUR,
        state=BackupState.GOOD,
        revision="0002",
        app_version="0.4",
        finished_at=now(),
        size_bytes=5_000_000_000,
        row_count=3,
        checksum="ab" * 32,
        plain_checksum="cd" * 32,
        key_ids="12345678,abcdef01",
        signed_by="87654321",
        installation="7e5800",
    )
    return replace(found, **changed)


def catalog_backup(**changed):
    return make(None, kind=CATALOG, **changed)


def tenant(catalog, name, state="ready"):
    """Give the user and tenant ids of a new account with a database."""
    with catalog.writing() as connection:
        person = {"email": name, "email_key": name, "display_name": name}
        (user_id,) = connection.execute(users.insert(), person).inserted_primary_key
        tenant_id = new_id()
        row = {"user_id": user_id, "tenant_id": tenant_id, "state": state}
        connection.execute(user_database_configs.insert(), row)
    return user_id, tenant_id


def add(catalog, *found):
    with catalog.writing() as connection:
        for each in found:
            backups.add(connection, each)
    return found[0]


def read(catalog, how, *args, **named):
    with catalog.reading() as connection:
        return how(connection, *args, **named)


def write(catalog, how, *args, **named):
    with catalog.writing() as connection:
        return how(connection, *args, **named)


def backed_up_at(catalog, user_id):
    rows = user_database_configs.c
    return read(catalog, lambda c: c.execute(sa.select(rows.backed_up_at).where(rows.user_id == user_id)).scalar_one())


def test_a_backup_comes_back_as_it_was_written(catalog):
    found = add(catalog, make(new_id(), user_id=7, error="näh", verified_at=now(), verified_by="restore"))
    assert read(catalog, backups.get, found.id) == found


def test_the_last_good_one_is_that_which_began_last(catalog):
    user_id, mine = tenant(catalog, "ada")
    _, theirs = tenant(catalog, "bob")
    newest = make(mine, hours=2)
    failed = make(mine, hours=1, state=BackupState.FAILED)
    add(catalog, make(mine, hours=9), newest, failed, make(theirs, hours=0.5))
    assert read(catalog, backups.last_good, [user_id, 999]) == {user_id: newest}
    assert read(catalog, backups.last_good_of, [mine]) == {mine: newest}
    assert backed_up_at(catalog, user_id) == newest.started_at


def test_a_backup_of_an_earlier_database_of_the_user_does_not_count(catalog):
    user_id, _ = tenant(catalog, "ada")
    add(catalog, make(new_id(), user_id=user_id))
    assert read(catalog, backups.last_good, [user_id]) == {}
    assert backed_up_at(catalog, user_id) is None


def test_one_found_damaged_or_gone_is_no_longer_the_last_good(catalog):
    user_id, mine = tenant(catalog, "ada")
    older, newer = make(mine, hours=5), make(mine, hours=1)
    add(catalog, older, newer)
    for state in (BackupState.DAMAGED, BackupState.GONE):
        write(catalog, backups.mark, [newer], state, error="bits", error_code="archive_damaged")
        assert read(catalog, backups.last_good, [user_id]) == {user_id: older}
        assert backed_up_at(catalog, user_id) == older.started_at
        assert read(catalog, backups.get, newer.id).error == "bits"
        write(catalog, backups.verified, newer, "checksum")
        found = read(catalog, backups.get, newer.id)
        assert (found.state, found.error, found.verified_by) == ("good", None, "checksum")
        assert abs(found.verified_at - now()) < HOUR
        assert backed_up_at(catalog, user_id) == newer.started_at


def test_forgetting_the_last_one_makes_the_one_before_the_last(catalog):
    user_id, mine = tenant(catalog, "ada")
    older, newer = make(mine, hours=5), make(mine, hours=1)
    add(catalog, older, newer)
    write(catalog, backups.forget, [newer])
    assert backed_up_at(catalog, user_id) == older.started_at
    write(catalog, backups.forget, [older])
    assert backed_up_at(catalog, user_id) is None


def test_a_backup_from_the_future_hides_no_real_one(catalog):
    """A clock was wrong when it was made."""
    user_id, mine = tenant(catalog, "ada")
    future, real = make(mine, hours=-5000), make(mine, hours=3)
    add(catalog, future)
    assert read(catalog, backups.last_good, [user_id]) == {user_id: future}
    assert read(catalog, backups.summary, now() - HOUR).stale == 1
    add(catalog, real)
    assert read(catalog, backups.last_good, [user_id]) == {user_id: real}
    assert backed_up_at(catalog, user_id) == real.started_at


def test_the_catalogs_own_backups_are_told_apart(catalog):
    assert read(catalog, backups.last_good_catalog) is None
    last = add(catalog, catalog_backup(hours=1), catalog_backup(hours=3), make(new_id()))
    assert read(catalog, backups.last_good_catalog) == last


def test_tenants_without_a_fresh_backup_are_counted_and_named(catalog):
    _, fresh_tenant = tenant(catalog, "fresh")
    old, old_tenant = tenant(catalog, "old", "read_only")
    never, _ = tenant(catalog, "never", "suspended")
    tenant(catalog, "half made", "provisioning")
    _, gone_tenant = tenant(catalog, "gone", "archived")
    last = add(catalog, make(old_tenant, hours=80), make(fresh_tenant, hours=1), make(gone_tenant, hours=900))
    add(catalog, catalog_backup(hours=7), make(fresh_tenant, hours=2, state=BackupState.FAILED))
    since = now() - 48 * HOUR
    found = read(catalog, backups.summary, since)
    assert (found.tenants, found.stale, found.never, found.failed) == (3, 2, 1, 1)
    assert found.oldest_at == last.started_at
    assert found.catalog_at < now() - 6 * HOUR
    assert read(catalog, backups.stale, since) == [(never, None), (old, last.started_at)]
    assert read(catalog, backups.stale, since, 1) == [(never, None)]


def test_of_the_shared_database_one_tenant_is_counted(catalog):
    shared = new_id()
    write(catalog, lambda c: c.execute(shared_database.insert(), {"id": 1, "tenant_id": shared, "state": "ready"}))
    found = read(catalog, backups.summary, now() - HOUR, multi_tenant=False)
    assert (found.tenants, found.stale, found.never) == (1, 1, 1)
    last = add(catalog, make(shared, hours=0.5))
    found = read(catalog, backups.summary, now() - HOUR, multi_tenant=False)
    assert (found.tenants, found.stale, found.never, found.oldest_at) == (1, 0, 0, last.started_at)


def test_a_summary_of_nothing_is_empty(catalog):
    found = read(catalog, backups.summary, now())
    assert (found.tenants, found.stale, found.never, found.oldest_at, found.catalog_at) == (0, 0, 0, None, None)


def test_an_empty_table_learns_what_the_storage_has(catalog):
    user_id, mine = tenant(catalog, "ada")
    found = [make(mine, hours=n, user_id=user_id) for n in range(450)]
    assert write(catalog, backups.learn, found) == 450
    assert write(catalog, backups.learn, found) == 0
    assert list(read(catalog, lambda c: list(backups.every(c)))) == found
    assert backed_up_at(catalog, user_id) == found[0].started_at


def test_learning_believes_the_storage_but_for_damage(catalog):
    mine = new_id()
    found = {state: make(mine, state=state, error="x") for state in BackupState}
    add(catalog, *found.values())
    assert write(catalog, backups.learn, [replace(each, state="good", error=None) for each in found.values()]) == 0
    there = {state: read(catalog, backups.get, each.id).state for state, each in found.items()}
    assert there == {"good": "good", "failed": "good", "gone": "good", "damaged": "damaged"}


def test_a_backup_is_found_by_the_beginning_of_its_id(catalog):
    found = add(catalog, make(new_id(), user_id=7), make(new_id(), user_id=8, id=new_id()))
    for text in (str(found.id), found.id.hex, str(found.id).upper(), f" {str(found.id)[:-3]} "):
        assert read(catalog, backups.find, text) == found
    first = str(found.id)[:8]
    with pytest.raises(BackupNotFoundError, match="more than one"):
        read(catalog, backups.find, first)
    assert read(catalog, backups.find, first, BackupFilter(user_id=7)) == found


@pytest.mark.parametrize("text", ["", "0", "1234567", "zzzzzzzz", "%%%%%%%%", "ffffffff-ffff", "f" * 33, "ключключ"])
def test_an_unknown_backup_is_answered_with_what_there_is(catalog, text):
    with pytest.raises(BackupNotFoundError, match="there is none yet"):
        read(catalog, backups.find, text)
    found = add(catalog, make(new_id()))
    with pytest.raises(BackupNotFoundError, match=str(found.id)):
        read(catalog, backups.find, text)
    with pytest.raises(BackupNotFoundError, match=str(found.id)):
        read(catalog, backups.get, new_id())


def test_pages_show_every_backup_once_newest_first(catalog):
    mine = new_id()
    moment = now()
    found = [make(mine, user_id=n % 2, started_at=moment - (n // 3) * HOUR) for n in range(20)]
    add(catalog, *found)
    seen, after = [], None
    while some := read(catalog, backups.page, limit=7, after=after):
        seen += some
        after = some[-1]
    assert seen == sorted(found, key=lambda each: (each.started_at, each.id.hex), reverse=True)
    for wanted in (BackupFilter(user_id=1), BackupFilter(tenant_id=mine, state="good", kind="tenant")):
        some = read(catalog, backups.page, wanted)
        assert some == [each for each in seen if wanted.user_id in (None, each.user_id)]
    assert read(catalog, backups.page, BackupFilter(state="failed")) == []


def test_keys_that_backups_need_are_counted(catalog):
    add(catalog, make(new_id()), make(new_id(), key_ids="", signed_by="other"), make(new_id(), state="gone"))
    signers, openers = read(catalog, backups.keys_in_use)
    assert signers == {"87654321": 1, "other": 1}
    assert openers == {("12345678", "abcdef01"): 1, (): 1}


def test_two_who_write_about_one_tenant_agree_in_the_end(catalog):
    from tests.support.threads import at_once

    user_id, mine = tenant(catalog, "ada")
    found = [make(mine, hours=n) for n in range(8)]
    at_once(8, lambda n: catalog.repeating(lambda c: backups.add(c, found[n])))
    assert backed_up_at(catalog, user_id) == found[0].started_at


def test_the_last_good_ones_of_a_page_are_found_in_few_statements(catalog):
    people = [tenant(catalog, f"person {n}") for n in range(20)]
    add(catalog, *(make(tenant_id, hours=hours) for _, tenant_id in people for hours in (1, 2)))
    asked = []
    listen = lambda *given: asked.append(given[2])  # noqa: E731 - one line, and removed again
    sa.event.listen(catalog.engine, "before_cursor_execute", listen)
    try:
        found = read(catalog, backups.last_good, [user_id for user_id, _ in people])
    finally:
        sa.event.remove(catalog.engine, "before_cursor_execute", listen)
    assert len(found) == 20
    assert len(asked) <= 4
