"""A fleet run that a page starts is worked on in a process of its own."""

from __future__ import annotations

import threading

from tenancy.catalog.runs import Rules, RunState, Selection
from tests.support.applications import PATIENCE_S, add_tenants, set_back


def test_a_run_is_worked_on_in_a_process_that_knows_the_settings(parts):
    ids = add_tenants(parts, 3)
    set_back(parts.manager, ids)
    run = parts.manager.fleet.start(Selection(), Rules())
    parts.work_on(run.id)
    (waiter,) = [thread for thread in threading.enumerate() if thread.name == f"unify-fleet-{run.id}"]
    waiter.join(PATIENCE_S)
    done = parts.manager.fleet.get(run.id)
    assert (done.state, done.counts) == (RunState.DONE, {"done": 3})
    for user_id in ids:
        assert parts.manager.fetch_all("SELECT count(*) FROM bin", user_id=user_id) == [(0,)]
