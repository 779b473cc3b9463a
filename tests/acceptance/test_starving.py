"""Suspend a tenant under writers that never pause, where nothing but chance puts those who wait in an order."""

from __future__ import annotations

from statistics import median

from tests.acceptance.starving import starve


def test_on_sqlite_a_suspend_comes_before_writers_that_wait_as_well():
    """What is under way ends first, and one that waits may be quicker; ``test_endless_writers.py`` has the servers."""
    reports = [starve("sqlite", writers=8) for _ in range(3)]
    assert all(report.outcome == "suspended" for report in reports), reports
    assert all(report.acknowledged_afterwards == 0 for report in reports), reports
    assert median(report.meanwhile for report in reports) <= 2, reports
