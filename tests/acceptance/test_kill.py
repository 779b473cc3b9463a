"""Kill the server a few times while clients write."""

from __future__ import annotations

from tests.acceptance.kill import kill


def test_no_acknowledged_row_is_lost_or_torn_by_kill_9():
    report = kill(kills=3, clients=8, workers=2, tenants=5)
    assert report.clean, report
    assert report.acknowledged_writes > 20
