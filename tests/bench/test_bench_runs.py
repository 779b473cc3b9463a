"""Run every benchmark at its small size: they check themselves that both sides did the same work."""

from __future__ import annotations

import json
import socket

import pytest

from bench.__main__ import MODULES, main
from bench.measure import Figure, same_work
from tests.support.engines import use

WANTED = {
    "request": {"P1", "P2b", "P2c", "P9", "P10"},
    "engines": {"P2", "P8"},
    "provision": {"P3", "P4", "accounts"},
    "fleet": {"P6", "P6b", "P7"},
    "servers": {"P5", "P11", "registration postgresql", "registration mysql"},
    "scale": {"P8 nofile", "P8 turnover", "P8w", "P9 start", "P9 cold"},
    "pages": {"P13", "P13 full", "page notes"},
    "archives": {"P12", "P12 rows", "P12 memory"},
    "console": {
        f"console {page}"
        for page in (
            "overview",
            "users",
            "users by size",
            "users, deep in",
            "users, searched",
            "users, behind",
            "tenant",
            "audit",
            "health",
            "initialize",
            "fleet",
            "run",
            "run, failed",
        )
    },
}
NEEDED = {"servers": ("postgresql", "mysql"), "archives": ("postgresql",)}


@pytest.mark.timeout(600)  # seconds: one that hangs is ended; the longest takes 100 on two idle cores
@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_runs_and_keeps_its_figures(name, tmp_path, capsys, request):
    for engine in NEEDED.get(name, ()):
        use(request, engine)
    output = tmp_path / "latest.json"
    assert main(["--small", "--only", name, "--output", str(output)]) == 0
    text = output.read_text()
    report = json.loads(text)
    assert report["machine"]["cores"] > 0
    assert socket.gethostname() not in text, "the report describes the machine and does not name it"
    assert str(tmp_path) not in text
    assert {figure["name"] for figure in report["figures"]} == WANTED[name]
    assert all(figure["ours"] is not None and figure["what"] for figure in report["figures"])
    shown = capsys.readouterr().out
    assert all(figure["name"] in shown for figure in report["figures"])


def test_a_comparison_of_different_work_stops():
    with pytest.raises(AssertionError, match="same work"):
        same_work([1, 2], [1, 3])


@pytest.mark.parametrize(("ours", "met"), [(1.2, True), (1.4, False)])
def test_a_goal_is_held_against_the_ratio(ours, met):
    assert Figure("P3", "", "ms", ours, 1.0, "", ("<=", 1.3)).met is met
