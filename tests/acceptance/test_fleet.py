"""Put fleet runs to the proof at a small size: ``fleet.py`` does it at any."""

from __future__ import annotations

import pytest

from tests.acceptance import fleet
from tests.support.engines import use


def test_a_revision_that_fails_on_three_is_fixed_resumed_and_taken_back():
    report = fleet.failures(tenants=12)
    assert report["named_are_the_three"], report
    assert (report["first"], report["resumed"]) == ({"done": 9, "failed": 3}, 3)
    assert report["then"] == report["rolled_back"] == {"done": 12}
    assert report["wrong"] == []


def test_a_run_that_is_killed_is_finished_by_the_next(request):
    use(request, "postgresql")
    report = fleet.kills(tenants=8, kills=4)
    assert report["faults"] == []


def test_two_runners_and_four_web_workers_apply_nothing_twice(request):
    use(request, "postgresql")
    assert fleet.pairs(tenants=6, rounds=2)["faults"] == []


@pytest.mark.parametrize("before", ["no", "yes"])
def test_requests_meanwhile_see_their_own_rows_or_are_told_to_come_again(before):
    report = fleet.load(tenants=10, clients=4, before=before)
    assert report["migrated"] == {"done": 10}
    seen = ("foreign_rows", "torn_rows", "lost_writes", "other_than_200_201_503", "503_without_retry_after")
    assert {name: report[name] for name in seen} == dict.fromkeys(seen, 0), report
    assert set(report["answers_after"]) <= {200, 201}
