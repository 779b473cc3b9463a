"""Restore a user's database twice while that user writes."""

from __future__ import annotations

import sys

import pytest

from tests.acceptance.restoring import restoring


@pytest.mark.skipif(sys.platform != "linux", reason="which worker has a connection is read in /proc")
def test_every_worker_shows_the_restored_rows_and_none_written_later_is_lost():
    report = restoring(restores=2, workers=4)
    assert report.clean, report
    assert report.put_aside > 0
