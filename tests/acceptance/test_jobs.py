"""Kill workers a few times while they do jobs."""

from __future__ import annotations

from tests.acceptance.jobs import Attempt, judged, read, trial


def test_each_job_is_done_once_or_again_after_its_kill_and_never_twice_at_a_time():
    report = trial(jobs=60, workers=2, every_s=1.0, busy_ms=200)
    assert report.clean, report
    assert report.kills >= 1
    assert report.attempts >= report.jobs


def test_what_would_be_wrong_is_seen():
    text = "begin 1 1 10 1.0\nend 1 1 10 2.0\nbegin 1 2 11 1.5\nend 1 2 11 2.5\nbegin 2 1 12 1.0\n"
    attempts = read(text, {12: 3.0})
    assert attempts[-1] == Attempt(2, 1, 12, 1.0, 3.0, False)
    report = judged([], attempts, {12: 3.0}, 2, 1.0)
    assert (report.twice_at_a_time, report.again_without_a_kill, report.cut_off) == (1, 1, 1)
