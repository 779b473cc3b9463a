"""Judge a few of the hostile set in processes of their own; tests/tenancy/archive/test_hostile.py has all of it."""

from __future__ import annotations

import pytest

from tests.acceptance.hostile import judged


@pytest.mark.parametrize("case", ["a million tables", "1 GiB of zeros", "a window of 128 MiB", "a line of 1 GiB"])
def test_a_hostile_archive_takes_little_time_and_memory(case, tmp_path):
    found = judged(case, tmp_path)
    assert found.code.startswith("archive_")
    assert found.mib < 64
