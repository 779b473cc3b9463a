"""The console's benchmark runs at its small size, and its pages keep their number of statements."""

from __future__ import annotations

from bench import console


def test_every_page_of_the_console_is_measured_beside_its_rows():
    figures = console.run(small=True)
    names = {figure.name.removeprefix("console ") for figure in figures}
    assert names >= {"overview", "users", "users by size", "tenant", "audit", "health", "initialize"}
    for figure in figures:
        assert figure.baseline is not None
        assert 1 <= figure.notes["statements"] <= 12, figure.what
