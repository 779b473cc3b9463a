"""Kill a few backups, restores and undoings under a writer."""

from __future__ import annotations

from tests.acceptance.killed_restores import killed_restores


def test_no_acknowledged_row_is_lost_however_a_restore_is_killed():
    report = killed_restores("sqlite", kills=3)
    assert report.clean, report
    assert report.kills >= 1
    assert report.acknowledged > 20
