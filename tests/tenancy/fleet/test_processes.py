"""Work in processes: lost workers are replaced, those that take too long are ended, and the run says what happened."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tenancy import TenantManager
from tenancy.catalog.runs import Rules, Run, RunState, Selection
from tenancy.catalog.tables import fleet_items
from tenancy.errors import MigrationError, RunStateError
from tenancy.fleet import processes
from tenancy.fleet.processes import Crew, work_in_processes
from tenancy.models import State
from tests.support.applications import forked, revision, small_manager, tenant_of
from tests.support.versions import COLUMN, fill, hand, look

EVERYONE = Selection()
ON_EIGHT = """
if op.get_bind().execute(sa.text('SELECT count(*) FROM things WHERE id = 8')).scalar():
    {0}
"""
LOOPS = ON_EIGHT.format("while True:\n        pass") + COLUMN.format("c2")
DIES = "import os, signal\n" + ON_EIGHT.format("os.kill(os.getpid(), signal.SIGKILL)") + COLUMN.format("c2")
SLEEPS = ON_EIGHT.format("import time; time.sleep(3600)") + COLUMN.format("c2")


@dataclass
class Small:
    """Be the parts of a small application, in a worker."""

    manager: TenantManager

    def close(self) -> None:
        self.manager.close()


def build(folder: Path, migrations: Path, claim_ttl_s: float) -> Small:
    manager = small_manager(folder, migrations)
    manager.services.claim_ttl_s = claim_ttl_s
    return Small(manager)


def crew(tmp_path: Path, *, workers: int = 2, limit_s: float = 60.0, claim_ttl_s: float = 1.0) -> Crew:
    return Crew(partial(build, tmp_path, tmp_path / "version2", claim_ttl_s), workers, time_limit_s=limit_s)


@pytest.mark.parametrize("body", [LOOPS, SLEEPS], ids=["loops", "waits"])
def test_a_revision_that_never_ends_is_ended_and_named_and_the_others_go_on(versions, tmp_path, body):
    ids = fill(versions(1), 6)
    hand(tmp_path, ids[2], "INSERT INTO things (id) VALUES (8)")
    second = versions(2, body)
    run = second.fleet.start(EVERYONE, Rules())
    done = work_in_processes(second.fleet, run.id, crew(tmp_path, limit_s=1.5), lambda now: None)
    assert (done.state, done.counts) == (RunState.INCOMPLETE, {"done": 5, "failed": 1})
    (row,) = second.fleet.items(run.id, states=["failed"])
    assert (row["user_id"], "took too long" in row["error"]) == (ids[2], True)
    assert look(tmp_path, ids[2])["version"] == ["0001"]
    assert tenant_of(second, ids[2]).state is State.READY


def test_a_clock_that_is_set_while_a_worker_is_at_work_ends_no_worker(versions, tmp_path):
    """A row says when its work began by another clock than that of whoever reads it."""
    ids = fill(versions(1), 2)
    hand(tmp_path, ids[0], "INSERT INTO things (id) VALUES (8)")
    second = versions(2, SLEEPS.replace("3600", "3"))
    run = second.fleet.start(EVERYONE, Rules())
    began = datetime.now(UTC) - timedelta(minutes=10)

    def set_clock(now: Run) -> None:
        with second.catalog.writing() as connection:
            connection.execute(fleet_items.update().where(fleet_items.c.state == "running"), {"started_at": began})

    assert work_in_processes(second.fleet, run.id, crew(tmp_path), set_clock).counts == {"done": 2}
    assert [row["tries"] for row in second.fleet.items(run.id)] == [1, 1]


def test_a_tenant_that_kills_every_worker_is_given_up_and_the_others_go_on(versions, tmp_path):
    ids = fill(versions(1), 6)
    hand(tmp_path, ids[0], "INSERT INTO things (id) VALUES (8)")
    second = versions(2, DIES)
    run = second.fleet.start(EVERYONE, Rules())
    done = work_in_processes(second.fleet, run.id, crew(tmp_path, claim_ttl_s=0.5), lambda now: None)
    assert done.counts == {"done": 5, "failed": 1}
    (row,) = second.fleet.items(run.id, states=["failed"])
    assert "lost 3 times" in row["error"]
    assert look(tmp_path, ids[0])["columns"] == ["id"]


def test_workers_that_are_lost_again_and_again_end_the_run_with_a_word(versions, tmp_path, monkeypatch):
    fill(versions(1), 2)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())
    monkeypatch.setattr(processes, "MOST_REPLACED", 2)
    with pytest.raises(RunStateError, match="lost again and again"):
        work_in_processes(second.fleet, run.id, Crew(partial(os._exit, 7), 1), lambda now: None)
    assert second.fleet.work(run.id).counts == {"done": 2}


def test_workers_that_are_lost_before_anybody_looks_are_counted_too(versions, tmp_path, monkeypatch):
    fill(versions(1), 1)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())
    start = BaseProcess.start
    monkeypatch.setattr(BaseProcess, "start", lambda process: (start(process), process.join()))
    with pytest.raises(RunStateError, match="lost again and again"):
        work_in_processes(second.fleet, run.id, Crew(partial(os._exit, 7), 1), lambda now: None)


def test_how_far_a_run_is_can_be_watched(versions, tmp_path):
    fill(versions(1), 4)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())
    seen = []
    work_in_processes(second.fleet, run.id, crew(tmp_path), lambda now: seen.append(now.finished))
    assert seen == sorted(seen)
    assert seen[-1] == 4


def test_two_heads_are_named_before_anything_is_begun(versions, tmp_path):
    fill(versions(1), 1)
    second = versions(2)
    revision(tmp_path / "version2", "0002b", "0001")
    with pytest.raises(MigrationError, match="2 heads: merge them"):
        small_manager(tmp_path, tmp_path / "version2").fleet.start(EVERYONE, Rules())
    assert second.fleet.recent() == []


def test_a_disk_that_fills_leaves_the_tenant_as_it_was(versions, tmp_path):
    (user_id,) = fill(versions(1), 1)
    many = "\n".join(
        (
            "for start in range(0, 40000, 1000):",
            "    rows = ', '.join(f'({n})' for n in range(start + 100, start + 1100))",
            "    op.execute(f'INSERT INTO things (id) VALUES {rows}')",
        )
    )
    second = versions(2, many)
    run = second.fleet.start(EVERYONE, Rules())

    def work() -> dict[str, int]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        mine = small_manager(tmp_path, tmp_path / "version2")
        mine.chain.head  # noqa: B018 - bytecode is written before there is no room left
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        return mine.fleet.work(run.id).counts

    assert forked(work).result() == {"failed": 1}
    (row,) = second.fleet.items(run.id)
    assert row["error"]
    assert look(tmp_path, user_id)["version"] == ["0001"]
    assert second.fleet.work(second.fleet.resume(run.id).id).counts == {"done": 1}


def test_a_file_that_may_not_be_written_is_named_and_the_rest_go_on(versions, tmp_path):
    harmed, well = fill(versions(1), 2)
    second = versions(2)
    run = second.fleet.start(EVERYONE, Rules())
    second.close()
    path = tmp_path / "users" / f"user_{harmed}.db"

    def work() -> dict[str, int]:
        mine = small_manager(tmp_path, tmp_path / "version2")
        assert mine.chain.head
        if os.getuid() == 0:  # root may write everything
            for place in (tmp_path, *tmp_path.rglob("*")):
                os.chown(place, 65534, 65534)
            os.chown(path, 0, 0)
            os.setuid(65534)
        return mine.fleet.work(run.id).counts

    os.chmod(path, 0o444)
    for parent in tmp_path.parents:
        if Path(tempfile.gettempdir()) in parent.parents:
            parent.chmod(0o711)
    assert forked(work).result() == {"done": 1, "failed": 1}
    assert look(tmp_path, well)["version"] == ["0002"]
    assert look(tmp_path, harmed)["version"] == ["0001"]
