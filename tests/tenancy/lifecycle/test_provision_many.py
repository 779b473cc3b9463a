"""Initializing many at once: few durable commits, and whatever stops it, each has one whole database in the end."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from compose import Parts
from tenancy.catalog import tenants
from tenancy.catalog.tables import claims
from tenancy.errors import ClaimLostError, DatabaseExistsError, TenancyError
from tenancy.models import State
from tests.support.applications import (
    FaultAt,
    Stopped,
    add_task,
    add_tenants,
    add_users,
    audit_actions,
    expire_claims,
    tenant_of,
    titles,
    together,
)
from tests.support.engines import server_address, use
from tests.tenancy.lifecycle.test_provision import in_fresh_process, killed_at, left_over, stands_right, with_step

STEPS = ["record batch", *["write file"] * 3, *["publish file"] * 3, "sync folder", "ready batch"]
"""What a batch of three announces."""


def initialize(parts: Parts) -> list[bool]:
    return [result.ok for result in parts.manager.initialize_all(lambda result: None)]


def all_stand_right(parts: Parts, ids: list[int]) -> bool:
    wrong = [stands_right(parts, user_id) for user_id in ids]
    assert wrong == [[]] * len(ids)
    assert audit_actions(parts.manager).count("tenant.provision") == len(ids)
    assert parts.manager.audit.verify()["rows"] == len(audit_actions(parts.manager))
    return True


@contextmanager
def commits(engine: sa.Engine):
    """Count the catalog's commits, and those of them that wrote something."""
    counted = {"commits": 0, "durable": 0, "statements": 0}
    wrote = threading.local()

    def executed(connection, cursor, statement, *_):
        counted["statements"] += 1
        wrote.any = getattr(wrote, "any", False) or statement.startswith(("INSERT", "UPDATE", "DELETE"))

    def committed(connection):
        counted["commits"] += 1
        counted["durable"] += getattr(wrote, "any", False)
        wrote.any = False

    event.listen(engine, "before_cursor_execute", executed)
    event.listen(engine, "commit", committed)
    try:
        yield counted
    finally:
        event.remove(engine, "before_cursor_execute", executed)
        event.remove(engine, "commit", committed)


def test_a_batch_takes_two_durable_commits_however_many_it_is(parts, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_mode & 0o40000), real(handle)))
    (first,) = add_users(parts, 1)
    assert initialize(parts) == [True]
    for number in (3, 60):
        add_users(parts, number)
        synced.clear()
        before = [user.id for user in parts.manager._users_after(0)][:-number]
        with commits(parts.catalog.engine) as counted:
            fresh = parts.manager._users_after(before[-1])
            assert all(result.created for result in parts.manager.batch.initialize(fresh))
        assert (counted["durable"], counted["commits"]) == (2, 2)
        assert counted["statements"] == 14
        assert (len(synced), sum(map(bool, synced))) == (number + 1, 1), "each file is synced, and the folder once"
    assert all_stand_right(parts, list(range(first, first + 64)))


def test_those_that_have_one_those_behind_and_those_shut_out_are_not_in_the_batch(parts):
    mine, shut, half = add_users(parts, 3)
    parts.manager.provision(mine)
    add_task(parts.manager, mine, "kept")
    with pytest.raises(Stopped):
        with_step(parts.manager, FaultAt(3)).provision(half)
    fresh = add_users(parts, 2)
    parts.accounts.deactivate(shut)
    step = FaultAt()
    with_step(parts.manager, step)
    results = parts.manager.initialize_all(lambda result: None)
    assert [(result.user_id, result.created) for result in results] == [
        (mine, False),
        (half, True),
        *[(user_id, True) for user_id in fresh],
    ]
    assert step.seen.count("record batch") == 1
    assert step.seen.count("record") == 2
    assert tenant_of(parts.manager, shut) is None
    assert titles(parts.manager, mine) == ["kept"]
    assert all(stands_right(parts, user_id) == [] for user_id in (half, *fresh))


def test_an_error_at_any_step_is_told_and_made_good_by_another_run(parts):
    ids, met = add_tenants(parts, 1), []  # which makes the template
    for position in range(1, len(STEPS) + 2):
        fresh = add_users(parts, 3)
        ids += fresh
        step = FaultAt(position)
        with_step(parts.manager, step)
        try:
            results = parts.manager.initialize_all(lambda result: None)
            failed = [result for result in results if not result.ok]
        except Stopped:
            failed = results = [tenant_of(parts.manager, user_id) for user_id in fresh]
        if position > len(STEPS):  # those that have one are looked at afterwards, one by one
            assert step.seen[:position] == [*STEPS, "record"]
            break
        met.append(step.seen[position - 1])
        assert left_over(parts) == []
        if met[-1] in ("write file", "publish file"):
            assert len(failed) == 1, "one that fails does not stop the others"
            assert failed[0].user_id in fresh
            assert "Stopped" in failed[0].error.message
            assert tenant_of(parts.manager, failed[0].user_id).last_error == "Stopped"
        elif met[-1] == "record batch":
            assert failed == [None] * 3
        else:
            assert {(tenant.state, tenant.last_error) for tenant in failed} == {(State.FAILED, "Stopped")}
        with_step(parts.manager, FaultAt())
        assert initialize(parts) == [True] * len(ids)
        assert all_stand_right(parts, ids)
    assert met == STEPS


def test_a_kill_at_any_step_is_finished_by_a_fresh_process(parts):
    ids = add_tenants(parts, 1)
    for position in range(1, len(STEPS) + 1):
        fresh = add_users(parts, 3)
        ids += fresh
        assert killed_at(position, parts, initialize)
        expire_claims(parts.manager)
        if position % 2:
            assert parts.manager.provision(fresh[1]).created, "one alone finishes its own"
        work = in_fresh_process(parts.settings, initialize)
        assert work() == [True] * len(ids)
        assert all_stand_right(parts, ids)


@pytest.mark.parametrize("step", ["write file", "ready batch"])
def test_a_batch_of_which_one_claim_was_lost_names_that_one_and_leaves_it_alone(parts, step):
    ids = add_users(parts, 3)
    taken, slept = ids[1], []

    def sleep(name: str) -> None:
        if name == step and not slept:
            slept.append(name)
            with parts.catalog.writing() as connection:  # as another does that takes over once it expired
                mine = claims.c.tenant_id == tenants.get(connection, taken).tenant_id
                connection.execute(claims.update().where(mine).values(attempt=2))

    parts.manager.services.step = sleep
    results = {result.user_id: result for result in parts.manager.initialize_all(lambda result: None)}
    assert [results[user_id].ok for user_id in ids] == [True, False, True]
    assert isinstance(results[taken].error, ClaimLostError)
    assert tenant_of(parts.manager, taken).state is State.PROVISIONING
    assert (parts.settings.tenant_data_dir / f"user_{taken}.db").exists(), "whoever took over may be using it"
    expire_claims(parts.manager)
    assert parts.manager.provision(taken).created
    assert all_stand_right(parts, ids)


def test_two_that_initialize_all_at_once_make_every_database_once(parts):
    ids = add_users(parts, 40)
    answers = together([lambda: parts.manager.initialize_all(lambda result: None)] * 2)
    made = [result.user_id for results in answers for result in results if result.created]
    assert sorted(made) == ids, answers
    others = [result for results in answers for result in results if not result.ok]
    assert {result.error.code for result in others} <= {"tenant_busy"}, others
    assert all_stand_right(parts, ids)


def test_two_do_so_wherever_the_catalog_is(make_parts, server_url):
    """Where writers do not take turns the later one finds the users taken, and looks again."""
    parts = make_parts(admin_database_url=server_url)
    ids = add_users(parts, 30)
    answers = together([lambda: parts.manager.initialize_all(lambda result: None)] * 2)
    made = [result.user_id for results in answers for result in results if result.created]
    assert sorted(made) == ids, answers
    assert {result.error.code for results in answers for result in results if not result.ok} <= {"tenant_busy"}
    assert all_stand_right(parts, ids)


def test_a_file_in_the_place_of_one_leaves_the_others_and_is_left_alone(parts):
    ids = add_users(parts, 5)
    folder = parts.settings.tenant_data_dir
    folder.mkdir()
    (folder / f"user_{ids[0]}.db").write_bytes(b"my poem")
    (folder / f"user_{ids[2]}.db-wal").write_bytes(b"left of another")
    results = parts.manager.initialize_all(lambda result: None)
    assert [result.ok for result in results] == [False, True, False, True, True]
    assert all(isinstance(result.error, DatabaseExistsError) for result in results if not result.ok)
    assert (folder / f"user_{ids[0]}.db").read_bytes() == b"my poem"
    assert tenant_of(parts.manager, ids[2]).last_error_code == "database_exists"
    assert [user_id for user_id in ids if stands_right_or_not(parts, user_id)] == [ids[1], ids[3], ids[4]]


def stands_right_or_not(parts: Parts, user_id: int) -> bool:
    tenant = tenant_of(parts.manager, user_id)
    return tenant.state is State.READY and stands_right(parts, user_id) == []


def test_a_folder_that_cannot_be_written_fails_all_of_them_with_the_reason(parts):
    ids = add_users(parts, 3)
    folder = parts.settings.tenant_data_dir
    folder.write_text("a file in its place")
    results = parts.manager.initialize_all(lambda result: None)
    assert {result.error.code for result in results} == {"access_denied"}
    assert {tenant_of(parts.manager, user_id).last_error_code for user_id in ids} == {"access_denied"}
    folder.unlink()
    assert initialize(parts) == [True] * 3
    assert all_stand_right(parts, ids)


def test_a_batch_that_another_recorded_meanwhile_is_left_to_it(parts, monkeypatch):
    """Where transactions do not wait for each other, two record the same users: the later one looks again."""
    ids = add_users(parts, 3)
    users = parts.manager._users_after(0)
    add, mine = tenants.add_many, []

    def late(connection, wanted):
        if not mine:
            mine.append(wanted)
            raise sa.exc.IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE"))
        return add(connection, wanted)

    monkeypatch.setattr(tenants, "add_many", late)
    assert [result.created for result in parts.manager.batch.initialize(users)] == [True] * 3
    assert all_stand_right(parts, ids)


def test_databases_on_servers_are_made_a_few_at_a_time_each_under_its_claim(request, make_parts):
    use(request, "postgresql")
    parts = make_parts(default_tenant_db_type="postgresql")
    parts.manager.servers.add("one", "postgresql", server_address("postgresql").render_as_string(hide_password=False))
    ids = add_users(parts, 6)
    try:
        heard = []
        results = parts.manager.initialize_all(heard.append)
        assert [(result.user_id, result.created) for result in results] == [(user_id, True) for user_id in ids]
        assert heard == results
        assert [titles(parts.manager, user_id) for user_id in ids] == [[]] * 6
        assert audit_actions(parts.manager).count("tenant.provision") == 6
    finally:
        for user_id in ids:
            parts.manager.delete_user_database(user_id)


def test_of_a_file_that_is_written_nothing_is_seen_before_all_are_there(parts):
    """A draft has another name; what was published before a kill is whole, and its user's own."""
    add_tenants(parts, 1)
    ids = add_users(parts, 3)
    assert killed_at(STEPS.index("publish file") + 2, parts, initialize)
    folder = parts.settings.tenant_data_dir
    _, published = sorted(folder.glob("user_*.db"))
    with closing(sqlite3.connect(published)) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert driver.execute("SELECT user_id FROM tenancy_identity").fetchone() == (ids[0],)
    with pytest.raises(TenancyError), parts.manager.session(ids[0]):
        raise AssertionError("it was opened before it was ready")
    assert len(left_over(parts)) == 3
