"""Forged backups are refused, a few of each sort."""

from __future__ import annotations

from tests.acceptance import forged


def test_forged_backups_are_refused_and_the_true_one_is_taken(tmp_path):
    report = forged.run(each=8, whole=10, place=tmp_path)
    assert report.clean, report
    assert report.tried["cut tails"] == 8


def test_the_trial_notices_what_is_not_refused(tmp_path):
    scene = forged.Scene(tmp_path)
    scene.expect_refusal("nothing wrong", "the true backup")
    assert not scene.report.clean
    scene.parts.close()
