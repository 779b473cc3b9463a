"""Fleet runs: what they do to each tenant, how they stop, go on, join and are taken back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tenancy.catalog.runs import ItemState, Rules, RunState, Selection
from tenancy.catalog.tables import claims
from tenancy.errors import ConfigurationError, RunNotFoundError, RunStateError, StaleRouteError
from tenancy.models import State
from tests.support.applications import audit_actions, forked, small_manager, tenant_of, together
from tests.support.versions import COLUMN, fill, hand, look

EVERYONE = Selection()
FAILS_ON_EIGHT = """
    op.add_column('things', sa.Column('half', sa.Integer))
    if op.get_bind().execute(sa.text('SELECT count(*) FROM things WHERE id = 8')).scalar():
        raise RuntimeError('eight')
    op.add_column('things', sa.Column('c2', sa.Integer))
"""
DONE = {"version": ["0002"], "columns": ["id", "c2"], "parts": 1, "state": "ready"}
BEFORE = {"version": ["0001"], "ledger": [("0001", "upgrade")], "columns": ["id"], "parts": 1, "state": "ready"}


def went_well(tmp_path, user_id: int) -> bool:
    found = look(tmp_path, user_id)
    return {k: found[k] for k in DONE} == DONE and found["ledger"] == [("0001", "upgrade"), ("0002", "upgrade")]


def test_a_run_brings_every_tenant_to_head_and_says_so_of_each(versions, tmp_path):
    ids = fill(versions(1), 5)
    second = versions(2)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    assert (run.state, run.counts) == (RunState.DONE, {"done": 5})
    assert all(went_well(tmp_path, user_id) for user_id in ids)
    rows = second.fleet.items(run.id)
    assert [(row["user_id"], row["from_revision"], row["to_revision"], row["state"]) for row in rows] == [
        (user_id, "0001", "0002", "done") for user_id in ids
    ]
    assert all(row["error"] is None and row["duration_ms"] >= 0 and row["started_at"] for row in rows)
    for user_id in ids:
        tenant = tenant_of(second, user_id)
        assert (tenant.state, tenant.revision) == (State.READY, "0002")
        assert tenant.schema_fingerprint == second.chain.fingerprint
        assert second.fetch_all("SELECT c2 FROM things", user_id=user_id) == [(None,)]
    assert audit_actions(second).count("tenant.upgrade") == 5


def test_with_nothing_to_do_a_run_ends_at_once_and_opens_no_database(versions, tmp_path):
    first = versions(1)
    fill(first, 3)
    shutil.rmtree(tmp_path / "users")  # whoever opened one would find it gone
    run = first.fleet.start(EVERYONE, Rules())
    assert (run.state, run.total, run.already) == (RunState.DONE, 0, 3)


def test_tenants_that_fail_are_named_and_unharmed_and_resume_does_them_alone(versions, tmp_path):
    ids = fill(versions(1), 10)
    bad = ids[2:5]
    for user_id in bad:
        hand(tmp_path, user_id, "INSERT INTO things (id) VALUES (8)")
    second = versions(2, FAILS_ON_EIGHT)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    assert (run.state, run.counts) == (RunState.INCOMPLETE, {"done": 7, "failed": 3})
    told = second.audit.page(action="tenant.failed")
    assert [row["detail"]["code"] for row in told] == ["migration_failed"] * 3
    assert {(row["actor"], row["request_id"]) for row in told} == {("fleet", f"run-{run.id}")}
    named = second.fleet.items(run.id, states=["failed"])
    assert [row["user_id"] for row in named] == bad
    assert all("eight" in row["error"] and row["error_code"] == "migration_failed" for row in named)
    for user_id in bad:
        assert look(tmp_path, user_id) == BEFORE
        tenant = tenant_of(second, user_id)
        assert (tenant.state, tenant.revision, tenant.last_error_code) == (State.READY, "0001", "migration_failed")
    seen = audit_actions(second).count("tenant.upgrade")
    fixed = versions(2, COLUMN.format("c2"), "fixed")
    again = fixed.fleet.work(fixed.fleet.resume(run.id).id)
    assert (again.state, again.counts) == (RunState.DONE, {"done": 10})
    assert audit_actions(fixed).count("tenant.upgrade") == seen + 3
    assert all(look(tmp_path, user_id)["columns"] == ["id", "c2"] for user_id in bad)


def test_a_claim_of_a_clock_that_was_ahead_holds_no_tenant_back(versions):
    (user_id,) = fill(versions(1), 1)
    second = versions(2)
    left = {"operation": "upgrade", "attempt": 1, "expires_at": datetime.now(UTC) + timedelta(days=1)}
    with second.catalog.writing() as connection:
        connection.execute(claims.delete())
        connection.execute(claims.insert(), {"tenant_id": tenant_of(second, user_id).tenant_id, **left})
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    assert (run.state, run.counts) == (RunState.DONE, {"done": 1})


def test_a_rollback_takes_back_exactly_what_a_run_did(versions, tmp_path):
    early, *others = fill(versions(1), 4)
    second = versions(2)
    second.fleet.work(second.fleet.start(Selection((early,)), Rules()).id)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    assert (run.counts, run.already) == ({"done": 3}, 1)
    back = second.fleet.work(second.fleet.rollback(run.id).id)
    assert (back.state, back.counts, back.reverts) == (RunState.DONE, {"done": 3}, run.id)
    assert second.fleet.get(run.id).counts == {"undone": 3}
    assert went_well(tmp_path, early)
    for user_id in others:
        found = look(tmp_path, user_id)
        assert (found["version"], found["columns"], found["parts"]) == (["0001"], ["id"], 1)
        assert found["ledger"][-1] == ("0002", "downgrade")
        assert tenant_of(second, user_id).revision == "0001"
    again = second.fleet.rollback(run.id)
    assert (again.state, again.total) == (RunState.DONE, 0)


def test_a_tenant_that_moved_on_since_is_not_rolled_back(versions, tmp_path):
    one, other = fill(versions(1), 2)
    second = versions(2)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    third = versions(3)
    third.fleet.work(third.fleet.start(Selection((one,)), Rules()).id)
    back = third.fleet.work(third.fleet.rollback(run.id).id)
    assert (back.state, back.counts) == (RunState.INCOMPLETE, {"done": 1, "skipped": 1})
    assert (look(tmp_path, one)["version"], look(tmp_path, other)["version"]) == (["0003"], ["0001"])


def test_a_tenant_that_somebody_else_migrated_meanwhile_is_done_and_not_taken_back(versions, tmp_path):
    one, other = fill(versions(1), 2)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())
    second.provision(one)
    assert second.fleet.work(run.id).counts == {"done": 2}
    assert audit_actions(second).count("tenant.upgrade") == 2
    back = second.fleet.work(second.fleet.rollback(run.id).id)
    assert back.counts == {"done": 1}
    assert (look(tmp_path, one)["version"], look(tmp_path, other)["version"]) == (["0002"], ["0001"])


def test_a_revision_that_was_edited_after_it_was_applied_can_be_taken_back_and_applied_anew(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    second = versions(2)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    edited = versions(2, COLUMN.format("c2") + "\nop.add_column('things', sa.Column('d2', sa.Integer))", "edited")
    assert edited.fleet.status()["edited"] == 1
    refused = edited.fleet.work(edited.fleet.start(EVERYONE, Rules()).id)
    assert refused.counts == {"failed": 1}
    (row,) = edited.fleet.items(refused.id)
    assert "revision 0002 was edited after it was applied here" in row["error"]
    assert edited.fleet.work(edited.fleet.rollback(run.id).id).counts == {"done": 1}
    assert edited.fleet.work(edited.fleet.start(EVERYONE, Rules()).id).counts == {"done": 1}
    assert look(tmp_path, user_id)["columns"] == ["id", "c2", "d2"]


def test_any_number_of_users_may_be_named(versions):
    ids = fill(versions(1), 3)
    many = Selection((*ids[:2], *range(1000, 4000)))
    second = versions(2)
    assert [tenant["user_id"] for tenant in second.fleet.plan(many)["tenants"]] == ids[:2]
    assert second.fleet.work(second.fleet.start(many, Rules()).id).counts == {"done": 2}


def test_a_canary_that_fails_halts_the_run(versions, tmp_path):
    ids = fill(versions(1), 6)
    hand(tmp_path, ids[0], "INSERT INTO things (id) VALUES (8)")
    second = versions(2, FAILS_ON_EIGHT)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules(canary=1)).id)
    assert (run.state, run.counts, run.reason) == (RunState.HALTED, {"failed": 1, "waiting": 5}, "a canary failed")
    assert all(look(tmp_path, user_id) == BEFORE for user_id in ids[1:])
    assert second.fleet.cancel(run.id).state is RunState.INCOMPLETE
    assert second.fleet.get(run.id).counts == {"failed": 1, "cancelled": 5}


@pytest.mark.parametrize(("rules", "most"), [({"halt_after": 2}, 2), ({"halt_after": 20, "halt_percent": True}, 2)])
def test_a_run_halts_after_too_many_failures(versions, tmp_path, rules, most):
    for user_id in (ids := fill(versions(1), 10)):
        hand(tmp_path, user_id, "INSERT INTO things (id) VALUES (8)")
    second = versions(2, FAILS_ON_EIGHT)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules(**rules)).id)
    assert run.state is RunState.HALTED
    assert most <= run.counts["failed"] < len(ids), "batches are small at first"
    assert f"{run.counts['failed']} of 10 tenants failed" == run.reason


def test_waves_come_one_after_the_other(versions):
    fill(versions(1), 10)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules(canary=1, waves=(20.0, 100.0)))
    assert [row["wave"] for row in second.fleet.items(run.id)] == [0, 1, *[2] * 8]
    second.fleet.work(run.id)
    began = [row["started_at"] for row in second.fleet.items(run.id)]
    assert began[0] < began[1] < min(began[2:])


def test_a_paused_run_is_left_alone_until_it_is_resumed(versions):
    fill(versions(1), 3)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())
    second.fleet.pause(run.id)
    assert second.fleet.work(run.id).counts == {"waiting": 3}
    with pytest.raises(RunStateError, match="resume"):
        second.fleet.start(EVERYONE, Rules())
    assert second.fleet.work(second.fleet.resume(run.id).id).counts == {"done": 3}


def test_who_asks_for_the_same_joins_and_who_asks_for_another_is_told(versions):
    one, *_ = fill(versions(1), 3)
    third = versions(3)
    run = third.fleet.start(EVERYONE, Rules())
    assert third.fleet.start(EVERYONE, Rules()).id == run.id
    with pytest.raises(RunStateError, match=f"run {run.id} .* has not ended"):
        third.fleet.start(EVERYONE, Rules(), "0002")
    with pytest.raises(RunStateError, match="has not ended"):
        third.fleet.start(Selection((one,)), Rules())
    with pytest.raises(RunStateError, match="has not ended"):
        third.fleet.rollback(run.id)


def test_sixteen_who_start_at_once_make_one_run(versions):
    fill(versions(1), 2)
    second = versions(2)
    made = together([lambda: second.fleet.start(EVERYONE, Rules())] * 16)
    assert len({run.id for run in made}) == 1
    assert len(second.fleet.recent()) == 1


def test_retry_does_what_failed_and_leaves_what_waits(versions, tmp_path):
    ids = fill(versions(1), 6)
    hand(tmp_path, ids[0], "INSERT INTO things (id) VALUES (8)")
    second = versions(2, FAILS_ON_EIGHT)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules(canary=1)).id)
    hand(tmp_path, ids[0], "DELETE FROM things WHERE id = 8")
    retried = second.fleet.work(second.fleet.resume(run.id, failed_only=True).id)
    assert retried.counts == {"done": 1, "cancelled": 5}
    assert second.fleet.work(second.fleet.resume(run.id).id).counts == {"done": 6}


def test_suspended_tenants_are_skipped_named_and_caught_up_later(versions, tmp_path):
    first = versions(1)
    one, _ = fill(first, 2)
    first.suspend(one)
    second = versions(2)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    assert (run.state, run.counts) == (RunState.INCOMPLETE, {"done": 1, "skipped": 1})
    assert [(row["user_id"], row["error"]) for row in second.fleet.items(run.id, states=["skipped"])] == [
        (one, "it is suspended")
    ]
    assert second.fleet.work(second.fleet.resume(run.id).id).counts == {"done": 1, "skipped": 1}
    second.resume(one)
    assert second.fleet.work(second.fleet.resume(run.id).id).counts == {"done": 2}


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("DELETE FROM tenant_version", "the version table says None, the ledger 0001"),
        ("DROP TABLE tenant_version", "the version table says None, the ledger 0001"),
        ("INSERT INTO tenant_version VALUES ('0009')", "names 2 revisions"),
        ("UPDATE tenant_version SET version_num = '0009'", "0009, which this version of the application does not know"),
        ("DELETE FROM tenancy_ledger", "the ledger None"),
        ("UPDATE tenancy_ledger SET checksum = 'other'", "revision 0001 was edited after it was applied"),
        ("UPDATE tenancy_identity SET user_id = 99", "belongs to another tenant"),
        ("DELETE FROM tenancy_identity", "identity row or revision is missing"),
    ],
)
def test_a_database_that_contradicts_itself_is_named_and_left_and_the_rest_go_on(versions, tmp_path, harm, reason):
    harmed, well = fill(versions(1), 2)
    hand(tmp_path, harmed, harm)
    second = versions(2)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    assert run.counts == {"done": 1, "failed": 1}
    (row,) = second.fleet.items(run.id, states=["failed"])
    assert row["user_id"] == harmed
    assert reason in row["error"]
    with closing(sqlite3.connect(tmp_path / "users" / f"user_{harmed}.db")) as driver:
        assert [column[1] for column in driver.execute("PRAGMA table_info(things)")] == ["id"]
    assert went_well(tmp_path, well)


@pytest.mark.parametrize("how", ["corrupt", "gone", "locked"])
def test_a_file_that_cannot_be_used_is_named_and_the_rest_go_on(versions, tmp_path, how, short_locks):
    harmed, well = fill(versions(1), 2)
    path = tmp_path / "users" / f"user_{harmed}.db"
    other = sqlite3.connect(path, isolation_level=None)
    if how == "corrupt":
        other.close()
        path.write_bytes(b"this is no database" * 1000)
    elif how == "gone":
        other.close()
        path.unlink()
    else:
        other.execute("BEGIN IMMEDIATE")
    second = versions(2)
    run = second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
    other.close()
    left = "offline" if how == "locked" else "failed"
    assert run.counts == {"done": 1, left: 1}
    (row,) = second.fleet.items(run.id, states=[left])
    assert row["user_id"] == harmed
    assert row["error_code"] == ("database_busy" if how == "locked" else row["error_code"])
    assert row["error"]
    assert went_well(tmp_path, well)
    assert not (how == "gone" and path.exists()), "none is made in its place"
    assert tenant_of(second, harmed).state is State.READY


def test_a_runner_that_was_killed_is_replaced_and_nothing_is_done_twice(versions, tmp_path):
    ids = fill(versions(1), 8)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())

    def work() -> None:
        mine = small_manager(tmp_path, tmp_path / "version2", app_version="2.0")
        mine.services.claim_ttl_s = 0.5
        seen = []

        def step(name: str) -> None:
            seen.append(name)
            if len(seen) == 5:
                os.kill(os.getpid(), signal.SIGKILL)

        mine.services.step = step
        mine.fleet.work(run.id)

    assert forked(work).killed()
    assert second.fleet.get(run.id).counts[ItemState.RUNNING] >= 1
    assert second.fleet.work(run.id).counts == {"done": 8}
    assert all(went_well(tmp_path, user_id) for user_id in ids)
    assert audit_actions(second).count("tenant.upgrade") == 8


def test_a_tenant_over_which_every_runner_is_lost_is_given_up(versions, tmp_path):
    ids = fill(versions(1), 3)
    second = versions(2)
    second.services.claim_ttl_s = 0.3
    run = second.fleet.start(EVERYONE, Rules())
    with second.catalog.writing() as connection:
        connection.exec_driver_sql(f"UPDATE fleet_items SET tries = 3, state = 'running' WHERE user_id = {ids[1]}")
    done = second.fleet.work(run.id)
    assert done.counts == {"done": 2, "failed": 1}
    (row,) = second.fleet.items(run.id, states=["failed"])
    assert (row["user_id"], "lost 3 times" in row["error"]) == (ids[1], True)
    assert look(tmp_path, ids[1]) == BEFORE


def test_two_runners_share_a_run_and_apply_nothing_twice(versions, tmp_path):
    ids = fill(versions(1), 30)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())

    def work() -> None:
        small_manager(tmp_path, tmp_path / "version2", app_version="2.0").fleet.work(run.id)

    for child in [forked(work) for _ in range(2)]:
        child.result()
    assert second.fleet.get(run.id).counts == {"done": 30}
    assert all(went_well(tmp_path, user_id) for user_id in ids)
    assert len({row["runner"] for row in second.fleet.items(run.id)}) == 2


def test_a_write_that_began_before_its_tenant_was_migrated_is_refused(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    first, second = versions(1), versions(2)
    with first.engine_for(user_id).connect() as late:
        late.execution_options(tenancy_write=False).execute(sa.text("SELECT id FROM things"))
        late.rollback()
        second.fleet.work(second.fleet.start(EVERYONE, Rules()).id)
        with pytest.raises(StaleRouteError, match="nothing was written"):
            late.execution_options(tenancy_write=True).execute(sa.text("INSERT INTO things (id) VALUES (9)"))
    assert went_well(tmp_path, user_id)


def test_a_dry_run_says_what_would_be_done_and_how_long_it_takes(versions, tmp_path):
    one, other = fill(versions(1), 2)
    second = versions(2)
    plan = second.fleet.plan(EVERYONE)
    assert (plan["target"], plan["already"], plan["estimate_s"]) == ("0002", 0, None)
    assert [(t["user_id"], t["from"], t["revisions"]) for t in plan["tenants"]] == [
        (one, "0001", ["0002"]),
        (other, "0001", ["0002"]),
    ]
    assert look(tmp_path, one) == BEFORE
    second.fleet.work(second.fleet.start(Selection((one,)), Rules()).id)
    third = versions(3)
    plan = third.fleet.plan(EVERYONE)
    assert [t["revisions"] for t in plan["tenants"]] == [["0003"], ["0002", "0003"]]
    assert plan["estimate_s"] > 0


def test_what_is_not_there_is_named(versions):
    first = versions(1)
    with pytest.raises(ConfigurationError, match="'9999'"):
        first.fleet.start(EVERYONE, Rules(), "9999")
    for ask in (first.fleet.get, first.fleet.pause, first.fleet.resume, first.fleet.cancel, first.fleet.rollback):
        with pytest.raises(RunNotFoundError, match="no fleet run 77"):
            ask(77)
