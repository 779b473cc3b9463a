"""Search for secrets where they must not be, and see that the search would find them."""

from __future__ import annotations

import base64

import pytest

from tests.acceptance.sweep import Report, Secrets, search_files, sweep


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_found_anywhere(log_format):
    report = sweep(log_format)
    assert report.clean, report.found
    assert report.answers > 50
    assert report.files >= 5


@pytest.mark.parametrize(
    "coded", [bytes, base64.b64encode, lambda raw: raw.hex().encode(), lambda raw: raw.decode().encode("utf-16-le")]
)
def test_a_planted_secret_is_found_plain_or_coded(tmp_path, coded):
    known, report = Secrets(), Report()
    known.add("password", "a very long secret, with a comma")
    (tmp_path / "innocent.db").write_bytes(b"\x00" * 100 + coded(b"a very long secret, with a comma") + b"\x00")
    search_files(tmp_path, known, report)
    assert report.found == ["password in file innocent.db"]
